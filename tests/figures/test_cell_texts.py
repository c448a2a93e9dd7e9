"""Texts in cells, as the pixels are."""

import io

import numpy as np
from drawn import texts_of
from PIL import Image
from readings import (
    make,
)

from logitlens_cli.figures import heatmap
from logitlens_cli.figures.style import FigureStyle


def test_cell_texts_stay_in_the_middle_of_their_cells() -> None:
    """As the pixels are, in black on white cells."""
    reading = make([["·internationalization", "WWWWWWWWWWWWWWWW", "HH"]] * 3)
    drawing = heatmap.draw_heatmaps(reading, "topk", FigureStyle(vmin=0, vmax=1e9, cmap="Greys"))[0]
    drawing.save(made := io.BytesIO(), "png", 200)
    with Image.open(made) as image:
        pixels = np.asarray(image)[..., 0]
    ax = drawing.figure.axes[0]
    corners = ax.transData.transform([(0, 0), (1, 1)])
    for cell in texts_of(drawing.figure):
        (left, top), (right, bottom) = (
            corners[0] + (corners[1] - corners[0]) * (np.floor((cell.x, cell.y)) + shift)
            for shift in (0, 1)
        )
        top, bottom = sorted(np.array([len(pixels) - top, len(pixels) - bottom]).tolist())
        inside = pixels[int(top) + 3 : int(bottom) - 2, int(left) + 3 : int(right) - 2] < 100
        ink = np.argwhere(inside)
        (first_y, first_x), (last_y, last_x) = ink.min(0), ink.max(0)
        assert first_x > 0
        assert last_x < inside.shape[1] - 1
        assert abs(first_x + last_x - inside.shape[1]) <= 6  # within three pixels of the middle
        assert abs(first_y + last_y - inside.shape[0]) <= 8 or cell.text.startswith("·")
