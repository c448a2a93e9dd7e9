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
LEAST_DONE, LEAST_SPENT = 8, 10.0
"""prompts and seconds from which the time left is told"""


def on_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


class TerminalProgress(Progress):
    """Steps and notes of one run.

    ``quiet`` silences both. Steps (a spinner with a sentence) show on a terminal, and ``long`` work
    says a line about each elsewhere too; notes (one line each: something the user ought to know)
    show always.
    """

    def __init__(self, *, quiet: bool = False, long: bool = False) -> None:
        self.quiet, self.long = quiet, long

    @contextmanager
    def step(self, doing: str) -> Iterator[None]:
        if self.quiet or not on_terminal():
            if self.long:
                self.note(doing)
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
    def count(self, prompts: int, noun: str = "prompt") -> Iterator[Count]:
        """Shows how many prompts are done: a bar on a terminal, else a line now and then."""
        if self.quiet or not on_terminal():
            self.note(f"reading {prompts} {noun}{'s' if prompts > 1 else ''}")
            yield TerminalCount(self, prompts, noun=noun)
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar

        columns = (BarColumn(), MofNCompleteColumn(), TextColumn(noun + "s{task.fields[state]}"))
        # Paths pass above the bar where they share its terminal; in a pipe they are left alone.
        bar = Bar(*columns, console=Console(stderr=True), redirect_stdout=sys.stdout.isatty())
        with bar:
            task = bar.add_task("", total=prompts, state=", reading the first")
            yield TerminalCount(self, prompts, lambda done, state: bar.update(
                task, completed=done, state=state))  # fmt: skip


class TerminalCount(Count):
    """Prompts done, tokens a second, and the time left once there is something to tell it from."""

    def __init__(
        self, progress: Progress, prompts: int, show: Any = None, noun: str = "prompt"
    ) -> None:
        self.progress, self.prompts, self.show, self.noun = progress, prompts, show, noun
        self.done = self.tokens = 0
        self.start = self.noted = time.monotonic()

    def add(self, prompts: int = 0, tokens: int = 0) -> None:
        self.done += prompts
        self.tokens += tokens
        now = time.monotonic()
        state = self.state(max(now - self.start, 1e-9))
        if self.show is not None:
            self.show(self.done, state)
        elif now - self.noted >= PERIOD:
            self.noted = now
            self.progress.note(f"{self.done} of {self.prompts} {self.noun}s{state}")

    def state(self, spent: float) -> str:
        """Behind the number of prompts."""
        words = f", {self.tokens / spent:.0f} tokens/s" if self.tokens else ""
        if self.done < LEAST_DONE or spent < LEAST_SPENT:
            return words
        left = spent / self.done * (self.prompts - self.done)
        return words + f", {left / 60:.0f} min left"
