"""What figures must fit into: the pages of --width, and how large a figure may become at all.

The one statement of these limits. What a figure will take at the least is known from its rows and
columns, so that it can be refused before a model has read anything; what it takes exactly, once its
texts are measured.
"""

import math
from dataclasses import dataclass, replace

from logitlens_cli.errors import UsageError
from logitlens_cli.figures.style import FigureStyle

PIXELS = 2**16 - 1  # what the raster backend can do in one direction
AREA = 400_000_000  # pixels; four bytes each while it is painted
MOST_TEXTS = (
    200_000  # texts in cells, 3 kB of memory and a line of SVG each, whatever the resolution
)
SHARP = 72  # dots per inch; a lower resolution is not proposed
TEXT_COLUMNS = 64  # more columns than that are drawn without text, where the page may grow
PLAIN = 0.16  # inches of a cell without text there, on other pages times their scale
TEXT_CELL = (0.36, 0.21), (1.05, 0.33)  # the same with text, at least and at most: width, height
LEAST_CELL = 0.01  # inches; three dots of the default resolution
LEAST_ROW = 0.004  # inches; a dot
AROUND = 8.0  # inches; title, notes, labels and colour bar take less in either direction


@dataclass(frozen=True)
class Page:
    """What a figure must fit into; inches, and points of text."""

    width: float | None
    """None: as wide as the texts need"""
    height: float | None
    text: tuple[float, float]
    """in cells, at least and at most"""
    label_size: float
    title_size: float
    note_size: float
    margin: float
    bar_widths: tuple[float, float, float]
    """gap before the colour bar, the bar, room for its tick labels"""
    longest_label: float
    tallest: float | None = None
    """height of a grid that is still no tower, where the height is free"""
    fills: bool = False
    """do rows take all the height there is?"""

    @property
    def tick_size(self) -> float:
        """Points of the colour bar's numbers."""
        return min(self.label_size, max(6, self.label_size - 0.5))

    @property
    def scale(self) -> float:
        """Factor for the sizes of lines, gaps and cells."""
        return self.label_size / 8


PAGES = {
    "auto": Page(None, None, (7.5, 7.5), 8, 11, 7.5, 0.15, (0.22, 0.16, 0.42), 1.35),
    "single": Page(3.5, None, (6, 7.5), 6.5, 8.5, 6, 0.04, (0.10, 0.09, 0.28), 0.75, 3.8),
    "double": Page(7.2, None, (6, 7.5), 7, 9.5, 6.5, 0.04, (0.15, 0.12, 0.34), 1.1, 5.2),
    "slide": Page(13.333, 7.5, (8, 14), 11, 18, 10, 0.25, (0.3, 0.22, 0.6), 1.3),
}


def page_of(style: FigureStyle) -> Page:
    """The page of a style: of its own height, and with its own size of labels, to which all other
    sizes keep their proportions."""
    page = PAGES[style.width]
    points = page.label_size if style.font_size is None else style.font_size
    factor = points / page.label_size
    small, large = page.text
    gap, bar, ticks = page.bar_widths
    return replace(
        page,
        height=page.height if style.height is None else style.height,
        fills=style.height is not None,
        text=(small * factor, large * factor),
        label_size=points,
        title_size=page.title_size * factor,
        note_size=page.note_size * factor,
        bar_widths=(gap, bar, ticks * factor),
        longest_label=page.longest_label * factor,
    )


def require_drawable(rows: int, columns: int, style: FigureStyle) -> None:
    """UsageError for a heatmap whose cells alone would be too large.

    All that it asks is known before a model has read anything.
    """
    page, dpi = page_of(style), style.dpi
    if page.height is not None:
        require_page_height(page.height / rows, rows, page)
    if page.width is not None:
        require_page_width(columns * LEAST_CELL, columns, page)
        high = 0.5 * PLAIN * page.scale * rows if page.height is None else page.height
        require_size(page.width, high, dpi, columns, most=(page.width, 5 * high))
    elif columns > TEXT_COLUMNS:
        cells = PLAIN * columns, PLAIN * rows
        require_size(*cells, dpi, columns, most=cells)
    else:
        (narrow, low), (wide, high) = TEXT_CELL
        require_size(narrow * columns, low * rows, dpi, columns, rows * columns,
                     most=(wide * columns, high * rows))  # fmt: skip


def require_page_width(needed: float, columns: int, page: Page) -> None:
    """UsageError for columns that need more inches than a page of given width has."""
    if page.width is not None and needed > page.width + 1e-6:
        raise UsageError(
            f"{columns} columns need {needed:.1f} inches, and the page has {page.width:g}",
            f"use --split {int(0.3 * page.width / LEAST_CELL)}",  # beside labels and colour bar
        )


def require_page_height(row: float, rows: int, page: Page) -> None:
    """UsageError for rows that have less than the least height."""
    if row < LEAST_ROW:
        raise UsageError(
            f"{rows} rows have no room on a page {page.height:g} inches high",
            "give it more --height, or read fewer layers, with --every",
        )


def require_size(
    width: float,
    height: float,
    dpi: int,
    columns: int = 1,
    texts: int = 0,
    most: tuple[float, float] | None = None,
) -> None:
    """UsageError for a figure of more inches, or with more texts in its cells, than memory allows.
    It names the size, and options that make it small enough.

    ``most`` says that this is the size at the least, and what the cells will take at the most.
    """
    if fits(width, height, dpi) and texts <= MOST_TEXTS:
        return
    wide, high = (width, height) if most is None else (most[0] + AROUND, most[1] + AROUND)
    split = most_columns(high, dpi, columns, texts)
    sharp = math.floor(min(PIXELS / max(wide, high), math.sqrt(AREA / (wide * high))))
    cures = [f"--split {split}"] if 0 < split < columns else []
    if SHARP <= sharp < dpi and texts <= MOST_TEXTS:
        cures.append(f"--dpi {sharp}")
    inches = f"{math.ceil(width)} x {math.ceil(height)} inches"
    raise UsageError(
        f"the figure would be {'at least ' * (most is not None)}{inches},"
        f" at {dpi} dpi {width * dpi:.0f} x {height * dpi:.0f} pixels"
        + f", with {texts} texts in its cells"
        * (texts > MOST_TEXTS),
        f"use {' or '.join(cures)}" if cures else "read fewer layers, with --every",
    )


def fits(width: float, height: float, dpi: int) -> bool:
    return max(width, height) * dpi <= PIXELS and width * height * dpi**2 <= AREA


def most_columns(height: float, dpi: int, columns: int, texts: int) -> int:
    """Into how many columns a figure so high must be split at the most; 0 where no split makes it
    small enough."""

    def fitting(cell: float, height: float) -> int:
        wide = min(PIXELS / dpi, AREA / dpi**2 / height)
        return int((wide - AROUND) / cell) if height * dpi <= PIXELS else 0

    plain = fitting(PLAIN, height)
    if columns > TEXT_COLUMNS and plain > TEXT_COLUMNS:
        return plain
    # Of so few columns the cells have texts, which makes them higher too.
    few = min(
        TEXT_COLUMNS, fitting(TEXT_CELL[1][0], height * (2.5 if columns > TEXT_COLUMNS else 1))
    )
    return min(few, MOST_TEXTS * columns // texts) if texts else few
