"""The texts of a figure's cells: how large they may be, what fits, and how large cells become."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from logitlens_cli.figures.fonts import Ruler, escaped
from logitlens_cli.figures.page import PLAIN, TEXT_CELL, TEXT_COLUMNS, Page
from logitlens_cli.figures.panel import Panel
from logitlens_cli.figures.token_texts import LONGEST_TEXT

LINE = 1.35 / 72  # height of a line of text, per point
GLYPH = 1.0 / 72  # height of its letters
SECOND = 0.8  # size of the second line of a cell, of the first
SLOPE = math.sqrt(0.5)  # labels are tilted by 45 degrees
SIZE_STEP = 0.5  # points between two sizes that are tried


class TextBlock:
    """Texts on a page: what is drawn of them, and how much room it takes."""

    def __init__(
        self, page: Page, ruler: Ruler, missing: frozenset[str], bare: bool = False
    ) -> None:
        self.page, self.ruler, self.missing, self.bare = page, ruler, missing, bare
        self.line = page.label_size * LINE
        """height of a label"""

    def drawn(self, text: str) -> str:
        return escaped(text[:LONGEST_TEXT], self.missing)

    def fitted(self, text: str, size: float, room: float) -> str:
        return self.ruler.shortened(self.drawn(text), size, room)

    def label(self, text: str) -> str:
        return self.fitted(text, self.page.label_size, self.page.longest_label)

    def label_width(self, text: str) -> float:
        return self.ruler.width(text, self.page.label_size)

    def reach(self, label: str) -> float:
        """How far a tilted label reaches, to a side and up or down."""
        return SLOPE * (self.label_width(label) + self.line) if label else 0.0


@dataclass(frozen=True)
class FittedTexts:
    """The texts of cells and footer rows, as they are drawn."""

    size: float
    """points; 0 where there are none"""
    texts: list[list[str]]
    second_lines: list[list[str]]
    """smaller, below the first; empty where no cell has two"""
    footer_rows: list[list[str]]
    widths: dict[tuple[str, float], float]
    """inches of each text, by its size"""
    rise: dict[float, float]
    """by size, inches from the middle of a line of text down to its baseline"""

    @property
    def lines(self) -> float:
        """Height of a cell's text, in lines of the first size."""
        return 1 + SECOND * bool(self.second_lines)


class Cells:
    """How large cells are, and their texts in them."""

    def __init__(self, panel: Panel, text: TextBlock) -> None:
        self.panel, self.text, self.page = panel, text, text.page
        self.notes: list[str] = []
        """what is left out"""

    @property
    def lines(self) -> float:
        return 1 + SECOND * bool(self.panel.second_lines)

    @property
    def smallest(self) -> float:
        """Points of text that is still legible, also in second lines."""
        return self.page.text[0] / (SECOND if self.panel.second_lines else 1)

    def least_height(self) -> float:
        """Of a row whose text is as small as may be."""
        return self.smallest * LINE * (self.lines + 0.06)

    def text_size(self, width: float | None, highest: float) -> float:
        """Points of text, as large as cells of at most this width and height allow, or 0 for none;
        None is a page that grows."""
        panel, small, fitting = self.panel, self.smallest, self.sizes(highest)
        too_small = f"no text in the cells: it would be smaller than {small:.3g} pt"
        if width is None:
            if len(panel.input_labels) > TEXT_COLUMNS:
                return self.wordless(f"no text in the cells of more than {TEXT_COLUMNS} columns")
            return fitting[0] if fitting else self.wordless(too_small)
        whole = [size for size in fitting if self.longest(size) <= width - self.padding(size)]
        if whole:
            return whole[0]
        # Of a word its beginning says something, of a number it is another number; and words as
        # short as most are whole.
        room = width - self.padding(small)
        if fitting and panel.guesses and room >= self.text.ruler.width("·the", small):
            return small
        return self.wordless(too_small)

    def uneven(self, width: float, highest: float) -> tuple[float, list[float]] | None:
        """Points of text and widths of columns where equal columns would cut words, or have no
        text: each as wide as it needs, and if that is too wide the widest give way first. None
        where equal columns do, and where labels have no room."""
        panel, small, ruler = self.panel, self.smallest, self.text.ruler
        count, sizes = len(panel.input_labels), self.sizes(highest)
        least = self.page.label_size * GLYPH / SLOPE  # so that tilted labels do not meet
        equal = any(self.longest(size) <= width - self.padding(size) for size in sizes)
        if equal or not sizes or not panel.guesses or least > width:
            return None
        total = width * count
        for size in sizes:
            needs = self.needs(size, least)
            if sum(needs) <= total:
                return size, [need + (total - sum(needs)) / count for need in needs]
        needs = self.needs(small, least)
        most = level(needs, total)
        if most - self.padding(small) < ruler.width("·the", small):
            return None
        return small, [min(need, most) for need in needs]

    def needs(self, size: float, least: float) -> list[float]:
        """Width of each column with its texts whole."""
        panel, width = self.panel, self.text.ruler.width
        rows = [*panel.texts, *(row.texts for row in panel.footer_rows)]
        widths = [[width(self.text.drawn(text), size) for text in row] for row in rows]
        widths += [[width(text, size * SECOND) for text in row] for row in panel.second_lines]
        return [
            max(max(column) + self.padding(size), least) for column in zip(*widths, strict=True)
        ]

    def sizes(self, highest: float) -> list[float]:
        """Points of text that rows of this height allow, the largest first."""
        small, large = self.smallest, self.page.text[1]
        sizes = [large - SIZE_STEP * n for n in range(int((large - small) / SIZE_STEP) + 1)]
        return [size for size in sizes if size * LINE * (self.lines + 0.05) <= highest]

    def words(self, size: float, width: float | None) -> FittedTexts:
        """The texts as they fit into cells of this width."""
        if not size:
            blank = [["" for _ in row] for row in self.panel.texts]
            return FittedTexts(0, blank, [], [], {}, {})
        most = TEXT_CELL[1][0] * self.page.scale if width is None else width
        return self.written(size, [most - self.padding(size)] * len(self.panel.input_labels))

    def padding(self, size: float) -> float:
        """Room beside the text of a cell, both sides together."""
        return (0.10 if self.page.width is None else 0.07) * size / 7.5

    def longest(self, size: float) -> float:
        """The widest text of a cell, in inches."""
        panel, width = self.panel, self.text.ruler.width
        first = {self.text.drawn(text) for text in chain(*panel.texts)}
        first.update(text for row in panel.footer_rows for text in row.texts)
        second = set(chain(*panel.second_lines))
        return max(
            max((width(text, size) for text in first), default=0.0),
            max((width(text, size * SECOND) for text in second), default=0.0),
        )

    def written(self, size: float, rooms: Sequence[float]) -> FittedTexts:
        """The texts as they fit into columns with this much room each."""
        panel, small, ruler = self.panel, size * SECOND, self.text.ruler

        def fit(rows: list[list[str]]) -> list[list[str]]:
            return [
                [self.text.fitted(text, size, room) for text, room in zip(row, rooms, strict=True)]
                for row in rows
            ]

        texts, footer_rows = fit(panel.texts), fit([row.texts for row in panel.footer_rows])
        drawn = {(text, size) for text in chain(*texts, *footer_rows)}
        drawn |= {(text, small) for text in chain(*panel.second_lines)}
        widths = {key: ruler.width(*key) for key in drawn}
        rise = {size: ruler.rise(size), small: ruler.rise(small)}
        return FittedTexts(size, texts, panel.second_lines, footer_rows, widths, rise)

    def wordless(self, why: str) -> float:
        """No texts, and a note that says so if there had been any."""
        if any(chain(*self.panel.texts)):
            self.notes.append(f"{why} (--split, --window, --every)")
        return 0.0

    def size(self, words: FittedTexts, width: float | None, highest: float) -> tuple[float, float]:
        """Width and height of a cell around its texts."""
        scale = self.page.scale
        fills = self.page.fills and math.isfinite(highest)
        if not words.size:
            plain = PLAIN * scale
            high = plain if width is None else max(0.5 * plain, min(width, plain))
            high = highest if fills else min(highest, high)
            return plain if width is None else width, high
        if width is None:
            longest = max(words.widths.values(), default=0.0)
            width = max(TEXT_CELL[0][0] * scale, longest + self.padding(words.size))
        line = words.size * LINE
        return width, highest if fills else min(highest, line * (words.lines + 0.53))


def level(needs: Sequence[float], total: float) -> float:
    """The height at which needs are cut so that they sum up to ``total``, which is less than they
    do."""
    rest, cut = total, len(needs)
    for need in sorted(needs):
        if need * cut > rest:
            break
        rest -= need
        cut -= 1
    return rest / cut
