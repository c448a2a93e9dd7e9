"""Two readings, cell by cell: their difference as numbers and as panels, or both on one scale.

Columns belong together by position and token id, rows by layer; what does not fit is refused, with
the first difference named. Knows neither matplotlib nor files.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import zip_longest

import msgspec
import numpy as np

from logitlens_cli.errors import UsageError
from logitlens_cli.metrics import COLORS, DIFFERENCE_SCALE, FOLLOWED, TRACE, Floats
from logitlens_cli.panels import (
    CHAT,
    OUTLINED,
    TOPK,
    Colors,
    Looks,
    Panel,
    changes,
    color_of,
    count_of,
    counted,
    decoded_words,
    figures_of,
    limits,
    looks_notes,
    panels,
    places,
    shows,
    signed,
)
from logitlens_cli.reading import (
    Layer,
    LensRecord,
    ModelRecord,
    Reading,
    Record,
    Token,
    rounded,
)

SCHEMA = "logitlens-diff/1"
ROOM = 16
"""characters of two labels that share a cell or a column"""


class Side(Record, frozen=True):
    """One of the two readings."""

    name: str
    text: str
    tokens: list[Token]
    model: ModelRecord
    lens: LensRecord


class Difference(Record, frozen=True):
    """B minus A of one metric, or log10(B / A) of one with a logarithmic scale."""

    schema: str
    metric: str
    quantity: str
    """what is subtracted or divided, in words"""
    unit: str
    a: Side
    b: Side
    layers: list[Layer]
    values: list[list[float | None]]
    """[layer][position]"""
    same: list[list[bool]]
    """[layer][position] is the top guess of A that of B?"""


@dataclass(frozen=True)
class Pair:
    """Two readings of one tokenizer with the same columns: one text in both, or two prompts of one
    length. Raises UsageError for others, which names the first difference."""

    a: Reading
    b: Reading
    a_name: str
    b_name: str

    def __post_init__(self) -> None:
        self.require_one_tokenizer()
        self.require_columns()

    def require_one_tokenizer(self) -> None:
        """An id must read the same in both. Heads may be padded to different vocabularies, as among
        sizes of one family, if the same text has the same tokens."""
        hint = "compare models of one tokenizer"
        known = dict(labelled(self.a))
        for token, label in labelled(self.b):
            if known.get(token, label) != label:
                both = f"{known[token]} in {self.a_name} and {label} in {self.b_name}"
                raise UsageError(f"token {token} is {both}", hint)
        a, b = self.a.model.vocabulary, self.b.model.vocabulary
        if a != b and self.a.text_ids != self.b.text_ids:
            raise UsageError(
                f"the vocabulary has {a} entries in {self.a_name} and {b} in {self.b_name}",
                f"{hint}, or one text",
            )

    def require_columns(self) -> None:
        a, b = self.a, self.b
        columns = zip_longest(a.tokens, b.tokens)
        parted = (n for n, (s, t) in enumerate(columns) if not s or not t or s.id != t.id)
        first = next(parted, None)
        if first is None:
            return
        here, there = (
            f"{reading.tokens[first].label} at position {reading.tokens[first].position}"
            if first < len(reading.tokens)
            else "missing"
            for reading in (a, b)
        )
        where = f"column {first} is {here} in {self.a_name} and {there} in {self.b_name}"
        if len(a.tokens) != len(b.tokens):
            raise UsageError(
                f"{self.a_name} has {len(a.tokens)} columns and {self.b_name} {len(b.tokens)}; "
                f"{where}",
                "choose as many with --window, or compare prompts of one length",
            )
        if a.text == b.text:
            raise UsageError(f"the text is the same and {where}", "compare models of one tokenizer")
        if a.lens.text_tokens != b.lens.text_tokens:
            raise UsageError(
                f"{where}, and the texts have {a.lens.text_tokens} and {b.lens.text_tokens} tokens",
                "compare one text, or two prompts of one length",
            )
        if [t.position for t in a.tokens] != [t.position for t in b.tokens]:
            raise UsageError(where, "choose the same positions with --window")

    def figures(self) -> list[str]:
        """The figures that both hold."""
        return [name for name in figures_of(self.a) if name in self.held()]

    def held(self) -> set[str]:
        """Figures and metrics that both hold the numbers of; followed tokens and lines have no
        columns."""
        a, b = ({*figures_of(reading), *reading.metrics} for reading in (self.a, self.b))
        return (a & b) - {FOLLOWED, TRACE}

    def key(self, name: str, looks: Looks) -> str:
        """The metric behind a figure, which must mean the same in both."""
        key = color_of(self.a, looks) if name == TOPK else name
        for reading, side in ((self.a, self.a_name), (self.b, self.b_name)):
            if key not in reading.metrics:
                colors = [color for color in COLORS if color in self.held()]
                raise UsageError(
                    f"{side} holds no {key!r}",
                    f"choose --color of both: {', '.join(colors) or 'none'}"
                    if name == TOPK
                    else f"both hold {', '.join(self.figures())}",
                )
        a, b = self.a.metrics[key], self.b.metrics[key]
        for what, here, there in (
            ("unit", a.unit, b.unit),
            ("target", a.target, b.target),
            ("direction", a.direction, b.direction),
            ("reference", a.reference, b.reference),
            ("scale", a.scale.kind, b.scale.kind),
        ):
            if here != there:
                raise UsageError(
                    f"the {what} of {key} is {here or 'none'} in {self.a_name} "
                    f"and {there or 'none'} in {self.b_name}",
                    "read both with the same options",
                )
        return key

    def rows(self, name: str, looks: Looks) -> tuple[list[int], list[int]]:
        """The rows of A and of B that are drawn, which must be the same layers."""
        shown = tuple(
            [i for i, layer in enumerate(reading.layers) if shows(layer.kind, name, looks)]
            for reading in (self.a, self.b)
        )
        layers = zip_longest(
            [self.a.layers[i] for i in shown[0]], [self.b.layers[i] for i in shown[1]]
        )
        for n, (a, b) in enumerate(layers):
            if a != b:
                here, there = (f"layer {x.label}" if x else "missing" for x in (a, b))
                raise UsageError(
                    f"row {n} is {here} in {self.a_name} and {there} in {self.b_name}",
                    "read both with the same --layers, --every, --subblocks and --input-row",
                )
        return shown[0], shown[1]


def labelled(reading: Reading) -> Iterator[tuple[int, str]]:
    """The tokens that a reading shows, with their labels."""
    for token in reading.tokens:
        yield token.id, token.label
    for ids, labels in zip(reading.guesses.ids, reading.guesses.labels, strict=True):
        for cell, words in zip(ids, labels, strict=True):
            yield from zip(cell, words, strict=True)


# ---------------------------------------------------------------------------------------------
# B minus A


def difference(pair: Pair, name: str, looks: Looks) -> Difference:
    """The difference of the figure ``name``, in the rows that it shows.

    What has a logarithmic scale is divided instead: from rank 1 to 2 is as far as from 10 000 to
    20 000, and a difference would show the second only. Raises UsageError where the two cannot be
    compared.
    """
    key = pair.key(name, looks)
    here, there = pair.rows(name, looks)
    a, b = pair.a.values(key)[here], pair.b.values(key)[there]
    scores = pair.a.metrics[key]
    divided = scores.scale.kind == "log"
    return Difference(
        schema=SCHEMA,
        metric=key,
        quantity=f"{scores.quantity}, {'log10(B / A)' if divided else 'B minus A'}",
        unit="powers of ten" if divided else scores.unit,
        a=side(pair.a, pair.a_name),
        b=side(pair.b, pair.b_name),
        layers=[pair.a.layers[i] for i in here],
        values=rounded(np.log10(b) - np.log10(a) if divided else b - a),
        same=(pair.a.top()[here] == pair.b.top()[there]).tolist(),
    )


def side(reading: Reading, name: str) -> Side:
    return Side(
        name=name,
        text=reading.text,
        tokens=reading.tokens,
        model=reading.model,
        lens=reading.lens,
    )


def to_json(made: Difference) -> bytes:
    """The numbers, the same bytes for the same difference; ends with a line feed."""
    return msgspec.json.encode(made) + b"\n"


def difference_panels(pair: Pair, name: str, made: Difference, looks: Looks) -> list[Panel]:
    """The difference as a figure, in pieces of at most ``looks.split`` columns.

    Top guesses are outlined where A and B agree: as in the figure of one reading, the contour
    encloses what is the same, and all outside of it is told in the cells.
    """
    values = np.array([[np.nan if v is None else v for v in row] for row in made.values], float)
    here, there = pair.rows(name, looks)
    if name == TOPK:
        a, b = ([[cell[0] for cell in row] for row in reading.guesses.labels]
                for reading in (pair.a, pair.b))  # fmt: skip
        texts = [
            [joined(s, t, "→", same) for s, t, same in zip(a[i], b[j], row, strict=True)]
            for i, j, row in zip(here, there, made.same, strict=True)
        ]
    else:
        texts = [[signed(value, made.metric) for value in row] for row in values.tolist()]
    divided = pair.a.metrics[made.metric].scale.kind == "log"
    words = "top guess of every layer, A→B" if name == TOPK else made.quantity
    notes = [f"{OUTLINED}A and B have the same guess"] if name == TOPK else []
    notes += ["below 0: better in B"] if divided else []
    # An input row is far from everything, and would leave no colours for the blocks.
    blocks = [layer.kind != "input" for layer in made.layers]
    scaled = values[blocks] if any(blocks) else values
    bottom, top = columns(pair)
    panel = Panel(
        values=values,
        texts=changes(texts) if looks.changes_only else texts,
        outlined=np.array(made.same) & (name == TOPK),
        rows=[layer.label for layer in made.layers],
        bottom=bottom,
        top=top,
        title=title(pair, words, looks),
        notes=[*side_notes(pair, made.metric), *notes],
        bar=f"{made.quantity} [{made.unit}]",
        colors=centred(scaled[:, counted(pair.a, looks)], looks),
        about=title(pair, words, replace(looks, title=None)),
        guesses=name == TOPK,
    )
    return pieces(panel, pair, looks)


def centred(values: Floats, looks: Looks) -> Colors:
    """Limits around 0 as far as the data go. One limit of the user's holds for both sides, two are
    taken as they are."""
    reach = max(looks.vmax or 0.0, -(looks.vmin or 0.0))
    if reach <= 0:
        reach = rounded_up(float(np.abs(values[np.isfinite(values)]).max(initial=0.0)))
    return limits(replace(DIFFERENCE_SCALE, low=-reach, high=reach), values, looks)


def rounded_up(value: float) -> float:
    """To two figures, since it is read off the colour bar."""
    if value == 0:
        return value
    digits = 1 - math.floor(math.log10(value))
    return math.ceil(value * 10.0**digits) / 10.0**digits


# ---------------------------------------------------------------------------------------------
# A over B


def stacked_panels(pair: Pair, name: str, looks: Looks) -> list[Panel]:
    """A's grid above B's with the same columns and one colour scale, in pieces of at most
    ``looks.split`` columns; each has a line above it that names it."""
    key = pair.key(name, looks)
    pair.rows(name, looks)
    own = replace(looks, split=None, vmin=None, vmax=None, skip_first=0)
    a, b = (panels(reading, name, own)[0] for reading in (pair.a, pair.b))
    gap = np.full((1, len(pair.a.tokens)), np.nan)
    blank = [[""] * len(pair.a.tokens)]
    values = np.vstack([b.values, gap, a.values, gap])
    scores = pair.a.metrics[key]
    bottom, top = columns(pair)
    panel = Panel(
        values=values,
        texts=b.texts + blank + a.texts + blank,
        outlined=np.vstack([b.outlined, gap > 0, a.outlined, gap > 0]),
        rows=[*b.rows, "", *a.rows, ""],
        bottom=bottom,
        top=top,
        title=title(pair, "top guess of every layer" if name == TOPK else scores.quantity, looks),
        notes=[
            *side_notes(pair, key),
            *([f"{OUTLINED}the layer's guess is the model's"] if name == TOPK else []),
        ],
        bar=a.bar,
        colors=limits(scores.scale, values[:, counted(pair.a, looks)], looks),
        guesses=name == TOPK,
        headings={
            len(b.rows): f"B: {pair.b_name}",
            len(b.rows) + 1 + len(a.rows): f"A: {pair.a_name}",
        },
    )
    return pieces(panel, pair, looks)


# ---------------------------------------------------------------------------------------------
# What both kinds of figures say


def joined(a: str, b: str, between: str, same: bool) -> str:
    """One label, or two that share the room of one; the shorter leaves what it does not need."""
    if same:
        return a
    a_room, b_room = (max(ROOM // 2, ROOM - len(other)) for other in (b, a))
    return f"{shortened(a, a_room)}{between}{shortened(b, b_room)}"


def shortened(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 1]}…"


def columns(pair: Pair) -> tuple[list[str], list[str]]:
    """Labels below and above the columns, both tokens where they differ; a star where both models'
    guesses are right."""
    below, above = [], []
    guesses = zip(pair.a.final_ids, pair.b.final_ids, strict=True)
    for s, t, final in zip(pair.a.tokens, pair.b.tokens, guesses, strict=True):
        below.append(joined(s.label, t.label, "|", s.id == t.id))
        same = s.next_id == t.next_id
        star = s.next_id is not None and (s.next_id, t.next_id) == final
        above.append(
            joined(s.next_label or "", t.next_label or "", "|", same) + " (*)" * star,
        )
    return below, above


def title(pair: Pair, words: str, looks: Looks) -> str:
    if looks.title is not None:
        return looks.title
    words = f"{words[:1].upper()}{words[1:]}"
    a, b = pair.a.model.name, pair.b.model.name
    return f"{words} – {a}" if a == b else words


def side_notes(pair: Pair, key: str) -> list[str]:
    """Which readings they are, with what is not the same in both; then what is."""
    sides = [f"A: {pair.a_name}"], [f"B: {pair.b_name}"]
    for here, there in zip(traits(pair.a, pair.b), traits(pair.b, pair.a), strict=True):
        if here != there:
            sides[0].append(here)
            sides[1].append(there)
    notes = [", ".join(filter(None, parts)) for parts in sides]
    if decoded_words(pair.a) == decoded_words(pair.b):
        notes.append(decoded_words(pair.a))
    if pair.a.lens.chat and pair.b.lens.chat:
        notes.append(CHAT)
    if parted := sum(s.id != t.id for s, t in zip(pair.a.tokens, pair.b.tokens, strict=True)):
        notes.append(f"A|B: the tokens differ in {count_of(parted, 'column')}")
    guesses = sum(s != t for s, t in zip(pair.a.final_ids, pair.b.final_ids, strict=True))
    if guesses and pair.a.metrics[key].target == "final":
        notes.append(f"the final guess of A is not that of B in {count_of(guesses, 'column')}")
    return notes


def traits(reading: Reading, other: Reading) -> list[str]:
    """What may tell two readings apart; the revision only where the models have one name."""
    model, lens = reading.model, reading.lens
    return [
        model.name,
        (model.revision or "")[:24] if model.name == other.model.name else "",
        model.dtype,
        "no norm" if lens.norm == "none" else f"{lens.norm} norm",
        f"the last {count_of(lens.decoder_blocks, 'block')} decoding",
        "chat template" if lens.chat else "",
    ]


def pieces(panel: Panel, pair: Pair, looks: Looks) -> list[Panel]:
    """A panel cut into pieces of at most ``looks.split`` columns, with the notes on them."""
    count = len(panel.bottom)
    step = min(looks.split or count, count)
    return [
        replace(
            panel,
            values=panel.values[:, cut],
            texts=[row[cut] for row in panel.texts],
            outlined=panel.outlined[:, cut],
            bottom=panel.bottom[cut],
            top=panel.top[cut],
            notes=[*panel.notes, *column_notes(pair, cut, looks)],
        )
        for cut in (slice(start, start + step) for start in range(0, count, step))
    ]


def column_notes(pair: Pair, cut: slice, looks: Looks) -> list[str]:
    a, b = (
        f"{places(reading.tokens[cut])} of {count_of(reading.lens.text_tokens, 'token')}"
        for reading in (pair.a, pair.b)
    )
    where = [a] if a == b else [f"A: {a}", f"B: {b}"]
    return [*where, *looks_notes(looks), "(*) the guesses of A and B are right"]
