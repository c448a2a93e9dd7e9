"""What the command line says: each path that is written, and every error as one line."""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from typer.exceptions import TyperException

from logitlens_cli.errors import WorkError, discard_stream, one_line


def print_path(path: Path) -> None:
    """Print a path that was written. The reader of standard output may be gone, which is its right
    and does not stop the work; or full."""
    try:
        try:
            print(path, flush=True)
        except UnicodeEncodeError:  # as a file's name it is bytes, whatever a terminal can show
            sys.stdout.buffer.write(os.fsencode(path) + b"\n")
            sys.stdout.flush()
    except BrokenPipeError:
        discard_stream(sys.stdout)
    except OSError as error:
        discard_stream(sys.stdout)
        raise WorkError(
            f"standard output cannot be written: {error.strerror}",
            f"{path} was written all the same",
        ) from error


def print_error(sentence: str, code: int) -> int:
    """Print why there is an exit code; returns it."""
    if sys.stderr is not None:  # it is where the shell closed it, and print would take the other
        with suppress(OSError):
            print(f"logitlens: {one_line(sentence)}", file=sys.stderr)
    return code


def usage_message(error: TyperException) -> str:
    """Typer's words with the value that they leave out, and where to look."""
    words = error.format_message().replace("Value error, ", "").rstrip(".")
    cause: Any = error.__cause__  # of pydantic, where a value is of the wrong kind
    given = repr(cause.errors()[0]["input"]) if hasattr(cause, "errors") else ""
    if given not in words:
        words = words.replace("Invalid value", f"Invalid value {given}")
    context = getattr(error, "ctx", None)
    return f"{words}; see {context.command_path if context else 'logitlens'} --help"
