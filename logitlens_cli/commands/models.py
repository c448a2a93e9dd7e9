"""``logitlens models``: list them, fetch, check or verify one; all families."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from logitlens_cli.options.groups import CommandOptions
from logitlens_cli.options.model_options import ModelOptions
from logitlens_cli.options.option import MODEL, OUTPUT, option

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from logitlens_cli.model.inventory import AvailableModel

QuietOption = Annotated[bool, option("--quiet", "-q", section=OUTPUT, help="No progress.")]


@dataclass(frozen=True, kw_only=True)
class Fetch(CommandOptions):
    """Fetch a model once; prints its folder."""

    name: Annotated[str, typer.Argument(help="smollm2, or a model of the hub.")] = "smollm2"
    revision: Annotated[
        str | None, option("--revision", section=MODEL, help="Branch, tag or commit on the hub.")
    ] = None
    quiet: QuietOption = False

    def run(self) -> Iterator[Path]:
        from logitlens_cli.commands.progress import TerminalProgress
        from logitlens_cli.model.fetch import fetch_model

        progress = TerminalProgress(quiet=self.quiet)
        yield fetch_model(self.name, revision=self.revision, progress=progress)


@dataclass(frozen=True, kw_only=True)
class Check(ModelOptions, CommandOptions):
    """Check that the lens reproduces the model's own logits, and list what is not supported
    there."""

    model: Annotated[
        str, typer.Argument(metavar="NAME", help="smollm2, a hub name, a folder, a .gguf file.")
    ]
    quiet: QuietOption = False

    def run(self) -> Iterator[Path]:
        """Raises ProofError where the lens does not reproduce the model's own logits."""
        from logitlens_cli.batch.session import open_lens_model
        from logitlens_cli.commands.progress import TerminalProgress
        from logitlens_cli.commands.translate import model_source
        from logitlens_cli.lens.proof_report import proof_report
        from logitlens_cli.model.open import open_tokenizer

        progress = TerminalProgress(quiet=self.quiet)
        opened = open_tokenizer(model_source(self), progress)
        print_proof(proof_report(open_lens_model(opened, progress, subblocks=True)))
        yield from ()


@dataclass(frozen=True, kw_only=True)
class Verify(CommandOptions):
    """Hash all files of a fetched model, and hold them against what was fetched or converted."""

    name: Annotated[str, typer.Argument(help="smollm2, or a model of the hub.")] = "smollm2"
    revision: Annotated[
        str | None, option("--revision", section=MODEL, help="Branch, tag or commit on the hub.")
    ] = None

    def run(self) -> Iterator[Path]:
        """Raises WorkError where a file is damaged."""
        from logitlens_cli.model.verify import verified_files

        names = verified_files(self.name, self.revision)
        print_proof({self.name: [f"{len(names)} files are as they were written", *names]})
        yield from ()


@dataclass(frozen=True, kw_only=True)
class Families(CommandOptions):
    """List every family, and whether the lens is exact on it."""

    def run(self) -> Iterator[Path]:
        import json
        from importlib.resources import files

        table = files("logitlens_cli.model") / "families.json"
        print_families(json.loads(table.read_text("utf-8")))
        yield from ()


def list_models(context: typer.Context) -> None:
    """List the models on this machine: name, blocks, width, vocabulary, size, path."""
    if context.invoked_subcommand is None:
        from logitlens_cli.model.inventory import available_models

        print_models(available_models())


def print_models(models: Sequence["AvailableModel"]) -> None:
    """One line per model; a model that is not fetched yet has no path."""
    table = plain_table(header=True)
    table.add_column("name")
    for heading in ("blocks", "width", "vocabulary", "size"):
        table.add_column(heading, justify="right")
    table.add_column("path", overflow="fold")
    for model in models:
        numbers = [model.blocks, model.width, model.vocabulary]
        table.add_row(
            model.name,
            *("?" if number is None else str(number) for number in numbers),
            "" if model.bytes is None else f"{model.bytes / 1e6:.0f} MB",
            "not fetched; logitlens models fetch" if model.path is None else str(model.path),
        )
    console().print(table)


def print_families(families: Mapping[str, Any]) -> None:
    """What becomes of every family of the causal mapping, and how many of each."""
    table = plain_table(header=True)
    for heading in ("family", "outcome", "route", "mid rows", "model or reason"):
        table.add_column(heading, overflow="fold")
    entries = families["families"]
    for key, entry in entries.items():
        mid = {True: "yes", False: "no", None: ""}[entry["mid"]]
        about = entry["reason"] or entry["model"]
        table.add_row(key, entry["outcome"], entry["route"] or "", mid, about)
    console().print(table)
    counts = Counter(entry["outcome"] for entry in entries.values())
    words = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
    console().print(f"transformers {families['transformers']}: {len(entries)} families, {words}")


def print_proof(lines: Mapping[str, Sequence[str]]) -> None:
    """What was found in a model: a name and what stands behind it, in lines."""
    table = plain_table(header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, values in lines.items():
        table.add_row(name, "\n".join(values))
    console().print(table)


def plain_table(*, header: bool) -> "Table":
    from rich.table import Table

    return Table(box=None, pad_edge=False, header_style="bold", show_header=header)


def console() -> "Console":
    from logitlens_cli.commands.console import PlainConsole

    return PlainConsole(markup=False, highlight=False, soft_wrap=True)
