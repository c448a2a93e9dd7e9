"""Files that appear whole or not at all."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

import pytest
from conftest import next_line

from logitlens_cli.errors import WorkError
from logitlens_cli.reading.atomic import (
    HINT,
    require_no_folders,
    require_writable,
    staged,
    sweep_once,
)
from logitlens_cli.reading.lock import machine_id
from logitlens_cli.reading.sets import PREFIX


def put(data: bytes) -> Callable[[IO[bytes]], int]:
    return lambda file: file.write(data)


def write(*files: tuple[Path, Callable[[IO[bytes]], object]]) -> None:
    with staged() as stage:
        for path, fill in files:
            stage.write(path, fill)


def everything(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_files_appear_together_at_the_end(tmp_path: Path) -> None:
    with staged() as stage:
        stage.write(tmp_path / "new" / "er" / "a", put(b"one"))
        stage.write(tmp_path / "b", put(b"two"))
        assert not (tmp_path / "new" / "er" / "a").exists()
        assert not (tmp_path / "b").exists()
    assert everything(tmp_path) == ["b", "new", "new/er", "new/er/a"]
    assert (tmp_path / "new" / "er" / "a").read_bytes() == b"one"
    assert (tmp_path / "b").read_bytes() == b"two"


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_are_those_of_any_new_file(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        with staged() as stage:
            stage.write(tmp_path / "a", put(b"one"))
        assert (tmp_path / "a").stat().st_mode & 0o7777 == mode
        assert os.umask(mask) == mask
    finally:
        os.umask(before)


def test_what_was_there_stays_until_the_end(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with staged() as stage:
        stage.write(tmp_path / "a", put(b"new"))
        assert (tmp_path / "a").read_bytes() == b"old"
    assert (tmp_path / "a").read_bytes() == b"new"


def full(file: IO[bytes]) -> None:
    file.write(b"half")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(WorkError) as caught:
        write((tmp_path / "a", put(b"new")), (tmp_path / "b", full))
    assert (
        str(caught.value)
        == f"{tmp_path}/b cannot be written: No space left on device; free some space, or {HINT}"
    )
    assert everything(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_any_failure_leaves_nothing_behind(tmp_path: Path, error: type[BaseException]) -> None:
    def fail() -> None:
        with staged() as stage:
            stage.write(tmp_path / "a", put(b"new"))
            raise error

    with pytest.raises(error):
        fail()
    assert everything(tmp_path) == []


LIMITED = """
import resource, sys
from pathlib import Path
from logitlens_cli.errors import WorkError
from logitlens_cli.reading.atomic import staged
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    with staged() as stage:
        stage.write(Path(sys.argv[1]) / "small", lambda file: file.write(bytes(900)))
        stage.write(Path(sys.argv[1]) / "large", lambda file: file.write(bytes(1100)))
except WorkError as error:
    print(error)
"""


def test_a_file_that_the_system_refuses_to_let_grow(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, tmp_path],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert (
        done.stdout
        == f"{tmp_path}/large cannot be written: File too large; free some space, or {HINT}\n"
    )
    assert everything(tmp_path) == []


@pytest.mark.parametrize("order", [("a", "taken"), ("taken", "a")])
def test_a_folder_in_the_way(tmp_path: Path, order: tuple[str, str]) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(WorkError) as caught:
        write(*((tmp_path / name, put(b"new")) for name in order))
    assert str(caught.value) == f"{tmp_path}/taken cannot be written: Is a directory; {HINT}"
    assert everything(tmp_path) == ["taken"]


def test_what_is_in_the_way_is_found_before_any_work(tmp_path: Path) -> None:
    for name in ("folder", "other"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    (tmp_path / "link").symlink_to(tmp_path / "other")
    require_no_folders(
        tmp_path / name for name in ("new", "file", "other/new", "link/new", "far/off", "dangling")
    )
    for name, why in (
        ("folder", f"it is a folder; remove it, or {HINT}"),
        ("file/a", f"{tmp_path}/file is a file, not a folder; {HINT}"),
        ("file/a/b", f"{tmp_path}/file is a file, not a folder; {HINT}"),
        ("dangling/a", f"{tmp_path}/dangling is a link that leads nowhere, not a folder; {HINT}"),
    ):
        with pytest.raises(WorkError) as caught:
            require_no_folders([tmp_path / "new", tmp_path / name])
        assert str(caught.value) == f"{tmp_path / name} cannot be written: {why}"


def test_a_file_in_the_way_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WorkError) as caught:
        write((tmp_path / "file" / "a", put(b"new")))
    assert str(caught.value).startswith(f"{tmp_path}/file/a cannot be written: ")
    assert everything(tmp_path) == ["file"]


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    long = tmp_path / ("n" * 300)
    with pytest.raises(WorkError) as caught:
        write((tmp_path / "a", put(b"new")), (long, put(b"new")))
    assert str(caught.value) == f"{long} cannot be written: File name too long; {HINT}"
    assert everything(tmp_path) == []


# ---- trying a folder beforehand


@pytest.mark.parametrize("name", [".", "new", "new/and/newer"])
def test_a_folder_that_can_be_written_is_tried_without_a_trace(tmp_path: Path, name: str) -> None:
    require_writable(tmp_path / name)
    assert everything(tmp_path) == []


def test_a_relative_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    require_writable(Path("outputs"))
    require_writable(Path(""))
    assert everything(tmp_path) == []


@pytest.mark.parametrize("name", ["file", "file/below", "loop", "n" * 300])
def test_a_folder_that_cannot_be(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(WorkError) as caught:
        require_writable(tmp_path / name)
    assert str(caught.value).startswith(f"--out {tmp_path}/{name} cannot be written: ")
    assert str(caught.value).endswith(HINT)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(WorkError, match="Permission denied"):
        require_writable(tmp_path)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux")
def test_a_folder_of_the_system() -> None:
    with pytest.raises(WorkError, match="--out /proc/x cannot be written: "):
        require_writable(Path("/proc/x"))


# Begins to write, says so, and waits.
HALF_WRITTEN = """
import sys, time
from pathlib import Path
from logitlens_cli.reading.atomic import staged
with staged() as stage:
    stage.write(Path(sys.argv[1]), lambda file: file.write(b"half"))
    print("begun", flush=True)
    sys.stdin.readline()
"""


def begin(target: Path) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", HALF_WRITTEN, target],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert next_line(child) == "begun\n"
    return child


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    """Not what a process that lives is writing, here or elsewhere."""
    killed, living = begin(tmp_path / "x"), begin(tmp_path / "y")
    killed.kill()
    killed.communicate(timeout=10)
    number = killed.pid
    strange = [
        f"{PREFIX}{'0' * 16}-{number}-abc.part",  # another machine's
        f"{PREFIX}somewhere-{number}-abc.part",
        f"{PREFIX}abcdefgh.part",
        f"{PREFIX}{machine_id()}-{number}-abc.png",
        f"{PREFIX}{machine_id()}-{number}-folder.part",
        f"x{PREFIX}{machine_id()}-{number}-abc.part",
    ]
    for name in strange:
        (tmp_path / name).mkdir() if "folder" in name else (tmp_path / name).touch()
    assert len(everything(tmp_path)) == 8
    sweep_once.cache_clear()
    write((tmp_path / "z", put(b"new")))
    left = set(everything(tmp_path)) - {"z"} - set(strange)
    assert len(left) == 1
    assert left.pop().startswith(f"{PREFIX}{machine_id()}-{living.pid}-")
    living.communicate("go on\n", timeout=10)
    assert set(everything(tmp_path)) == {"y", "z", *strange}
    assert (tmp_path / "y").read_bytes() == b"half"
