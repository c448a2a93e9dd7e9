"""What is being done, on standard error, while it lasts. Silent when that is not a terminal."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from logitlens_cli.errors import one_line
from logitlens_cli.model.progress import Count, Progress

PERIOD = 30.0
"""seconds between two lines about a long work where there is no terminal"""


def on_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


class TerminalProgress(Progress):
    """Steps and notes of one run.

    ``quiet`` silences both. Steps (a spinner with a sentence) show on a terminal only; notes
    (one line each: something the user ought to know) show always.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet

    @contextmanager
    def step(self, doing: str) -> Iterator[None]:
        if self.quiet or not on_terminal():
            yield
            return
        from rich.console import Console  # late: rich's live display costs start-up time
        from rich.markup import escape

        with Console(stderr=True).status(escape(doing)):
            yield

    def note(self, sentence: str) -> None:
        if not self.quiet:
            self.failure(sentence)

    def failure(self, sentence: str) -> None:
        if sys.stderr is not None:  # it is where the shell closed it
            print(f"logitlens: {one_line(sentence)}", file=sys.stderr)

    @contextmanager
    def count(self, prompts: int) -> Iterator[Count]:
        """Shows how many prompts are done: a bar on a terminal, else a line now and then."""
        if self.quiet or not on_terminal():
            yield TerminalCount(self, prompts)
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (
            *(BarColumn(), MofNCompleteColumn(), TextColumn("prompts · {task.fields[speed]}")),
            *(TimeRemainingColumn(), TextColumn("left")),
        )
        # Paths pass above the bar where they share its terminal; in a pipe they are left alone.
        bar = Bar(*columns, console=Console(stderr=True), redirect_stdout=sys.stdout.isatty())
        with bar:
            task = bar.add_task("", total=prompts, speed="")
            yield TerminalCount(self, prompts, lambda done, speed: bar.update(
                task, completed=done, speed=speed))  # fmt: skip


class TerminalCount(Count):
    """Prompts done, and tokens a second."""

    def __init__(self, progress: Progress, prompts: int, show: Any = None) -> None:
        self.progress, self.prompts, self.show = progress, prompts, show
        self.done = self.tokens = 0
        self.start = self.noted = time.monotonic()

    def add(self, prompts: int = 0, tokens: int = 0) -> None:
        self.done += prompts
        self.tokens += tokens
        now = time.monotonic()
        spent = max(now - self.start, 1e-9)
        speed = f"{self.tokens / spent:.0f} tokens/s"
        if self.show is not None:
            self.show(self.done, speed)
        elif now - self.noted >= PERIOD and self.done:
            self.noted = now
            left = spent / self.done * (self.prompts - self.done)
            self.progress.note(
                f"{self.done} of {self.prompts} prompts, {speed}, {left / 60:.0f} min left"
            )
