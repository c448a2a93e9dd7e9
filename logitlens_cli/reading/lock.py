"""One process at a time in a folder; who waits says for whom, and not for ever."""

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from logitlens_cli.errors import WorkError

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK = ".logitlens.lock"
"""a file that is there only while a process changes several files, the ledger or the failures"""
SILENCE = 2.0
"""seconds of waiting before it is said"""
LONGEST_WAIT = 60.0
"""seconds of waiting in all; what is done under a lock takes a fraction of one"""
HELD: set[Path] = set()
"""lock files of this process"""
Note: TypeAlias = Callable[[str], None]


def no_note(sentence: str) -> None:
    """Nobody is there to be told."""


@cache
def machine_id() -> str:
    """Where a process's number means this process: the machine, since it started, and its name
    space of processes. Several of each may share a folder."""
    try:
        names = (
            Path("/proc/sys/kernel/random/boot_id").read_text(),
            os.readlink("/proc/self/ns/pid"),
        )
    except OSError:
        return "somewhere"
    return hashlib.sha256("".join(names).encode()).hexdigest()[:16]


def is_alive(process: int) -> bool:
    import psutil  # late: few processes ask

    return bool(psutil.pid_exists(process))


@contextmanager
def folder_lock(folder: Path, note: Note = no_note, limit: float = LONGEST_WAIT) -> Iterator[None]:
    """Hold a lock on a folder; other processes that want it wait, for ``limit`` seconds at most.
    This one may take it again meanwhile.

    A folder that cannot be locked, as on some network file systems, is used without. Raises
    WorkError that names the process which holds the lock for too long.
    """
    from filelock import FileLock  # late: a tenth of what a help takes

    path = folder.resolve() / LOCK
    if path in HELD:
        yield
        return
    lock = FileLock(path, mode=0o666, poll_interval=0.01)  # whoever may write here may lock
    try:
        wait_for(lock, folder, note, limit)
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.ENOLCK, errno.ENOTSUP):
            raise
        with suppress(OSError):
            path.unlink()
        yield
        return
    with held(lock, path):
        yield


@contextmanager
def held(lock: "BaseFileLock", path: Path) -> Iterator[None]:
    """Say whose a lock is; release it at the end, and leave no file."""
    try:
        HELD.add(path)
        with suppress(OSError):  # Windows lets nobody write to a file that is locked
            path.write_text(f"{machine_id()} {os.getpid()}")
        yield
    finally:
        # Who waits for a file that is gone begins again with a new one: filelock looks. On
        # Windows a file that is open stays, and filelock removes it.
        with suppress(OSError):
            path.unlink()
        HELD.discard(path)
        lock.release()


def wait_for(lock: "BaseFileLock", folder: Path, note: Note, limit: float) -> None:
    from filelock import Timeout

    silence = min(SILENCE, limit)
    with suppress(Timeout):
        lock.acquire(timeout=silence)
        return
    holder = lock_holder(folder / LOCK)
    note(f"waiting for {holder}, which is writing to {folder}")
    try:
        lock.acquire(timeout=limit - silence)
    except Timeout as error:
        raise WorkError(
            f"{folder} is locked by {holder}, for more than {limit:.0f} s now",
            "end that process, or choose another folder with --out",
        ) from error


def lock_holder(path: Path) -> str:
    """Who holds a lock, as far as its file tells."""
    try:
        machine, _, number = path.read_text()[:100].partition(" ")
        process = int(number)
    except (OSError, ValueError):
        return "another process"
    if machine != machine_id():
        return f"process {process} of another machine or container"
    import psutil

    try:
        return f"process {process} ({psutil.Process(process).name()})"
    except psutil.Error:
        return "another process"


@contextmanager
def folder_locks(folders: set[Path], note: Note) -> Iterator[None]:
    """Hold the locks of several folders, always taken in the same order."""
    with ExitStack() as stack:
        for folder in sorted(folders):
            stack.enter_context(folder_lock(folder, note))
        yield
