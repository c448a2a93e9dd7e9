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
    GUESS_IS_FINAL,
    TOPK,
    Colors,
    FigureStyle,
    Panel,
    blank_repeats,
    color_of,
    count_of,
    decoded_words,
    draws_row,
    figures_of,
    limits,
    panels,
    scale_columns,
    signed,
    split_columns,
    style_notes,
    window_words,
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

DIFFERENCE_SCHEMA = "logitlens-diff/1"
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
        labels = dict(shown_tokens(self.a))
        for token, label in shown_tokens(self.b):
            if labels.get(token, label) != label:
                both = f"{labels[token]} in {self.a_name} and {label} in {self.b_name}"
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
        a_token, b_token = (
            f"{reading.tokens[first].label} at position {reading.tokens[first].position}"
            if first < len(reading.tokens)
            else "missing"
            for reading in (a, b)
        )
        where = f"column {first} is {a_token} in {self.a_name} and {b_token} in {self.b_name}"
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

    def key(self, name: str, style: FigureStyle) -> str:
        """The metric behind a figure, which must mean the same in both."""
        key = color_of(self.a, style) if name == TOPK else name
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
        for what, a_has, b_has in (
            ("unit", a.unit, b.unit),
            ("target", a.target, b.target),
            ("direction", a.direction, b.direction),
            ("reference", a.reference, b.reference),
            ("scale", a.scale.kind, b.scale.kind),
        ):
            if a_has != b_has:
                raise UsageError(
                    f"the {what} of {key} is {a_has or 'none'} in {self.a_name} "
                    f"and {b_has or 'none'} in {self.b_name}",
                    "read both with the same options",
                )
        return key

    def rows(self, name: str, style: FigureStyle) -> tuple[list[int], list[int]]:
        """The rows of A and of B that are drawn, which must be the same layers."""
        shown = tuple(
            [i for i, layer in enumerate(reading.layers) if draws_row(layer.kind, name, style)]
            for reading in (self.a, self.b)
        )
        layers = zip_longest(
            [self.a.layers[i] for i in shown[0]], [self.b.layers[i] for i in shown[1]]
        )
        for n, (a, b) in enumerate(layers):
            if a != b:
                a_row, b_row = (f"layer {x.label}" if x else "missing" for x in (a, b))
                raise UsageError(
                    f"row {n} is {a_row} in {self.a_name} and {b_row} in {self.b_name}",
                    "read both with the same --layers, --every, --subblocks and --input-row",
                )
        return shown[0], shown[1]


def shown_tokens(reading: Reading) -> Iterator[tuple[int, str]]:
    """The tokens that a reading shows, with their labels."""
    for token in reading.tokens:
        yield token.id, token.label
    for ids, labels in zip(reading.guesses.ids, reading.guesses.labels, strict=True):
        for cell, words in zip(ids, labels, strict=True):
            yield from zip(cell, words, strict=True)


# ---------------------------------------------------------------------------------------------
# B minus A


def difference_of(pair: Pair, name: str, style: FigureStyle) -> Difference:
    """The difference of the figure ``name``, in the rows that it shows.

    What has a logarithmic scale is divided instead: from rank 1 to 2 is as far as from 10 000 to
    20 000, and a difference would show the second only. Raises UsageError where the two cannot be
    compared.
    """
    key = pair.key(name, style)
    a_rows, b_rows = pair.rows(name, style)
    a, b = pair.a.values(key)[a_rows], pair.b.values(key)[b_rows]
    scores = pair.a.metrics[key]
    divided = scores.scale.kind == "log"
    return Difference(
        schema=DIFFERENCE_SCHEMA,
        metric=key,
        quantity=f"{scores.quantity}, {'log10(B / A)' if divided else 'B minus A'}",
        unit="powers of ten" if divided else scores.unit,
        a=side(pair.a, pair.a_name),
        b=side(pair.b, pair.b_name),
        layers=[pair.a.layers[i] for i in a_rows],
        values=rounded(np.log10(b) - np.log10(a) if divided else b - a),
        same=(pair.a.top()[a_rows] == pair.b.top()[b_rows]).tolist(),
    )


def side(reading: Reading, name: str) -> Side:
    return Side(
        name=name,
        text=reading.text,
        tokens=reading.tokens,
        model=reading.model,
        lens=reading.lens,
    )


def difference_to_json(difference: Difference) -> bytes:
    """The numbers, the same bytes for the same difference; ends with a line feed."""
    return msgspec.json.encode(difference) + b"\n"


def difference_panels(
    pair: Pair, name: str, difference: Difference, style: FigureStyle
) -> list[Panel]:
    """The difference as a figure, in pieces of at most ``style.split`` columns.

    Top guesses are outlined where A and B agree: as in the figure of one reading, the contour
    encloses what is the same, and all outside of it is told in the cells.
    """
    rows = [[np.nan if v is None else v for v in row] for row in difference.values]
    values = np.array(rows, float)
    if name == TOPK:
        texts = guess_texts(pair, difference, style)
    else:
        texts = [[signed(value, difference.metric) for value in row] for row in values.tolist()]
    divided = pair.a.metrics[difference.metric].scale.kind == "log"
    words = "top guess of every layer, A→B" if name == TOPK else difference.quantity
    # An input row is far from everything, and would leave no colours for the blocks.
    blocks = [layer.kind != "input" for layer in difference.layers]
    scaled = values[blocks] if any(blocks) else values
    panel = Panel(
        values=values,
        texts=blank_repeats(texts) if style.changes_only else texts,
        outlined=np.array(difference.same) & (name == TOPK),
        rows=[layer.label for layer in difference.layers],
        input_labels=input_labels(pair),
        next_labels=next_labels(pair),
        title=comparison_title(pair, words, style),
        notes=side_notes(pair, difference.metric),
        bar=f"{difference.quantity} [{difference.unit}]",
        colors=colors_around_zero(scaled[:, scale_columns(pair.a, style)], style),
        next_is_guess=both_right(pair),
        outline_meaning="A and B have the same guess" if name == TOPK else None,
        star_meaning=BOTH_RIGHT,
        more_notes=["below 0: better in B"] if divided else [],
        about=comparison_title(pair, words, replace(style, title=None)),
        guesses=name == TOPK,
        from_input=not blocks[0],
    )
    return pieces_of(panel, pair, style)


def guess_texts(pair: Pair, difference: Difference, style: FigureStyle) -> list[list[str]]:
    """(row, column) the top guess of A and that of B, where it is another."""
    a, b = (
        [[cell[0] for cell in reading.guesses.labels[row]] for row in rows]
        for reading, rows in zip((pair.a, pair.b), pair.rows(TOPK, style), strict=True)
    )
    return [
        [joint_label(s, t, "→", same) for s, t, same in zip(*row, strict=True)]
        for row in zip(a, b, difference.same, strict=True)
    ]


def colors_around_zero(values: Floats, style: FigureStyle) -> Colors:
    """Limits around 0 as far as the data go. One limit of the user's holds for both sides, two are
    taken as they are."""
    reach = max(style.vmax or 0.0, -(style.vmin or 0.0))
    if reach <= 0:
        reach = rounded_up(float(np.abs(values[np.isfinite(values)]).max(initial=0.0)))
    return limits(replace(DIFFERENCE_SCALE, low=-reach, high=reach), values, style)


def rounded_up(value: float) -> float:
    """To two figures, since it is read off the colour bar."""
    if value == 0:
        return value
    digits = 1 - math.floor(math.log10(value))
    return math.ceil(value * 10.0**digits) / 10.0**digits


# ---------------------------------------------------------------------------------------------
# A over B


def stacked_panels(pair: Pair, name: str, style: FigureStyle) -> list[Panel]:
    """A's grid above B's with the same columns and one colour scale, in pieces of at most
    ``style.split`` columns; each has a line above it that names it."""
    key = pair.key(name, style)
    pair.rows(name, style)
    whole = replace(style, split=None, vmin=None, vmax=None, skip_first=0)
    a, b = (panels(reading, name, whole)[0] for reading in (pair.a, pair.b))
    gap = np.full((1, len(pair.a.tokens)), np.nan)
    blank = [[""] * len(pair.a.tokens)]
    values = np.vstack([b.values, gap, a.values, gap])
    scores = pair.a.metrics[key]
    words = "top guess of every layer" if name == TOPK else scores.quantity
    panel = Panel(
        values=values,
        texts=b.texts + blank + a.texts + blank,
        outlined=np.vstack([b.outlined, gap > 0, a.outlined, gap > 0]),
        rows=[*b.rows, "", *a.rows, ""],
        input_labels=input_labels(pair),
        next_labels=next_labels(pair),
        title=comparison_title(pair, words, style),
        notes=side_notes(pair, key),
        bar=a.bar,
        colors=limits(scores.scale, values[:, scale_columns(pair.a, style)], style),
        next_is_guess=both_right(pair),
        outline_meaning=GUESS_IS_FINAL if name == TOPK else None,
        star_meaning=BOTH_RIGHT,
        guesses=name == TOPK,
        headings={
            len(b.rows): f"B: {pair.b_name}",
            len(b.rows) + 1 + len(a.rows): f"A: {pair.a_name}",
        },
    )
    return pieces_of(panel, pair, style)


# ---------------------------------------------------------------------------------------------
# What both kinds of figures say


def joint_label(a: str, b: str, between: str, same: bool) -> str:
    """One label, or two that share the room of one; the shorter leaves what it does not need."""
    if same:
        return a
    a_room, b_room = (max(ROOM // 2, ROOM - len(other)) for other in (b, a))
    return f"{shortened(a, a_room)}{between}{shortened(b, b_room)}"


def shortened(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 1]}…"


BOTH_RIGHT = "the guesses of A and B are right"


def input_labels(pair: Pair) -> list[str]:
    """By column, the input token; both where they differ."""
    return [
        joint_label(s.label, t.label, "|", s.id == t.id)
        for s, t in zip(pair.a.tokens, pair.b.tokens, strict=True)
    ]


def next_labels(pair: Pair) -> list[str]:
    """By column, the true next token; both where they differ."""
    return [
        joint_label(s.next_label or "", t.next_label or "", "|", s.next_id == t.next_id)
        for s, t in zip(pair.a.tokens, pair.b.tokens, strict=True)
    ]


def both_right(pair: Pair) -> list[bool]:
    """By column, is the true next token the top guess of both models?"""
    guesses = zip(pair.a.final_ids, pair.b.final_ids, strict=True)
    return [
        s.next_id is not None and (s.next_id, t.next_id) == final
        for s, t, final in zip(pair.a.tokens, pair.b.tokens, guesses, strict=True)
    ]


def comparison_title(pair: Pair, words: str, style: FigureStyle) -> str:
    if style.title is not None:
        return style.title
    words = f"{words[:1].upper()}{words[1:]}"
    a, b = pair.a.model.name, pair.b.model.name
    return f"{words} – {a}" if a == b else words


def side_notes(pair: Pair, key: str) -> list[str]:
    """Which readings they are, with what is not the same in both; then what is."""
    sides = [f"A: {pair.a_name}"], [f"B: {pair.b_name}"]
    for trait, other in zip(traits(pair.a, pair.b), traits(pair.b, pair.a), strict=True):
        if trait != other:
            sides[0].append(trait)
            sides[1].append(other)
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


def pieces_of(panel: Panel, pair: Pair, style: FigureStyle) -> list[Panel]:
    """A panel cut into pieces of at most ``style.split`` columns, with the notes on them."""
    return [
        replace(piece, more_notes=[*piece.more_notes, *column_notes(pair, cut, style)])
        for cut, piece in split_columns(panel, style.split)
    ]


def column_notes(pair: Pair, cut: slice, style: FigureStyle) -> list[str]:
    a, b = (window_words(reading, cut) for reading in (pair.a, pair.b))
    where = [a] if a == b else [f"A: {a}", f"B: {b}"]
    return [*where, *style_notes(style)]
