"""Panel -> Layout: where everything of a figure goes, measured from the texts themselves.

A text that does not fit is shortened, or left out where a shortened one would be wrong (a number)
or too small to read; the figure then says so. Draws nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from logitlens_cli.figures.fitted_texts import (
    GLYPH,
    LINE,
    SLOPE,
    Cells,
    FittedTexts,
    TextBlock,
)
from logitlens_cli.figures.fonts import Ruler, fallback
from logitlens_cli.figures.page import (
    LEAST_CELL,
    Page,
    page_of,
    require_page_height,
    require_page_width,
)
from logitlens_cli.figures.panel import Heading, Panel
from logitlens_cli.figures.scale import limit_text, log_ticks
from logitlens_cli.figures.style import FigureStyle
from logitlens_cli.figures.token_texts import LONGEST_TEXT

LEAST_WIDTH = 3.4  # of a page that grows: room for a title
TITLE_LINES = 3
BAR_HEIGHT = 1.3  # at least, times the page's scale


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
    bar_room: float
    """from the grid to the bar's label"""
    headings: list[Heading]
    families: list[str]
    columns: list[float]
    """width of each; ``cell`` has their mean"""

    @property
    def even(self) -> bool:
        """Are all columns of one width?"""
        return len(set(self.columns)) == 1

    @property
    def edges(self) -> list[float]:
        """Of the columns, from the left of the grid."""
        return [0.0, *accumulate(self.columns)]

    def grid(self) -> tuple[float, float]:
        """Width and height of the heatmap."""
        return self.cell[0] * len(self.input_labels), self.cell[1] * len(self.rows)


def lay_out(
    pieces: Sequence[Panel], style: FigureStyle
) -> tuple[list[PanelLayout], frozenset[str]]:
    """Measure the texts and place everything, alike in all pieces of one figure; also the
    characters that no font has. UsageError where a page of given size has no room for the columns
    or rows."""
    texts = {"…"}.union(*map(texts_of, pieces))
    families, missing = fallback((text[:LONGEST_TEXT] for text in texts), style.families)
    text = TextBlock(page_of(style), Ruler(families), missing, style.bare)
    if text.page.height is not None and text.page.width is None:
        # How high the head is depends on the width, which follows from the texts.
        wide = max(layout.width for layout in arrange(pieces, text, None))
        return arrange(pieces, text, wide), missing
    return arrange(pieces, text, text.page.width), missing


def texts_of(panel: Panel) -> set[str]:
    """Whatever a panel says."""
    grids = (panel.texts, panel.second_lines, [row.texts for row in panel.footer_rows])
    texts = {text for grid in grids for row in grid for text in row}
    texts.update((h.text for h in panel.headings), (row.label for row in panel.footer_rows))
    texts.update(panel.rows, panel.input_labels, panel.next_labels, panel.all_notes())
    return texts | {panel.title, panel.bar_label}


def arrange(
    pieces: Sequence[Panel], text: TextBlock, page_width: float | None
) -> list[PanelLayout]:
    """Labels first, then cells, then all around them. Cells, text and labels have one size in all
    pieces, and grids begin at one height."""
    count = len(pieces[0].rows)
    surrounds, cells = [Surround(p, text) for p in pieces], [Cells(p, text) for p in pieces]
    least = max(each.least_height() for each in cells)
    highest = min(each.row_room(page_width, least) for each in surrounds)
    # The bar is as high as the grid, which depends on texts, which depend on the bar: a guess.
    tall = min(highest, 0.2) * count
    fixed = text.page.width is not None
    width = min(each.cell_width(tall) for each in surrounds) if fixed else None
    uneven = cells[0].uneven(width, highest) if width is not None and len(pieces) == 1 else None
    if uneven is None:
        size = min(each.text_size(width, highest) for each in cells)
        words = [each.words(size, width) for each in cells]
    else:
        size, columns = uneven
        words = [cells[0].written(size, [wide - cells[0].padding(size) for wide in columns])]
        surrounds[0].shares = [wide / (sum(columns) / len(columns)) for wide in columns]
    sizes = [each.size(fit, width, highest) for each, fit in zip(cells, words, strict=True)]
    cell = max(wide for wide, _ in sizes), max(high for _, high in sizes)
    tall = max(cell[1] * count, min(BAR_HEIGHT * text.page.scale, highest * count))
    for surround, each in zip(surrounds, cells, strict=True):
        surround.notes += each.notes
        surround.thin(cell)
    frame = Frame.around(surrounds, cell, tall)
    return [
        surround.layout(fitted, frame) for surround, fitted in zip(surrounds, words, strict=True)
    ]


@dataclass(frozen=True)
class Frame:
    """What all pieces of a figure share, in inches."""

    cell: tuple[float, float]
    tall: float
    """height of the colour bar"""
    left: float
    foot: float
    """from the page's edge up to what the labels below hang from"""
    roof: float
    """from the top of the grid to the header"""
    head: float

    @classmethod
    def around(
        cls, surrounds: Sequence["Surround"], cell: tuple[float, float], tall: float
    ) -> "Frame":
        """The largest of each."""
        sides = [surround.across(cell[0], tall) for surround in surrounds]
        heads = [
            surround.header(width - 2 * surround.page.margin)[2]
            for surround, (_, width) in zip(surrounds, sides, strict=True)
        ]
        return cls(
            cell,
            tall,
            left=max(left for left, _ in sides),
            foot=max(surround.foot() for surround in surrounds),
            roof=max(surround.roof() for surround in surrounds),
            head=max(heads),
        )


class Surround:
    """What stands around the cells: labels, title, notes and colour bar."""

    def __init__(self, panel: Panel, text: TextBlock) -> None:
        self.panel, self.text, self.page = panel, text, text.page
        self.notes = panel.all_notes()
        self.shares = [1.0] * len(panel.input_labels)
        """widths of columns, of their mean"""
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

    def thin(self, cell: tuple[float, float]) -> None:
        """Columns and rows that are too narrow for a label each lose some of them."""
        size = self.page.label_size * GLYPH
        pitch = size / SLOPE / cell[0]
        self.name_columns(
            self.thinned(self.input_labels, pitch, "token"), self.thinned(self.next_labels, pitch)
        )
        self.rows = self.thinned(self.rows, 1.1 * size / cell[1], "layer")

    def layout(self, words: FittedTexts, frame: Frame) -> PanelLayout:
        """All around cells of this size, beside a colour bar of this height."""
        panel, page, text = self.panel, self.page, self.text
        cell, tall, rows, left = frame.cell, frame.tall, self.rows, frame.left
        grid = len(panel.input_labels) * cell[0], len(rows) * cell[1]
        # Labels of the first column may stand further to the left in another piece.
        width = self.across(cell[0], tall, left)[1]
        title, header, _ = self.header(width - 2 * page.margin)
        head = frame.head
        footer_labels = self.footer_labels if words.size else []
        footer_height = words.size * LINE * 1.53
        gap = 0.06 * page.scale * bool(footer_labels)
        bottom = frame.foot + len(footer_labels) * footer_height + gap
        height = bottom + max(grid[1] + frame.roof, tall + 0.15) + head + page.margin
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
            bar=bar_lines(panel, text, tall),
            tall=tall,
            bar_room=bar_room(panel, text),
            headings=[
                replace(h, text=text.fitted(h.text, page.label_size, h.columns * cell[0]))
                for h in panel.headings
            ],
            families=text.ruler.families,
            columns=[share * cell[0] for share in self.shares],
        )

    def across(self, cell: float, tall: float, least: float = 0.0) -> tuple[float, float]:
        """Left edge of the grid, ``least`` inches or more, and width of the page; UsageError where
        it has no room."""
        page, columns = self.page, len(self.input_labels)
        left, right = self.sides(cell, tall)
        left = max(left, least)
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
        page, line = self.page, self.text.line
        middles = [(end - share / 2) * cell for end, share in
                   zip(accumulate(self.shares), self.shares, strict=True)]  # fmt: skip
        grid = cell * sum(self.shares)
        names = max(self.text.label_width(text) for text in (*self.rows, *self.footer_labels))
        least = line + 0.05 + names + 0.12 * page.scale
        lean = max(lean - x for x, lean in zip(middles, self.lean, strict=True))
        rise = max(rise - (grid - x) for x, rise in zip(middles, self.rise, strict=True))
        bar = bar_room(self.panel, self.text) + len(bar_lines(self.panel, self.text, tall)) * line
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

    def row_room(self, width: float | None, least: float) -> float:
        """Height that is left for a row on a page of given height, and, where it is free on a page
        of given width, as much as lets the figure not become a tower; but ``least`` inches."""
        page, rows = self.page, len(self.rows) + len(self.footer_labels)
        if page.height is None or width is None:
            return math.inf if page.tallest is None else max(page.tallest / rows, least)
        _, _, head = self.header(width - 2 * page.margin)
        spare = 2 * page.note_size * LINE * (not self.text.bare)  # for what is left out
        free = page.height - self.foot() - self.roof() - head - spare - page.margin
        require_page_height(free / rows, rows, page)
        return free / rows

    def header(self, room: float) -> tuple[list[str], list[str], float]:
        """Lines of the title, of the notes, and the height of all."""
        page, text = self.page, self.text
        if text.bare:
            return [], [], 0.0
        words = text.drawn(self.panel.title)
        title = text.ruler.broken(words, page.title_size, room, "bold", TITLE_LINES)
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


def bar_lines(panel: Panel, text: TextBlock, tall: float) -> list[str]:
    """Lines of the colour bar's label."""
    size, ruler = text.page.label_size, text.ruler
    lines = ruler.broken(text.drawn(panel.bar_label), size, tall)
    # A part is never broken, and the highest bar has room for the longest.
    return ruler.wrapped([*lines, *panel.clipping()], size, tall, ", ")


def bar_room(panel: Panel, text: TextBlock) -> float:
    """From the grid to the colour bar's label."""
    gap, bar, room = text.page.bar_widths
    numbers = log_ticks(panel.colors) if panel.colors.kind == "log" else []
    widths = (text.ruler.width(limit_text(number), text.page.tick_size) for number in numbers)
    return gap + bar + max(room, max(widths, default=0.0) + 0.14 * text.page.scale)
