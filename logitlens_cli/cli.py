"""argv -> Request -> run -> exit code. No arithmetic, no files; the only place of exit codes."""

import os
import sys
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from logitlens_cli.errors import BatchError, LogitLensError, ProofError, UsageError, WorkError
from logitlens_cli.request import All, KlFinal, KlInput, Rank, Read, Render, TopK

EXIT_CODES = {WorkError: 1, UsageError: 2, ProofError: 3, BatchError: 4}
INTERRUPTED = 130

EPILOG = (
    "Any option can also be set as LOGITLENS_OPTION in the environment, or in a file for --config. "
    "Standard output carries the paths written and nothing else."
)


def carry_out(request: Any, **_: Any) -> None:
    """Do what a command asks for, and print each path once it is written."""
    if not isinstance(request, Read | Render):
        return  # a command of `models` has done its work already
    from logitlens_cli import run

    paths = run.read(request) if isinstance(request, Read) else run.render(request)
    for path in paths:
        print(path, flush=True)


app = typer.Typer(
    name="logitlens",
    help="What a language model would say after every block: the logit lens as figures.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    result_callback=carry_out,
)
models = typer.Typer(help="What models are at hand; fetch one.", invoke_without_command=True)
app.command("topk")(TopK)
app.command("rank")(Rank)
app.command("kl-final")(KlFinal)
app.command("kl-input")(KlInput)
app.command("all")(All)
app.command("render")(Render)
app.add_typer(models, name="models")


def print_version(wanted: bool) -> None:
    if wanted:
        print(f"logitlens {version('logitlens-cli')}")
        raise typer.Exit


@app.callback()
def main_options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=print_version, expose_value=False,
            help="Print the version and leave.",
        ),  # fmt: skip
    ] = False,
) -> None:
    """What a language model would say after every block: the logit lens as figures."""


@models.callback()
def list_models(context: typer.Context) -> None:
    """List the models at hand: name, blocks, width, vocabulary, size, path."""
    if context.invoked_subcommand is None:
        from logitlens_cli.model import at_hand
        from logitlens_cli.terminal import print_models

        print_models(at_hand())


@models.command("fetch")
def fetch(
    name: Annotated[str, typer.Argument(help="smollm2, or a model of the hub.")] = "smollm2",
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Fetch a model, so that later runs need no network; prints its folder."""
    from logitlens_cli.model import fetch_model
    from logitlens_cli.progress import Progress

    print(fetch_model(name, revision=revision, progress=Progress(quiet=quiet)))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; every error ends in one line on standard error."""
    try:
        outcome = app(args=arguments, prog_name="logitlens", standalone_mode=False)
        sys.stdout.flush()
        return outcome if isinstance(outcome, int) else 0
    except KeyboardInterrupt:
        return say("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # The reader went away, which is its right. Python must not flush at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except TyperException as error:
        return say(f"{error.format_message()} (logitlens --help)", 2)
    except LogitLensError as error:
        if os.environ.get("LOGITLENS_DEBUG"):
            raise
        return say(str(error), EXIT_CODES[type(error)])


def say(sentence: str, code: int) -> int:
    print(f"logitlens: {' '.join(sentence.split())}", file=sys.stderr)
    return code


def entry() -> None:
    """The console script."""
    sys.exit(main())


if __name__ == "__main__":
    entry()
