"""Panel -> a table of the terminal's width, in the figure's colours where the terminal has them."""

import io
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.style import Style
from rich.table import Table
from rich.text import Text

from logitlens_cli.caption import LONGEST, number
from logitlens_cli.errors import WorkError, discard_stream
from logitlens_cli.panels import OUTLINED, Panel, count_of
from logitlens_cli.tokens import harmless

if TYPE_CHECKING:
    from logitlens_cli.figure import Hues

WIDEST = 12
"""characters of a label or a cell, wide ones counted twice"""
STAR = " (*)"


def print_panel(panel: Panel, hues: "Hues", stream: TextIO | None) -> None:
    """Print a figure as a table of the terminal's width: the last columns are kept.

    Colours only where the terminal has 256 of them or more, and not with NO_COLOR; what is
    outlined is bold and underlined, or in brackets where nothing can be. Raises WorkError where
    ``stream`` cannot be written; that its reader went away is no error.
    """
    if stream is None:  # the shell closed it
        return
    made = written(panel, hues, stream)
    coding = stream.encoding or "utf-8"
    try:
        stream.write(made.encode(coding, "backslashreplace").decode(coding) + "\n")
        stream.flush()
    except BrokenPipeError:
        discard_stream(stream)
    except OSError as error:
        raise WorkError(
            f"the table cannot be written: {error.strerror}", "free some space, or leave --show out"
        ) from error


def written(panel: Panel, hues: "Hues", stream: TextIO) -> str:
    """The table as text, with the escape sequences that ``stream`` understands."""
    room, own = width(), Console(file=stream)
    system = own.color_system
    colors = system in ("256", "truecolor") and not own.no_color
    grid = Grid(panel, hues if colors else None, brackets=system is None)
    first = grid.first(room)
    made = Console(
        file=io.StringIO(),
        # Where no width is known, nothing is cut.
        width=room or max(100, grid.left + sum(grid.widths)),
        color_system=system,  # type: ignore[arg-type]
        no_color=own.no_color,
        markup=False,
        highlight=False,
        emoji=False,
    )
    with made.capture() as capture:
        made.print(Text(harmless(panel.title[:LONGEST]), style="bold"))
        made.print(Text(grid.notes(first)))
        made.print(grid.table(first))
        if not panel.guesses or colors:
            made.print(grid.legend())
    lines = capture.get().split("\n")
    return "\n".join(lines if system else [line.rstrip() for line in lines])


def width() -> int | None:
    """Columns of the terminal; COLUMNS goes before it. None where nothing is a terminal."""
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and len(given) < 10 and int(given):
        return int(given)
    for stream in (sys.stdout, sys.stderr, sys.stdin):
        with suppress(AttributeError, OSError, ValueError):  # closed, captured, or no terminal
            if columns := os.get_terminal_size(stream.fileno()).columns:
                return columns
    return None


class Grid:
    """The cells and labels of a panel, each as wide as it will be."""

    def __init__(self, panel: Panel, hues: "Hues | None", *, brackets: bool) -> None:
        self.panel, self.hues, self.brackets = panel, hues, brackets
        self.texts = [
            [self.marked(fitted(text), row, column) for column, text in enumerate(texts)]
            for row, texts in enumerate(panel.texts)
        ]
        self.above = [
            fitted(text.removesuffix(STAR)) + STAR * text.endswith(STAR) for text in panel.top
        ]
        self.below = [fitted(text) for text in panel.bottom]
        self.rows = [fitted(text) for text in panel.rows]
        strips = [[fitted(text) for text in strip.texts] for strip in panel.strips]
        self.strips = [
            (strip.label, texts) for strip, texts in zip(panel.strips, strips, strict=True)
        ]
        self.left = max(map(cell_len, [*self.rows, "layer", *(s.label for s in panel.strips)])) + 1
        columns = zip(self.above, self.below, *self.texts, *strips, strict=True)
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
        outlined = "in brackets: " if self.brackets else "bold and underlined: "
        said = [
            outlined + note.removeprefix(OUTLINED) if note.startswith(OUTLINED) else note
            for note in self.panel.notes
        ]
        said += [f"{self.panel.above} above"] * bool(self.panel.above)
        said.append(f"{self.panel.below} below")
        if first:
            said.append(f"{count_of(first, 'column')} at the left cut off: --window, --split")
        return harmless("  ·  ".join(said))

    def table(self, first: int) -> Table:
        """Layers upwards, next tokens above, input tokens below."""
        table = Table(
            box=None, padding=0, pad_edge=False, show_footer=True, header_style="", footer_style=""
        )
        table.show_header = any(self.panel.top)
        table.add_column("", "layer", width=self.left)
        for column in range(first, len(self.widths)):
            room = self.widths[column]
            above, below = (centred(t[column], room) for t in (self.above, self.below))
            table.add_column(Text(above), Text(below), width=room, no_wrap=True)
        for row in reversed(range(len(self.rows))):
            cells = [self.cell(row, column) for column in range(first, len(self.widths))]
            table.add_row(Text(self.rows[row]), *cells)
        for label, texts in self.strips:
            shown = range(first, len(self.widths))
            table.add_row(Text(label), *(Text(centred(texts[i], self.widths[i])) for i in shown))
        return table

    def cell(self, row: int, column: int) -> Text:
        text = self.texts[row][column]
        style = Style.null()
        if self.hues is not None:
            hue = self.hues.cells[row][column]
            ink = {"white": "#ffffff", "black": "#000000"}[hue.ink]
            style = Style(color=ink, bgcolor=hue.background)
        made = Text(padded := centred(text, self.widths[column]), style=style)
        if self.panel.outlined[row, column] and not self.brackets:
            start = padded.find(text)
            made.stylize(Style(bold=True, underline=True), start, start + len(text))
        return made

    def legend(self) -> Text:
        """The colour bar, or at least what the numbers are."""
        panel = self.panel
        made = Text(harmless(panel.bar[:LONGEST]))
        if self.hues is not None:
            made.append(f": {number(panel.colors.low)} ")
            for hue in self.hues.bar:
                made.append("█", Style(color=hue.background))
            made.append(f" {number(panel.colors.high)}")
            made.append(" (logarithmic)" * (panel.colors.kind == "log"))
            made.append("".join(f", {words}" for words in panel.clipping()))
        return made


def fitted(text: str) -> str:
    """``text`` with nothing that a terminal would obey, and its end cut off if it is too long."""
    text = harmless(text[: 4 * WIDEST])
    return text if cell_len(text) <= WIDEST else set_cell_size(text, WIDEST - 1) + "…"


def centred(text: str, width: int) -> str:
    """``text`` in the middle of a column, with a space at the right at least."""
    return set_cell_size(" " * ((width - 1 - cell_len(text)) // 2) + text, width)
