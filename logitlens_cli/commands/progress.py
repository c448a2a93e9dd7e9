"""What is being done, on standard error, while it lasts. Silent when that is no terminal."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from logitlens_cli.errors import one_line

PERIOD = 30.0
"""seconds between two lines about a long work where there is no terminal"""


def on_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def hush_matplotlib() -> None:
    """Let a process of ours not pass on that matplotlib's home cannot be written, which is nobody's
    concern here. Not for who only imports us: it is their process."""
    logging.getLogger("matplotlib").setLevel(logging.CRITICAL)


class Progress:
    """Steps and notes of one run.

    ``quiet`` silences both. Steps (a spinner with a sentence) show on a terminal only; notes
    (one line each: something the user ought to know) show always.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet

    @contextmanager
    def step(self, doing: str) -> Iterator[None]:
        """Show ``doing`` ("fetching smollm2, 93 MB") while the body runs."""
        if self.quiet or not on_terminal():
            yield
            return
        from rich.console import Console  # late: rich's live display costs start-up time
        from rich.markup import escape

        with Console(stderr=True).status(escape(doing)):
            yield

    def note(self, sentence: str) -> None:
        """Print one line about something that the user ought to know."""
        if not self.quiet:
            self.failure(sentence)

    def failure(self, sentence: str) -> None:
        """Print one line about something that failed, also when quiet."""
        if sys.stderr is not None:  # it is where the shell closed it
            print(f"logitlens: {one_line(sentence)}", file=sys.stderr)

    @contextmanager
    def count(self, prompts: int) -> Iterator["Count"]:
        """Show how many of ``prompts`` are done: a bar on a terminal, else a line now and then."""
        if self.quiet or not on_terminal():
            yield Count(self, prompts)
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
            yield Count(self, prompts, lambda done, speed: bar.update(
                task, completed=done, speed=speed))  # fmt: skip


class Count:
    """Prompts done, and tokens a second."""

    def __init__(self, progress: Progress, prompts: int, show: Any = None) -> None:
        self.progress, self.prompts, self.show = progress, prompts, show
        self.done = self.tokens = 0
        self.start = self.told = time.monotonic()

    def add(self, prompts: int = 0, tokens: int = 0) -> None:
        """So many more prompts are finished, so many more tokens are read."""
        self.done += prompts
        self.tokens += tokens
        now = time.monotonic()
        spent = max(now - self.start, 1e-9)
        speed = f"{self.tokens / spent:.0f} tokens/s"
        if self.show is not None:
            self.show(self.done, speed)
        elif now - self.told >= PERIOD and self.done:
            self.told = now
            left = spent / self.done * (self.prompts - self.done)
            self.progress.note(
                f"{self.done} of {self.prompts} prompts, {speed}, {left / 60:.0f} min left"
            )
