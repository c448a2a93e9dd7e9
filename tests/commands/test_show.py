"""Figures as tables: what is printed, how wide, in which colours; a real terminal in between."""

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from readings import as_dump, make
from rich.cells import cell_len

from logitlens_cli.commands import show
from logitlens_cli.errors import WorkError
from logitlens_cli.figures.colors import cell_colors
from logitlens_cli.figures.panel import Panel
from logitlens_cli.figures.reading_panels import panels
from logitlens_cli.figures.style import FigureStyle

HOSTILE = "[red]x[/red]"
STYLE = re.compile("\x1b\\[([0-9;]*)m")


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Print a panel, on a terminal or not; what comes out."""
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "COLORTERM", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)

    def run(panel: Panel, stream: io.StringIO, **environment: str) -> str:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        show.print_panel(panel, cell_colors(panel), stream)
        return stream.getvalue()

    return run


def panel_of(name: str, **style: Any) -> Panel:
    return panels(make(), name, FigureStyle(**style))[0]


def test_a_table_without_colours(look: Any) -> None:
    assert look(panel_of("topk"), io.StringIO(), COLUMNS="300").split("\n") == [
        "Top guess of every layer – hand-made",
        "decoded with the model's head, full norm  ·  positions 4–6 of 20 tokens  ·  in brackets: "
        "the layer's guess is the model's  ·  (*) the model's guess is right  ·  true next token "
        "above  ·  input token below",
        "      t1 (*) t2 (*)",
        "1      [b]    [c]   [a]",
        "0      [b]    [c]    z",
        "layer   t0     t1   last",
        "",
        "",
    ]
    made = look(panel_of("kl-final"), io.StringIO(), COLUMNS="300").split("\n")
    assert made[3:] == [
        "1      0.0    0.0   0.0",
        "0      7.2    0.0    31",
        "input   40     50   2.0",
        "layer   t0     t1   last",
        "KL(final || layer) [nats]",
        "",
        "",
    ]


def test_the_colours_are_those_of_the_figure(look: Any) -> None:
    terms = {"TERM": "xterm-256color", "COLORTERM": "truecolor", "COLUMNS": "120"}
    panel = panel_of("kl-final", cmap="gray", vmax=40)
    made = look(panel, Tty(), **terms)
    lowest = next(line for line in made.split("\n") if line.startswith("input"))
    # Of gray, 10/255 to 225/255 are the scale: 40 is its end, 50 beyond (white), 2 a twentieth.
    assert re.findall("38;2;([0-9;]+);48;2;([0-9;]+)m", lowest) == [
        ("0;0;0", "225;225;225"), ("0;0;0", "255;255;255"), ("255;255;255", "20;20;20"),
    ]  # fmt: skip
    assert "KL(final || layer) [nats]: 0 " in STYLE.sub("", made)
    assert " 40, 1 cell > 40" in STYLE.sub("", made)
    bold = look(panel_of("topk"), Tty(), **terms)
    assert len(re.findall(r"\x1b\[1;4;", bold)) == 5
    assert "bold and underlined: the layer's guess" in STYLE.sub("", bold).replace("\n", " ")


@pytest.mark.parametrize(
    ("environment", "colors", "bold"),
    [
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "48;2;", True),
        ({"TERM": "xterm-256color"}, "48;5;", True),
        ({"TERM": "xterm"}, None, True),  # sixteen colours are not enough
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, None, True),
        ({"TERM": "dumb"}, None, False),
    ],
)
def test_terminals(look: Any, environment: dict[str, str], colors: str | None, bold: bool) -> None:
    # rich remembers how it wrote a colour, also for another terminal: each case has its own.
    cmap = "viridis" if colors == "48;2;" else "rocket"
    made = look(panel_of("topk", cmap=cmap), Tty(), COLUMNS="100", **environment)
    styles = STYLE.findall(made)
    assert any("8;" in style for style in styles) == (colors is not None)
    assert colors is None or any(colors in style for style in styles)
    assert ("1;4" in "".join(styles)) == bold
    assert ("[b]" in made) != bold


@pytest.mark.parametrize(("columns", "shown"), [(40, 4), (80, 9), (200, 24), (1, 1), (1000, 30)])
def test_the_last_columns_stay(look: Any, columns: int, shown: int) -> None:
    """Each column is 8 wide: 7 characters and a space; layers take 6."""
    labels = [[f"word-{n:02}" for n in range(30)] for _ in range(3)]
    panel = panels(make(labels), "topk", FigureStyle())[0]
    panel = replace(panel, input_labels=[f"under{n:02}" for n in range(30)], next_labels=[""] * 30,
                    outlined=np.zeros((2, 30), bool))  # fmt: skip
    made = look(panel, io.StringIO(), COLUMNS=str(columns)).split("\n")
    if columns > 1:
        assert max(map(cell_len, made)) <= columns
        below = next(line for line in made if "under29" in line)
        assert below.split()[-shown:] == [f"under{n:02}" for n in range(30 - shown, 30)]
        assert below.split()[:-shown] == ["layer"]
        assert made[made.index(below) - 2].startswith("1 ")  # and no empty row of next tokens
        assert [line.split() for line in made if "word-29" in line] == [
            [layer, *(f"word-{n:02}" for n in range(30 - shown, 30))] for layer in ("1", "0")
        ]
    cut = f"{30 - shown} columns at the left cut off: --window, --split"
    assert (cut in " ".join(made)) == (1 < columns < 1000)


def test_nothing_is_cut_where_there_is_no_terminal(
    look: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show, "terminal_width", lambda: None)
    panel = panels(make([[f"word-{n:02}" for n in range(90)]] * 3), "topk", FigureStyle())[0]
    made = look(panel, io.StringIO())
    assert "word-00" in made
    assert "word-89" in made
    assert "no text in the cells" not in made  # of the figure


def test_wide_characters_are_counted_twice(look: Any) -> None:
    panel = panels(make([["漢字", "😀", "e\u0301"]] * 3), "topk", FigureStyle())[0]
    panel = replace(
        panel,
        input_labels=["漢" * 20, "b", "c"],
        next_labels=["y" * 30, "", ""],
        next_is_guess=[True, False, False],
    )
    lines = look(panel, io.StringIO(), COLUMNS="200").split("\n")
    below = next(line for line in lines if line.startswith("layer"))
    above = next(line for line in lines if "yyy" in line)
    assert "漢" * 5 + " …" in below  # eleven are left, of which a wide one takes two
    assert "y" * 11 + "… (*)" in above
    places = [cell_len(line[: line.index("[😀]")]) for line in lines if "😀" in line]
    # After "layer ", a column of 16 and its space; the emoji and its brackets take four.
    assert places == [23, 23]
    assert cell_len(below[: below.index("b")]) == 24


def test_nothing_is_obeyed(look: Any) -> None:
    evil = "\x1b[31m\n\u202e"
    panel = replace(
        panel_of("topk"),
        texts=[[HOSTILE, evil, ":cat:"], ["\x07", "a\tb", "\u200b"]],
        input_labels=[evil, HOSTILE, "c"], rows=["0", evil], next_labels=[evil, evil, "x"],
        title=f"{HOSTILE} {evil}", notes=[evil, HOSTILE],
    )  # fmt: skip
    made = look(panel, io.StringIO(), COLUMNS="200")
    assert f"{HOSTILE} <U+001B>[31m↵<U+202E>\n" in made
    assert f"[{HOSTILE}]" in made
    assert ":cat:" in made
    assert "a⇥b" in made
    assert {char for char in made if ord(char) < 32 or 0x7F <= ord(char) < 0xA0} == {"\n"}
    colored = look(panel, Tty(), TERM="xterm-256color", COLUMNS="200")
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", STYLE.sub("", colored))


def test_a_stream_that_cannot_say_it(look: Any) -> None:
    class Ascii(io.StringIO):
        encoding = "ascii"

    assert "\\u2013 hand-made" in look(panel_of("topk"), Ascii(), COLUMNS="200")
    show.print_panel(panel_of("topk"), cell_colors(panel_of("topk")), None)  # closed: nobody looks
    full = Path("/dev/full").open("w", encoding="utf-8")  # noqa: SIM115
    with pytest.raises(WorkError, match="the table cannot be written: No space"):
        show.print_panel(panel_of("topk"), cell_colors(panel_of("topk")), full)
    with suppress(OSError):
        full.close()


def test_a_real_terminal(tmp_path: Path) -> None:
    """Its own width, its colours, and nothing behind the edge."""
    path = tmp_path / "x.all.json"
    path.write_bytes(as_dump(make()))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 21, 0, 0))
    keep = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR", "FORCE_COLOR")}
    ran = subprocess.run(
        [sys.executable, "-m", "logitlens_cli", "render", str(path), "topk", "--show", "-q",
         "--format", "none"],
        stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, check=True, cwd=tmp_path, timeout=60,
        env=keep | {"TERM": "xterm-256color", "COLORTERM": "truecolor",
                    "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    os.close(theirs)
    made = os.read(ours, 65536).decode()
    os.close(ours)
    assert ran.stderr == b""
    lines = [STYLE.sub("", line) for line in made.split("\r\n")]
    assert "48;2;" in made
    assert max(map(cell_len, lines)) <= 21
    assert "layer   t1   last " in lines
    assert "1 column at the left cut off" in " ".join(map(str.strip, lines))
    assert [p.name for p in tmp_path.iterdir()] == ["x.all.json"]
