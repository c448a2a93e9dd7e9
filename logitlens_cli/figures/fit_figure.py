"""How well a fitted lens does on held-out text -> lines over layers, beside the plain lens."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator, PercentFormatter

from logitlens_cli.figures.drawing import Drawing, matplotlib_settings
from logitlens_cli.figures.fonts import escaped, fallback
from logitlens_cli.figures.summary_figure import (
    INK,
    LABEL_SIZE,
    PANEL_SIZE,
    finish_axes,
    paint_title,
)
from logitlens_cli.figures.words import count_of
from logitlens_cli.reading.fit_report import FitReport
from logitlens_cli.reading.marks import harmless


def draw_fit(report: FitReport) -> Drawing:
    """Median KL to the output and agreement with it, by layer: plain and fitted."""
    title = f"{report.model.name}: a {report.kind} lens on held-out text"
    families, missing = fallback([title])
    with matplotlib_settings(families):
        figure = paint_fit(report, escaped(title, missing))
    first, last = report.layers[0].label, report.layers[-1].label
    alt = (
        f"Lines over layers {first} to {last}, for the plain and the {report.kind} lens: median "
        "KL to the output, and the share of positions whose guess is the model's. "
        f"{fit_notes(report)}."
    )
    return Drawing(figure, families, missing, harmless(title), harmless(alt))


def fit_notes(report: FitReport) -> str:
    return (
        f"fitted to {count_of(report.tokens, 'position')}, measured on {report.held_out_tokens} "
        "others"
    )


def paint_fit(report: FitReport, title: str) -> Figure:
    size = (2 * PANEL_SIZE[0], PANEL_SIZE[1] + 0.75)
    figure = Figure(figsize=size, facecolor="white")
    paint_title(figure, [title], [fit_notes(report)])
    left, right = figure.subplots(1, 2)
    lenses = {"plain": report.plain, report.kind: report.fitted}
    for (label, scores), look in zip(lenses.items(), LOOKS, strict=True):
        left.plot(scores.kl_median[:-1], label=label, **look)  # the last one is 0
        right.plot(scores.agrees, label=label, **look)
    for ax in (left, right):
        finish_axes(ax, report.layers)
    paint_kl(left)
    right.set_title("guess is the model's", fontsize=LABEL_SIZE, loc="left")
    right.set_ylim(0, 1.03)
    right.yaxis.set_major_formatter(PercentFormatter(1, 0))
    right.legend(fontsize=LABEL_SIZE - 1, frameon=False, loc="upper left", handlelength=1.6)
    figure.subplots_adjust(
        left=0.62 / size[0], right=1 - 0.15 / size[0], bottom=0.5 / size[1],
        top=1 - 0.85 / size[1], wspace=0.3,
    )  # fmt: skip
    return figure


LOOKS: tuple[dict[str, Any], ...] = (
    {"color": "black", "lw": 0.9, "ls": (0, (4, 2))},
    {"color": INK, "lw": 1.6},
)
"""of the plain and of the fitted lens"""


def paint_kl(ax: Axes) -> None:
    ax.set_title("KL(final || layer), median", fontsize=LABEL_SIZE, loc="left")
    ax.set_ylabel("nats", fontsize=LABEL_SIZE)
    ax.set_yscale("log")
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
