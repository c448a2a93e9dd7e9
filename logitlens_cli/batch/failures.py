"""Which prompts of a batch failed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from logitlens_cli.batch.prompts import Prompt
from logitlens_cli.commands.progress import Progress
from logitlens_cli.errors import BatchError, DiskError, LogitLensError
from logitlens_cli.reading.atomic import staged

if TYPE_CHECKING:
    pass
from logitlens_cli.batch.ledger import folder_lock

FAILURES = "failures.jsonl"


# ---------------------------------------------------------------------------------------------
# What failed


class Failure(msgspec.Struct, frozen=True):
    """A line of ``failures.jsonl``."""

    lines: str
    """the file of prompts"""
    command: str
    line: int
    name: str
    error: str
    hint: str


class Failures:
    """The prompts of a batch that failed, told at once and kept in ``failures.jsonl``."""

    def __init__(
        self,
        folder: Path,
        lines: Path,
        command: str,
        every: Sequence[Prompt],
        progress: Progress,
    ) -> None:
        self.path = folder / FAILURES
        self.there = {prompt.line for prompt in every}
        """lines that the file has, also those of other parts of it"""
        self.lines = str(lines if str(lines) == "-" else lines.absolute())
        self.command, self.progress = command, progress
        self.settled: set[int | None] = set()
        """lines of which it is known by now whether they fail"""
        self.made: list[Failure] = []

    def settle(self, prompt: Prompt) -> None:
        """A prompt does not fail (any more)."""
        self.settled.add(prompt.line)

    def add(self, prompt: Prompt, error: LogitLensError) -> None:
        """Tell that a prompt failed; raises ``error`` where all others will fail by it too."""
        if isinstance(error, DiskError):
            raise error
        self.settle(prompt)
        line = prompt.line or 0
        self.progress.failure(f"line {line} ({prompt.name}): {error}")
        known = (self.lines, self.command, line, prompt.name)
        self.made.append(Failure(*known, error.problem, error.hint))

    def save(self) -> None:
        """Put them in the place of what was known of these lines; the failures of other batches
        stay, and without any failure there is no file."""
        if self.made:  # perhaps nothing else was written
            self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.made or self.path.exists():  # else nothing is to be changed, or perhaps may be
            with folder_lock(self.path.parent):
                self.replace()

    def replace(self) -> None:
        kept, foreign = [], []
        if self.path.exists():
            for line in self.path.read_bytes().splitlines():
                try:
                    old = msgspec.json.decode(line, type=Failure)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    foreign.append(line)
                    continue
                mine = (old.lines, old.command) == (self.lines, self.command)
                if not mine or old.line in self.there - self.settled:
                    kept.append(old)
        every = sorted([*kept, *self.made], key=lambda f: (f.lines, f.command, f.line))
        lines = [*foreign, *map(msgspec.json.encode, every)]
        if not lines:
            self.path.unlink(missing_ok=True)
            return
        data = b"".join(line + b"\n" for line in lines)
        with staged() as stage:
            stage.write(self.path, lambda file: file.write(data))

    def require_none(self, todo: int) -> None:
        """Raise BatchError if there are any."""
        if not self.made:
            return
        some = ", ".join(f"line {f.line} ({f.name})" for f in self.made[:5])
        raise BatchError(
            f"{len(self.made)} of {todo} prompts failed: {some}"
            + (", ..." if len(self.made) > 5 else ""),
            f"{self.path} says why" + ("; the others are written" if len(self.made) < todo else ""),
        )
