"""The command line: made from the table of commands, run, ended with an exit code."""

import gc
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from logitlens_cli.cli.environment import misspelt_variables
from logitlens_cli.cli.exit_codes import EXIT_CODES, INTERRUPTED, USAGE
from logitlens_cli.cli.interrupts import interrupts
from logitlens_cli.cli.messages import (
    print_error,
    print_path,
    show_whatever_can_be_shown,
    usage_message,
)
from logitlens_cli.commands.models import list_models
from logitlens_cli.commands.progress import TerminalProgress
from logitlens_cli.commands.table import LENS_COMMANDS, MODEL_COMMANDS, commands
from logitlens_cli.errors import as_known_error, discard_stream
from logitlens_cli.model.silence import hush_matplotlib
from logitlens_cli.options.groups import CommandOptions
from logitlens_cli.options.parsing import CommandsGroup, OptionsCommand

ABOUT = "What a language model would say after every block: the logit lens as figures."
EPILOG = (
    "Any option can also be set as LOGITLENS_OPTION in the environment, or in a file for --config. "
    "Standard output carries the paths written and nothing else; where nothing is written, the "
    "tables of --show."
)


def print_version(wanted: bool) -> None:
    if wanted:
        print(f"logitlens {version('logitlens-cli')}")
        raise typer.Exit


def print_help(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            is_eager=True,
            callback=print_version,
            expose_value=False,
            help="Print the version and exit.",
        ),
    ] = False,
) -> None:
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(USAGE)


def build_app() -> typer.Typer:
    """Typer builds the options of a command and gives them back; the work runs outside Typer, which
    handles closed pipes differently."""
    app = typer.Typer(
        name="logitlens",
        cls=CommandsGroup,
        help=ABOUT,
        epilog=EPILOG,
        invoke_without_command=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,  # its boxes take as long to load as all else
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(help=ABOUT)(print_help)
    for name, options in commands().items():
        app.command(name, cls=OptionsCommand, epilog=options.example)(options)
    models = group_of(MODEL_COMMANDS, "Models on this machine: list them, fetch one, check one.")
    models.callback()(list_models)
    app.add_typer(models, name="models")
    lenses = group_of(LENS_COMMANDS, "Lenses with maps: say what one is, convert one.")
    lenses.callback()(print_group_help)
    app.add_typer(lenses, name="lenses")
    return app


def group_of(members: Mapping[str, type[CommandOptions]], about: str) -> typer.Typer:
    """Commands of a name in common."""
    group = typer.Typer(help=about, cls=CommandsGroup, invoke_without_command=True)
    for name, options in members.items():
        group.command(name, cls=OptionsCommand, epilog=options.example)(options)
    return group


def print_group_help(context: typer.Context) -> None:
    """Lenses with maps: say what one is, convert one."""
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(USAGE)


@contextmanager
def own_warnings_noted(progress: TerminalProgress) -> Iterator[None]:
    """What this package warns other programs of is a line here; warnings of others stay."""
    show, ours = warnings.showwarning, str(Path(__file__).parent.parent)

    def note(message: Any, category: Any, filename: str, *rest: Any) -> None:
        if filename.startswith(ours):
            progress.note(str(message))
        else:
            show(message, category, filename, *rest)

    warnings.showwarning = note  # type: ignore[assignment]  # which takes the rest as it comes
    try:
        yield
    finally:
        warnings.showwarning = show


def carry_out(options: CommandOptions) -> None:
    """Do what a command asks for, and print each path once it is written."""
    # Loading the libraries makes a million objects, all of which stay: to look for garbage among
    # them again and again takes a fifth of a short run (measured).
    gc.disable()
    hush_matplotlib()
    try:
        for path in options.run():
            print_path(path)
            if not gc.isenabled():  # all is loaded by now
                gc.freeze()
                gc.enable()
    finally:
        gc.enable()


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; every error ends in one line on standard error."""
    show_whatever_can_be_shown()
    try:
        result = build_app()(args=arguments, prog_name="logitlens", standalone_mode=False)
        if isinstance(result, CommandOptions):
            progress = TerminalProgress(quiet=getattr(result, "quiet", False))
            for sentence in misspelt_variables(os.environ):
                progress.note(sentence)
            with own_warnings_noted(progress):
                carry_out(result)
        elif result == INTERRUPTED:
            raise KeyboardInterrupt
        if sys.stdout is not None:  # it is where the shell closed it
            sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except KeyboardInterrupt:
        return print_interrupted()
    except BrokenPipeError:  # the reader of a help or a list went away
        discard_stream(sys.stdout)
        return 0
    except TyperException as error:  # without a message, help was printed
        return print_error(usage_message(error), USAGE) if error.format_message() else USAGE
    except SystemExit:
        raise
    except BaseException as error:  # not only Exception: tokenizers in Rust panic with another
        return print_failure(error)


def print_failure(error: BaseException) -> int:
    """Print what went wrong, and return its exit code; with LOGITLENS_DEBUG the traceback."""
    if interrupts.number is not None:  # C code that is interrupted while it loads raises its own
        return print_interrupted()
    if os.environ.get("LOGITLENS_DEBUG"):
        raise error
    reported = as_known_error(error)
    return print_error(str(reported), EXIT_CODES[type(reported)])


def print_interrupted() -> int:
    return print_error(*interrupts.ending())
