"""Texts within cells."""

from typing import Any, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.collections import QuadMesh
from matplotlib.text import Text

from logitlens_cli.figures.colors import text_colors_on
from logitlens_cli.figures.fitted_texts import LINE, SECOND
from logitlens_cli.figures.layout import PanelLayout
from logitlens_cli.figures.panel import Panel


class CellText(NamedTuple):
    """A line of text in a cell."""

    x: float
    y: float
    """of the middle of the cell, in data coordinates"""
    text: str
    color: str
    width: float
    """of the text, in inches"""
    size: float
    """in points"""
    baseline: float
    """inches above the middle of the cell"""


class CellTexts(Artist):
    """The texts of all cells. Matplotlib's own ``Text`` would lay out each of them once more, which
    takes as long as to draw them; here their widths are known."""

    def __init__(self, cells: list[CellText]) -> None:
        super().__init__()
        self.cells = cells
        self.set_zorder(Text.zorder)

    def draw(self, renderer: RendererBase) -> None:
        assert self.axes is not None
        inch: Any = renderer.points_to_pixels(72)
        height = float(renderer.get_canvas_width_height()[1])
        middles = self.axes.transData.transform([(cell.x, cell.y) for cell in self.cells])
        pens = {  # SVG anchors texts as it says
            size: Text(fontsize=size, horizontalalignment="center")
            for size in {cell.size for cell in self.cells}
        }
        gc = renderer.new_gc()
        for (x, middle), cell in zip(middles, self.cells, strict=True):
            pen, y = pens[cell.size], middle + cell.baseline * inch
            pen.set_position((x, y))
            gc.set_foreground(cell.color)
            left = x - cell.width * inch / 2
            below = height - y if renderer.flipy() else y
            font = pen.get_fontproperties()
            renderer.draw_text(gc, left, below, cell.text, font, 0, mtext=pen)
        gc.restore()


def paint_texts(ax: Axes, mesh: QuadMesh, panel: Panel, layout: PanelLayout) -> None:
    """The texts of every cell, black or white, whichever stands out more."""
    text_colors = text_colors_on(mesh.to_rgba(np.ma.masked_invalid(panel.values)))
    words = layout.words
    lines = [(words.texts, words.size, 0.0)]
    if words.second_lines:  # both lines together stand in the middle
        small = words.size * SECOND
        lines = [(words.texts, words.size, small * LINE / 2)]
        lines.append((words.second_lines, small, -words.size * LINE / 2))
    cells = [
        CellText(j + 0.5, i + 0.5, text, text_colors[i, j], words.widths[text, size], size,
             up - words.rise[size])
        for texts, size, up in lines
        for i, row in enumerate(texts)
        for j, text in enumerate(row)
        if text
    ]  # fmt: skip
    if cells:
        ax.add_artist(CellTexts(cells))
