"""Files that are renamed together, also where that is cut off between two of them."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import pytest

from logitlens_cli.errors import WorkError
from logitlens_cli.reading.atomic import staged, sweep
from logitlens_cli.reading.lock import machine_id
from logitlens_cli.reading.sets import (
    JOURNAL,
    PREFIX,
    finish_sets,
    read_journal,
    torn_files,
)

NAMES = ("a.json", "a.png", "a.svg", "sub/a.parquet")
OLD = {name: f"old {name}" for name in NAMES}
NEW = {name: f"new {name}" for name in NAMES}


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def write_text(file: IO[bytes], text: str) -> None:
    file.write(text.encode())


def write_set(folder: Path, texts: dict[str, str]) -> None:
    with staged() as stage:
        for name, text in texts.items():
            stage.write(folder / name, partial(write_text, text=text))


# ---- a rename that fails


@pytest.mark.parametrize("failing", range(1, 4))
@pytest.mark.parametrize("before", [OLD, {}], ids=["old", "none"])
def test_a_rename_that_fails_is_undone(
    tmp_path: Path, failing: int, before: dict[str, str]
) -> None:
    """A folder comes into the way after all contents are there."""
    if before:
        write_set(tmp_path, before)
    target = tmp_path / NAMES[failing]

    def write() -> None:
        with staged() as stage:
            for name, text in NEW.items():
                stage.write(tmp_path / name, partial(write_text, text=text))
            target.unlink(missing_ok=True)
            (target / "in").mkdir(parents=True)

    with pytest.raises(WorkError, match=f"^{target} cannot be written: Is a directory; "):
        write()
    left = {name: text for name, text in before.items() if name != NAMES[failing]}
    assert contents(tmp_path) == left


def test_an_interrupt_between_two_renames_is_undone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_set(tmp_path, OLD)
    rename = Path.replace

    def interrupted(path: Path, target: Path) -> Path:
        if target.name == "a.svg" and rename is not Path.replace:
            monkeypatch.undo()
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_set(tmp_path, NEW)
    assert contents(tmp_path) == OLD


def test_without_links_copies_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "link", refuse)
    test_an_interrupt_between_two_renames_is_undone(tmp_path, monkeypatch)


# ---- a process that is killed

KILLED = """
import json, os, signal, sys
from pathlib import Path
from logitlens_cli.reading.atomic import staged
count = [int(sys.argv[2])]
def hooked(act):
    def wrapper(*given, **named):
        if count[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        count[0] -= 1
        return act(*given, **named)
    return wrapper
Path.replace, Path.unlink = hooked(Path.replace), hooked(Path.unlink)
with staged() as stage:
    for name, text in json.loads(sys.argv[3]).items():
        stage.write(Path(sys.argv[1]) / name, lambda file: file.write(text.encode()))
"""
STEPS = 17
"""renames and removals of a set: the journal, four files, the journal, four names of what was
there, two locks, four staged files; and one more"""


def killed(folder: Path, step: int) -> int:
    """A process that writes the new set and is killed when it comes to a rename or removal."""
    ran = subprocess.run(
        [sys.executable, "-c", KILLED, str(folder), str(step), json.dumps(NEW)],
        timeout=60, check=False,
    )  # fmt: skip
    return ran.returncode


@pytest.mark.parametrize("step", range(STEPS))
@pytest.mark.parametrize("before", [OLD, {}], ids=["old", "none"])
def test_what_a_killed_process_began_is_finished(
    tmp_path: Path, step: int, before: dict[str, str]
) -> None:
    """All files are those before it, or all are its own; nothing is left of it."""
    if before:
        write_set(tmp_path, before)
    code = killed(tmp_path, step)
    assert code in (0, -signal.SIGKILL)
    assert torn_files(tmp_path / name for name in NAMES) == []
    found = {name: text for name, text in contents(tmp_path).items() if name in NEW}
    assert found in (before, NEW)
    for folder in (tmp_path, tmp_path / "sub"):
        sweep(folder)
    (tmp_path / ".logitlens.lock").unlink(missing_ok=True)
    (tmp_path / "sub" / ".logitlens.lock").unlink(missing_ok=True)
    assert contents(tmp_path) == found


def test_the_moments_are_those_that_matter(tmp_path: Path) -> None:
    """Some leave the old set, some a mixed one that is finished, and the last are not killed."""
    mixed = set()
    for step in range(STEPS):
        folder = tmp_path / str(step)
        write_set(folder, OLD)
        code = killed(folder, step)
        made = contents(folder)
        mixed.add(sum(made[name] == NEW[name] for name in NAMES))
    assert code == 0
    assert mixed == {0, 1, 2, 3, 4}


def half_done(folder: Path) -> Path:
    """A set whose first files are renamed; the staged file of the last one."""
    write_set(folder, OLD)
    assert killed(folder, 3) == -signal.SIGKILL  # the journal and two files are there
    made = contents(folder)
    assert [made[name] == NEW[name] for name in NAMES] == [True, True, False, False]
    (one,) = read_journal(folder)
    return folder / one[-1].staged


@pytest.mark.parametrize("how", ["content gone", "content cut off", "changed since"])
def test_what_cannot_be_finished_is_told(tmp_path: Path, how: str) -> None:
    content = half_done(tmp_path)
    if how == "content gone":
        content.unlink()
    elif how == "content cut off":
        content.write_text("ne")
    else:
        (tmp_path / "a.svg").write_text("mine")
    files = [tmp_path / name for name in NAMES]
    other = tmp_path / "b.json"
    other.write_text("")
    for _ in range(2):
        assert torn_files([other, *files]) == files
    made = contents(tmp_path)
    assert made["a.json"] == NEW["a.json"]
    assert made["sub/a.parquet"] == OLD["sub/a.parquet"]
    assert made["a.svg"] == ("mine" if how == "changed since" else OLD["a.svg"])
    # Until all of them are written anew.
    write_set(tmp_path, {name: NEW[name] for name in NAMES[:2]})
    assert torn_files(files) == files[2:]
    write_set(tmp_path, NEW)
    assert torn_files(files) == []
    assert JOURNAL not in contents(tmp_path)


def test_a_folder_that_cannot_be_written_says_what_is_torn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half_done(tmp_path)

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr("logitlens_cli.reading.sets.finish_sets", refuse)
    assert torn_files([tmp_path / "a.json"]) == [tmp_path / "a.json"]


def test_whatever_the_folder_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half_done(tmp_path)
    (tmp_path.parent / f"{tmp_path.name}-link").symlink_to(tmp_path)
    linked = tmp_path.parent / f"{tmp_path.name}-link" / "a.json"
    monkeypatch.chdir(tmp_path)
    (tmp_path / one_staged(tmp_path)).unlink()
    assert torn_files([Path("a.json"), Path("sub/../a.png"), linked]) == [
        Path("a.json"), Path("sub/../a.png"), linked,
    ]  # fmt: skip


def one_staged(folder: Path) -> str:
    (one,) = read_journal(folder)
    return one[-1].staged


# ---- a journal that somebody else wrote


def journal(folder: Path, **changes: Any) -> None:
    """A journal of one file whose new content is there."""
    content = folder / f"{PREFIX}{machine_id()}-1-x.part"
    content.write_text("evil")
    change = {
        "target": "a.json", "staged": content.name, "before": None,
        "sha256": hashlib.sha256(b"evil").hexdigest(),
    }  # fmt: skip
    (folder / JOURNAL).write_text(json.dumps([[change | changes]]))


def test_a_journal_is_followed(tmp_path: Path) -> None:
    """So that what is refused below is refused for its own reason."""
    journal(tmp_path)
    finish_sets(tmp_path)
    assert contents(tmp_path) == {"a.json": "evil"}


def through_a_link(folder: Path) -> None:
    (folder / "link").symlink_to(folder.parent)
    journal(folder, target="link/a.json", staged=f"link/{PREFIX}x.part")


def linked_journal(folder: Path) -> None:
    journal(folder)
    (folder / JOURNAL).rename(folder.parent / "journal")
    (folder / JOURNAL).symlink_to(folder.parent / "journal")


def given_away(folder: Path) -> None:
    if os.getuid():
        pytest.skip("only root can give a file away")
    journal(folder)
    os.chown(folder / JOURNAL, 12345, 12345)


HOSTILE: dict[str, Callable[[Path], object]] = {
    "target above": partial(journal, target="../a.json"),
    "target anywhere": lambda folder: journal(folder, target=str(folder.parent / "a.json")),
    "both above": partial(journal, target="../a.json", staged=f"../{PREFIX}x.part"),
    "through a link": through_a_link,
    "no name": partial(journal, target="."),
    "another's file": partial(journal, staged="secret"),
    "zero byte": partial(journal, target="a\0.json"),
    "no JSON": lambda folder: (folder / JOURNAL).write_text("[[{"),
    "bytes": lambda folder: (folder / JOURNAL).write_bytes(b"\xff\xfe"),
    "a link": linked_journal,
    "a folder": lambda folder: (folder / JOURNAL).mkdir(),
    "a queue": lambda folder: os.mkfifo(folder / JOURNAL),
    "another user's": given_away,
}


@pytest.mark.parametrize("how", HOSTILE)
def test_a_hostile_journal_is_none(how: str, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    for path in (tmp_path / "a.json", folder / "secret"):
        path.write_text("mine")
    (tmp_path / f"{PREFIX}x.part").write_text("evil")
    HOSTILE[how](folder)
    assert torn_files([folder / "a.json"]) == []
    assert not (folder / "a.json").exists()
    assert (tmp_path / "a.json").read_text() == "mine"
    assert (folder / "secret").read_text() == "mine"


# ---- several processes

TWO = """
import json, sys
from pathlib import Path
from logitlens_cli.reading.atomic import staged
for _ in range(30):
    with staged() as stage:
        for name in json.loads(sys.argv[3]):
            stage.write(Path(sys.argv[1]) / name, lambda file: file.write(sys.argv[2].encode()))
"""


def test_sets_of_two_processes_do_not_mix(tmp_path: Path) -> None:
    children = [
        subprocess.Popen([sys.executable, "-c", TWO, str(tmp_path), text, json.dumps(NAMES)])
        for text in ("one", "two")
    ]
    assert [child.wait(timeout=100) for child in children] == [0, 0]
    made = contents(tmp_path)
    assert set(made) == set(NAMES)
    assert all(a == b for a, b in pairwise(made.values()))
