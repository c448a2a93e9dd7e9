"""The console on which lists of models are printed."""

import sys

from rich.console import Console

from logitlens_cli.errors import discard_stream


class PlainConsole(Console):
    """rich exits with its own code on a broken pipe; this console ignores it."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        discard_stream(sys.stdout)
