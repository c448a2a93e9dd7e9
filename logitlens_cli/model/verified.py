"""Files that are read only if they still hold the bytes that were written.

A hash of all bytes tells (540 MB take 0.4 s). A stamp of size, times and inode, noted when a file
was hashed last, spares that on later runs: whoever writes to a file changes it. What a disk loses
by itself changes no stamp; ``logitlens models verify`` hashes whatever the stamps say.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

STAMPS = "verified.json"


def sha256_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamp_of(path: Path) -> list[int]:
    """What changes where a file is written to, or replaced."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def changed_files(folder: Path, hashes: Mapping[str, str], *, always: bool = False) -> list[str]:
    """The files of a folder whose SHA-256 is not what ``hashes`` has by name.

    One whose stamp is that of its last verification is not hashed, unless ``always``. The stamps
    are noted anew where all files are right and the folder can be written to. Raises OSError for a
    file that is not there.
    """
    stamps = {} if always else read_stamps(folder)
    doubtful = [name for name in hashes if stamps.get(name) != stamp_of(folder / name)]
    changed = [name for name in doubtful if sha256_of_file(folder / name) != hashes[name]]
    if doubtful and not changed:
        write_stamps(folder, hashes)
    return changed


def changed_blobs(snapshot: Path) -> tuple[list[str], list[str]]:
    """Of a snapshot in the hub's cache, whose files are links to what is named by its own hash: the
    names of all that can be told, and of those that do not have that hash.

    Large files are named by their SHA-256, small ones as git does: the SHA-1 of "blob", the size,
    a zero byte and the content.
    """
    told, changed = [], []
    for path in sorted(path for path in snapshot.rglob("*") if path.is_file()):
        digest = path.resolve().name
        if re.fullmatch(r"[0-9a-f]{64}", digest):
            is_right = sha256_of_file(path) == digest
        elif re.fullmatch(r"[0-9a-f]{40}", digest):
            content = path.read_bytes()
            named = hashlib.sha1(b"blob %d\0%b" % (len(content), content), usedforsecurity=False)
            is_right = named.hexdigest() == digest
        else:  # a copy, where the system has no links
            continue
        name = path.relative_to(snapshot).as_posix()
        told.append(name)
        changed += [name] * (not is_right)
    return told, changed


def read_stamps(folder: Path) -> Mapping[str, object]:
    try:
        stamps = json.loads((folder / STAMPS).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return stamps if isinstance(stamps, dict) else {}


def write_stamps(folder: Path, names: Iterable[str]) -> None:
    """Note the stamps of files that were just hashed, or written."""
    stamps = {name: stamp_of(folder / name) for name in names}
    part = folder / f"{STAMPS}.{os.getpid()}.part"
    with suppress(OSError):  # a cache that is not ours to write to is hashed each time
        part.write_text(json.dumps(stamps), encoding="utf-8")
        part.replace(folder / STAMPS)
