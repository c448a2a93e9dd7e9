"""Which prompts of a batch are done.

A prompt is done when all its files are there; then, and not before, a line about it goes to the
ledger, so that a batch that was stopped at any moment goes on with the same command.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
from filelock import FileLock

from logitlens_cli.batch.prompts import Prompt

LOCK = ".logitlens.lock"
"""a file that is there only while a process writes to the ledger or to the failures"""


class Done(msgspec.Struct, frozen=True):
    """A line of the ledger."""

    name: str
    key: str
    files: dict[str, tuple[int, int]]
    """bytes and time of change in ns of each, by its path relative to the folder"""


class Ledger:
    """The finished prompts of a batch, in a file that only grows."""

    def __init__(self, folder: Path, stem: str) -> None:
        self.folder = folder
        self.path = folder / f"{stem}.done.jsonl"
        self.done: dict[str, Done] = {}
        if self.path.exists():
            for line in self.path.read_bytes().splitlines():
                try:
                    done = msgspec.json.decode(line, type=Done)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    continue  # cut off when the machine stopped: the prompt is done again
                self.done[done.name] = done

    def has(self, name: str, key: str) -> bool:
        """Is a prompt finished with this key, and are its files as they were written then?"""
        done = self.done.get(name)
        if done is None or done.key != key:
            return False
        with suppress(OSError):
            return all(file_stamp(self.folder / file) == then for file, then in done.files.items())
        return False

    def add(self, name: str, key: str, files: Sequence[Path]) -> None:
        """Record a prompt whose files are there, one process at a time."""
        done = Done(name, key, {str(f.relative_to(self.folder)): file_stamp(f) for f in files})
        line = msgspec.json.encode(done) + b"\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with folder_lock(self.path.parent), self.path.open("ab", buffering=0) as file:
            if file.tell() and not ends_line(self.path):
                line = b"\n" + line
            file.write(line)


def file_stamp(path: Path) -> tuple[int, int]:
    """Changes when another command writes the file anew."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def ends_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def prompt_key(prompt: Prompt, recipe: Mapping[str, Any]) -> str:
    """Changes where a prompt's files would: with its text, or with ``recipe``, everything else that
    they depend on."""
    data = msgspec.json.encode([prompt.text, sorted(recipe.items())], enc_hook=str)
    return hashlib.sha256(data).hexdigest()[:32]


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder; other processes that want it wait."""
    path = folder / LOCK
    with FileLock(path, mode=0o666, poll_interval=0.01):  # whoever may write here may lock
        try:
            yield
        finally:
            # Who waits for a file that is gone begins again with a new one: filelock looks. On
            # Windows a file that is open stays, and filelock removes it.
            with suppress(OSError):
                path.unlink()
