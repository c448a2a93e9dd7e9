"""Reading -> traces: what is drawn over layers as lines instead of cells, as plain data.

Either a line for each of some tokens, or for a metric, at one position; or the band of a metric
over all positions. Knows neither matplotlib nor files.
"""

from dataclasses import dataclass

import numpy as np

from logitlens_cli.errors import UsageError
from logitlens_cli.metrics import LINES, Floats, Scale
from logitlens_cli.panels import (
    Colors,
    Looks,
    count_of,
    decoded_words,
    limits,
    places,
    shows,
)
from logitlens_cli.reading import Followed, Layer, Reading
from logitlens_cli.stats import QUANTILES
from logitlens_cli.tokens import visible_character as visible

TAIL = 40
"""most characters of the text that a title repeats"""


@dataclass(frozen=True)
class Line:
    """One line over layers."""

    label: str
    """a token; "" where the axis says what it is"""
    values: Floats
    """(layer,)"""


@dataclass(frozen=True)
class Lines:
    """Lines that share an axis."""

    layers: list[Layer]
    lines: list[Line]
    axis: str
    """quantity and unit"""
    limits: Colors
    """kind and limits of the axis"""
    best_low: bool = False
    """is the axis turned around, with 1 at the top?"""


@dataclass(frozen=True)
class Band:
    """A metric over positions."""

    layers: list[Layer]
    quantity: str
    unit: str
    log: bool
    mean: Floats
    """(layer,)"""
    quantiles: Floats
    """(quantile, layer), of stats.QUANTILES"""
    limits: tuple[float | None, float | None] = (None, None)
    """of the axis, where they are the user's"""


@dataclass(frozen=True)
class Trace:
    """A figure as data."""

    drawn: Lines | Band
    title: str
    notes: list[str]


AXES = {
    "prob": ("probability", Scale("linear", 0, 1)),
    "rank": ("rank [1 is best]", Scale("log", 1)),
    "logit": ("logit", Scale()),
}
"""words and scale of what is drawn of tokens"""


def trace(reading: Reading, looks: Looks) -> Trace:
    """The trace that ``reading.options`` ask for.

    Raises UsageError for limits that do not fit, and where there is nothing to show.
    """
    metric = str(reading.options["metric"])
    notes = [decoded_words(reading)]
    rows = [n for n, layer in enumerate(reading.layers) if shows(layer.kind, metric, looks)]
    if not rows:
        raise UsageError("there is no row but the input row", "give --input-row")
    drawn: Lines | Band
    if reading.followed is None and not np.isfinite(reading.values(metric)).any():
        quantity = reading.metrics[metric].quantity
        raise UsageError(f"there is no {quantity} here", "take a longer text or another --position")
    if reading.followed is not None:
        drawn, left_out = token_lines(reading, reading.followed, metric, rows, looks)
        words = f"{drawn.axis.partition(' [')[0]} {after(reading)}"
        notes += [place(reading), *left_out]
    elif len(reading.tokens) == 1:
        drawn, beyond = metric_line(reading, metric, rows, looks)
        words = f"{reading.metrics[metric].quantity} {after(reading)}"
        notes += [place(reading), *beyond]
    else:
        drawn = band(reading, metric, rows, looks)
        words = drawn.quantity
        counted = np.isfinite(reading.values(metric)).any(axis=0)
        held = [reading.tokens[n] for n in np.flatnonzero(counted)]
        notes.append(f"{places(held or reading.tokens)} of {text_tokens(reading)}")
    if reading.lens.chat:
        notes.append("in the model's chat template")
    title = f"{words[:1].upper()}{words[1:]} – {reading.model.name}"
    return Trace(drawn, looks.title if looks.title is not None else title, notes)


def text_tokens(reading: Reading) -> str:
    return count_of(reading.lens.text_tokens, "token")


def place(reading: Reading) -> str:
    token = reading.tokens[-1]
    return f"position {token.position} of {text_tokens(reading)}: {token.label}"


def after(reading: Reading) -> str:
    """What was read so far: the end of the text, or the token where more of the text follows."""
    token = reading.tokens[-1]
    if token.next_id is not None:
        return f"after {token.label}"
    text = "".join(char if char == " " else visible(char) for char in reading.text[-2 * TAIL :])
    if len(text) > TAIL:
        tail = text[-TAIL:]
        text = "…" + (tail.partition(" ")[2] or tail)
    return f"after “{text}”"


def token_lines(
    reading: Reading, followed: Followed, metric: str, rows: list[int], looks: Looks
) -> tuple[Lines, list[str]]:
    """The chosen tokens, then those with the highest probability anywhere; also what must be said
    of those for which there is no room."""
    grids = {"prob": followed.probs, "rank": followed.ranks, "logit": followed.logits}
    values = np.array(grids[metric], float)[rows]
    best = np.array(followed.probs)[rows].max(0)
    chosen = [followed.ids.index(i) for i in followed.chosen]
    others = [n for n in range(len(followed.ids)) if n not in chosen]
    others.sort(key=lambda n: -best[n])
    room = LINES - len(chosen)
    shown = chosen + others[:room]
    notes = []
    if len(others) > room:
        least = best[others[room]]
        more = count_of(len(others) - room, "more token")
        notes.append(f"without {more} that some layer guessed, of probability {least:.2g} at most")
    words, scale = AXES[metric]
    if reading.options.get("log"):
        scale = Scale("log", None, 1)
    inside = values[:, shown]
    return Lines(
        layers=[reading.layers[n] for n in rows],
        lines=[Line(followed.labels[n], values[:, n]) for n in shown],
        axis=words,
        limits=limits(scale, inside[inside > 0] if scale.kind == "log" else inside, looks),
        best_low=metric == "rank",
    ), notes


def metric_line(
    reading: Reading, metric: str, rows: list[int], looks: Looks
) -> tuple[Lines, list[str]]:
    """A metric at one position, scaled by what leaves the blocks; also what must be said of an
    input row beyond that."""
    scores = reading.metrics[metric]
    values = reading.values(metric)[rows, 0]
    layers = [reading.layers[n] for n in rows]
    blocks = [layer.kind != "input" for layer in layers]
    kind = scores.scale.kind
    axis = limits(Scale(kind, 1 if kind == "log" else 0), values[blocks], looks)
    beyond = values[0] > axis.high and not blocks[0]
    return Lines(
        layers=layers,
        lines=[Line("", values)],
        axis=f"{scores.quantity} [{scores.unit}]",
        limits=axis,
        best_low=metric == "rank",
    ), [f"input row: {values[0]:.3g}"] if beyond else []


def band(reading: Reading, metric: str, rows: list[int], looks: Looks) -> Band:
    """Mean and quantiles of a metric over the positions that have it."""
    scores = reading.metrics[metric]
    values = reading.values(metric)[rows]
    if looks.vmin is not None or looks.vmax is not None:
        limits(Scale(scores.scale.kind), values, looks)  # refuses what cannot be
    there = [row[np.isfinite(row)] for row in values]
    nothing = np.full(len(QUANTILES), np.nan)
    return Band(
        layers=[reading.layers[n] for n in rows],
        quantity=scores.quantity,
        unit=scores.unit,
        log=scores.scale.kind == "log",
        mean=np.array([row.mean() if len(row) else np.nan for row in there]),
        quantiles=np.array(
            [np.quantile(row, QUANTILES) if len(row) else nothing for row in there]
        ).T,
        limits=(looks.vmin, looks.vmax),
    )
