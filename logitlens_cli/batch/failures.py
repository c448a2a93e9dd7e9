"""Which prompts of a batch failed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from logitlens_cli.batch.prompts import Prompt
from logitlens_cli.errors import BatchError, DiskError, LogitLensError, WorkError
from logitlens_cli.model.progress import Progress
from logitlens_cli.reading.atomic import staged
from logitlens_cli.reading.lock import LONGEST_WAIT, folder_lock

FAILURES = "failures.jsonl"


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
    """The prompts of a batch that failed, reported at once and kept in ``failures.jsonl``."""

    def __init__(
        self,
        folder: Path,
        lines: Path,
        command: str,
        listed: Sequence[Prompt],
        progress: Progress,
    ) -> None:
        self.path = folder / FAILURES
        if self.path.is_dir():
            raise WorkError(f"{self.path} is a folder, not the file of failures", "remove it")
        self.listed = {prompt.line for prompt in listed}
        """lines that the file has, also those of other shards"""
        self.lines = str(lines if str(lines) == "-" else lines.resolve())
        self.command, self.progress = command, progress
        self.settled: set[int | None] = set()
        """lines of which it is known by now whether they fail"""
        self.failed: list[Failure] = []
        self.wait = LONGEST_WAIT
        """seconds for another process that writes to the folder"""

    def settle(self, prompt: Prompt) -> None:
        """A prompt does not fail (any more)."""
        self.settled.add(prompt.line)

    def add(self, prompt: Prompt, error: LogitLensError) -> None:
        """Report that a prompt failed; raises ``error`` where all others will fail by it too."""
        if isinstance(error, DiskError):
            raise error
        self.settle(prompt)
        line = prompt.line or 0
        self.progress.failure(f"line {line} ({prompt.name}): {error}")
        self.failed.append(
            Failure(self.lines, self.command, line, prompt.name, error.problem, error.hint)
        )

    def save(self) -> None:
        """Put them in the place of what was known of these lines; the failures of other batches
        stay, and without any failure there is no file."""
        if self.failed:  # perhaps nothing else was written
            self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.failed or self.path.exists():  # else nothing is to be changed, or perhaps may be
            with folder_lock(self.path.parent, self.progress.note, self.wait):
                self.rewrite()

    def rewrite(self) -> None:
        kept, foreign = [], []
        if self.path.exists():
            for line in self.path.read_bytes().splitlines():
                try:
                    old = msgspec.json.decode(line, type=Failure)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    foreign.append(line)
                    continue
                mine = (old.lines, old.command) == (self.lines, self.command)
                if not mine or old.line in self.listed - self.settled:
                    kept.append(old)
        failures = sorted([*kept, *self.failed], key=lambda f: (f.lines, f.command, f.line))
        lines = [*foreign, *map(msgspec.json.encode, failures)]
        if not lines:
            self.path.unlink(missing_ok=True)
            return
        data = b"".join(line + b"\n" for line in lines)
        with staged() as stage:
            stage.write(self.path, lambda file: file.write(data))

    def require_none(self, todo: int) -> None:
        """Raise BatchError if there are any."""
        if not self.failed:
            return
        first = ", ".join(f"line {f.line} ({f.name})" for f in self.failed[:5])
        raise BatchError(
            f"{len(self.failed)} of {todo} prompts failed: {first}"
            + (", ..." if len(self.failed) > 5 else ""),
            f"{self.path} says why"
            + ("; the others are written" if len(self.failed) < todo else ""),
        )
