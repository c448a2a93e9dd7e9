"""Every error that ends a command in one line: what is wrong, the value, what to do."""

import os
from collections.abc import Iterable
from difflib import get_close_matches
from typing import IO, Any

LONGEST = 600
"""characters of a problem or a hint, so that a message fits one line of a log"""


def one_line(text: str) -> str:
    """``text`` without line ends and whatever else a terminal would act on; its spaces stay. Of a
    very long one the middle is left out."""
    if len(text) > 2 * LONGEST:
        text = f"{text[:LONGEST]} ... {text[-LONGEST:]}"
    return "".join(char if char.isprintable() else " " for char in text).strip()


ALIKE = 0.7
"""share of letters that two names have in common, by which the one may be the other misspelt"""


def nearest(word: str, names: Iterable[str], prefix: str = "") -> str:
    """A question that names the one or two of ``names`` that a misspelt word is like; nothing where
    there is none. ``prefix`` is common to all, and does not make them alike."""
    by_lower = {name.removeprefix(prefix).lower(): name for name in names}
    bare = word.removeprefix(prefix).lower()
    near = [bare] if bare in by_lower else get_close_matches(bare, by_lower, 2, ALIKE)
    return f"did you mean {' or '.join(by_lower[name] for name in near)}? " if near else ""


class LogitLensError(Exception):
    """Base of all errors that end a command with one line instead of a traceback.

    ``problem`` names the thing and its value, ``hint`` the way out.
    """

    def __init__(self, problem: str, hint: str) -> None:
        self.problem = one_line(problem)
        self.hint = one_line(hint)
        super().__init__(f"{self.problem}; {self.hint}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.problem, self.hint)  # so that it can come from another process


class UsageError(LogitLensError):
    """The command line, the prompt or a preset asks for something that cannot be."""


class WorkError(LogitLensError):
    """What was asked for is sound, but the work failed (disk, network, weights, numbers)."""


class DiskError(WorkError):
    """No file can be written any more, whichever prompt it is of."""


class ProofError(LogitLensError):
    """The lens cannot be shown to be exact on this model."""


class BatchError(LogitLensError):
    """Some prompts of a batch failed; the files of the others are written."""


def as_known_error(error: BaseException) -> LogitLensError:
    """Any exception as one that can be told in a line; our own as they are. With LOGITLENS_DEBUG
    it is raised as it is, for its traceback."""
    if isinstance(error, LogitLensError):
        return error
    if os.environ.get("LOGITLENS_DEBUG"):
        raise error
    said = str(error)
    if isinstance(error, MemoryError) or "out of memory" in said or "can't allocate" in said:
        return WorkError(
            f"there is not enough memory ({said or 'MemoryError'})",
            "shorten the text, use --every or --batch-tokens, or take a smaller model",
        )
    if isinstance(error, OSError) and error.strerror:
        path = "" if error.filename is None else f"{error.filename}: "
        return WorkError(f"{path}{error.strerror}", "check the path and its permissions")
    return WorkError(
        f"internal error: {type(error).__name__}: {said}",
        "LOGITLENS_DEBUG=1 shows the traceback; please report it",
    )


def discard_stream(stream: IO[str]) -> None:
    """Let what is written to a stream that nobody reads any more vanish: the work goes on, and
    Python does not complain at its exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
