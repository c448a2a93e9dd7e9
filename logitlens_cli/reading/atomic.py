"""Files that appear whole or not at all."""

import errno
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any

from logitlens_cli.errors import DiskError, WorkError
from logitlens_cli.reading.lock import Note, is_alive, machine_id, no_note
from logitlens_cli.reading.sets import (
    JOURNAL,
    PREFIX,
    SUFFIX,
    renamed_together,
    temporary_name,
    torn_files,
)

HINT = "choose another folder with --out"


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def space_hint(error: OSError) -> str:
    return f"free some space, or {HINT}" if error.errno in FULL else HINT


@cache
def sweep_once(folder: Path, note: Note) -> None:
    """``sweep``, once in each folder."""
    sweep(folder, note)


def sweep(folder: Path, note: Note = no_note) -> None:
    """Finish what processes left half-done that were killed here, and remove what they left
    half-written. What may be of a process that lives stays, and so does whatever is not known to
    be ours."""
    torn_files([folder / JOURNAL], note)  # finishes the sets of this folder and of those above
    with suppress(OSError):
        for left in folder.glob(f"{PREFIX}*{SUFFIX}"):
            match = re.fullmatch(
                rf"{re.escape(PREFIX)}([0-9a-f]{{16}})-([0-9]{{1,9}})-.*", left.name
            )
            if match is not None and match[1] == machine_id() and not is_alive(int(match[2])):
                with suppress(OSError):
                    left.unlink()


class Staged:
    """Files written under temporary names beside their targets."""

    def __init__(self, note: Note = no_note) -> None:
        self.note = note
        self.pairs: list[tuple[Path, Path]] = []
        self.target_path: Path | None = None
        """the target that is being worked on"""

    def write(self, target: Path, fill: Callable[[IO[bytes]], Any]) -> None:
        """Have ``fill`` write the future ``target`` into a binary file."""
        self.target_path = target
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_dir():  # found out at the end, it would leave some files renamed and some not
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        sweep_once(target.parent, self.note)
        with tempfile.NamedTemporaryFile(
            dir=target.parent, prefix=temporary_name(), suffix=SUFFIX, delete=False
        ) as file:
            self.pairs.append((Path(file.name), target))
            fill(file)
            file.flush()
            os.fsync(file.fileno())

    def commit(self) -> None:
        mask = os.umask(0)
        os.umask(mask)
        for temporary, _ in self.pairs:
            temporary.chmod(0o666 & ~mask)  # as any other new file, not as a private one
        with renamed_together(self.pairs, self.note):
            for temporary, target in self.pairs:
                self.target_path = target
                temporary.replace(target)


@contextmanager
def staged(note: Note = no_note) -> Iterator[Staged]:
    """All files that the body writes appear at its end; if it fails, none of them, and what was
    there stays. A process that is killed meanwhile leaves a journal, by which the next one brings
    this to its end (``sets``). ``note`` is told where another process has to be waited for.

    Raises WorkError that names the file that cannot be written.
    """
    files = Staged(note)
    try:
        yield files
        files.commit()
    except OSError as error:
        kind = DiskError if error.errno in (*FULL, errno.EROFS, errno.EIO) else WorkError
        raise kind(
            f"{files.target_path} cannot be written: {error.strerror or error}", space_hint(error)
        ) from error
    finally:
        for temporary, _ in files.pairs:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def nearest_above(folder: Path) -> Path:
    """A folder, or the nearest one above it that is there (perhaps a link that leads nowhere)."""
    return next(path for path in (folder, *folder.absolute().parents) if is_name_taken(path))


def is_name_taken(path: Path) -> bool:
    """Is anything there, be it a link that leads nowhere? OSError for a name that cannot be."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def require_no_folders(paths: Iterable[Path]) -> None:
    """WorkError for a folder in the place of a file, or a file in that of its folder, before any
    long work begins."""
    for path in paths:
        nearest = nearest_above(path.parent)
        if not nearest.is_dir():
            what = "a link that leads nowhere" if nearest.is_symlink() else "a file"
            raise WorkError(f"{path} cannot be written: {nearest} is {what}, not a folder", HINT)
        if path.is_dir():
            raise WorkError(f"{path} cannot be written: it is a folder", f"remove it, or {HINT}")


def require_writable(folder: Path) -> None:
    """Try ``folder``, or the nearest one above it that exists, before any long work begins."""
    try:
        with tempfile.TemporaryFile(dir=nearest_above(folder)):
            pass
    except OSError as error:
        raise WorkError(
            f"--out {folder} cannot be written: {error.strerror or error}", space_hint(error)
        ) from error
