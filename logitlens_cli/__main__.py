"""The process: the console script, and ``python -m logitlens_cli``.

Signals are heeded before anything slow is loaded.
"""

import gc
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

WORDS = {signal.SIGINT: b"interrupted", signal.SIGTERM: b"terminated"}


def leave(number: int, frame: Any) -> None:
    """End at once: nothing is begun yet, or all is done."""
    os.write(2, b"logitlens: " + WORDS[signal.Signals(number)] + b"\n")
    os._exit(128 + number)


def heed(handler: Callable[[int, Any], None]) -> None:
    for number in WORDS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as a shell has it in the background
            signal.signal(number, handler)


def entry() -> None:
    """Run the command line and end the process."""
    heed(leave)
    from logitlens_cli.cli import app

    sys.unraisablehook = app.stop.lost
    try:
        heed(app.stop)
        code = app.main()
        app.stop.rest()
        heed(leave)
    except KeyboardInterrupt:  # a line before or after the command line's own care
        code = app.stopped()
    if app.stop.number is not None:
        gc.collect()  # locks that processes shared are taken back, else Python complains of them
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with suppress(OSError):
                stream.flush()
    os._exit(code)  # nothing is left to do, and taking torch apart would take most of a second


if __name__ == "__main__":
    entry()
