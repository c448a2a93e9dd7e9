"""Panel -> Layout: where everything of a figure goes, measured from the texts themselves.

Nothing is hoped for: a text that does not fit is shortened, or, where that would make it another
one (a number) or smaller than anybody reads, left out, and the figure says so. Draws nothing.
"""

import math
from dataclasses import dataclass
from itertools import chain

from logitlens_cli.fonts import Ruler, escaped, fallback
from logitlens_cli.pages import COLUMNS, LEAST_CELL, PAGES, PLAIN, TEXT_CELL, Page, require_room
from logitlens_cli.panels import Panel

LINE = 1.35 / 72  # height of a line of text, per point
GLYPH = 1.0 / 72  # height of its letters
SECOND = 0.8  # size of the second line of a cell, of the first
SLOPE = math.sqrt(0.5)  # labels are tilted by 45 degrees
STAR = " (*)"
LONGEST = 1000  # characters of a text that may be drawn; no room takes as many
STEP = 0.5  # points between two sizes that are tried


LEAST_WIDTH = 3.4  # of a page that grows: room for a title
TITLE_LINES = 3
BAR_HEIGHT = 1.3  # at least, times the page's scale


@dataclass(frozen=True)
class Words:
    """The texts of cells and strips, as they are drawn."""

    size: float
    """points; 0 where there are none"""
    texts: list[list[str]]
    second: list[list[str]]
    """smaller, below the first; empty where no cell has two"""
    strips: list[list[str]]
    widths: dict[tuple[str, float], float]
    """inches of each text, by its size"""
    rise: dict[float, float]
    """by size, inches from the middle of a line of text down to its baseline"""

    @property
    def lines(self) -> float:
        """Height of a cell's text, in lines of the first size."""
        return 1 + SECOND * bool(self.second)


@dataclass(frozen=True)
class Layout:
    """Sizes in inches, with the texts that fit into them."""

    page: Page
    cell: tuple[float, float]
    strip: float
    """height of a row below the grid"""
    width: float
    height: float
    left: float
    bottom: float
    """of the grid"""
    words: Words
    rows: list[str]
    """"" where there is no room to name one"""
    below: list[str]
    above: list[str]
    strips: list[str]
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
        return self.cell[0] * len(self.below), self.cell[1] * len(self.rows)


def lay_out(panel: Panel, width: str = "auto") -> tuple[Layout, frozenset[str]]:
    """Measure the texts and place everything; also the characters that no font has. ``width`` is a
    key of PAGES. UsageError where a page of given width has no room for the columns."""
    grids = (panel.texts, panel.second, [strip.texts for strip in panel.strips])
    every = {text for grid in grids for row in grid for text in row}
    every.update(panel.headings.values(), (strip.label for strip in panel.strips))
    every.update(panel.rows, panel.bottom, panel.top, panel.notes, [panel.title, panel.bar, "…"])
    families, missing = fallback(text[:LONGEST] for text in every)
    return Draft(panel, PAGES[width], Ruler(families), missing).layout(), missing


class Draft:
    """A layout in the making: labels first, then cells, then all around them."""

    def __init__(self, panel: Panel, page: Page, ruler: Ruler, missing: frozenset[str]) -> None:
        self.panel, self.page, self.ruler, self.missing = panel, page, ruler, missing
        self.line = page.label * LINE
        self.notes = list(panel.notes)
        self.rows = [self.label(text) for text in panel.rows]
        self.strips = [self.label(strip.label) for strip in panel.strips]
        self.below = [self.label(text) for text in panel.bottom]
        # The star is part of the label: shorten the token, not the star.
        self.above = [
            self.label(text.removesuffix(STAR)) + STAR * text.endswith(STAR) for text in panel.top
        ]
        self.tilt()

    def tilt(self) -> None:
        """Measure how far the labels of columns reach."""
        self.lean, self.rise = (
            [self.tilted(text) if text else 0.0 for text in labels]
            for labels in (self.below, self.above)
        )

    def label(self, text: str) -> str:
        return self.ruler.shortened(self.drawn(text), self.page.label, self.page.name)

    def drawn(self, text: str) -> str:
        return escaped(text[:LONGEST], self.missing)

    def tilted(self, text: str) -> float:
        """How far a tilted label reaches, to a side and up or down."""
        return SLOPE * (self.ruler.width(text, self.page.label) + self.line)

    def layout(self) -> Layout:
        panel, page = self.panel, self.page
        columns, count = len(panel.bottom), len(panel.rows)
        most = self.row_room()
        # The bar is as high as the grid, which depends on texts, which depend on the bar: a guess.
        width = None if page.width is None else self.cell_width(min(most, 0.2) * count)
        words = self.words(width, most)
        cell = self.cell(words, width, most)
        strip = words.size * LINE * 1.53
        strips = self.strips if words.size else []
        pitch = page.label * GLYPH / SLOPE / cell[0]
        self.below, self.above = (
            self.thinned(self.below, pitch, "token"),
            self.thinned(self.above, pitch),
        )
        self.tilt()
        rows = self.thinned(self.rows, 1.1 * page.label * GLYPH / cell[1], "layer")
        grid = cell[1] * count
        tall = max(grid, min(BAR_HEIGHT * page.scale, most * count))
        left, right = self.around(cell[0], tall)
        needed = left + columns * cell[0] + right + page.margin
        if cell[0] <= LEAST_CELL:  # nothing could be made smaller
            require_room(needed, columns, page)
        width = max(needed, LEAST_WIDTH) if page.width is None else page.width
        title, header, head = self.heading(width - 2 * page.margin)
        bottom = self.foot() + len(strips) * strip + 0.06 * page.scale * bool(strips)
        above_bottom = max(grid + self.roof(), tall + 0.15)
        height = bottom + above_bottom + head + page.margin
        return Layout(
            page=page,
            cell=cell,
            strip=strip,
            width=width,
            height=height if page.height is None else page.height,
            left=left,
            bottom=bottom,
            words=words,
            rows=rows,
            below=self.below,
            above=self.above,
            strips=strips,
            head=head,
            header=header,
            title=title,
            bar=self.bar(tall),
            tall=tall,
            headings={
                row: self.ruler.shortened(self.drawn(text), page.label, columns * cell[0])
                for row, text in panel.headings.items()
            },
            families=self.ruler.families,
        )

    # ---- around the grid

    def foot(self) -> float:
        """From the page's edge up to what the labels below hang from."""
        return self.page.margin + self.line + 0.04 + max(self.lean) + 0.06

    def roof(self) -> float:
        """From the top of the grid to the header."""
        return 0.06 + max(self.rise) + self.line + 0.04

    def around(self, cell: float, tall: float) -> tuple[float, float]:
        """Left and right of a grid with cells of this width: labels below lean to the left of their
        column, labels above to its right; the bar and its label are as high as ``tall``."""
        page, columns = self.page, len(self.below)
        names = max(self.ruler.width(text, page.label) for text in (*self.rows, *self.strips))
        least = self.line + 0.05 + names + 0.12 * page.scale
        lean = max(lean - (i + 0.5) * cell for i, lean in enumerate(self.lean))
        rise = max(rise - (columns - i - 0.5) * cell for i, rise in enumerate(self.rise))
        bar = sum(page.bar) + len(self.bar(tall)) * self.line
        return page.margin + max(least, lean), max(bar, rise)

    def cell_width(self, tall: float) -> float:
        """On a page of given width: what margins, labels and bar leave."""
        assert self.page.width is not None
        cell = self.page.width / len(self.below)
        for _ in range(4):  # narrower cells let labels stick out further; this settles at once
            left, right = self.around(cell, tall)
            cell = (self.page.width - left - right - self.page.margin) / len(self.below)
            cell = max(cell, LEAST_CELL)
        return min(cell, 1.2 * self.page.scale)

    def row_room(self) -> float:
        """On a page of given height: what is left for a row."""
        if self.page.height is None or self.page.width is None:
            return math.inf
        _, _, head = self.heading(self.page.width - 2 * self.page.margin)
        spare = 2 * self.page.note * LINE  # the header grows by what is left out
        free = self.page.height - self.foot() - self.roof() - head - spare - self.page.margin
        return free / (len(self.rows) + len(self.strips))

    def bar(self, tall: float) -> list[str]:
        size = self.page.label
        lines = self.ruler.broken(self.drawn(self.panel.bar), size, tall)
        # A part is never broken, and the highest bar has room for the longest.
        return self.ruler.wrapped([*lines, *self.panel.clipping()], size, tall, ", ")

    def heading(self, room: float) -> tuple[list[str], list[str], float]:
        """Lines of the title, of the notes, and the height of all."""
        page = self.page
        words = self.drawn(self.panel.title)
        title = self.ruler.broken(words, page.title, room, "bold", TITLE_LINES)
        notes = [self.drawn(note) for note in self.notes]
        header = self.ruler.wrapped(notes, page.note, room)
        height = len(title) * page.title * LINE + len(header) * page.note * LINE
        return title, header, height + 0.12

    # ---- the cells

    def words(self, width: float | None, most: float) -> Words:
        """The texts of the cells, as large as cells of at most this width and height allow; None is
        a page that grows."""
        panel, page = self.panel, self.page
        small, large = page.text
        if panel.second:  # which must be legible too
            small /= SECOND
        lines = 1 + SECOND * bool(panel.second)
        sizes = [large - STEP * n for n in range(int((large - small) / STEP) + 1)]
        fitting = [size for size in sizes if size * LINE * (lines + 0.05) <= most]
        if width is None:
            if len(panel.bottom) > COLUMNS:
                return self.wordless(f"no text in the cells of more than {COLUMNS} columns")
            return self.written(large, TEXT_CELL[1][0] - self.padding(large))
        whole = [size for size in fitting if self.longest(size) <= width - self.padding(size)]
        if whole:
            return self.written(whole[0], width - self.padding(whole[0]))
        # Of a word its beginning says something, of a number it is another number; and words as
        # short as most are whole.
        room = width - self.padding(small)
        if fitting and panel.guesses and room >= self.ruler.width("·the", small):
            return self.written(small, room)
        return self.wordless(f"no text in the cells: it would be smaller than {small:g} pt")

    def padding(self, size: float) -> float:
        """Of a cell, both sides."""
        return (0.10 if self.page.width is None else 0.07) * size / 7.5

    def longest(self, size: float) -> float:
        """The widest text of a cell, in inches."""
        panel, width = self.panel, self.ruler.width
        first = {self.drawn(text) for text in chain(*panel.texts)}
        first.update(text for strip in panel.strips for text in strip.texts)
        second = set(chain(*panel.second))
        return max(
            max((width(text, size) for text in first), default=0.0),
            max((width(text, size * SECOND) for text in second), default=0.0),
        )

    def written(self, size: float, room: float) -> Words:
        panel, small = self.panel, size * SECOND

        def fit(rows: list[list[str]]) -> list[list[str]]:
            return [
                [self.ruler.shortened(self.drawn(text), size, room) for text in row] for row in rows
            ]

        texts, strips = fit(panel.texts), fit([strip.texts for strip in panel.strips])
        drawn = {(text, size) for text in chain(*texts, *strips)}
        drawn |= {(text, small) for text in chain(*panel.second)}
        widths = {key: self.ruler.width(*key) for key in drawn}
        rise = {size: self.ruler.rise(size), small: self.ruler.rise(small)}
        return Words(size, texts, panel.second, strips, widths, rise)

    def wordless(self, why: str) -> Words:
        """No texts, and a note that says so if there had been any."""
        if any(chain(*self.panel.texts)):
            self.notes.append(f"{why} (--split, --window, --every)")
        return Words(0, [["" for _ in row] for row in self.panel.texts], [], [], {}, {})

    def cell(self, words: Words, width: float | None, most: float) -> tuple[float, float]:
        scale = self.page.scale
        if not words.size:
            plain = PLAIN * scale
            if width is None:
                return plain, plain
            return width, min(most, max(0.5 * plain, min(width, plain)))
        if width is None:
            longest = max(words.widths.values(), default=0.0)
            width = max(TEXT_CELL[0][0] * scale, longest + self.padding(words.size))
        return width, min(most, words.size * LINE * (words.lines + 0.53))

    def thinned(self, labels: list[str], least: float, noun: str = "") -> list[str]:
        """Every label, or every second, third, ... up to the last, so that they do not meet;
        ``least`` is the room that a label needs, in cells."""
        step = max(1, math.ceil(least - 1e-9))
        if step > 1 and noun:
            self.notes.append(f"one {noun} in {step} is named")
        last = len(labels) - 1
        return [label if (last - i) % step == 0 else "" for i, label in enumerate(labels)]
