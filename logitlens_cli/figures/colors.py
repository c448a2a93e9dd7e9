"""Values -> colours of matplotlib."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.colors import Colormap, LinearSegmentedColormap, LogNorm, Normalize, to_hex
from seaborn.utils import relative_luminance

from logitlens_cli.errors import UsageError, nearest
from logitlens_cli.figures.panel import Panel
from logitlens_cli.figures.style import Colors
from logitlens_cli.metrics.sums import Floats


def require_cmap(name: str) -> None:
    """UsageError for a colour map that neither matplotlib nor seaborn knows."""
    if name not in colormaps:
        raise UsageError(
            f"--cmap {name!r} is unknown",
            nearest(name, colormaps) + "name a map of matplotlib or seaborn",
        )


def norm_of(colors: Colors) -> Normalize:
    return (LogNorm if colors.kind == "log" else Normalize)(colors.low, colors.high)


MAP_ENDS = (0.04, 0.88)


def map_ends(colors: Colors) -> tuple[float, float]:
    """The part of a colour map that is used: cut alike at both ends, and for the nearer limit as
    much nearer to the middle, where the middle is 0."""
    if not colors.centered:
        return MAP_ENDS
    reach = 0.44 / max(abs(colors.low), abs(colors.high))
    return 0.5 + reach * colors.low, 0.5 + reach * colors.high


def color_map(name: str, ends: tuple[float, float] = MAP_ENDS) -> Colormap:
    """A named map whose clipped ends differ from its own: the ends of the map are cut off, and
    stand for what lies beyond."""
    if name not in colormaps:  # --cmap is checked before any work
        raise UsageError(f"the dump's colour map {name!r} is unknown", "name another with --cmap")
    whole = colormaps[name]
    inner = LinearSegmentedColormap.from_list(name, whole(np.linspace(*ends, 256)))
    return inner.with_extremes(under=whole(0.0), over=whole(1.0), bad="0.85")


def text_colors_on(rgba: Floats) -> npt.NDArray[np.str_]:
    """ "white" or "black" for text on each of the colours."""
    return np.where(luminance(rgba) < 0.179, "white", "black")


def luminance(rgba: Floats) -> Floats:
    """Relative luminance of sRGB colours (WCAG 2); black and white text tie at 0.179."""
    *cells, channels = rgba.shape
    return np.reshape(relative_luminance(rgba.reshape(-1, channels)), cells)


def extend(below: int, above: int) -> str:
    """The ends of a colour bar that have an arrow, by the numbers of clipped cells."""
    ends = {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}
    return ends[bool(below), bool(above)]


# ---------------------------------------------------------------------------------------------
# Colours as plain data


class CellColor(NamedTuple):
    """Background and text colour of one cell."""

    background: str
    """as in "#1b4b72" """
    text_color: str


@dataclass(frozen=True)
class CellColors:
    """The colours of a figure as plain data, for a terminal."""

    cells: list[list[CellColor]]
    """(row, column)"""
    bar: list[CellColor]
    """evenly spread over the colour bar, from low to high"""


def cell_colors(panel: Panel, steps: int = 24) -> CellColors:
    """What ``paint_cells`` and ``paint_texts`` would colour the cells with."""
    norm = norm_of(panel.colors)
    cmap = color_map(panel.colors.cmap, map_ends(panel.colors))

    def of(shares: Any) -> list[list[CellColor]]:
        colors = np.asarray(cmap(shares))
        return [
            [CellColor(to_hex(color), str(text)) for color, text in zip(*row, strict=True)]
            for row in zip(colors, text_colors_on(colors), strict=True)
        ]

    return CellColors(
        of(norm(np.ma.masked_invalid(panel.values))),
        of(np.linspace([0.0], [1.0], steps, axis=1))[0],
    )
