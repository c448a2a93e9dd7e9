"""Panel -> Layout: where everything of a figure goes, measured from the texts themselves.

A text that does not fit is shortened, or left out where a shortened one would be wrong (a number)
or too small to read; the figure then says so. Draws nothing.
"""

import math
from dataclasses import dataclass
from itertools import chain

from logitlens_cli.figures.fonts import Ruler, escaped, fallback
from logitlens_cli.figures.page import (
    LEAST_CELL,
    PAGES,
    PLAIN,
    TEXT_CELL,
    TEXT_COLUMNS,
    Page,
    require_page_width,
)
from logitlens_cli.figures.panel import Panel

LINE = 1.35 / 72  # height of a line of text, per point
GLYPH = 1.0 / 72  # height of its letters
SECOND = 0.8  # size of the second line of a cell, of the first
SLOPE = math.sqrt(0.5)  # labels are tilted by 45 degrees
LONGEST_TEXT = 1000  # characters of a text that may be drawn; no room takes as many
SIZE_STEP = 0.5  # points between two sizes that are tried


LEAST_WIDTH = 3.4  # of a page that grows: room for a title
TITLE_LINES = 3
BAR_HEIGHT = 1.3  # at least, times the page's scale


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


@dataclass(frozen=True)
class PanelLayout:
    """Sizes in inches, with the texts that fit into them."""

    page: Page
    cell: tuple[float, float]
    footer_height: float
    """height of a row below the grid"""
    width: float
    height: float
    left: float
    bottom: float
    """of the grid"""
    words: FittedTexts
    rows: list[str]
    """"" where there is no room to name one"""
    input_labels: list[str]
    next_labels: list[str]
    footer_labels: list[str]
    """what the rows below the grid are"""
    head: float
    """height of title and notes"""
    header: list[str]
    """lines under the title"""
    title: list[str]
    bar: list[str]
    """lines of the colour bar's label"""
    tall: float
    """height of the colour bar"""
    headings: dict[int, str]
    """by the row that they stand in"""
    families: list[str]

    def grid(self) -> tuple[float, float]:
        """Width and height of the heatmap."""
        return self.cell[0] * len(self.input_labels), self.cell[1] * len(self.rows)


def lay_out(panel: Panel, width: str = "auto") -> tuple[PanelLayout, frozenset[str]]:
    """Measure the texts and place everything; also the characters that no font has. ``width`` is a
    key of PAGES. UsageError where a page of given width has no room for the columns."""
    grids = (panel.texts, panel.second_lines, [row.texts for row in panel.footer_rows])
    texts = {text for grid in grids for row in grid for text in row}
    texts.update(panel.headings.values(), (row.label for row in panel.footer_rows))
    texts.update(panel.rows, panel.input_labels, panel.next_labels, panel.all_notes())
    texts.update((panel.title, panel.bar_label, "…"))
    families, missing = fallback(text[:LONGEST_TEXT] for text in texts)
    return arrange(panel, TextBlock(PAGES[width], Ruler(families), missing)), missing


def arrange(panel: Panel, text: "TextBlock") -> PanelLayout:
    """Labels first, then cells, then all around them."""
    page, count = text.page, len(panel.rows)
    surround, cells = Surround(panel, text), Cells(panel, text)
    highest = surround.row_room()
    # The bar is as high as the grid, which depends on texts, which depend on the bar: a guess.
    width = None if page.width is None else surround.cell_width(min(highest, 0.2) * count)
    words = cells.words(width, highest)
    cell = cells.size(words, width, highest)
    surround.notes += cells.notes
    grid = cell[1] * count
    tall = max(grid, min(BAR_HEIGHT * page.scale, highest * count))
    return surround.layout(words, cell, tall)


class TextBlock:
    """Texts on a page: what is drawn of them, and how much room it takes."""

    def __init__(self, page: Page, ruler: Ruler, missing: frozenset[str]) -> None:
        self.page, self.ruler, self.missing = page, ruler, missing
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


class Surround:
    """What stands around the cells: labels, title, notes and colour bar."""

    def __init__(self, panel: Panel, text: TextBlock) -> None:
        self.panel, self.text, self.page = panel, text, text.page
        self.notes = panel.all_notes()
        self.rows = [text.label(row) for row in panel.rows]
        self.footer_labels = [text.label(row.label) for row in panel.footer_rows]
        self.name_columns(
            [text.label(label) for label in panel.input_labels], panel.starred(text.label)
        )

    def name_columns(self, input_labels: list[str], next_labels: list[str]) -> None:
        """Set the labels of columns, and how far they reach."""
        self.input_labels, self.next_labels = input_labels, next_labels
        self.lean = [self.text.reach(label) for label in input_labels]
        self.rise = [self.text.reach(label) for label in next_labels]

    def layout(self, words: FittedTexts, cell: tuple[float, float], tall: float) -> PanelLayout:
        """All around cells of this size, beside a colour bar of this height. Columns and rows that
        are too narrow for a label each lose some of them."""
        panel, page, text = self.panel, self.page, self.text
        pitch = page.label_size * GLYPH / SLOPE / cell[0]
        self.name_columns(
            self.thinned(self.input_labels, pitch, "token"), self.thinned(self.next_labels, pitch)
        )
        rows = self.thinned(self.rows, 1.1 * page.label_size * GLYPH / cell[1], "layer")
        grid = len(panel.input_labels) * cell[0], len(rows) * cell[1]
        left, width = self.across(cell[0], tall)
        title, header, head = self.header(width - 2 * page.margin)
        footer_labels = self.footer_labels if words.size else []
        footer_height = words.size * LINE * 1.53
        gap = 0.06 * page.scale * bool(footer_labels)
        bottom = self.foot() + len(footer_labels) * footer_height + gap
        height = bottom + max(grid[1] + self.roof(), tall + 0.15) + head + page.margin
        return PanelLayout(
            page=page,
            cell=cell,
            footer_height=footer_height,
            width=width,
            height=height if page.height is None else page.height,
            left=left,
            bottom=bottom,
            words=words,
            rows=rows,
            input_labels=self.input_labels,
            next_labels=self.next_labels,
            footer_labels=footer_labels,
            head=head,
            header=header,
            title=title,
            bar=self.bar(tall),
            tall=tall,
            headings={
                n: text.fitted(h, page.label_size, grid[0]) for n, h in panel.headings.items()
            },
            families=text.ruler.families,
        )

    def across(self, cell: float, tall: float) -> tuple[float, float]:
        """Left edge of the grid, and width of the page; UsageError where it has no room."""
        page, columns = self.page, len(self.input_labels)
        left, right = self.sides(cell, tall)
        needed = left + columns * cell + right + page.margin
        if cell <= LEAST_CELL:  # nothing could be made smaller
            require_page_width(needed, columns, page)
        return left, max(needed, LEAST_WIDTH) if page.width is None else page.width

    def foot(self) -> float:
        """Distance from the page's edge up to what the labels below hang from."""
        return self.page.margin + self.text.line + 0.04 + max(self.lean) + 0.06

    def roof(self) -> float:
        """Distance from the top of the grid to the header."""
        return 0.06 + max(self.rise) + self.text.line + 0.04

    def sides(self, cell: float, tall: float) -> tuple[float, float]:
        """Left and right of a grid with cells of this width: labels below lean to the left of their
        column, labels above to its right; the bar and its label are as high as ``tall``."""
        page, line, columns = self.page, self.text.line, len(self.input_labels)
        names = max(self.text.label_width(text) for text in (*self.rows, *self.footer_labels))
        least = line + 0.05 + names + 0.12 * page.scale
        lean = max(lean - (i + 0.5) * cell for i, lean in enumerate(self.lean))
        rise = max(rise - (columns - i - 0.5) * cell for i, rise in enumerate(self.rise))
        bar = sum(page.bar_widths) + len(self.bar(tall)) * line
        return page.margin + max(least, lean), max(bar, rise)

    def cell_width(self, tall: float) -> float:
        """Width of a cell on a page of given width: what margins, labels and bar leave."""
        assert self.page.width is not None
        columns = len(self.input_labels)
        cell = self.page.width / columns
        for _ in range(4):  # narrower cells let labels stick out further; this settles at once
            left, right = self.sides(cell, tall)
            cell = (self.page.width - left - right - self.page.margin) / columns
            cell = max(cell, LEAST_CELL)
        return min(cell, 1.2 * self.page.scale)

    def row_room(self) -> float:
        """Height that is left for a row on a page of given height."""
        if self.page.height is None or self.page.width is None:
            return math.inf
        _, _, head = self.header(self.page.width - 2 * self.page.margin)
        spare = 2 * self.page.note_size * LINE  # the header grows by what is left out
        free = self.page.height - self.foot() - self.roof() - head - spare - self.page.margin
        return free / (len(self.rows) + len(self.footer_labels))

    def bar(self, tall: float) -> list[str]:
        """Lines of the colour bar's label."""
        size, ruler = self.page.label_size, self.text.ruler
        lines = ruler.broken(self.text.drawn(self.panel.bar_label), size, tall)
        # A part is never broken, and the highest bar has room for the longest.
        return ruler.wrapped([*lines, *self.panel.clipping()], size, tall, ", ")

    def header(self, room: float) -> tuple[list[str], list[str], float]:
        """Lines of the title, of the notes, and the height of all."""
        page, text = self.page, self.text
        title = text.ruler.broken(
            text.drawn(self.panel.title), page.title_size, room, "bold", TITLE_LINES
        )
        notes = text.ruler.wrapped([text.drawn(note) for note in self.notes], page.note_size, room)
        height = len(title) * page.title_size * LINE + len(notes) * page.note_size * LINE
        return title, notes, height + 0.12

    def thinned(self, labels: list[str], least: float, noun: str = "") -> list[str]:
        """Each label, or each second, third, ... up to the last, so that they do not meet;
        ``least`` is the room that a label needs, in cells."""
        step = max(1, math.ceil(least - 1e-9))
        if step > 1 and noun:
            self.notes.append(f"one {noun} in {step} is named")
        last = len(labels) - 1
        return [label if (last - i) % step == 0 else "" for i, label in enumerate(labels)]


class Cells:
    """How large cells are, and their texts in them."""

    def __init__(self, panel: Panel, text: TextBlock) -> None:
        self.panel, self.text, self.page = panel, text, text.page
        self.notes: list[str] = []
        """what is left out"""

    def words(self, width: float | None, highest: float) -> FittedTexts:
        """The texts of the cells, as large as cells of at most this width and height allow; None is
        a page that grows."""
        panel = self.panel
        small, large = self.page.text
        if panel.second_lines:  # which must be legible too
            small /= SECOND
        lines = 1 + SECOND * bool(panel.second_lines)
        sizes = [large - SIZE_STEP * n for n in range(int((large - small) / SIZE_STEP) + 1)]
        fitting = [size for size in sizes if size * LINE * (lines + 0.05) <= highest]
        if width is None:
            if len(panel.input_labels) > TEXT_COLUMNS:
                return self.wordless(f"no text in the cells of more than {TEXT_COLUMNS} columns")
            return self.written(large, TEXT_CELL[1][0] - self.padding(large))
        whole = [size for size in fitting if self.longest(size) <= width - self.padding(size)]
        if whole:
            return self.written(whole[0], width - self.padding(whole[0]))
        # Of a word its beginning says something, of a number it is another number; and words as
        # short as most are whole.
        room = width - self.padding(small)
        if fitting and panel.guesses and room >= self.text.ruler.width("·the", small):
            return self.written(small, room)
        return self.wordless(f"no text in the cells: it would be smaller than {small:g} pt")

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

    def written(self, size: float, room: float) -> FittedTexts:
        panel, small, ruler = self.panel, size * SECOND, self.text.ruler

        def fit(rows: list[list[str]]) -> list[list[str]]:
            return [[self.text.fitted(text, size, room) for text in row] for row in rows]

        texts, footer_rows = fit(panel.texts), fit([row.texts for row in panel.footer_rows])
        drawn = {(text, size) for text in chain(*texts, *footer_rows)}
        drawn |= {(text, small) for text in chain(*panel.second_lines)}
        widths = {key: ruler.width(*key) for key in drawn}
        rise = {size: ruler.rise(size), small: ruler.rise(small)}
        return FittedTexts(size, texts, panel.second_lines, footer_rows, widths, rise)

    def wordless(self, why: str) -> FittedTexts:
        """No texts, and a note that says so if there had been any."""
        if any(chain(*self.panel.texts)):
            self.notes.append(f"{why} (--split, --window, --every)")
        return FittedTexts(0, [["" for _ in row] for row in self.panel.texts], [], [], {}, {})

    def size(self, words: FittedTexts, width: float | None, highest: float) -> tuple[float, float]:
        """Width and height of a cell around its texts."""
        scale = self.page.scale
        if not words.size:
            plain = PLAIN * scale
            if width is None:
                return plain, plain
            return width, min(highest, max(0.5 * plain, min(width, plain)))
        if width is None:
            longest = max(words.widths.values(), default=0.0)
            width = max(TEXT_CELL[0][0] * scale, longest + self.padding(words.size))
        return width, min(highest, words.size * LINE * (words.lines + 0.53))
