"""What the command line says: each path that is written, and every error as one line."""

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from typer.exceptions import TyperException

from logitlens_cli.errors import WorkError, discard_stream, nearest, one_line

MOST_COMMANDS = 4
"""that are named as having an option"""


def show_whatever_can_be_shown() -> None:
    """Write what the encoding of a stream does not have as an escape, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def print_path(path: Path) -> None:
    """Print a path that was written. The reader of standard output may be gone, which is its right
    and does not stop the work; or full."""
    try:
        try:
            str(path).encode(getattr(sys.stdout, "encoding", None) or "utf-8")
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
    if hasattr(error, "option_name") and hasattr(error, "possibilities"):
        words = error.message + option_hint(error.option_name, error.possibilities or (), error)
    cause: Any = error.__cause__  # of pydantic, where a value is of the wrong kind
    given = repr(cause.errors()[0]["input"]) if hasattr(cause, "errors") else ""
    if given not in words:
        words = words.replace("Invalid value", f"Invalid value {given}")
    context = getattr(error, "ctx", None)
    see = " See" if words.endswith("?") else "; see"
    return f"{words}{see} {context.command_path if context else 'logitlens'} --help"


def option_hint(option: str, near: Iterable[str], error: Any) -> str:
    """Which commands have an option that this one has not; else which of its own is like it."""
    context = error.ctx
    group = context.command if context.parent is None else context.parent.command
    others = [
        name
        for name, command in getattr(group, "commands", {}).items()
        if any(option in parameter.opts for parameter in command.params)
    ]
    if others:
        return f"; it is an option of {', '.join(others[:MOST_COMMANDS])}" + (
            ", ..." if len(others) > MOST_COMMANDS else ""
        )
    hint = nearest(option, near, "--")
    return f"; {hint.strip()}" if hint else ""
