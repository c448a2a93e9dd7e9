"""Summary of many readings -> lines over layers, and heatmaps of layers by relative position."""

from typing import Any

import msgspec
import numpy as np
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator, PercentFormatter

from logitlens_cli.errors import UsageError
from logitlens_cli.figures.colors import color_map, extend
from logitlens_cli.figures.drawing import Drawing, matplotlib_settings
from logitlens_cli.figures.fitted_texts import LINE
from logitlens_cli.figures.fonts import escaped, fallback
from logitlens_cli.figures.line_data import Band, numbers_of
from logitlens_cli.figures.page import PAGES, require_size
from logitlens_cli.figures.style import FigureStyle
from logitlens_cli.figures.words import OF_ROWS, count_of, lens_words, model_words
from logitlens_cli.metrics.spec import KL_SCALE
from logitlens_cli.metrics.table import METRICS
from logitlens_cli.reading.marks import harmless
from logitlens_cli.reading.record import Layer, MapsRecord
from logitlens_cli.reading.sketch import BINS
from logitlens_cli.reading.summary import (
    AGREES,
    LOCK_IN,
    LOCKED,
    QUANTILE_NAMES,
    SHARES,
    Summary,
    shares,
    summary_numbers,
    summary_skips_blocks,
)

INK = "#1b4b72"
PAGE = PAGES["auto"]
LABEL_SIZE, TITLE_SIZE, NOTE_SIZE = PAGE.label_size, PAGE.title_size, PAGE.note_size
PANEL_SIZE = (3.1, 2.35)
"""inches"""
LONGEST_TITLE = 200
MOST_LABELS = 12
"""most layers that are named on an axis"""
CURVES, POSITIONS = "stats", "positions"


def draw_summary(summary: Summary, name: str, style: FigureStyle) -> Drawing:
    """One of the two figures: "stats" or "positions"."""
    # What comes from outside may be in any script.
    model = model_words(summary.model, style)
    about = f"{model}, layer by layer" if style.title is None else style.title
    families, missing = fallback([about], style.families)
    title = escaped(about[:LONGEST_TITLE], missing)
    with matplotlib_settings(families):
        paint = {CURVES: curves, POSITIONS: positions}[name]
        return Drawing(
            paint(summary, title, style),
            families,
            missing,
            harmless(about),
            summary_alt_text(summary, name),
        )


def summary_alt_text(summary: Summary, name: str) -> str:
    """A figure in words."""
    metrics = ", ".join(metric for metric in summary.sketches if metric != LOCK_IN)
    first, last = summary.layers[0].label, summary.layers[-1].label
    drawn = {
        CURVES: f"Lines over layers {first} to {last}: mean, median and quantiles of {metrics}; "
        "and the share of positions whose guess is the model's",
        POSITIONS: f"Heatmaps of layers {first} to {last} by position in the text: mean KL to the "
        "output, and the share of positions whose guess is the model's",
    }[name]
    return harmless(f"{drawn}. {summary.model.name}; {notes(summary)}.")


def notes(summary: Summary) -> str:
    return (
        f"{count_of(summary.prompts, 'prompt')}, {count_of(summary.positions, 'position')}, "
        f"{summary_lens_words(summary)}decoded with the model's head, {summary.lens['norm']} norm"
        + f"; stays so: {OF_ROWS}"
        * summary_skips_blocks(summary)
    )


def summary_lens_words(summary: Summary) -> str:
    """Which maps the rows went through, if any did."""
    maps = summary.lens.get("maps")
    return "" if maps is None else f"{lens_words(msgspec.convert(maps, MapsRecord))}, "


def paint_title(figure: Figure, title: list[str], words: list[str]) -> float:
    """Lines of title and notes, flush left; where they end, in inches from the top (which
    ``head_room`` says without painting)."""
    width, height = figure.get_size_inches()
    left, y = 0.12 / width, 0.10
    for line in title:
        figure.text(left, 1 - y / height, line, fontsize=TITLE_SIZE, fontweight="bold", va="top")
        y += TITLE_SIZE * LINE
    y += (0.24 - TITLE_SIZE * LINE) * bool(title)
    for line in words:
        figure.text(left, 1 - y / height, line, fontsize=NOTE_SIZE, color="0.35", va="top")
        y += NOTE_SIZE * LINE
    return y


def head_room(title: list[str], words: list[str]) -> float:
    """Inches that title and notes take, with the edge above them."""
    gap = (0.24 - TITLE_SIZE * LINE) * bool(title)
    return 0.10 + len(title) * TITLE_SIZE * LINE + gap + len(words) * NOTE_SIZE * LINE


def heading(title: str, words: str, style: FigureStyle) -> tuple[list[str], list[str]]:
    """Lines of title and notes; none of a bare figure."""
    return ([title] * bool(title), [words]) if not style.bare else ([], [])


def layer_ticks(layers: list[Layer]) -> tuple[list[int], list[str]]:
    """Rows to name, evenly spread, the last one in."""
    last = len(layers) - 1
    step = -(-len(layers) // MOST_LABELS)
    rows = sorted(range(last, -1, -step))
    return rows, [layers[row].label[:MOST_LABELS] for row in rows]


# ---------------------------------------------------------------------------------------------
# Lines


def curves(summary: Summary, title: str, style: FigureStyle) -> Figure:
    """One panel per metric: median, bands, mean; and one with the shares."""
    metrics = [metric for metric in summary.sketches if metric != LOCK_IN]
    columns = min(3, len(metrics) + 1)
    rows = -(-(len(metrics) + 1) // columns)
    head = heading(title, notes(summary), style)
    top = head_room(*head)
    size = (PANEL_SIZE[0] * columns, PANEL_SIZE[1] * rows + top + 0.27)
    require_size(*size, style.dpi)
    figure = Figure(figsize=size, facecolor="white")
    paint_title(figure, *head)
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    numbers = summary_numbers(summary)
    for ax, metric in zip(grid, metrics, strict=False):
        paint_band(ax, summary_band(summary, metric, numbers[metric]))
    paint_shares(grid[len(metrics)], summary)
    for ax in grid[len(metrics) + 1 :]:
        ax.set_visible(False)
    grid[0].legend(fontsize=LABEL_SIZE - 1, frameon=False, loc="best", handlelength=1.6)
    figure.subplots_adjust(
        left=0.62 / size[0], right=1 - 0.15 / size[0], bottom=0.5 / size[1],
        top=1 - (top + 0.37) / size[1], wspace=0.3, hspace=0.42,
    )  # fmt: skip
    return figure


def summary_band(summary: Summary, metric: str, numbers: dict[str, Any]) -> Band:
    """A metric of a summary."""
    entry = METRICS[metric]
    spec = entry.spec()
    return Band(
        layers=summary.layers,
        quantity=entry.quantity(spec),
        unit=entry.unit,
        log=entry.scale(spec).kind == "log",
        mean=numbers_of(numbers["mean"]),
        quantiles=np.array([numbers_of(numbers[name]) for name in QUANTILE_NAMES]),
    )


def paint_band(ax: Axes, band: Band) -> None:
    """Median, bands and mean over layers."""
    x = np.arange(len(band.layers))
    lowest, low, middle, high, highest = band.quantiles
    ax.fill_between(x, lowest, highest, color=INK, alpha=0.15, lw=0, label="5–95 %")
    ax.fill_between(x, low, high, color=INK, alpha=0.3, lw=0, label="25–75 %")
    ax.plot(x, middle, color=INK, lw=1.6, label="median")
    ax.plot(x, band.mean, color="black", lw=0.9, ls=(0, (4, 2)), label="mean")
    ax.set_title(band.quantity, fontsize=LABEL_SIZE, loc="left")
    ax.set_ylabel(band.unit, fontsize=LABEL_SIZE)
    if band.log:
        ax.set_yscale("log")
        ax.set_ylim(bottom=0.9)
        ax.yaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        keep_blocks(ax, band)
    finish_axes(ax, band.layers)


def keep_blocks(ax: Axes, band: Band) -> None:
    """Scale a panel by what leaves the blocks; an input row beyond it is told in words."""
    if band.layers[0].kind != "input" or len(band.layers) == 1:
        ax.set_ylim(bottom=0)
        return
    middle, highest = band.quantiles[2], band.quantiles[-1]
    top = 1.15 * max(float(np.nanmax(highest[1:], initial=0.0)), 1e-3)
    ax.set_ylim(0, top)
    if middle[0] > top:
        ax.text(0.06, 0.97, f"input: median {middle[0]:.0f}", transform=ax.transAxes, va="top",
                fontsize=LABEL_SIZE - 1, color="0.35")  # fmt: skip


def paint_shares(ax: Axes, summary: Summary) -> None:
    x = np.arange(len(summary.layers))
    ax.plot(x, numbers_of(shares(summary, AGREES)), color=INK, lw=1.6, label="guess is the model's")
    ax.plot(x, numbers_of(shares(summary, LOCKED)), color="black", lw=0.9, ls=(0, (4, 2)),
            label="and stays so")  # fmt: skip
    ax.set_title("positions", fontsize=LABEL_SIZE, loc="left")
    ax.set_ylim(0, 1.03)
    ax.yaxis.set_major_formatter(PercentFormatter(1, 0))
    ax.legend(fontsize=LABEL_SIZE - 1, frameon=False, loc="upper left", handlelength=1.6)
    finish_axes(ax, summary.layers)


def finish_axes(ax: Axes, layers: list[Layer]) -> None:
    ax.set_xticks(*layer_ticks(layers))
    ax.set_xlim(0, max(1, len(layers) - 1))
    ax.set_xlabel("layer", fontsize=LABEL_SIZE)
    ax.tick_params(labelsize=LABEL_SIZE - 1, length=2.5, width=0.6)
    ax.grid(True, color="0.9", lw=0.5)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


# ---------------------------------------------------------------------------------------------
# Layers by relative position


def positions(summary: Summary, title: str, style: FigureStyle) -> Figure:
    """Mean KL to the output, and the share of positions whose guess is the model's."""
    shown = [name for name in ("kl-final", AGREES) if name in summary.tallies]
    rows = len(summary.layers)
    width, height = 3.0, max(1.8, 0.13 * rows)
    bins = min((summary.tallies[name].filled() for name in shown), default=BINS)
    head = heading(title, f"{notes(summary)}; mean of every {100 // bins} % of the text", style)
    size = ((width + 1.35) * len(shown) + 0.1, height + 0.97 + head_room(*head))
    require_size(*size, style.dpi)
    figure = Figure(figsize=size, facecolor="white")
    paint_title(figure, *head)
    for n, name in enumerate(shown):
        left = 0.6 + n * (width + 1.35)
        ax, bar = (
            figure.add_axes((x / size[0], 0.55 / size[1], w / size[0], height / size[1]))
            for x, w in ((left, width), (left + width + 0.1, 0.12))
        )
        position_heatmap(ax, bar, summary, name, bins, style)
    return figure


def kl_limits(style: FigureStyle) -> tuple[float, float]:
    """Limits of the colours of a divergence; UsageError where they run backwards."""
    low = 0.0 if style.vmin is None else style.vmin
    high = (KL_SCALE.high or 0.0) if style.vmax is None else style.vmax
    if low >= high:
        raise UsageError(f"--vmin {low:g} is not below --vmax {high:g}", "give both")
    return low, high


def position_heatmap(
    ax: Axes, bar: Axes, summary: Summary, name: str, bins: int, style: FigureStyle
) -> None:
    if name in SHARES:
        low, high, cmap, words = 0.0, 1.0, "viridis", SHARES[name]
    else:
        low, high = kl_limits(style)
        cmap, entry = style.cmap or KL_SCALE.cmap, METRICS[name]
        words = f"mean {entry.quantity(entry.spec())} [{entry.unit}]"
    means = summary.tallies[name].means(bins)
    ends = extend(int((means < low).sum()), int((means > high).sum()))
    seaborn.heatmap(
        means, ax=ax, cbar_ax=bar, vmin=low, vmax=high, cmap=color_map(cmap),
        xticklabels=False, yticklabels=False,
        cbar_kws={"extend": ends},
    )  # fmt: skip
    ax.invert_yaxis()
    ax.set_facecolor("0.85")
    rows, labels = layer_ticks(summary.layers)
    ax.set_yticks([row + 0.5 for row in rows], labels, fontsize=LABEL_SIZE - 1, rotation=0)
    ax.set_xticks([0, bins / 2, bins], ["start", "middle", "end"], fontsize=LABEL_SIZE - 1)
    ax.tick_params(length=2.5, width=0.6)
    ax.set_ylabel("layer", fontsize=LABEL_SIZE)
    ax.set_xlabel("position in the text", fontsize=LABEL_SIZE)
    ax.set_title(words, fontsize=LABEL_SIZE, loc="left")
    bar.tick_params(labelsize=LABEL_SIZE - 1, length=2.5, width=0.6)
    if name in SHARES:
        bar.yaxis.set_major_formatter(PercentFormatter(1, 0))
