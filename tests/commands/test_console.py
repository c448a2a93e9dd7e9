"""The console of lists: a reader that goes away ends nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from logitlens_cli.commands.console import PlainConsole

PRINTS = """
from logitlens_cli.commands.console import PlainConsole
console = PlainConsole()
for _ in range(20_000):
    console.print("a line of a list")
print("goes on", file=__import__("sys").stderr)
"""


def test_a_reader_that_goes_away() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PRINTS], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline() == "a line of a list\n"
        child.stdout.close()
        said = child.stderr.read()
    assert (child.returncode, said) == (0, "goes on\n")


def test_it_falls_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out"
    with path.open("w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        console = PlainConsole()
        console.print("before")
        stream.flush()
        console.on_broken_pipe()
        console.print("after")
        print("after")
        monkeypatch.undo()
    assert console.quiet
    assert path.read_text() == "before\n"
