"""Two readings, cell by cell: their difference as numbers and as panels, or both on one scale.

Columns belong together by position and token id, rows by layer; what does not fit is refused, with
the first difference named. Knows neither matplotlib nor files.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from logitlens_cli.errors import UsageError
from logitlens_cli.figures.reading_panels import color_of, draws_row, figures_of
from logitlens_cli.figures.style import FigureStyle
from logitlens_cli.metrics.table import COLORS, FOLLOWED, TOPK, TRACE
from logitlens_cli.reading.difference import DIFFERENCE_SCHEMA, Difference, Side
from logitlens_cli.reading.record import Reading
from logitlens_cli.reading.rounding import rounded


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
                "select the same number of columns with --window, or compare prompts of one length",
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
