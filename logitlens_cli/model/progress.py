"""What long work says of itself. This one says nothing; the command line's prints it."""

from collections.abc import Iterator
from contextlib import contextmanager


class Count:
    """Prompts done, and tokens read."""

    def add(self, prompts: int = 0, tokens: int = 0) -> None:
        """``prompts`` more prompts are finished, ``tokens`` more tokens are read."""


class Progress:
    """Steps, notes and failures of one run."""

    @contextmanager
    def step(self, doing: str) -> Iterator[None]:
        """``doing`` ("fetching smollm2, 93 MB") is what the body does."""
        yield

    def note(self, sentence: str) -> None:
        """One line about something that the user ought to know."""

    def failure(self, sentence: str) -> None:
        """One line about something that failed, also when quiet."""

    @contextmanager
    def count(self, prompts: int, noun: str = "prompt") -> Iterator[Count]:
        """How many of ``prompts``, or of what ``noun`` calls them, are done while the body runs."""
        yield Count()
