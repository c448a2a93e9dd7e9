"""Reading -> panels: what is drawn, as plain data, before anybody knows where or with what.

Figures, the terminal and written tables all show panels. Knows neither matplotlib nor files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from logitlens_cli.errors import UsageError
from logitlens_cli.metrics import (
    COLORS,
    DIFFERENCE_SCALE,
    FOLLOWED,
    METRICS,
    TRACE,
    Floats,
    Measure,
    Scale,
    entry,
)
from logitlens_cli.reading import Followed, Reading, Scores, Token, lock_in

TOPK = "topk"
OUTLINED = "outlined: "
"""how the note begins that says what is outlined"""


@dataclass(frozen=True, kw_only=True)
class Looks:
    """What a user may choose about a figure; None is the metric's own habit."""

    input_row: bool | None = None
    split: int | None = None
    vmin: float | None = None
    vmax: float | None = None
    cmap: str | None = None
    title: str | None = None
    changes_only: bool = False
    color: str | None = None
    dpi: int = 300
    skip_first: int = 0
    width: str = "auto"
    """a page of ``layout``"""
    lock_in: bool = False
    """a strip of the layers from which a guess is the model's"""
    probs: bool = False
    """the guess's probability as a second line"""
    next_ranks: bool = False
    """a strip of the ranks of the true next tokens"""
    delta: bool = False
    """differences to the layer below instead of values"""
    shared: Mapping[str, Colors] = field(default_factory=dict)
    """by figure, the colours that several readings share"""


@dataclass(frozen=True)
class Colors:
    """How values become colours, with both limits."""

    kind: str
    """"linear" or "log" """
    low: float
    high: float
    cmap: str
    centered: bool = False
    """has the map two sides, whose middle must stay in the middle?"""


@dataclass(frozen=True)
class Strip:
    """A row below the grid."""

    label: str
    texts: list[str]
    """one a column"""


@dataclass(frozen=True)
class Panel:
    """One figure as data; rows run from the lowest layer up, columns along the text."""

    values: Floats
    """(row, column), NaN where there is none"""
    texts: list[list[str]]
    """(row, column), "" where a cell stays empty"""
    outlined: npt.NDArray[np.bool_]
    """(row, column) is the layer's top guess the model's?"""
    rows: list[str]
    bottom: list[str]
    """input tokens"""
    top: list[str]
    """true next tokens, starred where the model's top guess is right"""
    title: str
    notes: list[str]
    bar: str
    """quantity and unit, what the colour bar says"""
    colors: Colors
    below: str = "input token"
    """what the labels below are"""
    above: str = "true next token"
    second: list[list[str]] = field(default_factory=list)
    """(row, column) a smaller second line; empty where no cell has one"""
    strips: list[Strip] = field(default_factory=list)
    about: str = ""
    """what is shown, and of which model, also where the user's own title does not say so"""
    guesses: bool = False
    """do cells say the layers' guesses, so that values are seen as colours only? (Of a guess its
    beginning says something; of a number it does not.)"""
    headings: dict[int, str] = field(default_factory=dict)
    """rows that are no layers but name the grid below them"""

    @property
    def clipped(self) -> tuple[int, int]:
        """Cells below and above the limits of the colours."""
        below, above = self.values < self.colors.low, self.values > self.colors.high
        return int(below.sum()), int(above.sum())

    def clipping(self) -> list[str]:
        """How many cells lie beyond which limit, in words; empty if none does."""
        below, above = self.clipped
        return [
            f"{count_of(count, 'cell')} {limit}"
            for count, limit in (
                (below, f"< {self.colors.low:g}"),
                (above, f"> {self.colors.high:g}"),
            )
            if count
        ]


def figures_of(reading: Reading) -> list[str]:
    """The figures that a dump holds the numbers of."""
    if reading.command == TRACE:
        return [TRACE]
    # Beside the logits of guesses, what else may colour guesses is there to colour them.
    guessed = COLORS[0] in reading.metrics
    names = [name for name in reading.metrics if not guessed or name not in COLORS]
    return [TOPK] * guessed + names + ([FOLLOWED] if reading.followed is not None else [])


def panels(reading: Reading, name: str, looks: Looks) -> list[Panel]:
    """The figure ``name`` of a reading, in pieces of at most ``looks.split`` columns.

    All pieces share one colour scale. Raises UsageError for a figure that the reading has no
    numbers of.
    """
    if name == FOLLOWED and reading.followed is not None:
        return [followed_panel(reading, reading.followed, looks)]
    key = color_of(reading, looks) if name == TOPK else name
    if key not in reading.metrics:
        held = COLORS if name == TOPK else figures_of(reading)
        raise UsageError(
            f"{key} is not in this dump",
            f"it holds {', '.join(n for n in held if name != TOPK or n in reading.metrics)}",
        )
    scores = reading.metrics[key]
    shown = [i for i, layer in enumerate(reading.layers) if shows(layer.kind, name, looks)]
    if not shown:
        raise UsageError("there is no row but the input row", "give --input-row")
    values = reading.values(key)[shown]
    scale, bar = scores.scale, f"{scores.quantity} [{scores.unit}]"
    if looks.delta:
        values, bar, scale = deltas(values, scale), delta_words(scores), DIFFERENCE_SCALE
    top = reading.top()
    final = np.array(reading.final_ids)
    if name == TOPK:
        texts = [[cell[0] for cell in reading.guesses.labels[row]] for row in shown]
    elif looks.delta:
        texts = [[signed(value, key) for value in row] for row in values.tolist()]
    else:
        texts = [number_texts(reading, key, row) for row in shown]
    if looks.changes_only:
        texts = changes(texts)
    second = prob_texts(reading, shown) if looks.probs and name == TOPK else []
    strips, words = strips_of(reading, looks)
    own = limits(scale, values[:, counted(reading, looks)], looks)
    columns = len(reading.tokens)
    step = min(looks.split or columns, columns)
    return [
        Panel(
            values=values[:, cut],
            texts=[row[cut] for row in texts],
            outlined=(top == final)[shown][:, cut] & (name == TOPK),
            rows=[reading.layers[i].label for i in shown],
            bottom=[token.label for token in reading.tokens[cut]],
            top=next_labels(reading)[cut],
            title=looks.title if looks.title is not None else headline(reading, name, scores),
            notes=[*footnotes(reading, name, cut, looks), *words],
            bar=bar,
            colors=looks.shared.get(name, own),
            second=[row[cut] for row in second],
            strips=[Strip(strip.label, strip.texts[cut]) for strip in strips],
            about=headline(reading, name, scores),
            guesses=name == TOPK,
        )
        for cut in (slice(start, start + step) for start in range(0, columns, step))
    ]


def followed_panel(reading: Reading, followed: Followed, looks: Looks) -> Panel:
    """Tokens by layers: the rank of every token that was ever the top guess of one column."""
    shown = [i for i, layer in enumerate(reading.layers) if shows(layer.kind, FOLLOWED, looks)]
    if not shown:
        raise UsageError("there is no row but the input row", "give --input-row")
    ranks = np.array(followed.ranks, float)[shown]
    texts = [[METRICS["rank"].text(value) for value in row] for row in ranks.tolist()]
    scale = METRICS["rank"].scale(Measure(metric="rank"))
    token = next(t for t in reading.tokens if t.position == followed.position)
    title = f"Ranks of all that was ever the top guess after {token.label} – {reading.model.name}"
    return Panel(
        values=ranks,
        texts=changes(texts) if looks.changes_only else texts,
        outlined=ranks == 1,
        rows=[reading.layers[i].label for i in shown],
        bottom=followed.labels,
        top=[""] * len(followed.labels),
        title=looks.title if looks.title is not None else title,
        notes=[
            decoded_words(reading),
            f"position {followed.position} of {count_of(reading.lens.text_tokens, 'token')}, "
            "the last column",
            f"{OUTLINED}the layer's top guess",
        ],
        bar="rank of the token [1 is best]",
        colors=limits(scale, ranks, looks),
        below="token, best rank first",
        above="",
        about=title,
    )


def color_of(reading: Reading, looks: Looks) -> str:
    return looks.color or reading.options.get("color") or COLORS[0]


def shows(kind: str, name: str, looks: Looks) -> bool:
    """Is a row of this kind drawn? The input row distracts but from divergences (the post)."""
    if kind != "input":
        return True
    diverges = name.startswith("kl-") or name == "js"
    return diverges if looks.input_row is None else looks.input_row


def counted(reading: Reading, looks: Looks) -> list[bool]:
    """Which columns the limits of the colours are taken from."""
    columns = [token.position >= looks.skip_first for token in reading.tokens]
    if not any(columns):
        raise UsageError(
            f"--skip-first {looks.skip_first} leaves no column",
            f"the last one is position {reading.tokens[-1].position}",
        )
    return columns


def number_texts(reading: Reading, key: str, row: int) -> list[str]:
    metric = entry(key)
    text = str if metric is None else metric.text
    return ["" if v is None else text(v) for v in reading.metrics[key].values[row]]


def prob_texts(reading: Reading, rows: list[int]) -> list[list[str]]:
    """(row, column) probability of the top guess: .31, or <.01 where two digits show nothing."""

    def text(prob: float) -> str:
        return "1.0" if prob >= 0.995 else "<.01" if prob < 0.005 else f"{prob:.2f}"[1:]

    return [[text(cell[0]) for cell in reading.guesses.probs[row]] for row in rows]


def deltas(values: Floats, scale: Scale) -> Floats:
    """(row, column) the difference to the row below, on the scale of the colours: of a logarithmic
    one, log10 of the ratio. NaN in the lowest row."""
    with np.errstate(invalid="ignore"):
        made = np.full_like(values, np.nan)
        made[1:] = np.diff(np.log10(values) if scale.kind == "log" else values, axis=0)
        return made


def signed(value: float, key: str) -> str:
    """A difference as its metric is printed, with a sign unless it prints as nothing."""
    if math.isnan(value):
        return ""
    metric = entry(key)
    plain = "{:.1f}".format if metric is None or metric.whole else metric.text
    text = plain(abs(value))
    return text if float(text) == 0 else f"{'-' if value < 0 else '+'}{text}"


def delta_words(scores: Scores) -> str:
    """What the colour bar says of differences."""
    if scores.scale.kind == "log":
        return f"{scores.quantity}, to the layer below [log10 of the ratio]"
    return f"{scores.quantity}, minus the layer below's [{scores.unit}]"


def strips_of(reading: Reading, looks: Looks) -> tuple[list[Strip], list[str]]:
    """The rows below the grid that were asked for, and what they are in words."""
    strips, words = [], []
    if looks.lock_in:
        made = lock_in(reading.layers, reading.top(), reading.final_ids)
        strips += [Strip("stays from", names(made.since)), Strip("first at", names(made.first))]
        means = mean_words(made.mean_since), mean_words(made.mean_first)
        words.append(
            "the guess stays the model's from layer {} on, first is at {} (means)".format(*means)
        )
    if looks.next_ranks:
        if reading.next_ranks is None:
            raise UsageError(
                "this dump holds no ranks of the true next tokens",
                "make it again with --next-ranks",
            )
        strips.append(Strip("true rank", names(reading.next_ranks)))
        words.append("true rank: of the true next token in the model's output")
    return strips, words


def names(numbers: list[int | None]) -> list[str]:
    return ["–" if number is None else str(number) for number in numbers]


def mean_words(mean: float | None) -> str:
    return "–" if mean is None else f"{mean:.1f}"


def changes(texts: list[list[str]]) -> list[list[str]]:
    """Blank every cell that says what the cell below it says."""
    return [
        [text if not i or text != texts[i - 1][j] else "" for j, text in enumerate(row)]
        for i, row in enumerate(texts)
    ]


def next_labels(reading: Reading) -> list[str]:
    """True next tokens; the star is by id, never by text."""
    return [
        ""
        if token.next_label is None
        else token.next_label + (" (*)" if token.next_id == guess else "")
        for token, guess in zip(reading.tokens, reading.final_ids, strict=True)
    ]


def headline(reading: Reading, name: str, scores: Scores) -> str:
    words = "Top guess of every layer" if name == TOPK else scores.quantity
    return f"{words[:1].upper()}{words[1:]} – {reading.model.name}"


NORM_WORDS = {
    "full": "full norm",
    "no-affine": "norm without gain and bias, so the top row is not the output",
    "none": "no norm, so the top row is not the output",
}


CHAT = "in the model's chat template"


def decoded_words(reading: Reading) -> str:
    norm = NORM_WORDS[reading.lens.norm]
    late = reading.lens.decoder_blocks
    blocks = f"the last {count_of(late, 'block')} and " if late else ""
    return f"decoded with {blocks}the model's head, {norm}"


def places(tokens: list[Token]) -> str:
    first, last = tokens[0].position, tokens[-1].position
    return f"position {first}" if first == last else f"positions {first}–{last}"


def count_of(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def footnotes(reading: Reading, name: str, cut: slice, looks: Looks) -> list[str]:
    """What a reader must know to read the figure, under the title."""
    tokens = reading.tokens[cut]
    notes = [
        decoded_words(reading),
        f"{places(tokens)} of {count_of(reading.lens.text_tokens, 'token')}",
    ]
    if name == TOPK:
        notes.append(f"{OUTLINED}the layer's guess is the model's")
    if reading.lens.chat:
        notes.append(CHAT)
    return [*notes, *looks_notes(looks), "(*) the model's guess is right"]


def looks_notes(looks: Looks) -> list[str]:
    """What the user's looks leave out."""
    notes = []
    if looks.skip_first:
        notes.append(f"colour limits leave out the first {count_of(looks.skip_first, 'token')}")
    return notes


def limits(scale: Scale, values: Floats | None, looks: Looks) -> Colors:
    """Both limits of the colours: the user's, else the metric's, else the data's (if there is any
    by now). Raises UsageError for limits that run backwards."""
    finite = np.empty(0) if values is None else values[np.isfinite(values)]
    low, high = scale.low, scale.high
    low = looks.vmin if looks.vmin is not None else low
    high = looks.vmax if looks.vmax is not None else high
    if scale.center is not None:
        # A side that is given is the other's mirror image.
        sides = [abs(v - scale.center) for v in (low, high) if v is not None]
        reach = max(sides or [float(np.abs(finite - scale.center).max(initial=-math.inf))])
        low = scale.center - reach if low is None else low
        high = scale.center + reach if high is None else high
    low = low if low is not None else float(finite.min(initial=math.inf))
    high = high if high is not None else float(finite.max(initial=-math.inf))
    if not math.isfinite(low) or not math.isfinite(high):
        low, high = 0.0, 1.0  # nothing to show
    if abs(high - low) <= 1e-12 * max(abs(low), abs(high), 1e-88):  # too narrow to compute with
        middle, half = (low + high) / 2, max(0.5, 1e-6 * abs(low))
        low, high = middle - half, middle + half
    if low > high:
        given, other = ("--vmin", "--vmax") if looks.vmin is not None else ("--vmax", "--vmin")
        if looks.vmin is None and looks.vmax is None:
            given, other = "the scale of the dump", "--vmin and --vmax"
        raise UsageError(
            f"{given} makes the colours run backwards, from {low:g} to {high:g}",
            f"give {other} too",
        )
    if scale.kind == "log" and low <= 0:
        given = "--vmin" if looks.vmin is not None else "a value of"
        raise UsageError(f"{given} {low:g} on a logarithmic scale", "give a limit above 0")
    return Colors(scale.kind, low, high, looks.cmap or scale.cmap, scale.center is not None)
