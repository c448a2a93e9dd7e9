"""The process: the console script, and ``python -m logitlens_cli``.

Signals are handled before anything slow is loaded.
"""

import _signal  # type: ignore[import-not-found]  # the part of signal that is loaded already

# A signal while this file's own imports load ends the process as it ends any other program, not in
# a traceback.
if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)

import gc
import os
import sys
from contextlib import suppress

from logitlens_cli.cli.interrupts import end_at_once, install_handler, interrupts


def entry() -> None:
    """Run the command line and end the process."""
    install_handler(end_at_once)
    from logitlens_cli.cli import app

    sys.unraisablehook = interrupts.on_lost_interrupt
    try:
        install_handler(interrupts)
        code = app.main()
        interrupts.stop_timer()
        install_handler(end_at_once)
    except KeyboardInterrupt:  # a line before or after the command line's own care
        code = app.print_interrupted()
    if interrupts.number is not None:
        gc.collect()  # locks that processes shared are taken back, else Python complains of them
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with suppress(OSError):
                stream.flush()
    os._exit(code)  # nothing is left to do, and taking torch apart would take most of a second


if __name__ == "__main__":
    entry()
