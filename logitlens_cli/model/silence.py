"""Libraries that print, silenced."""

import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import IO


@contextmanager
def silenced() -> Iterator[None]:
    """Keep what transformers and its friends print, log and draw away from the user.

    Their settings are as before afterwards. Rich's spinner still turns: it looks for the
    attribute ``rich_proxied_file`` of standard error and writes there.
    """
    # Imported before anything is redirected: a log handler keeps the stream it finds at import.
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging as model_logging

    before, hub_before = model_logging.get_verbosity(), hub_logging.get_verbosity()
    bars = model_logging.is_progress_bar_enabled()
    model_logging.set_verbosity(logging.CRITICAL)
    hub_logging.set_verbosity(logging.CRITICAL)
    model_logging.disable_progress_bar()
    out, err = Sink(), Sink(sys.stderr)
    try:
        with warnings.catch_warnings(), redirect_stdout(out), redirect_stderr(err):
            warnings.simplefilter("ignore")
            yield
    finally:
        model_logging.set_verbosity(before)
        hub_logging.set_verbosity(hub_before)
        if bars:
            model_logging.enable_progress_bar()


class Sink(io.StringIO):
    """A stream that forgets what is written; ``shown`` is where rich's spinner goes on drawing."""

    def __init__(self, shown: IO[str] | None = None) -> None:
        super().__init__()
        if shown is not None:
            self.rich_proxied_file = getattr(shown, "rich_proxied_file", shown)

    def write(self, text: str) -> int:
        return len(text)


def hush_matplotlib() -> None:
    """Keep a process of ours from passing on that matplotlib's home cannot be written, which is
    nobody's concern here, and from looking for the backend of a notebook that started it: figures
    are drawn into files. Not for programs that only import us: it is their process."""
    if "MPLBACKEND" in os.environ:
        os.environ["MPLBACKEND"] = "agg"
    logging.getLogger("matplotlib").setLevel(logging.CRITICAL)
