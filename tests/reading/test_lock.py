"""Locks on a folder: who waits is told for whom, and does not wait for ever."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import heed_interrupts, next_line

from logitlens_cli.errors import WorkError
from logitlens_cli.reading import lock as lock_module
from logitlens_cli.reading.lock import LOCK, folder_lock, folder_locks, lock_holder, machine_id

HOLD = """
import sys
from pathlib import Path
from logitlens_cli.reading.lock import folder_lock
with folder_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""
WAIT = """
import sys
from pathlib import Path
from logitlens_cli.reading.lock import folder_lock
print("waits", flush=True)
with folder_lock(Path(sys.argv[1])):
    pass
"""


def child(code: str, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], text=True, preexec_fn=heed_interrupts,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


@contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    with child(HOLD, folder) as process:
        assert next_line(process) == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_nothing_is_left_of_a_lock(tmp_path: Path) -> None:
    with folder_lock(tmp_path):
        assert (tmp_path / LOCK).read_text() == f"{machine_id()} {os.getpid()}"
        with folder_lock(tmp_path):  # again, by the same process
            pass
        assert (tmp_path / LOCK).exists()
    assert list(tmp_path.iterdir()) == []


def test_who_waits_is_told_for_whom_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_module, "SILENCE", 0.2)
    notes: list[str] = []
    with holder(tmp_path) as process:

        def note(sentence: str) -> None:
            notes.append(sentence)
            process.communicate("end\n", timeout=10)

        with folder_lock(tmp_path, note):
            assert process.returncode == 0
    (told,) = notes
    assert told.startswith(f"waiting for process {process.pid} (python")
    assert told.endswith(f"), which is writing to {tmp_path}")


def test_a_short_wait_needs_no_word(tmp_path: Path) -> None:
    with folder_lock(tmp_path, pytest.fail):
        pass


def test_a_wait_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock_module, "SILENCE", 0.1)
    with holder(tmp_path) as process:
        process.send_signal(signal.SIGSTOP)
        start = time.monotonic()
        with pytest.raises(WorkError) as caught, folder_lock(tmp_path, limit=1):
            pass
        assert 0.9 < time.monotonic() - start < 5
        process.send_signal(signal.SIGCONT)
    said = str(caught.value)
    assert said.startswith(f"{tmp_path} is locked by process {process.pid} (python")
    assert said.endswith(
        "), for more than 1 s now; end that process, or choose another folder with --out"
    )


def test_the_first_signal_ends_a_wait(tmp_path: Path) -> None:
    with holder(tmp_path), child(WAIT, tmp_path) as waits:
        assert next_line(waits) == "waits\n"
        time.sleep(0.5)
        waits.send_signal(signal.SIGINT)
        start = time.monotonic()
        _, said = waits.communicate(timeout=10)
        assert time.monotonic() - start < 2
        assert said.endswith("KeyboardInterrupt\n")
        assert waits.returncode == -signal.SIGINT


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.kill()
        process.wait()
    assert (tmp_path / LOCK).exists()
    with folder_lock(tmp_path, pytest.fail):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "holder"),
    [
        ("", "another process"),
        ("nonsense", "another process"),
        (f"{machine_id()} {2**31 - 1}", "another process"),  # which is gone
        ("0123456789abcdef 17", "process 17 of another machine or container"),
    ],
)
def test_holders_that_are_not_known(text: str, holder: str, tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text(text)
    assert lock_holder(tmp_path / LOCK) == holder
    assert lock_holder(tmp_path / "none") == "another process"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_folders_that_cannot_be_locked_are_used_without(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with folder_lock(tmp_path):
        (tmp_path / "a").touch()
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]


def test_several_folders_are_locked_in_one_order(tmp_path: Path) -> None:
    folders = {tmp_path / name for name in ("b", "a", "c")}
    for folder in folders:
        folder.mkdir()
    with folder_locks(folders, pytest.fail):
        assert {path.parent for path in tmp_path.rglob(LOCK)} == folders
    assert not list(tmp_path.rglob(LOCK))
