"""Several summaries -> lines of one figure: of models, lenses, checkpoints or conditions.

Knows neither matplotlib nor files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from logitlens_cli.errors import UsageError, nearest
from logitlens_cli.figures.line_data import numbers_of
from logitlens_cli.figures.words import count_of, kind_of_lens, lens_words
from logitlens_cli.metrics.sums import Floats
from logitlens_cli.metrics.table import METRICS, MOST_LINES
from logitlens_cli.reading.record import MapsRecord
from logitlens_cli.reading.summary import (
    AGREES,
    LOCK_IN,
    SHARES,
    Summary,
    shares,
    summary_numbers,
)

PLAIN = "plain lens"


@dataclass(frozen=True)
class OverlayLine:
    """One summary in one panel."""

    label: str
    x: Floats
    """(layer,) block numbers, -1 for the input row; or shares of the depth, 0 to 1"""
    middle: Floats
    """(layer,) median; of a share the share itself"""
    low: Floats | None
    """(layer,) the lower quartile; None of a share"""
    high: Floats | None


@dataclass(frozen=True)
class OverlayPanel:
    """One quantity of all summaries."""

    quantity: str
    unit: str
    kind: str
    """"linear", "log" or "share" """
    lines: list[OverlayLine]
    relative: bool


def overlay_panels(
    summaries: Sequence[tuple[str, Summary]],
    metric: str | None,
    relative: bool,
    input_row: bool = True,
) -> list[OverlayPanel]:
    """A panel for each quantity that all summaries (with their labels) hold, or for one of them.

    Raises UsageError where there are too many, or where one does not hold what is asked for.
    """
    if len(summaries) > MOST_LINES:
        raise UsageError(
            f"{len(summaries)} summaries are more than the {MOST_LINES} lines that can be told "
            "apart",
            "draw fewer in one figure",
        )
    names = shared_quantities(summaries)
    if metric is not None and metric not in names:
        raise UsageError(
            f"{metric!r} is not in all of these summaries",
            f"{nearest(metric, names)}they share {', '.join(names)}",
        )
    chosen = names if metric is None else [metric]
    return [overlay_panel(summaries, name, relative, input_row) for name in chosen]


def shared_quantities(summaries: Sequence[tuple[str, Summary]]) -> list[str]:
    """What all of them hold, in the order of the first; the share of agreement last."""
    (_, first), *rest = summaries
    held = [name for name in first.sketches if name != LOCK_IN]
    return [n for n in held if all(n in other.sketches for _, other in rest)] + [AGREES]


def overlay_panel(
    summaries: Sequence[tuple[str, Summary]], name: str, relative: bool, input_row: bool
) -> OverlayPanel:
    lines = [
        overlay_line(label, summary, name, relative, input_row) for label, summary in summaries
    ]
    if name in SHARES:
        return OverlayPanel("positions whose guess is the model's", "", "share", lines, relative)
    entry = METRICS[name]
    spec = entry.spec()
    kind = entry.scale(spec).kind
    return OverlayPanel(entry.quantity(spec), entry.unit, kind, lines, relative)


def overlay_line(
    label: str, summary: Summary, name: str, relative: bool, input_row: bool
) -> OverlayLine:
    shown = [n for n, x in enumerate(summary.layers) if input_row or x.kind != "input"]
    heights = [summary.layers[n].height for n in shown]
    x = np.array([-1.0 if height is None else height for height in heights])
    if relative:
        x = (x + 1) / summary.model.blocks
    if name in SHARES:
        return OverlayLine(label, x, numbers_of(shares(summary, name))[shown], None, None)
    found = summary_numbers(summary)[name]
    low, middle, high = (numbers_of(found[quantile])[shown] for quantile in ("p25", "p50", "p75"))
    return OverlayLine(label, x, middle, low, high)


# ---------------------------------------------------------------------------------------------
# Words


def labels_of(summaries: Sequence[tuple[str, Summary]], given: Sequence[str]) -> list[str]:
    """What the lines are called: as given, else by the first trait that tells all of them apart,
    else by the names that stand beside them (of their files). UsageError for another number of
    labels."""
    if given:
        if len(given) != len(summaries):
            raise UsageError(
                f"--label names {len(given)} of {count_of(len(summaries), 'file')}",
                "give one --label for each file, in their order",
            )
        return list(given)
    for trait in zip(*(traits_of(summary) for _, summary in summaries), strict=True):
        if all(trait) and len(set(trait)) == len(trait) > 1:
            return list(trait)
    return [name for name, _ in summaries]


def traits_of(summary: Summary) -> list[str]:
    """What may tell two summaries apart, in words."""
    model, maps = summary.model, summary.lens.get("maps")
    lens = PLAIN if maps is None else kind_of_lens(msgspec.convert(maps, MapsRecord))
    return [
        model.name,
        (model.revision or "")[:12],
        lens,
        f"{summary.lens['norm']} norm",
    ]


def overlay_notes(
    summaries: Sequence[tuple[str, Summary]], labels: Sequence[str], model_label: str | None = None
) -> list[str]:
    """What a reader must know: of how much each line is, and what lines and bands are."""
    sizes = [
        f"{count_of(summary.prompts, 'prompt')}, {count_of(summary.positions, 'position')}"
        for _, summary in summaries
    ]
    same = len(set(sizes)) == 1
    counts = [sizes[0] + " each"] if same else list(map(": ".join, zip(labels, sizes, strict=True)))
    models = {summary.model.name for _, summary in summaries}
    model = model_label if model_label is not None else models.pop() if len(models) == 1 else ""
    mapped = [summary.lens.get("maps") for _, summary in summaries]
    lenses = [lens_words(msgspec.convert(maps, MapsRecord)) for maps in mapped if maps is not None]
    notes = [model, *dict.fromkeys(lenses), *counts, "lines: medians; bands: 25 to 75 %"]
    return [note for note in notes if note]
