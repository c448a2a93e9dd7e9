"""Reading -> traces: what is drawn over layers as lines instead of cells, as plain data.

Either a line for each of some tokens, or for a metric, at one position; or the band of a metric
over all positions. Knows neither matplotlib nor files.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from logitlens_cli.errors import UsageError
from logitlens_cli.figures.reading_panels import drawn_rows
from logitlens_cli.figures.scale import limits
from logitlens_cli.figures.style import Colors, FigureStyle
from logitlens_cli.figures.token_texts import key_of, token_text
from logitlens_cli.figures.words import (
    CHAT,
    count_of,
    decoded_words,
    model_words,
    position_words,
)
from logitlens_cli.metrics.spec import Scale
from logitlens_cli.metrics.sums import Floats
from logitlens_cli.metrics.table import MOST_LINES
from logitlens_cli.reading.marks import mark_of as visible
from logitlens_cli.reading.record import Followed, Layer, Reading
from logitlens_cli.reading.summary import QUANTILES

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
    quantity: str
    unit: str
    """"" where the quantity says it"""
    limits: Colors
    """kind and limits of the axis"""
    best_low: bool = False
    """is the axis turned around, with 1 at the top?"""

    @property
    def axis(self) -> str:
        """Quantity and unit, what the axis says."""
        return f"{self.quantity} [{self.unit}]" if self.unit else self.quantity


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
    """(quantile, layer), of summary.QUANTILES"""
    limits: tuple[float | None, float | None] = (None, None)
    """of the axis, where they are the user's"""


@dataclass(frozen=True)
class LinePanel:
    """A figure as data."""

    drawn: Lines | Band
    title: str
    notes: list[str]


def numbers_of(values: Sequence[float | None]) -> Floats:
    """Values of layers, NaN where there is none."""
    return np.array([np.nan if value is None else value for value in values], float)


AXES = {
    "prob": ("probability", "", Scale("linear", 0, 1)),
    "rank": ("rank", "1 is best", Scale("log", 1)),
    "logit": ("logit", "", Scale()),
}
"""quantity, unit and scale of what is drawn of tokens"""


def line_panel(reading: Reading, style: FigureStyle) -> LinePanel:
    """The trace that ``reading.options`` ask for.

    Raises UsageError for limits that do not fit, and where there is nothing to show.
    """
    metric = str(reading.options["metric"])
    notes = [decoded_words(reading)]
    rows = drawn_rows(reading, metric, style)
    drawn: Lines | Band
    if reading.followed is None and not np.isfinite(reading.values(metric)).any():
        quantity = reading.metrics[metric].quantity
        raise UsageError(f"there is no {quantity} here", "take a longer text or another --position")
    if reading.followed is not None:
        drawn, left_out = token_lines(reading, reading.followed, metric, rows, style)
        words = f"{drawn.quantity} {after(reading)}"
        notes += [position_note(reading), *left_out]
    elif len(reading.tokens) == 1:
        drawn, beyond = metric_line(reading, metric, rows, style)
        words = f"{drawn.quantity} {after(reading)}"
        notes += [position_note(reading), *beyond]
    else:
        drawn = position_band(reading, metric, rows, style)
        words = drawn.quantity
        finite = np.isfinite(reading.values(metric)).any(axis=0)
        held = [reading.tokens[n] for n in np.flatnonzero(finite)]
        notes.append(f"{position_words(held or reading.tokens)} of {text_tokens(reading)}")
    if reading.lens.chat:
        notes.append(CHAT)
    if isinstance(drawn, Lines) and (key := key_of(line.label for line in drawn.lines)):
        notes.append(key)
    title = f"{words[:1].upper()}{words[1:]} – {model_words(reading.model, style)}"
    return LinePanel(drawn, style.title if style.title is not None else title, notes)


def text_tokens(reading: Reading) -> str:
    return count_of(reading.lens.text_tokens, "token")


def position_note(reading: Reading) -> str:
    token = reading.tokens[-1]
    return f"position {token.position} of {text_tokens(reading)}: {token_text(token.label)}"


def after(reading: Reading) -> str:
    """What was read so far: the end of the text, or the token where more of the text follows."""
    token = reading.tokens[-1]
    if token.next_id is not None:
        return f"after {token_text(token.label)}"
    text = "".join(char if char == " " else visible(char) for char in reading.text[-2 * TAIL :])
    if len(text) > TAIL:
        tail = text[-TAIL:]
        text = "…" + (tail.partition(" ")[2] or tail)
    return f"after “{text}”"


def token_lines(
    reading: Reading, followed: Followed, metric: str, rows: list[int], style: FigureStyle
) -> tuple[Lines, list[str]]:
    """The chosen tokens, then those with the highest probability anywhere; also what must be said
    of those for which there is no room."""
    grids = {"prob": followed.probs, "rank": followed.ranks, "logit": followed.logits}
    values = np.array(grids[metric], float)[rows]
    best = np.array(followed.probs)[rows].max(0)
    chosen = [followed.ids.index(i) for i in followed.chosen]
    others = [n for n in range(len(followed.ids)) if n not in chosen]
    others.sort(key=lambda n: -best[n])
    room = MOST_LINES - len(chosen)
    shown = chosen + others[:room]
    notes = []
    if len(others) > room:
        least = best[others[room]]
        more = count_of(len(others) - room, "more token")
        notes.append(f"without {more} that some layer guessed, of probability {least:.2g} at most")
    quantity, unit, scale = AXES[metric]
    if reading.options.get("log"):
        scale = Scale("log", None, 1)
    inside = values[:, shown]
    if scale.kind == "log" and (inside <= 0).any():
        values = np.where(values > 0, values, np.nan)
        notes.append("where a line is missing, the probability is below 1e-323")
    return Lines(
        layers=[reading.layers[n] for n in rows],
        lines=[Line(token_text(followed.labels[n]), values[:, n]) for n in shown],
        quantity=quantity,
        unit=unit,
        limits=limits(scale, inside[inside > 0] if scale.kind == "log" else inside, style),
        best_low=metric == "rank",
    ), notes


def metric_line(
    reading: Reading, metric: str, rows: list[int], style: FigureStyle
) -> tuple[Lines, list[str]]:
    """A metric at one position, scaled by what leaves the blocks; also what must be said of an
    input row beyond that."""
    scores = reading.metrics[metric]
    values = reading.values(metric)[rows, 0]
    layers = [reading.layers[n] for n in rows]
    blocks = [layer.kind != "input" for layer in layers]
    kind = scores.scale.kind
    axis = limits(Scale(kind, 1 if kind == "log" else 0), values[blocks], style)
    beyond = values[0] > axis.high and not blocks[0]
    return Lines(
        layers=layers,
        lines=[Line("", values)],
        quantity=scores.quantity,
        unit=scores.unit,
        limits=axis,
        best_low=metric == "rank",
    ), [f"input row: {values[0]:.3g}"] if beyond else []


def position_band(reading: Reading, metric: str, rows: list[int], style: FigureStyle) -> Band:
    """Mean and quantiles of a metric over the positions that have it."""
    scores = reading.metrics[metric]
    values = reading.values(metric)[rows]
    if style.vmin is not None or style.vmax is not None:
        limits(Scale(scores.scale.kind), values, style)  # refuses what cannot be
    finite = [row[np.isfinite(row)] for row in values]
    nothing = np.full(len(QUANTILES), np.nan)
    return Band(
        layers=[reading.layers[n] for n in rows],
        quantity=scores.quantity,
        unit=scores.unit,
        log=scores.scale.kind == "log",
        mean=np.array([row.mean() if len(row) else np.nan for row in finite]),
        quantiles=np.array(
            [np.quantile(row, QUANTILES) if len(row) else nothing for row in finite]
        ).T,
        limits=(style.vmin, style.vmax),
    )
