"""Limits of time and memory on what comes with a model and runs over a text: its tokenizer, which
is code in Rust full of the model's patterns, and its chat template, which is a program.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from logitlens_cli.errors import WorkError

try:
    import resource

    RESOURCES = True
except ModuleNotFoundError:  # Windows
    RESOURCES = False

Result = TypeVar("Result")

SECONDS = 30.0
"""for what takes none on an idle machine"""
PACE = 10_000.0
"""characters of a text that get a second more; the slowest tokenizers do some 100 000"""
MEMORY = 2**29
"""bytes that a template may take; what it makes is a text to be read"""


def run_with_timeout(what: str, characters: int, work: Callable[[], Result]) -> Result:
    """What ``work`` gives, in a thread of its own. Code in Rust cannot be interrupted, but lets
    other threads run: so this one hears signals meanwhile, and does not wait for ever.

    WorkError, which names ``what`` works, where that takes too long (the thread is left behind, and
    ends with the process) or panics; whatever else it raises comes through.
    """
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    seconds = SECONDS + characters / PACE
    with without_panics():
        threading.Thread(target=run, daemon=True).start()
        try:
            return future.result(seconds)
        except TimeoutError:
            if future.done():
                raise
            raise WorkError(
                f"{what} needs more than {seconds:.0f} s for a text of {characters} characters",
                "shorten the text, or fetch the model again",
            ) from None
        except BaseException as error:
            if not is_panic(error):
                raise
            raise WorkError(f"{what} fails: {error}", "fetch the model again") from error


def is_panic(error: BaseException) -> bool:
    """Rust's panics are no Exception."""
    return not isinstance(error, Exception) and "Panic" in type(error).__name__


@contextmanager
def without_panics() -> Iterator[None]:
    """Send to nowhere what Rust writes past Python when it panics; the panic is raised too."""
    if sys.stderr is not None:
        sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


MEMORY_PAGES = Path("/proc/self/statm")
"""how much memory this process has, in pages; Linux alone has it, and heeds a limit of it"""


def unlimited_resources() -> list[str]:
    """What ``resource_limits`` cannot limit on this system: "time" (on Windows), "memory" (on all
    but Linux)."""
    missing = [] if hasattr(signal, "setitimer") else ["time"]
    return missing if RESOURCES and MEMORY_PAGES.exists() else [*missing, "memory"]


@contextmanager
def resource_limits(what: str, hint: str) -> Iterator[None]:
    """Stop Python code by WorkError when its time is over, and by MemoryError when it takes too
    much memory, as far as the system can (``unlimited_resources``). Signals reach the main thread
    only, so elsewhere there are no limits."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise WorkError(f"{what} needs more than {SECONDS:.0f} s", hint)

    with bounded_memory(), bounded_time(stop):
        yield


@contextmanager
def bounded_time(stop: Callable[[int, Any], None]) -> Iterator[None]:
    """Call ``stop`` as a handler of signals after SECONDS."""
    if not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, SECONDS, 1.0)  # again, should somebody swallow it
        yield
    finally:
        if signal.getsignal(signal.SIGALRM) is stop:  # else an interrupt is on its way
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


@contextmanager
def bounded_memory() -> Iterator[None]:
    """Allow MEMORY more than there is."""
    if not RESOURCES:
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    try:
        with suppress(OSError, ValueError):  # there may be no /proc, and a lower limit by now
            most = int(MEMORY_PAGES.read_text().split()[0]) * resource.getpagesize() + MEMORY
            resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
