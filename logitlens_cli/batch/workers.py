"""Processes that draw while the model reads."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil

from logitlens_cli.errors import LogitLensError, WorkError, as_known_error
from logitlens_cli.model.silence import hush_matplotlib

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


@contextmanager
def signals_held() -> Iterator[None]:
    """Signals wait until the end of this, also in a process that starts meanwhile, until it can say
    what it does about them."""
    if threading.current_thread() is not threading.main_thread():  # other threads get none
        yield
        return
    received: list[int] = []
    # A mask is not enough: other threads take the signal, and the handler runs in this one.
    handlers = {
        number: signal.signal(number, lambda n, _: received.append(n)) for number in SIGNALS
    }
    masks = hasattr(signal, "pthread_sigmask")  # not on Windows
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS) if masks else ()
    try:
        yield
    finally:
        if masks:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])


def start_worker() -> None:
    """In a process that draws: the parent gets the user's interrupt and decides; if it is killed,
    this process goes too."""
    hush_matplotlib()
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):  # see signals_held
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def end_with_parent() -> None:
        parent.join()
        psutil.Process().kill()

    threading.Thread(target=end_with_parent, daemon=True).start()


LAST_DRAWING = 10.0
"""seconds after an interrupt or an error for what is being drawn"""


def end_processes(processes: Sequence[Any], patience: float) -> None:
    """Wait for processes that have been told to end; kill those that do not in time, and all of
    them at a further interrupt. What a killed one was writing is finished or removed by whoever
    writes to the folder next."""
    end = time.monotonic() + patience
    try:
        for process in processes:
            process.join(max(0.0, end - time.monotonic()))
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()
                process.join()


@dataclass(frozen=True)
class Finished:
    """The outcome of work that was submitted."""

    subject: Any
    """what ``submit`` was told that the work is about"""
    result: Any = None
    error: LogitLensError | None = None


KILLED = WorkError(
    "a process that draws was killed",
    "run it again: it goes on where it stopped; --jobs 1 needs less memory",
)


MOST_PROCESSES = 61
"""processes that Python can wait for on Windows"""


class Workers:
    """Processes that write files while this one goes on; none: work is done at once."""

    def __init__(self, jobs: int) -> None:
        self.jobs = min(jobs, MOST_PROCESSES) if sys.platform == "win32" else jobs
        self.pool: ProcessPoolExecutor | None = None
        if self.jobs:
            # Not forked: torch's threads would not come along, and their locks would.
            context = multiprocessing.get_context("spawn")
            self.pool = ProcessPoolExecutor(self.jobs, mp_context=context, initializer=start_worker)
        self.waiting: deque[tuple[Any, Future[Any]]] = deque()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: object = None, *rest: object) -> None:
        if self.pool is None:
            return
        processes = multiprocessing.active_children()
        if kind is None:
            try:
                self.pool.shutdown(cancel_futures=True)  # nothing is drawn any more
            except KeyboardInterrupt:
                end_processes(processes, 0.0)
                raise
            return
        self.pool.shutdown(wait=False, cancel_futures=True)
        # What is being drawn comes to its end, unless it takes long or the process is stopped.
        end_processes(processes, LAST_DRAWING)

    def submit(self, subject: Any, work: Callable[..., Any], *arguments: Any) -> None:
        """Have ``work`` done; ``subject`` comes back with its outcome."""
        if self.pool is not None:
            try:
                with signals_held():  # here processes start; and what is begun must be known
                    self.waiting.append((subject, self.pool.submit(work, *arguments)))
            except BrokenProcessPool as error:
                raise KILLED from error
            return
        future: Future[Any] = Future()
        self.waiting.append((subject, future))
        try:
            future.set_result(work(*arguments))
        except Exception as error:
            future.set_exception(error)

    def completed(self, pending: int | None = None) -> Iterator[Finished]:
        """Outcomes in the order in which work was submitted: of what is done by now, and more
        until no more than ``pending`` are waiting (two for each process, if None)."""
        pending = 2 * self.jobs if pending is None else pending
        while self.waiting and (len(self.waiting) > pending or self.waiting[0][1].done()):
            subject, future = self.waiting[0]
            try:
                outcome = Finished(subject, future.result())
            except BrokenProcessPool as error:
                raise KILLED from error
            except Exception as error:  # of one prompt; the others go on
                outcome = Finished(subject, error=as_known_error(error))
            yield outcome
            self.waiting.popleft()  # not before: an interrupt may come at any line

    def subjects(self) -> list[Any]:
        """Of work whose outcome nobody has asked for."""
        return [subject for subject, _ in self.waiting]

    def drain(self) -> Iterator[Finished]:
        """After the end: what was finished, though nobody asked any more."""
        for subject, future in self.waiting:
            if future.done() and not future.cancelled() and future.exception() is None:
                yield Finished(subject, future.result())
