"""Many readings -> one summary, which goes on where it stopped."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from logitlens_cli.batch.failures import Failures
from logitlens_cli.batch.prompts import Prompt
from logitlens_cli.batch.session import Outcome
from logitlens_cli.errors import LogitLensError
from logitlens_cli.metrics.spec import MetricSpec
from logitlens_cli.model.progress import Count, Progress
from logitlens_cli.reading import summary as summaries
from logitlens_cli.reading.atomic import staged
from logitlens_cli.reading.record import Reading
from logitlens_cli.reading.summary import Summary

SAVED_EVERY = 60.0
"""seconds between two states of a summary that is not finished"""


class State(msgspec.Struct):
    """A summary that is not finished, as it is kept on disk."""

    key: str
    done: list[str]
    """names of the prompts that are in it"""
    stats: Summary


class Summing:
    """A summary in the making; it goes on from ``path``, if that is of the same prompts."""

    def __init__(
        self,
        path: Path,
        key: str,
        name: str,
        metrics: Mapping[str, MetricSpec],
        failures: Failures,
        progress: Progress,
    ) -> None:
        self.path, self.key, self.name, self.metrics = path, key, name, metrics
        self.failures, self.progress = failures, progress
        state = load_state(path, key)
        self.done = set(state.done) if state else set[str]()
        self.summary = state.stats if state else None

    def add_all(
        self, todo: Sequence[Prompt], read: Callable[[Sequence[Prompt]], Iterator[Outcome]]
    ) -> Summary:
        """The summary of these prompts. Raises BatchError if every prompt failed."""
        if self.done:
            self.progress.note(f"{len(self.done)} of {len(todo)} prompts are done already")
        left = {prompt.name: prompt for prompt in todo if prompt.name not in self.done}
        saved = time.monotonic()
        try:
            if left:
                outcomes = read(list(left.values()))
                with self.progress.count(len(left)) as count:
                    for name, outcome in outcomes:
                        self.add(left[name], outcome, count)
                        if time.monotonic() - saved > SAVED_EVERY:
                            saved = time.monotonic()
                            self.save()
        finally:
            self.save()  # the summary is drawn next, and drawing may fail
            self.failures.save()
        if self.summary is None:
            self.failures.require_none(len(todo))
        assert self.summary is not None
        return self.summary

    def add(self, prompt: Prompt, outcome: Reading | LogitLensError, count: Count) -> None:
        try:
            if isinstance(outcome, LogitLensError):
                raise outcome
            before = self.summary or summaries.empty_summary(outcome, self.metrics, self.name)
            self.summary = summaries.add_reading(before, outcome)
        except LogitLensError as error:
            self.failures.add(prompt, error)
        else:
            self.done.add(prompt.name)
            self.failures.settle(prompt)
            count.add(tokens=len(outcome.text_ids))
        count.add(prompts=1)

    def save(self) -> None:
        if self.summary is not None and self.done:
            data = msgspec.json.encode(State(self.key, sorted(self.done), self.summary))
            with staged() as stage:
                stage.write(self.path, lambda file: file.write(data))


def load_state(path: Path, key: str) -> State | None:
    """An unfinished summary of the same prompts and options."""
    if path.exists():
        with suppress(msgspec.DecodeError, UnicodeDecodeError):
            state = msgspec.json.decode(path.read_bytes(), type=State)
            return state if state.key == key else None
    return None
