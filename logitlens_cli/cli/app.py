"""argv -> Request -> run -> exit code. No arithmetic, no files; the only place of exit codes."""

import gc
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.exceptions import TyperException

from logitlens_cli.errors import (
    BatchError,
    DiskError,
    ProofError,
    UsageError,
    WorkError,
    as_known_error,
    discard_stream,
    one_line,
)
from logitlens_cli.options.groups import (
    All,
    Check,
    Command,
    CrossEntropy,
    Diff,
    Entropy,
    Js,
    KlFinal,
    KlInput,
    LogitDiff,
    OneMetric,
    Overlap,
    Rank,
    Read,
    Render,
    Stats,
    TokenProb,
    TopK,
    Trace,
)

EXIT_CODES = {WorkError: 1, DiskError: 1, UsageError: 2, ProofError: 3, BatchError: 4}
INTERRUPTED = 130
STOPPED = {signal.SIGINT: ("interrupted", INTERRUPTED), signal.SIGTERM: ("terminated", 143)}
PATIENCE = 2.0
"""seconds in which further signals mean what the first one said"""

EPILOG = (
    "Any option can also be set as LOGITLENS_OPTION in the environment, or in a file for --config. "
    "Standard output carries the paths written and nothing else; where nothing is written, the "
    "tables of --show."
)


def carry_out(request: Read | Render | Diff) -> None:
    """Do what a command asks for, and print each path once it is written."""
    from logitlens_cli.commands.progress import hush_matplotlib

    hush_matplotlib()
    # Loading the libraries makes a million objects, all of which stay: to look for garbage among
    # them again and again takes a fifth of a short run (measured).
    gc.disable()
    try:
        for path in paths_of(request):
            tell(path)
            if not gc.isenabled():  # all is loaded by now
                gc.freeze()
                gc.enable()
    finally:
        gc.enable()


def paths_of(request: Read | Render | Diff) -> Iterator[Path]:
    if isinstance(request, Render | Diff):
        from logitlens_cli.commands import render

        return render.render(request) if isinstance(request, Render) else render.diff(request)
    if isinstance(request, Stats):
        from logitlens_cli.commands import stats

        return stats.summarize(request)
    from logitlens_cli.commands import read

    return read.read(request)


class Stop:
    """Handler of signals: the first one raises KeyboardInterrupt, so that everything is put in
    order, and impatience does not disturb that."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.raised = 0.0

    def __call__(self, number: int, frame: Any) -> None:
        now = time.monotonic()
        again = number not in STOPPED or now - self.raised > PATIENCE
        if self.number is None or again:
            self.number = self.number or number
            self.raised = now
            raise KeyboardInterrupt

    def lost(self, error: Any) -> None:
        """A hook for what is raised where nothing can be (in destructors, and when the import of a
        module ends): an interrupt comes again a moment later. Not on Windows, which has no such
        timers: there the user has to interrupt again."""
        if not issubclass(error.exc_type, KeyboardInterrupt):
            sys.__unraisablehook__(error)
        elif hasattr(signal, "setitimer"):
            signal.signal(signal.SIGALRM, self)
            signal.setitimer(signal.ITIMER_REAL, 0.01)
        else:
            self.number = None

    def rest(self) -> None:
        """No interrupt comes again."""
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)


stop = Stop()


def tell(path: Path) -> None:
    """Print a path that was written. The reader of standard output may be gone, which is its right
    and does not stop the work; or full."""
    try:
        print(path, flush=True)
    except BrokenPipeError:
        discard_stream(sys.stdout)
    except OSError as error:
        discard_stream(sys.stdout)
        raise WorkError(
            f"standard output cannot be written: {error.strerror}", f"{path} is there all the same"
        ) from error


app = typer.Typer(
    name="logitlens",
    help="What a language model would say after every block: the logit lens as figures.",
    epilog=EPILOG,
    invoke_without_command=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its boxes take as long to load as all else
    context_settings={"help_option_names": ["-h", "--help"]},
)
models = typer.Typer(help="What models are at hand; fetch one.", invoke_without_command=True)
app.command("topk", cls=Command)(TopK)
app.command("rank", cls=Command)(Rank)
ONE_METRIC: tuple[type[OneMetric], ...] = (
    *(KlFinal, KlInput, Js, Overlap),
    *(Entropy, CrossEntropy, TokenProb, LogitDiff),
)
for made in ONE_METRIC:
    app.command(made.metric, cls=Command)(made)
app.command("all", cls=Command)(All)
app.command("trace", cls=Command)(Trace)
app.command("stats", cls=Command)(Stats)
app.command("render", cls=Command)(Render)
app.command("diff", cls=Command)(Diff)
app.add_typer(models, name="models")


def print_version(wanted: bool) -> None:
    if wanted:
        print(f"logitlens {version('logitlens-cli')}")
        raise typer.Exit


@app.callback()
def main_options(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            is_eager=True,
            callback=print_version,
            expose_value=False,
            help="Print the version and leave.",
        ),
    ] = False,
) -> None:
    """What a language model would say after every block: the logit lens as figures."""
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)


@models.callback()
def list_models(context: typer.Context) -> None:
    """List the models at hand: name, blocks, width, vocabulary, size, path."""
    if context.invoked_subcommand is None:
        from logitlens_cli.commands.models import print_models
        from logitlens_cli.model.inventory import available_models

        print_models(available_models())


@models.command("fetch")
def fetch(
    name: Annotated[str, typer.Argument(help="smollm2, or a model of the hub.")] = "smollm2",
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Fetch a model once; prints its folder."""
    from logitlens_cli.commands.progress import Progress
    from logitlens_cli.model.fetch import fetch_model

    print(fetch_model(name, revision=revision, progress=Progress(quiet=quiet)))


models.command("check", cls=Command)(Check)


@models.command("families")
def list_families() -> None:
    """List every family, and whether the lens is exact on it."""
    import json
    from importlib.resources import files

    from logitlens_cli.commands.models import print_families

    print_families(json.loads((files("logitlens_cli.model") / "families.json").read_text("utf-8")))


def print_check(request: Check) -> None:
    from logitlens_cli.commands import read
    from logitlens_cli.commands.models import print_examination

    print_examination(read.check(request))


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; every error ends in one line on standard error."""
    try:
        made = app(args=arguments, prog_name="logitlens", standalone_mode=False)
        # Typer gives back what the command is: a request, or an exit code. The work is done out of
        # its reach, since it has its own way with closed pipes.
        if isinstance(made, Read | Render | Diff):
            carry_out(made)
        elif isinstance(made, Check):
            print_check(made)
        elif made == INTERRUPTED:
            raise KeyboardInterrupt
        if sys.stdout is not None:  # it is where the shell closed it
            sys.stdout.flush()
        return made if isinstance(made, int) else 0
    except KeyboardInterrupt:
        return stopped()
    except BrokenPipeError:  # the reader of a help or a list went away
        discard_stream(sys.stdout)
        return 0
    except TyperException as error:
        return say(worded(error), 2) if error.format_message() else 2  # no words: help is printed
    except SystemExit:
        raise
    except BaseException as error:  # not only Exception: tokenizers in Rust panic with another
        if stop.number is not None:  # interrupted while it loads, C code raises errors of its own
            return stopped()
        if os.environ.get("LOGITLENS_DEBUG"):
            raise
        told = as_known_error(error)
        return say(str(told), EXIT_CODES[type(told)])


def worded(error: TyperException) -> str:
    """Typer's words with the value that they leave out, and where to look."""
    words = error.format_message().replace("Value error, ", "").rstrip(".")
    cause: Any = error.__cause__  # of pydantic, where a value is of the wrong kind
    given = repr(cause.errors()[0]["input"]) if hasattr(cause, "errors") else ""
    if given not in words:
        words = words.replace("Invalid value", f"Invalid value {given}")
    context = getattr(error, "ctx", None)
    return f"{words}; see {context.command_path if context else 'logitlens'} --help"


def say(sentence: str, code: int) -> int:
    if sys.stderr is not None:  # it is where the shell closed it, and print would take the other
        with suppress(OSError):
            print(f"logitlens: {one_line(sentence)}", file=sys.stderr)
    return code


def stopped() -> int:
    return say(*STOPPED[signal.Signals(stop.number or signal.SIGINT)])
