"""What a panel is: one figure as plain data.

Figures, the terminal and written tables all show panels. Knows neither matplotlib nor files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain

import numpy as np
import numpy.typing as npt

from logitlens_cli.figures.scale import limit_text
from logitlens_cli.figures.style import Colors
from logitlens_cli.figures.token_texts import key_of
from logitlens_cli.figures.words import count_of
from logitlens_cli.metrics.sums import Floats

STAR = " (*)"
"""stands behind a true next token that was guessed"""


@dataclass(frozen=True)
class FooterRow:
    """A row below the grid."""

    label: str
    texts: list[str]
    """one per column"""
    meaning: str = ""
    """what it says, where the row before it does not say so too"""


@dataclass(frozen=True)
class Heading:
    """What names the grid below it, in a row that is no layer."""

    row: int
    column: int
    """the first of the grid's"""
    columns: int
    text: str


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
    input_labels: list[str]
    """a column's input token, below the grid"""
    next_labels: list[str]
    """a column's true next token, above the grid; "" where the text ends"""
    title: str
    notes: list[str]
    """what was read and how it was decoded"""
    bar_label: str
    """quantity and unit, what the colour bar says"""
    colors: Colors
    next_is_guess: list[bool] = field(default_factory=list)
    """by column, is the model's top guess the true next token? Empty where no column has one"""
    input_title: str = "input token"
    """what the labels below are"""
    next_title: str = "true next token"
    outline_meaning: str | None = None
    """what outlined cells have; None where no cell can be outlined"""
    star_meaning: str | None = None
    """what the columns of ``next_is_guess`` have"""
    more_notes: list[str] = field(default_factory=list)
    """what else must be known, after what outlines mean"""
    second_lines: list[list[str]] = field(default_factory=list)
    """(row, column) a smaller second line; empty where no cell has one"""
    footer_rows: list[FooterRow] = field(default_factory=list)
    about: str = ""
    """what is shown, and of which model, also where the user's own title does not say so"""
    guesses: bool = False
    """do cells say the layers' guesses, so that values are seen as colours only? (Of a guess its
    beginning says something; of a number it does not.)"""
    from_input: bool = False
    """is the lowest row the input row, which is no layer?"""
    skips_blocks: bool = False
    """is there a block without a row?"""
    headings: list[Heading] = field(default_factory=list)
    gap: int | None = None
    """a column that parts two grids"""

    def all_notes(self, outline: str = "outlined") -> list[str]:
        """What a reader must know, in the order of reading; ``outline`` says how outlined cells
        look where it is shown."""
        notes = list(self.notes)
        if self.outline_meaning is not None:
            notes.append(f"{outline}: {self.outline_meaning}")
        notes += self.more_notes
        if self.star_meaning is not None:
            notes.append(f"{STAR.strip()} {self.star_meaning}")
        notes += (row.meaning for row in self.footer_rows if row.meaning)
        labels = chain(self.input_labels, self.next_labels, *self.texts * self.guesses)
        notes.append(key_of(labels))
        return [note for note in notes if note]

    def starred(self, shown: Callable[[str], str]) -> list[str]:
        """The true next tokens as ``shown`` shortens them, with a star behind those that were
        guessed: the token is shortened, not the star."""
        stars = self.next_is_guess or [False] * len(self.next_labels)
        return [
            shown(label) + STAR * star for label, star in zip(self.next_labels, stars, strict=True)
        ]

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
                (below, f"< {limit_text(self.colors.low)}"),
                (above, f"> {limit_text(self.colors.high)}"),
            )
            if count
        ]


def split_columns(panel: Panel, most: int | None) -> Iterator[tuple[slice, Panel]]:
    """A panel in pieces of at most ``most`` columns, each with the columns that it has."""
    count = len(panel.input_labels)
    step = min(most or count, count)
    for start in range(0, count, step):
        cut = slice(start, start + step)
        yield (
            cut,
            replace(
                panel,
                values=panel.values[:, cut],
                texts=[row[cut] for row in panel.texts],
                outlined=panel.outlined[:, cut],
                input_labels=panel.input_labels[cut],
                next_labels=panel.next_labels[cut],
                next_is_guess=panel.next_is_guess[cut],
                second_lines=[row[cut] for row in panel.second_lines],
                footer_rows=[replace(row, texts=row.texts[cut]) for row in panel.footer_rows],
            ),
        )


def blank_repeats(texts: list[list[str]]) -> list[list[str]]:
    """Blank every cell that says what the cell below it says."""
    return [
        [text if not i or text != texts[i - 1][j] else "" for j, text in enumerate(row)]
        for i, row in enumerate(texts)
    ]


GUESS_IS_FINAL = "the layer's guess is the model's"
