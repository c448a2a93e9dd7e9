"""Many prompts: which are done, which failed, which share a pass, and who draws meanwhile.

A prompt is done when all its files are there; then, and not before, a line about it goes to the
ledger, so that a batch that was stopped at any moment goes on with the same command.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import psutil
from filelock import FileLock

from logitlens_cli.errors import BatchError, DiskError, LogitLensError, WorkError, as_known_error
from logitlens_cli.files import staged
from logitlens_cli.progress import Progress, hush_matplotlib
from logitlens_cli.prompts import Prompt

if TYPE_CHECKING:
    from logitlens_cli.reader import LensModel, TokenizedPrompt

FAILURES = "failures.jsonl"
LOCK = ".logitlens.lock"
"""a file that is there only while a process writes to the ledger or to the failures"""
LONG = 1024
"""tokens; longer prompts fill the machine by themselves, and families that turn to other positions
from some length on (dynamic scaling) must not see a fill"""


# ---------------------------------------------------------------------------------------------
# What is done


class Done(msgspec.Struct, frozen=True):
    """A line of the ledger."""

    name: str
    key: str
    files: dict[str, tuple[int, int]]
    """bytes and time of change in ns of each, by its path relative to the folder"""


class Ledger:
    """The finished prompts of a batch, in a file that only grows."""

    def __init__(self, folder: Path, stem: str) -> None:
        self.folder = folder
        self.path = folder / f"{stem}.done.jsonl"
        self.known: dict[str, Done] = {}
        if self.path.exists():
            for line in self.path.read_bytes().splitlines():
                try:
                    done = msgspec.json.decode(line, type=Done)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    continue  # cut off when the machine stopped: the prompt is done again
                self.known[done.name] = done

    def has(self, name: str, key: str) -> bool:
        """Is a prompt finished with this key, and are its files as they were written then?"""
        done = self.known.get(name)
        if done is None or done.key != key:
            return False
        with suppress(OSError):
            return all(stamp(self.folder / file) == then for file, then in done.files.items())
        return False

    def add(self, name: str, key: str, files: Sequence[Path]) -> None:
        """Record a prompt whose files are there, one process at a time."""
        done = Done(name, key, {str(f.relative_to(self.folder)): stamp(f) for f in files})
        line = msgspec.json.encode(done) + b"\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with alone(self.path.parent), self.path.open("ab", buffering=0) as file:
            if file.tell() and not ends_line(self.path):
                line = b"\n" + line
            file.write(line)


def stamp(path: Path) -> tuple[int, int]:
    """Changes when another command writes the file anew."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def ends_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read() == b"\n"


def key_of(prompt: Prompt, recipe: Mapping[str, Any]) -> str:
    """Changes where a prompt's files would: with its text, or with ``recipe``, everything else that
    they depend on."""
    made = msgspec.json.encode([prompt.text, sorted(recipe.items())], enc_hook=str)
    return hashlib.sha256(made).hexdigest()[:32]


# ---------------------------------------------------------------------------------------------
# What failed


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
    """The prompts of a batch that failed, told at once and kept in ``failures.jsonl``."""

    def __init__(
        self,
        folder: Path,
        lines: Path,
        command: str,
        every: Sequence[Prompt],
        progress: Progress,
    ) -> None:
        self.path = folder / FAILURES
        self.there = {prompt.line for prompt in every}
        """lines that the file has, also those of other parts of it"""
        self.lines = str(lines if str(lines) == "-" else lines.absolute())
        self.command, self.progress = command, progress
        self.settled: set[int | None] = set()
        """lines of which it is known by now whether they fail"""
        self.made: list[Failure] = []

    def settle(self, prompt: Prompt) -> None:
        """A prompt does not fail (any more)."""
        self.settled.add(prompt.line)

    def add(self, prompt: Prompt, error: LogitLensError) -> None:
        """Tell that a prompt failed; raises ``error`` where all others will fail by it too."""
        if isinstance(error, DiskError):
            raise error
        self.settle(prompt)
        line = prompt.line or 0
        self.progress.failure(f"line {line} ({prompt.name}): {error}")
        known = (self.lines, self.command, line, prompt.name)
        self.made.append(Failure(*known, error.problem, error.hint))

    def save(self) -> None:
        """Put them in the place of what was known of these lines; the failures of other batches
        stay, and without any failure there is no file."""
        if self.made:  # perhaps nothing else was written
            self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.made or self.path.exists():  # else nothing is to be changed, or perhaps may be
            with alone(self.path.parent):
                self.replace()

    def replace(self) -> None:
        kept, foreign = [], []
        if self.path.exists():
            for line in self.path.read_bytes().splitlines():
                try:
                    old = msgspec.json.decode(line, type=Failure)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    foreign.append(line)
                    continue
                mine = (old.lines, old.command) == (self.lines, self.command)
                if not mine or old.line in self.there - self.settled:
                    kept.append(old)
        every = sorted([*kept, *self.made], key=lambda f: (f.lines, f.command, f.line))
        lines = [*foreign, *map(msgspec.json.encode, every)]
        if not lines:
            self.path.unlink(missing_ok=True)
            return
        data = b"".join(line + b"\n" for line in lines)
        with staged() as stage:
            stage.write(self.path, lambda file: file.write(data))

    def require_none(self, todo: int) -> None:
        """Raise BatchError if there are any."""
        if not self.made:
            return
        some = ", ".join(f"line {f.line} ({f.name})" for f in self.made[:5])
        raise BatchError(
            f"{len(self.made)} of {todo} prompts failed: {some}"
            + (", ..." if len(self.made) > 5 else ""),
            f"{self.path} says why" + ("; the others are written" if len(self.made) < todo else ""),
        )


# ---------------------------------------------------------------------------------------------
# What shares a pass


def groups(prompts: Sequence[TokenizedPrompt], budget: int) -> Iterator[list[TokenizedPrompt]]:
    """Prompts of like length, as many as the longest times their number stays within ``budget``."""
    group: list[TokenizedPrompt] = []
    for prompt in sorted(prompts, key=lambda p: len(p.ids)):
        full = (len(group) + 1) * len(prompt.ids) > budget or len(prompt.ids) > LONG
        if group and full:
            yield group
            group = []
        group.append(prompt)
    if group:
        yield group


def budget_of(lens_model: LensModel, rows: int) -> int:
    """Tokens of a pass: enough to fill the machine, as far as a quarter of the free memory goes."""
    import torch

    device = lens_model.model.device
    if device.type == "cuda":
        free, most = torch.cuda.mem_get_info(device)[0], 16384
    else:
        # On two cores, passes of 512 tokens are as fast as longer ones, and shorter ones are not.
        free, most = psutil.virtual_memory().available, 512
    width = lens_model.parts.layout.width
    # The stream of every row, and some forty of its width at a time within a block.
    token = 4 * width * (rows + 40)
    return max(1, min(most, free // 4 // token))


# ---------------------------------------------------------------------------------------------
# Who draws


SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def deaf() -> Iterator[None]:
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


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder; other processes that want it wait."""
    path = folder / LOCK
    with FileLock(path, mode=0o666, poll_interval=0.01):  # whoever may write here may lock
        try:
            yield
        finally:
            # Who waits for a file that is gone begins again with a new one: filelock looks. On
            # Windows a file that is open stays, and filelock removes it.
            with suppress(OSError):
                path.unlink()


def begin() -> None:
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
class Made:
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
            self.pool = ProcessPoolExecutor(self.jobs, mp_context=context, initializer=begin)
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
                with deaf():  # here processes start; and what is begun must be known
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

    def made(self, room: int | None = None) -> Iterator[Made]:
        """Outcomes in the order in which work was handed over: of what is done by now, and more
        until no more than ``room`` is waiting (two for each process, if None)."""
        room = 2 * self.jobs if room is None else room
        while self.waiting and (len(self.waiting) > room or self.waiting[0][1].done()):
            about, future = self.waiting[0]
            try:
                outcome = Made(about, future.result())
            except BrokenProcessPool as error:
                raise KILLED from error
            except Exception as error:  # of one prompt; the others go on
                outcome = Made(about, error=as_known_error(error))
            yield outcome
            self.waiting.popleft()  # not before: an interrupt may come at any line

    def rest(self) -> Iterator[Made]:
        """After the end: what was finished, though nobody asked any more."""
        for about, future in self.waiting:
            if future.done() and not future.cancelled() and future.exception() is None:
                yield Made(about, future.result())
