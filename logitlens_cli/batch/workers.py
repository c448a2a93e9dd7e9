"""Many prompts: which are done, which failed, which share a pass, and who draws meanwhile.

A prompt is done when all its files are there; then, and not before, a line about it goes to the
ledger, so that a batch that was stopped at any moment goes on with the same command.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil

from logitlens_cli.commands.progress import hush_matplotlib
from logitlens_cli.errors import LogitLensError, WorkError, as_known_error

if TYPE_CHECKING:
    pass


# ---------------------------------------------------------------------------------------------
# Who draws


SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def signals_held() -> Iterator[None]:
    """Signals wait until the end of this, also in a process that starts meanwhile, until it can say
    what it does about them."""
    if threading.current_thread() is not threading.main_thread():  # others hear none
        yield
        return
    came: list[int] = []
    # A mask is not enough: other threads take the signal, and the handler runs in this one.
    handlers = {number: signal.signal(number, lambda n, _: came.append(n)) for number in SIGNALS}
    masks = hasattr(signal, "pthread_sigmask")  # not on Windows
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS) if masks else ()
    try:
        yield
    finally:
        if masks:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def start_worker() -> None:
    """In a process that draws: the parent hears the user's interrupt and decides; if it is killed,
    this process goes too."""
    hush_matplotlib()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):  # see deaf
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        psutil.Process().kill()

    threading.Thread(target=follow, daemon=True).start()


@dataclass(frozen=True)
class Finished:
    """The outcome of work that was handed over."""

    about: Any
    result: Any = None
    error: LogitLensError | None = None


KILLED = WorkError(
    "a process that draws was killed",
    "run it again: it goes on where it stopped; --jobs 1 needs less memory",
)


def cpu_count() -> int:
    """Processors that this process may use, which are those of the machine where it cannot be bound
    to some (macOS)."""
    process = psutil.Process()
    bound = process.cpu_affinity() if hasattr(process, "cpu_affinity") else None
    return len(bound or ()) or os.cpu_count() or 1


MOST = 61
"""processes that Python can wait for on Windows"""


class Workers:
    """Processes that write files while this one goes on; none: work is done at once."""

    def __init__(self, jobs: int) -> None:
        self.jobs = min(jobs, MOST) if sys.platform == "win32" else jobs
        self.pool: ProcessPoolExecutor | None = None
        if self.jobs:
            # Not forked: torch's threads would not come along, and their locks would.
            context = multiprocessing.get_context("spawn")
            self.pool = ProcessPoolExecutor(self.jobs, mp_context=context, initializer=start_worker)
        self.waiting: deque[tuple[Any, Future[Any]]] = deque()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *error: object) -> None:
        if self.pool is None:
            return
        every = multiprocessing.active_children()
        try:
            self.pool.shutdown(cancel_futures=True)
        except KeyboardInterrupt:  # what is being drawn must come to its end all the same
            self.pool.shutdown(wait=False, cancel_futures=True)
            for process in every:  # a thread whose join was interrupted cannot be joined again
                process.join()
            raise

    def hand(self, about: Any, work: Callable[..., Any], *arguments: Any) -> None:
        """Have ``work`` done; ``about`` comes back with its outcome."""
        if self.pool is not None:
            try:
                with signals_held():  # here processes start; and what is begun must be known
                    self.waiting.append((about, self.pool.submit(work, *arguments)))
            except BrokenProcessPool as error:
                raise KILLED from error
            return
        future: Future[Any] = Future()
        self.waiting.append((about, future))
        try:
            future.set_result(work(*arguments))
        except Exception as error:
            future.set_exception(error)

    def made(self, room: int | None = None) -> Iterator[Finished]:
        """Outcomes in the order in which work was handed over: of what is done by now, and more
        until no more than ``room`` is waiting (two for each process, if None)."""
        room = 2 * self.jobs if room is None else room
        while self.waiting and (len(self.waiting) > room or self.waiting[0][1].done()):
            about, future = self.waiting[0]
            try:
                outcome = Finished(about, future.result())
            except BrokenProcessPool as error:
                raise KILLED from error
            except Exception as error:  # of one prompt; the others go on
                outcome = Finished(about, error=as_known_error(error))
            yield outcome
            self.waiting.popleft()  # not before: an interrupt may come at any line

    def rest(self) -> Iterator[Finished]:
        """After the end: what was finished, though nobody asked any more."""
        for about, future in self.waiting:
            if future.done() and not future.cancelled() and future.exception() is None:
                yield Finished(about, future.result())
