"""Runs that are killed between two renames: what the next command makes of their files."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Ran, Shell

from logitlens_cli.reading.sets import JOURNAL, read_journal

# The command line, killed when it comes to the rename of a certain number.
KILLED = """
import os, signal, sys
from pathlib import Path
from logitlens_cli.__main__ import entry
left = [int(sys.argv.pop(1))]
rename = Path.replace
def replace(path, target):
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    return rename(path, target)
Path.replace = replace
entry()
"""


@pytest.fixture(scope="module")
def torn(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """A folder with a PNG of a second run, and an SVG and a dump of the first one."""
    folder = tmp_path_factory.mktemp("torn")
    for title, renames in (("Alpha", 99), ("Omega", 2)):  # the journal, the PNG
        line = ["rank", "-t", "the cat", "-m", str(tiny_folder), "-o", str(folder), "--name", "x"]
        ran = subprocess.run(
            [sys.executable, "-c", KILLED, str(renames), *line, "--dpi", "60", "--title", title],
            check=False, timeout=100, capture_output=True,
        )  # fmt: skip
        assert ran.returncode == (0 if title == "Alpha" else -signal.SIGKILL), ran.stderr
    assert titles(folder) == {"x.rank.json": "Alpha", "x.rank.png": "Omega", "x.rank.svg": "Alpha"}
    return folder


def titles(folder: Path) -> dict[str, str]:
    """The run that each file is of."""
    return {
        path.name: next(
            title for title in ("Alpha", "Omega") if title.encode() in path.read_bytes()
        )
        for path in folder.glob("x.*")
    }


@pytest.fixture
def copied(torn: Path, out: Path) -> Path:
    """The torn folder, to be changed; times of change stay."""
    subprocess.run(["cp", "-a", str(torn), str(out)], check=True)
    return out


def without_contents(folder: Path) -> None:
    """The new contents are gone, so that nothing can be finished."""
    (one,) = read_journal(folder)
    for change in one:
        (folder / change.staged).unlink(missing_ok=True)


def again(logitlens: Shell, model: Path, folder: Path) -> Ran:
    line = ["-t", "the cat", "-m", model, "-o", folder, "--name", "x", "--dpi", "60"]
    return logitlens("rank", *line, "--title", "Omega", "--skip-existing")


def test_what_is_half_done_is_finished_and_then_skipped(
    copied: Path, logitlens: Shell, tiny_folder: Path
) -> None:
    ran = again(logitlens, tiny_folder, copied)
    assert (ran.code, ran.out) == (0, [])
    assert ran.err == [
        f"logitlens: {copied}/x.rank.json and its other files exist already; skipped"
    ]
    assert set(titles(copied).values()) == {"Omega"}
    assert not (copied / JOURNAL).exists()


def test_what_cannot_be_finished_is_not_skipped(
    copied: Path, logitlens: Shell, tiny_folder: Path
) -> None:
    without_contents(copied)
    ran = again(logitlens, tiny_folder, copied)
    assert (ran.code, len(ran.out)) == (0, 3)
    assert set(titles(copied).values()) == {"Omega"}
    assert sorted(path.name for path in copied.iterdir()) == sorted(titles(copied))


def test_a_batch_does_not_skip_it_either(
    copied: Path, logitlens: Shell, tiny_folder: Path, tmp_path: Path
) -> None:
    without_contents(copied)
    (tmp_path / "lines.jsonl").write_text(json.dumps({"text": "the cat", "name": "x"}))
    line = ["rank", "--lines", tmp_path / "lines.jsonl", "-m", tiny_folder, "-o", copied, "-q"]
    ran = logitlens(*line, "--title", "Omega", "--skip-existing", "--jobs", "0")
    assert (ran.code, len(ran.out)) == (0, 3)
    assert set(titles(copied).values()) == {"Omega"}


@pytest.mark.parametrize("command", ["render", "diff"])
def test_a_dump_is_finished_before_it_is_drawn(
    command: str, copied: Path, logitlens: Shell, tmp_path: Path
) -> None:
    dumps = [copied / "x.rank.json"] * (2 if command == "diff" else 1)
    ran = logitlens(command, *dumps, "rank", "-o", tmp_path / "drawn", "--format", "svg")
    assert (ran.code, ran.err) == (0, [])
    assert set(titles(copied).values()) == {"Omega"}


@pytest.mark.parametrize("command", ["render", "diff"])
def test_a_dump_of_a_torn_set_is_told(
    command: str, copied: Path, logitlens: Shell, tmp_path: Path
) -> None:
    without_contents(copied)
    dumps = [copied / "x.rank.json"] * (2 if command == "diff" else 1)
    ran = logitlens(command, *dumps, "rank", "-o", tmp_path / "drawn", "--format", "svg")
    assert ran.code == 0
    assert ran.err[0] == (
        f"logitlens: the run that wrote {copied}/x.rank.json was cut off: the figures beside it "
        "may be of another run; make them again"
    )


def test_a_dry_run_changes_nothing(copied: Path, logitlens: Shell, tmp_path: Path) -> None:
    before = titles(copied)
    ran = logitlens("render", copied / "x.rank.json", "-o", tmp_path / "drawn", "--dry-run")
    assert (ran.code, ran.err) == (0, [])
    assert titles(copied) == before
    assert (copied / JOURNAL).exists()
