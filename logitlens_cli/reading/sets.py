"""Sets of files that are renamed together, and a journal that tells one which was cut off.

No file system renames several files at once. The journal is written before the first rename and
removed after the last one, so that whoever comes next can finish what a killed process began:
all new contents lie beside their targets by then. Where they do not any more, the set is torn, the
journal stays, and no file of the set counts as written.
"""

import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeAlias

import msgspec

from logitlens_cli.reading.lock import Note, folder_lock, folder_locks, machine_id, no_note

PREFIX = ".logitlens-"
SUFFIX = ".part"
JOURNAL = f"{PREFIX}journal.json"
LARGEST_JOURNAL = 2**24
"""bytes"""


class Change(msgspec.Struct, frozen=True):
    """A file of a set; its paths are relative to the journal's folder."""

    target: str
    staged: str
    """where its new content lies until then"""
    sha256: str
    """of the new content"""
    before: tuple[int, int] | None
    """bytes and time of change in ns of what was there"""


FileSet: TypeAlias = list[Change]


def temporary_name() -> str:
    """Beginning of the name of a file that goes with this process."""
    return f"{PREFIX}{machine_id()}-{os.getpid()}-"


def file_stamp(path: Path) -> tuple[int, int]:
    """Changes when a file is written anew."""
    status = path.stat(follow_symlinks=False)
    return status.st_size, status.st_mtime_ns


def stamp_or_none(path: Path) -> tuple[int, int] | None:
    with suppress(OSError):
        return file_stamp(path)
    return None


def true_path(path: Path) -> Path:
    """The one path of a file in its folder, by whatever links it was named; a file that is itself
    a link stays one."""
    return path.parent.resolve() / path.name


def digest(path: Path) -> str | None:
    """The hash of a regular file; None where there is none."""
    with suppress(OSError):
        if stat.S_ISREG(path.lstat().st_mode):
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
    return None


# ---------------------------------------------------------------------------------------------
# Renaming


@contextmanager
def renamed_together(pairs: Sequence[tuple[Path, Path]], note: Note = no_note) -> Iterator[None]:
    """The body renames each (staged, target); if it fails, what was there is there again."""
    if len(pairs) < 2:
        yield
        return
    folders = {target.parent.resolve() for _, target in pairs}
    folder = Path(os.path.commonpath(folders))
    with folder_locks({folder, *folders}, note):
        finish_sets(folder)
        older = read_journal(folder)
        changes = [change_of(folder, staged, target) for staged, target in pairs]
        backups: dict[Path, Path | None] = {}
        try:
            for _, target in pairs:
                backups[target] = backup_of(target)
            write_journal(folder, [*older, changes])
            yield
            write_journal(folder, without(older, changes))
        except BaseException:
            restore(backups)
            write_journal(folder, older)
            raise
        finally:
            for backup in filter(None, backups.values()):
                with suppress(OSError):
                    backup.unlink(missing_ok=True)


def change_of(folder: Path, staged: Path, target: Path) -> Change:
    return Change(
        str(true_path(target).relative_to(folder)),
        str(true_path(staged).relative_to(folder)),
        digest(staged) or "",
        stamp_or_none(target),
    )


def backup_of(target: Path) -> Path | None:
    """A second name of what is at a path; None where there is nothing, or a folder, in whose place
    no file can come."""
    if not os.path.lexists(target) or stat.S_ISDIR(target.lstat().st_mode):
        return None
    backup = target.with_name(f"{temporary_name()}{secrets.token_hex(4)}{SUFFIX}")
    try:
        os.link(target, backup, follow_symlinks=False)
    except (OSError, NotImplementedError):  # not every file system has links
        shutil.copy2(target, backup, follow_symlinks=False)
    return backup


def restore(backups: dict[Path, Path | None]) -> None:
    for target, backup in backups.items():
        if backup is not None:
            backup.replace(target)
        elif not target.is_dir():
            target.unlink(missing_ok=True)


def without(sets: Sequence[FileSet], changes: FileSet) -> list[FileSet]:
    """What is still torn once some files are written anew; one file alone is always whole."""
    written = {change.target for change in changes}
    left = [[change for change in one if change.target not in written] for one in sets]
    return [one for one in left if len(one) > 1]


# ---------------------------------------------------------------------------------------------
# The journal


def write_journal(folder: Path, sets: Sequence[FileSet]) -> None:
    """Sets that are not whole by now; without any there is no journal."""
    path = folder / JOURNAL
    if not sets:
        path.unlink(missing_ok=True)
        return
    staged = folder / f"{temporary_name()}{secrets.token_hex(4)}{SUFFIX}"
    with staged.open("wb") as file:
        file.write(msgspec.json.encode(sets))
        file.flush()
        os.fsync(file.fileno())
    staged.replace(path)
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Have names reach the disk, where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read_journal(folder: Path) -> list[FileSet]:
    """The sets that are not whole. A journal that is not our user's own, or names anything outside
    of its folder, is none: who follows it renames files."""
    path = folder / JOURNAL
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST_JOURNAL:
            return []
        if hasattr(os, "getuid") and status.st_uid != os.getuid():
            return []
        sets = msgspec.json.decode(path.read_bytes(), type=list[FileSet])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return []
    return sets if all(is_inside(folder, change) for one in sets for change in one) else []


def is_inside(folder: Path, change: Change) -> bool:
    """Are both files of the folder, and is the staged one of the kind that is staged?"""
    target, staged = folder / change.target, folder / change.staged
    if target.parent != staged.parent or "\0" in change.target + change.staged:
        return False
    named = staged.name.startswith(PREFIX) and staged.name.endswith(SUFFIX)
    inner = target.parent.resolve().is_relative_to(folder.resolve())
    return named and inner and target.name not in ("", "..") and ".." not in target.parts


def finish_sets(folder: Path) -> None:
    """Rename what a process that was killed did not come to; the folder's lock is held."""
    sets = read_journal(folder)
    if not sets:
        return
    left = [one for one in sets if not finish_set(folder, one)]
    if left != sets:
        write_journal(folder, left)


def finish_set(folder: Path, changes: FileSet) -> bool:
    """Is a set whole, now at least? It is not where its new contents are gone, or where somebody
    changed its files since."""
    pending = []
    for change in changes:
        target, staged = folder / change.target, folder / change.staged
        if digest(target) == change.sha256:
            continue
        if stamp_or_none(target) != change.before or digest(staged) != change.sha256:
            return False
        pending.append((staged, target))
    for staged, target in pending:
        staged.replace(target)
    return True


def torn_files(paths: Iterable[Path], note: Note = no_note) -> list[Path]:
    """Which of some files belong to a set that is not whole, after what can be finished is."""
    given = [(path, true_path(path)) for path in paths]
    above = {folder for _, true in given for folder in true.parents}
    torn: list[Path] = []
    for folder in sorted(folder for folder in above if (folder / JOURNAL).exists()):
        with suppress(OSError), folder_lock(folder, note):  # it may be read only
            finish_sets(folder)
        named = {folder / change.target for one in read_journal(folder) for change in one}
        torn += [path for path, true in given if true in named]
    return torn
