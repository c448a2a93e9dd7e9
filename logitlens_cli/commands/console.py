"""The console on which lists of models are printed."""

import sys

from rich.console import Console

from logitlens_cli.errors import discard_stream


class PlainConsole(Console):
    """What rich would make of a reader that went away is an exit code of its own."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        discard_stream(sys.stdout)
