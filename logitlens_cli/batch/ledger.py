"""Which prompts of a batch are done.

A prompt is done when all its files are there; then, and not before, a line about it goes to the
ledger, so that a batch that was stopped at any moment goes on with the same command.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from logitlens_cli.batch.prompts import Prompt
from logitlens_cli.errors import WorkError
from logitlens_cli.reading.lock import LONGEST_WAIT, Note, folder_lock, no_note
from logitlens_cli.reading.sets import file_stamp


class Done(msgspec.Struct, frozen=True):
    """A line of the ledger."""

    name: str
    key: str
    files: dict[str, tuple[int, int]]
    """bytes and time of change in ns of each, by its path relative to the folder"""


class Ledger:
    """The finished prompts of a batch, in a file that only grows."""

    def __init__(self, folder: Path, stem: str, note: Note = no_note) -> None:
        self.folder, self.note = folder, note
        self.wait = LONGEST_WAIT
        """seconds for another process that writes to the folder"""
        self.path = folder / f"{stem}.done.jsonl"
        self.done: dict[str, Done] = {}
        if self.path.is_symlink() and not self.path.exists():
            raise WorkError(f"{self.path} is a link that leads nowhere", "remove it")
        if self.path.exists():
            for line in self.path.read_bytes().splitlines():
                try:
                    done = msgspec.json.decode(line, type=Done)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    continue  # cut off when the machine stopped: the prompt is done again
                self.done[done.name] = done

    def has(self, name: str, key: str, files: Collection[Path] | None = None) -> bool:
        """Is a prompt finished with this key, and are its files as they were written then? They
        must be ``files``, where it is known by now which it has."""
        done = self.done.get(name)
        if done is None or done.key != key or not done.files:
            return False
        if files is not None and {self.folder / file for file in done.files} != set(files):
            return False
        with suppress(OSError):
            return all(file_stamp(self.folder / file) == then for file, then in done.files.items())
        return False

    def paths(self, name: str) -> list[Path]:
        """The files of a finished prompt."""
        done = self.done.get(name)
        return [] if done is None else [self.folder / file for file in done.files]

    def add(self, name: str, key: str, files: Sequence[Path]) -> None:
        """Record a prompt whose files are there, one process at a time."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = folder_lock(self.path.parent, self.note, self.wait)
        with lock, self.path.open("ab", buffering=0) as file:
            # Stamped under the lock: another process may have written the same files since, and
            # the last line about a prompt must know the last files.
            stamps = {str(f.relative_to(self.folder)): file_stamp(f) for f in files}
            line = msgspec.json.encode(Done(name, key, stamps)) + b"\n"
            if file.tell() and not ends_line(self.path):
                line = b"\n" + line
            file.write(line)


def ends_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def prompt_key(prompt: Prompt, recipe: Mapping[str, Any]) -> str:
    """Changes where a prompt's files would: with its text, or with ``recipe``, everything else that
    they depend on."""
    data = msgspec.json.encode([prompt.text, sorted(recipe.items())], enc_hook=str)
    return hashlib.sha256(data).hexdigest()[:32]
