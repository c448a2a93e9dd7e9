"""What a user can get wrong. Every message is one line: what is wrong, the value, what to do."""

from typing import Any


def one_line(text: str) -> str:
    """``text`` without line ends and whatever else a terminal would act on; its spaces stay."""
    return "".join(char if char.isprintable() else " " for char in text).strip()


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
    """The lens does not reproduce the model's own logits, so no figure is drawn."""


class BatchError(LogitLensError):
    """Some prompts of a batch failed; the files of the others are written."""
