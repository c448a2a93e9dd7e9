"""Panel -> a table of the terminal's width, in the figure's colours where the terminal has them."""

import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

from logitlens_cli.errors import WorkError, discard_stream
from logitlens_cli.figures.caption import LONGEST_SENTENCE, number
from logitlens_cli.figures.panel import Panel
from logitlens_cli.figures.words import count_of
from logitlens_cli.reading.marks import harmless

if TYPE_CHECKING:
    from logitlens_cli.figures.colors import CellColors
    from logitlens_cli.figures.style import FigureStyle
    from logitlens_cli.reading.record import Reading


WIDEST = 12
"""characters of a label or a cell, wide ones counted twice"""


def show_reading(
    reading: "Reading", figures: Sequence[str], style: "FigureStyle", *, to_stderr: bool
) -> None:
    """Print figures of a reading as tables."""
    from logitlens_cli.figures.reading_panels import panels

    show_panels(
        [panel for name in figures for panel in panels(reading, name, style)], to_stderr=to_stderr
    )


def show_panels(panels: "Sequence[Panel]", *, to_stderr: bool) -> None:
    """Print figures as tables; on standard error where standard output has paths."""
    from logitlens_cli.figures.colors import cell_colors

    for panel in panels:
        print_panel(panel, cell_colors(panel), sys.stderr if to_stderr else sys.stdout)


def print_panel(panel: Panel, colors: "CellColors", stream: TextIO | None) -> None:
    """Print a figure as a table of the terminal's width: the last columns are kept.

    Colours only where the terminal has 256 of them or more, and not with NO_COLOR; what is
    outlined is bold and underlined, or in brackets where nothing can be. Raises WorkError where
    ``stream`` cannot be written; that its reader went away is no error.
    """
    if stream is None:  # the shell closed it
        return
    table = written(panel, colors, stream)
    coding = stream.encoding or "utf-8"
    try:
        stream.write(table.encode(coding, "backslashreplace").decode(coding) + "\n")
        stream.flush()
    except BrokenPipeError:
        discard_stream(stream)
    except OSError as error:
        raise WorkError(
            f"the table cannot be written: {error.strerror}", "free some space, or leave --show out"
        ) from error


def written(panel: Panel, colors: "CellColors", stream: TextIO) -> str:
    """The table as text, with the escape sequences that ``stream`` understands."""
    room, terminal = terminal_width(), Console(file=stream)
    system = terminal.color_system
    colored = system in ("256", "truecolor") and not terminal.no_color
    table = TerminalTable(panel, colors if colored else None, brackets=system is None)
    first = table.first(room)
    console = Console(
        file=io.StringIO(),
        # Where no width is known, nothing is cut.
        width=room or max(100, table.left + sum(table.widths)),
        color_system=system,  # type: ignore[arg-type]
        no_color=terminal.no_color,
        markup=False,
        highlight=False,
        emoji=False,
    )
    with console.capture() as capture:
        console.print(Text(harmless(panel.title[:LONGEST_SENTENCE]), style="bold"))
        console.print(Text(table.notes(first)))
        console.print(table.grid(first))
        if not panel.guesses or colored:
            console.print(table.legend())
    lines = capture.get().split("\n")
    return "\n".join(lines if system else [line.rstrip() for line in lines])


def terminal_width() -> int | None:
    """Columns of the terminal; COLUMNS goes before it. None where nothing is a terminal."""
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and len(given) < 10 and int(given):
        return int(given)
    for stream in (sys.stdout, sys.stderr, sys.stdin):
        with suppress(AttributeError, OSError, ValueError):  # closed, captured, or no terminal
            if columns := os.get_terminal_size(stream.fileno()).columns:
                return columns
    return None


class TerminalTable:
    """The cells and labels of a panel, each as wide as it will be."""

    def __init__(self, panel: Panel, colors: "CellColors | None", *, brackets: bool) -> None:
        self.panel, self.colors, self.brackets = panel, colors, brackets
        self.texts = [
            [self.marked(fitted(text), row, column) for column, text in enumerate(texts)]
            for row, texts in enumerate(panel.texts)
        ]
        self.next_labels = panel.starred(fitted)
        self.input_labels = [fitted(text) for text in panel.input_labels]
        self.rows = [fitted(text) for text in panel.rows]
        self.footer_rows = [
            (row.label, [fitted(text) for text in row.texts]) for row in panel.footer_rows
        ]
        names = [*self.rows, "layer", *(label for label, _ in self.footer_rows)]
        self.left = max(map(cell_len, names)) + 1
        footers = (texts for _, texts in self.footer_rows)
        columns = zip(self.next_labels, self.input_labels, *self.texts, *footers, strict=True)
        self.widths = [max(map(cell_len, column)) + 1 for column in columns]
        """with the space after each"""

    def marked(self, text: str, row: int, column: int) -> str:
        return f"[{text}]" if text and self.brackets and self.panel.outlined[row, column] else text

    def first(self, room: int | None) -> int:
        """The first column that is shown: as many of the last ones as fit, and one at least."""
        first, left = len(self.widths) - 1, (room or sys.maxsize) - self.left - self.widths[-1]
        while first and self.widths[first - 1] <= left:
            first -= 1
            left -= self.widths[first]
        return first

    def notes(self, first: int) -> str:
        """What a reader must know, and how many columns are left out."""
        panel = self.panel
        notes = panel.all_notes("in brackets" if self.brackets else "bold and underlined")
        notes += [f"{panel.next_title} above"] * bool(panel.next_title)
        notes.append(f"{panel.input_title} below")
        if first:
            notes.append(f"{count_of(first, 'column')} at the left cut off: --window, --split")
        return harmless("  ·  ".join(notes))

    def grid(self, first: int) -> Table:
        """Layers upwards, next tokens above, input tokens below."""
        table = Table(
            box=None, padding=0, pad_edge=False, show_footer=True, header_style="", footer_style=""
        )
        table.show_header = any(self.panel.next_labels)
        table.add_column("", "layer", width=self.left)
        for column in range(first, len(self.widths)):
            room = self.widths[column]
            labels = self.next_labels[column], self.input_labels[column]
            above, below = (centred(label, room) for label in labels)
            table.add_column(Text(above), Text(below), width=room, no_wrap=True)
        for row in reversed(range(len(self.rows))):
            cells = [self.cell(row, column) for column in range(first, len(self.widths))]
            table.add_row(Text(self.rows[row]), *cells)
        for label, texts in self.footer_rows:
            shown = range(first, len(self.widths))
            table.add_row(Text(label), *(Text(centred(texts[i], self.widths[i])) for i in shown))
        return table

    def cell(self, row: int, column: int) -> Text:
        text = self.texts[row][column]
        style = Style.null()
        if self.colors is not None:
            color = self.colors.cells[row][column]
            text_color = {"white": "#ffffff", "black": "#000000"}[color.text_color]
            style = Style(color=text_color, bgcolor=color.background)
        cell = Text(padded := centred(text, self.widths[column]), style=style)
        if self.panel.outlined[row, column] and not self.brackets:
            start = padded.find(text)
            cell.stylize(Style(bold=True, underline=True), start, start + len(text))
        return cell

    def legend(self) -> Text:
        """The colour bar, or at least what the numbers are."""
        panel = self.panel
        legend = Text(harmless(panel.bar_label[:LONGEST_SENTENCE]))
        if self.colors is not None:
            legend.append(f": {number(panel.colors.low)} ")
            for color in self.colors.bar:
                legend.append("█", Style(color=color.background))
            legend.append(f" {number(panel.colors.high)}")
            legend.append(" (logarithmic)" * (panel.colors.kind == "log"))
            legend.append("".join(f", {words}" for words in panel.clipping()))
        return legend


def fitted(text: str) -> str:
    """``text`` with nothing that a terminal would obey, and its end cut off if it is too long."""
    text = harmless(text[: 4 * WIDEST])
    return text if cell_len(text) <= WIDEST else set_cell_size(text, WIDEST - 1) + "…"


def centred(text: str, width: int) -> str:
    """``text`` in the middle of a column, with a space at the right at least."""
    return set_cell_size(" " * ((width - 1 - cell_len(text)) // 2) + text, width)
