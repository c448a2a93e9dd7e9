"""What is being done, on standard error, while it lasts. Silent when that is no terminal."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from logitlens_cli.errors import one_line


class Progress:
    """Steps and notes of one run.

    ``quiet`` silences both. Steps (a spinner with a sentence) show on a terminal only; notes
    (one line each: something the user ought to know) show always.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet

    @contextmanager
    def step(self, doing: str) -> Iterator[None]:
        """Show ``doing`` ("fetching smollm2, 93 MB") while the body runs."""
        if self.quiet or not sys.stderr.isatty():
            yield
            return
        from rich.console import Console  # late: rich's live display costs start-up time
        from rich.markup import escape

        with Console(stderr=True).status(escape(doing)):
            yield

    def note(self, sentence: str) -> None:
        """Print one line about something that the user ought to know."""
        if not self.quiet:
            self.failure(sentence)

    def failure(self, sentence: str) -> None:
        """Print one line about something that failed, also when quiet."""
        print(f"logitlens: {one_line(sentence)}", file=sys.stderr)
