"""A progress that keeps what it is told."""

from collections.abc import Iterator
from contextlib import contextmanager

from logitlens_cli.model.progress import Progress


class Listening(Progress):
    """Steps, notes and failures, in order."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.notes: list[str] = []
        self.failures: list[str] = []

    @contextmanager
    def step(self, doing: str) -> Iterator[None]:
        self.steps.append(doing)
        yield

    def note(self, sentence: str) -> None:
        self.notes.append(sentence)

    def failure(self, sentence: str) -> None:
        self.failures.append(sentence)
