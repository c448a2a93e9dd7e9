"""Trace -> lines over layers, named at their right ends; or the band of a metric."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from logitlens_cli.figures.drawing import Drawing, matplotlib_settings
from logitlens_cli.figures.fitted_texts import LINE
from logitlens_cli.figures.fonts import Ruler, escaped, fallback
from logitlens_cli.figures.layout import TITLE_LINES
from logitlens_cli.figures.line_data import Band, LinePanel, Lines, line_panel
from logitlens_cli.figures.scale import limit_text
from logitlens_cli.figures.style import FigureStyle
from logitlens_cli.figures.summary_figure import (
    LABEL_SIZE,
    NOTE_SIZE,
    PAGE,
    TITLE_SIZE,
    finish_axes,
    paint_band,
    paint_title,
)
from logitlens_cli.metrics.table import MOST_LINES
from logitlens_cli.reading.marks import harmless
from logitlens_cli.reading.record import Reading

# Sizes in inches.
LAYER_STEP = 0.14  # from one layer to the next
AXES_WIDTH = (3.4, 6.0)
AXES_HEIGHT = 2.6
LEFT, BELOW = 0.66, 0.52
EDGE = 0.06  # from the frame to the first layer
STUB = 0.25  # from the end of a line to its name
MARKED = 0.28  # from one marker of a line to the next

# Of seaborn's colour-blind palette, without the two that are too pale for a thin line.
LINE_COLORS = [seaborn.color_palette("colorblind")[n] for n in (0, 1, 2, 3, 4, 5, 7, 9)]
# Tell the lines apart where there is no colour.
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))


def draw_lines(reading: Reading, name: str, style: FigureStyle) -> list[Drawing]:
    """The figure of a trace, which is never split."""
    panel = line_panel(reading, style)
    names = [line.label for line in panel.drawn.lines] if isinstance(panel.drawn, Lines) else []
    families, missing = fallback([panel.title, *panel.notes, *names, "…"], style.families)
    ruler = Ruler(families)
    names = [
        ruler.shortened(escaped(name, missing), LABEL_SIZE, PAGE.longest_label) for name in names
    ]
    right = max((ruler.width(name, LABEL_SIZE) for name in names if name), default=-STUB)
    layers = len(panel.drawn.layers)
    width = min(max(AXES_WIDTH[0], LAYER_STEP * layers), AXES_WIDTH[1])
    whole = LEFT + width + right + STUB + PAGE.margin
    room = whole - 2 * PAGE.margin
    title, notes = heading_lines(ruler, panel.title, panel.notes, room, missing, style)
    with matplotlib_settings(families):
        figure = paint_line_panel(panel, title, notes, names, width, whole)
    return [Drawing(figure, families, missing, harmless(panel.title), lines_alt_text(panel))]


def heading_lines(
    ruler: Ruler,
    title: str,
    notes: Sequence[str],
    room: float,
    missing: frozenset[str],
    style: FigureStyle,
) -> tuple[list[str], list[str]]:
    """Lines of title and notes; none of a bare figure."""
    if style.bare:
        return [], []
    return (
        ruler.broken(escaped(title, missing), TITLE_SIZE, room, "bold", TITLE_LINES),
        ruler.wrapped([escaped(note, missing) for note in notes], NOTE_SIZE, room),
    )


def line_words(reading: Reading, style: FigureStyle) -> str:
    """The figure of a trace in words."""
    return lines_alt_text(line_panel(reading, style))


def lines_alt_text(panel: LinePanel) -> str:
    """A figure in words."""
    drawn, ends = panel.drawn, ""
    over = f"over layers {drawn.layers[0].label} to {drawn.layers[-1].label}"
    if isinstance(drawn, Lines):
        what = f"Lines {over}: {drawn.axis}"
        ends = ", ".join(f"{n.label or 'it'} {n.values[-1]:.3g}" for n in drawn.lines)
    else:
        what = f"Median, mean and quantiles {over}: {drawn.quantity} [{drawn.unit}]"
        ends = f"mean {drawn.mean[-1]:.3g}"
    said = [f"{panel.title}", what, f"At the top: {ends}", "; ".join(panel.notes)]
    return harmless(" ".join(f"{part}." for part in said if part))


def paint_line_panel(
    panel: LinePanel,
    title: list[str],
    notes: list[str],
    names: list[str],
    width: float,
    whole: float,
) -> Figure:
    """Draw a trace with its texts as laid out, ``whole`` inches wide."""
    head = 0.15 + 0.15 * bool(title or notes)
    head += len(title) * TITLE_SIZE * LINE + len(notes) * NOTE_SIZE * LINE
    height = BELOW + AXES_HEIGHT + head
    figure = Figure(figsize=(whole, height), facecolor="white")
    paint_title(figure, title, notes)
    ax = figure.add_axes((LEFT / whole, BELOW / height, width / whole, AXES_HEIGHT / height))
    if isinstance(panel.drawn, Band):
        paint_band(ax, panel.drawn)
        ax.set_title("", loc="left")  # the figure's own says it
        ax.set_ylim(*panel.drawn.limits)
        ax.legend(fontsize=LABEL_SIZE - 1, frameon=False, loc="best", handlelength=1.6)
    else:
        paint_lines(ax, panel.drawn, width)
        paint_names(ax, panel.drawn, names, width)
    return figure


def paint_lines(ax: Axes, drawn: Lines, width: float) -> None:
    step = max(1, round(MARKED * (len(drawn.layers) - 1) / width))
    for n, (line, dash) in enumerate(zip(drawn.lines, cycle(DASHES), strict=False)):
        ax.plot(
            line.values, ls=dash, lw=1.4, markevery=(n % step, step),
            zorder=3 - n / MOST_LINES,  # the first on top
            **(marked(n) if line.label else {"color": LINE_COLORS[n]}),
        )  # fmt: skip
    finish_axes(ax, drawn.layers)
    last = len(drawn.layers) - 1
    edge = max(1, last) * EDGE / (width - 2 * EDGE)
    ax.set_xlim(-edge, max(1, last) + edge)
    ax.set_ylabel(drawn.axis, fontsize=LABEL_SIZE)
    scale_axis(ax, drawn)


def marked(n: int) -> dict[str, Any]:
    """Colour and marker of a line."""
    return {
        "color": LINE_COLORS[n],
        "marker": MARKERS[n],
        "markersize": 4.5,
        "markeredgecolor": "white",
        "markeredgewidth": 0.4,
    }


def scale_axis(ax: Axes, drawn: Lines) -> None:
    """Limits with a little room, so that no line runs on the frame."""
    low, high = drawn.limits.low, drawn.limits.high
    if drawn.limits.kind == "log":
        ax.set_yscale("log")
        decades = np.log10(high / low)
        ratio = 10 ** (0.04 * decades)
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2 else (1,)))
        low, high = low / ratio, high * ratio
        ax.yaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
    else:
        low, high = low - 0.02 * (high - low), high + 0.02 * (high - low)
    ax.set_ylim(*((high, low) if drawn.best_low else (low, high)))


def plain(value: float) -> str:
    """A power of ten: whole numbers in full, 0.001, 1e-5."""
    return f"{value:.0f}" if value >= 1 else limit_text(value)


def paint_names(ax: Axes, drawn: Lines, names: list[str], width: float) -> None:
    """The name of each line that has one."""
    last = len(drawn.layers) - 1
    ends = {n: (last, float(drawn.lines[n].values[-1])) for n, name in enumerate(names) if name}
    name_ends(ax, ends, names, (width, AXES_HEIGHT))


def name_ends(
    ax: Axes,
    ends: Mapping[int, tuple[float, float]],
    names: Sequence[str],
    size: tuple[float, float],
) -> None:
    """Lines' names beside their ends (x, y), apart from each other, at axes of ``size`` inches."""
    width, height = size
    places = {}
    for n, end in ends.items():
        x, y = ax.transAxes.inverted().transform(ax.transData.transform(end))
        places[n] = float(x), float(np.clip(np.nan_to_num(y), 0, 1))
    order = sorted(places, key=lambda n: (places[n][1], -n))  # of two as high, the first on top
    tops = spread([places[n][1] * height for n in order], LABEL_SIZE * LINE, height)
    for n, top in zip(order, tops, strict=True):
        y = top / height
        ax.plot(
            [places[n][0], 1 + 0.7 * STUB / width], [places[n][1], y], lw=0.8, clip_on=False,
            markevery=[1], transform=ax.transAxes, scalex=False, scaley=False, **marked(n),
        )  # fmt: skip
        ax.text(
            1 + STUB / width, y, names[n], fontsize=LABEL_SIZE, va="center", transform=ax.transAxes
        )


def spread(wanted: list[float], distance: float, top: float) -> list[float]:
    """Heights as near as can be to those wanted, which ascend, ``distance`` from each other and
    from 0 to ``top``, as far as there is room.

    Where some are too close they become a group, evenly spread about the mean of what they want.
    """
    groups: list[tuple[float, int]] = []  # middle and size
    for height in wanted:
        middle, size = height, 1
        while True:
            half = (size - 1) * distance / 2
            middle = min(max(middle, half), max(top - half, half))
            if not groups:
                break
            below, count = groups[-1]
            if middle - half - (below + (count - 1) * distance / 2) >= distance:
                break
            groups.pop()
            middle = (below * count + middle * size) / (count + size)
            size += count
        groups.append((middle, size))
    return [
        middle + (n - (size - 1) / 2) * distance for middle, size in groups for n in range(size)
    ]
