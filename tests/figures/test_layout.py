"""Where things go: measured by the renderer, over sizes, pages and scripts."""

import itertools
from typing import Any

import matplotlib
import numpy as np
import pytest
from drawn import overlap, texts_of
from matplotlib.figure import Figure
from matplotlib.text import Text
from readings import (
    make,
)

from logitlens_cli.figures import heatmap
from logitlens_cli.figures.drawing import matplotlib_settings
from logitlens_cli.figures.layout import GLYPH, SLOPE, PanelLayout, lay_out
from logitlens_cli.figures.page import PAGES
from logitlens_cli.figures.panel import Panel
from logitlens_cli.figures.reading_panels import panels
from logitlens_cli.figures.style import FigureStyle, Width
from logitlens_cli.metrics.spec import Scale
from logitlens_cli.reading.record import Reading, Scores

SCRIPTS = {
    "latin": ["a", "·some", "<|endoftext|>", "·internationalization", "WWWWWWWWWW", "."],
    "arabic": ["السلام", "·عليكم", "م", "ي", "·الإسلامية"],
    "cyrillic": ["·Достоевский", "и", "преступление", "."],
    "marks": ["e\u0301\u0302te\u0301", "Z\u0335\u0336a\u0334", "o\u0308" * 12],
    "bytes": ["<0xE6>", "<0xBC>", "<0xA2>", "��"],
}


def grid_of(rows: int, columns: int, script: str) -> Reading:
    words = SCRIPTS[script]
    labels = [[words[(r * 7 + c) % len(words)] for c in range(columns)] for r in range(rows)]
    values: list[list[float | None]] = [[float(r * c) for c in range(columns)] for r in range(rows)]
    scale = Scale("linear", 0, 30, "mako_r")
    return make(
        labels,
        **{
            "own-logit": Scores(values=values, unit="logit", quantity="own logit"),
            "kl-final": Scores(
                values=values, unit="nats", quantity="KL(final || layer)", scale=scale
            ),
        },
    )


def laid_out(reading: Reading, name: str, width: Width, **style: Any) -> tuple[Panel, PanelLayout]:
    made = panels(reading, name, FigureStyle(width=width, **style))[0]
    return made, lay_out(made, width)[0]


def sizes_of(fig: Figure) -> list[float]:
    made: list[Any] = [text.get_fontsize() for text in fig.findobj(Text) if text.get_text()]
    return made + [cell.size for cell in texts_of(fig)]


@pytest.mark.parametrize("width", Width)
@pytest.mark.parametrize(
    ("name", "rows", "columns", "script"),
    [
        *[("topk", 7, 9, script) for script in SCRIPTS],
        *[("kl-final", rows, columns, "latin") for rows, columns in ((2, 1), (6, 4), (80, 20))],
        ("topk", 6, 128, "latin"),
    ],
)
def test_nothing_collides_or_leaves_the_page(
    name: str, rows: int, columns: int, script: str, width: Width
) -> None:
    reading = grid_of(rows, columns, script)
    drawing = heatmap.draw_heatmaps(reading, name, FigureStyle(width=width, lock_in=True, dpi=40))[
        0
    ]
    with matplotlib_settings(drawing.families):
        require_apart(drawing.figure)
    page = PAGES[width]
    assert min(sizes_of(drawing.figure)) >= 6
    size = drawing.figure.get_size_inches()
    assert page.width is None or size[0] == page.width
    assert page.height is None or size[1] == page.height


def labels_of(ax: Any) -> list[Text]:
    """Those that are drawn: a colour bar has ticks beyond its limits too."""
    axes = [axis for each in (ax, *ax.child_axes) for axis in (each.xaxis, each.yaxis)]
    labels = [label for axis in axes for tick in axis._update_ticks()
              for label in (tick.label1, tick.label2) if label.get_visible()]  # fmt: skip
    return [label for label in labels if label.get_text()]


def require_apart(fig: Figure) -> None:
    fig.draw_without_rendering()
    page = fig.bbox
    loose = [t for t in fig.texts if t.get_text()]
    ticks = [t for ax in fig.axes for t in labels_of(ax)]
    for text in loose + ticks:
        box = text.get_window_extent()
        assert box.x0 >= page.x0 - 1, text
        assert box.x1 <= page.x1 + 1, text
        assert box.y0 >= page.y0 - 1, text
        assert box.y1 <= page.y1 + 1, text
    straight = [t for t in ticks if t.get_rotation() == 0]
    for a, b in itertools.combinations([*loose, *straight], 2):
        if a in straight and b in straight and abs(straight.index(a) - straight.index(b)) > 1:
            continue
        assert not overlap(a.get_window_extent(), b.get_window_extent()), (a, b)
    for tilted in (t for t in ticks if t.get_rotation() == 45):
        for text in loose:
            assert not overlap(tilted.get_window_extent(), text.get_window_extent()), (tilted, text)


@pytest.mark.parametrize("width", Width)
@pytest.mark.parametrize("columns", [4, 20, 70, 128])
def test_tilted_labels_stand_a_line_apart(columns: int, width: Width) -> None:
    _, layout = laid_out(grid_of(5, columns, "latin"), "kl-final", width)
    for labels in (layout.input_labels, layout.next_labels):
        named = [i for i, label in enumerate(labels) if label]
        apart = np.diff(named) * layout.cell[0] * SLOPE
        assert (apart >= layout.page.label_size * GLYPH * 0.999).all()
    assert layout.input_labels[-1]  # the last column is always named


@pytest.mark.parametrize("width", Width)
@pytest.mark.parametrize("columns", [4, 20, 40])
@pytest.mark.parametrize("name", ["topk", "kl-final"])
def test_texts_fit_their_cells_and_numbers_are_whole(name: str, columns: int, width: Width) -> None:
    made, layout = laid_out(grid_of(25, columns, "latin"), name, width, probs=True)
    words = layout.words
    assert all(wide <= layout.cell[0] for wide in words.widths.values())
    assert words.size == 0 or words.size * words.lines / 72 <= layout.cell[1]
    if words.size and name == "kl-final":
        assert words.texts == made.texts
    if not words.size:
        assert any("no text in the cells" in line for line in layout.header)
        assert not any(itertools.chain(*words.texts))


def test_narrow_pages_have_smaller_texts_before_they_have_none() -> None:
    sizes = [
        laid_out(grid_of(7, columns, "latin"), "kl-final", Width.double)[1].words.size
        for columns in (8, 22, 24, 60)
    ]
    assert sizes[0] == 7.5
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 0


def test_a_long_title_is_broken_into_three_lines_at_most() -> None:
    with matplotlib.rc_context({"text.parse_math": False}):
        made = panels(make(), "topk", FigureStyle(title="word " * 300))[0]
        layout, _ = lay_out(made, "single")
    assert len(layout.title) == 3
    assert layout.title[-1].endswith("…")


@pytest.mark.parametrize("width", [Width.single, Width.double, Width.slide])
@pytest.mark.parametrize("columns", [2, 4, 6, 9, 12])
def test_second_lines_are_legible_too(columns: int, width: Width) -> None:
    _, layout = laid_out(grid_of(7, columns, "latin"), "topk", width, probs=True)
    assert all(size >= PAGES[width].text[0] for _, size in layout.words.widths)
