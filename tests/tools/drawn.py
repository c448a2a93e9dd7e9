"""What a figure shows, read off its artists."""

from typing import Any

import matplotlib
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

from logitlens_cli.figures import cell_texts, heatmap
from logitlens_cli.figures.style import FigureStyle
from logitlens_cli.reading.record import Reading


def heatmap_of(reading: Reading, name: str, **style: Any) -> Figure:
    return heatmap.draw_heatmaps(reading, name, FigureStyle(**style))[0].figure


def mesh_of(fig: Figure) -> QuadMesh:
    return next(c for c in fig.axes[0].collections if isinstance(c, QuadMesh))


def cells(fig: Figure) -> dict[tuple[float, float], str]:
    """Cell texts by (column, row)."""
    return {(cell.x, cell.y): cell.text for cell in texts_of(fig)}


def texts_of(fig: Figure) -> list[cell_texts.CellText]:
    artists = fig.axes[0].get_children()
    return [cell for a in artists if isinstance(a, cell_texts.CellTexts) for cell in a.cells]


def top_labels(fig: Figure) -> list[str]:
    return [t.get_text() for t in fig.axes[0].child_axes[0].get_xticklabels()]


def all_texts(fig: Figure) -> str:
    return "\n".join(t.get_text() for t in fig.findobj(matplotlib.text.Text))


def overlap(a: Any, b: Any) -> bool:
    return bool(min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1)
