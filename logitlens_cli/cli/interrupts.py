"""What a user's signals do: the first one raises KeyboardInterrupt, so that clean-up runs; further
signals within two seconds are ignored."""

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from logitlens_cli.cli.exit_codes import ENDINGS

PATIENCE = 2.0
"""seconds after the first signal in which further ones are ignored"""


class Interrupts:
    """The handler while work is done."""

    def __init__(self) -> None:
        self.number: int | None = None
        """of the first signal"""
        self.raised = 0.0

    def __call__(self, number: int, frame: Any) -> None:
        now = time.monotonic()
        again = number not in ENDINGS or now - self.raised > PATIENCE
        if self.number is None or again:
            self.number = self.number or number
            self.raised = now
            raise KeyboardInterrupt

    def on_lost_interrupt(self, error: Any) -> None:
        """A hook for what is raised where nothing can be (in destructors, and when the import of a
        module ends): an interrupt comes again a moment later. Where there are no timers, the user
        has to interrupt again."""
        if not issubclass(error.exc_type, KeyboardInterrupt):
            sys.__unraisablehook__(error)
        elif hasattr(signal, "setitimer"):
            signal.signal(signal.SIGALRM, self)
            signal.setitimer(signal.ITIMER_REAL, 0.01)
        else:
            self.number = None

    def stop_timer(self) -> None:
        """No interrupt comes again."""
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)

    def ending(self) -> tuple[str, int]:
        """What is said at the end, and the exit code."""
        return ENDINGS[signal.Signals(self.number or signal.SIGINT)]


interrupts = Interrupts()


def end_at_once(number: int, frame: Any) -> None:
    """The handler while nothing is begun yet, or all is done."""
    words, code = ENDINGS[signal.Signals(number)]
    os.write(2, f"logitlens: {words}\n".encode())
    os._exit(code)


def install_handler(handler: Callable[[int, Any], None]) -> None:
    for number in ENDINGS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as a shell has it in the background
            signal.signal(number, handler)
