"""Several summaries -> lines over layers in one figure, named where they end."""

from collections.abc import Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

from logitlens_cli.errors import UsageError
from logitlens_cli.figures.drawing import Drawing, matplotlib_settings
from logitlens_cli.figures.fonts import Ruler, escaped, fallback
from logitlens_cli.figures.line_figure import (
    DASHES,
    LINE_COLORS,
    MARKED,
    STUB,
    heading_lines,
    marked,
    name_ends,
    plain,
)
from logitlens_cli.figures.overlay_data import (
    OverlayLine,
    OverlayPanel,
    labels_of,
    overlay_notes,
    overlay_panels,
)
from logitlens_cli.figures.page import require_size
from logitlens_cli.figures.style import FigureStyle
from logitlens_cli.figures.summary_figure import (
    LABEL_SIZE,
    PAGE,
    head_room,
    paint_title,
)
from logitlens_cli.reading.marks import harmless
from logitlens_cli.reading.summary import Summary

# Sizes in inches.
WIDTH, HEIGHT = 3.3, 2.5
LEFT, BELOW, ABOVE = 0.62, 0.5, 0.3
LONGEST_NAME = 1.5


def draw_overlay(
    summaries: Sequence[tuple[str, Summary]],
    metric: str | None,
    labels: Sequence[str],
    relative: bool,
    style: FigureStyle,
) -> Drawing:
    """Several summaries, each with the name of its file, in one figure: one quantity, or a panel
    for each that all of them hold."""
    called = labels_of(summaries, labels)
    named = [(label, summary) for label, (_, summary) in zip(called, summaries, strict=True)]
    panels = overlay_panels(named, metric, relative, style.input_row is not False)
    words = panels[0].quantity if metric is not None else "layer by layer"
    title = f"{words[:1].upper()}{words[1:]}" if style.title is None else style.title
    notes = overlay_notes(summaries, called, style.model_label)
    families, missing = fallback([title, *notes, *called, "…"], style.families)
    ruler = Ruler(families)
    names = [ruler.shortened(escaped(name, missing), LABEL_SIZE, LONGEST_NAME) for name in called]
    room = STUB + 0.05 + max(ruler.width(name, LABEL_SIZE) for name in names)
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    whole = columns * (LEFT + WIDTH + room) + PAGE.margin
    head = heading_lines(ruler, title, notes, whole - 2 * PAGE.margin, missing, style)
    top = head_room(*head)
    size = whole, rows * (ABOVE + HEIGHT + BELOW) + top
    require_size(*size, style.dpi)
    with matplotlib_settings(families):
        figure = Figure(figsize=size, facecolor="white")
        paint_title(figure, *head)
        for n, panel in enumerate(panels):
            left = (n % columns) * (LEFT + WIDTH + room) + LEFT
            bottom = size[1] - top - (n // columns) * (ABOVE + HEIGHT + BELOW) - ABOVE - HEIGHT
            ax = figure.add_axes(
                (left / size[0], bottom / size[1], WIDTH / size[0], HEIGHT / size[1])
            )
            paint_panel_of_lines(ax, panel, names, len(panels) > 1, style)
    return Drawing(figure, families, missing, harmless(title), in_words(title, notes, panels))


def in_words(title: str, notes: list[str], panels: list[OverlayPanel]) -> str:
    """The figure in words: where each line begins and ends."""
    sentences = [
        f"{panel.quantity}: "
        + ", ".join(f"{x.label} {x.middle[0]:.3g} to {x.middle[-1]:.3g}" for x in panel.lines)
        for panel in panels
    ]
    return harmless(" ".join(f"{part}." for part in [title, *sentences, "; ".join(notes)] if part))


def paint_panel_of_lines(
    ax: Axes, panel: OverlayPanel, names: Sequence[str], titled: bool, style: FigureStyle
) -> None:
    """Medians with their bands, each named beside its end."""
    for n, (line, dash) in enumerate(zip(panel.lines, cycle(DASHES), strict=False)):
        step = max(1, round(MARKED * (len(line.x) - 1) / WIDTH))
        if line.low is not None and line.high is not None:
            ax.fill_between(line.x, line.low, line.high, color=LINE_COLORS[n], alpha=0.15, lw=0)
        ax.plot(line.x, line.middle, ls=dash, lw=1.4, markevery=(n % step, step), **marked(n))
    scale_values(ax, panel, style)
    low = min(float(line.x[0]) for line in panel.lines)
    high = max(float(line.x[-1]) for line in panel.lines)
    edge = 0.02 * max(high - low, 1e-9)
    ax.set_xlim(low - edge, high + edge)
    if panel.relative:
        ax.xaxis.set_major_formatter(PercentFormatter(1, 0))
    else:
        ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        ax.xaxis.set_major_formatter(
            FuncFormatter(lambda value, _: "input" if value == -1 else f"{value:.0f}")
        )
    ax.set_xlabel("share of the blocks" if panel.relative else "layer", fontsize=LABEL_SIZE)
    if titled:
        ax.set_title(panel.quantity, fontsize=LABEL_SIZE, loc="left")
    ax.set_ylabel(panel.unit, fontsize=LABEL_SIZE)
    ax.tick_params(labelsize=LABEL_SIZE - 1, length=2.5, width=0.6)
    ax.grid(True, color="0.9", lw=0.5)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ends = {n: end_of(line) for n, line in enumerate(panel.lines)}
    name_ends(ax, ends, names, (WIDTH, HEIGHT))


def scale_values(ax: Axes, panel: OverlayPanel, style: FigureStyle) -> None:
    """Limits by what leaves the blocks, since an input row is far from everything; or the
    user's."""
    if panel.kind == "share":
        ax.set_ylim(0, 1.03)
        ax.yaxis.set_major_formatter(PercentFormatter(1, 0))
        return
    tops = [line.middle if line.high is None else line.high for line in panel.lines]
    first = 1e-9 if panel.relative else 0  # the input row is at 0 of the depth, else at -1
    blocks = [top[line.x >= first] for line, top in zip(panel.lines, tops, strict=True)]
    highest = max(float(np.nanmax(block, initial=0.0)) for block in blocks)
    if panel.kind == "log":
        ax.set_yscale("log")
        low, high = 0.9, max(1.15 * highest, 2.0)
        ax.yaxis.set_major_locator(LogLocator(numticks=8))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
    else:
        low, high = 0.0, max(1.08 * highest, 1e-3)
    low = low if style.vmin is None else style.vmin
    high = high if style.vmax is None else style.vmax
    if low >= high or (panel.kind == "log" and low <= 0):
        raise UsageError(
            f"the axis of {panel.quantity} would run from {low:g} to {high:g}",
            "give --vmin and --vmax that fit one METRIC",
        )
    ax.set_ylim(low, high)


def end_of(line: OverlayLine) -> tuple[float, float]:
    """The last point that a line has."""
    held = np.flatnonzero(np.isfinite(line.middle))
    at = int(held[-1]) if len(held) else len(line.x) - 1
    return float(line.x[at]), float(line.middle[at])
