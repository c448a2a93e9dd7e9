"""What is printed for people to read: tables on standard output."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from logitlens_cli.errors import discard_stream

if TYPE_CHECKING:
    from logitlens_cli.model.inventory import AvailableModel


def print_models(models: Sequence["AvailableModel"]) -> None:
    """A line a model; a model that is not fetched yet has no path."""
    table = Table(box=None, pad_edge=False, header_style="bold")
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


def print_families(table: Mapping[str, Any]) -> None:
    """What becomes of every family of the causal mapping, and how many of each."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("family", "outcome", "route", "mid rows", "model or reason"):
        shown.add_column(heading, overflow="fold")
    entries = table["families"]
    for key, entry in entries.items():
        mid = {True: "yes", False: "no", None: ""}[entry["mid"]]
        about = entry["reason"] or entry["model"]
        shown.add_row(key, entry["outcome"], entry["route"] or "", mid, about)
    console().print(shown)
    counts = Counter(entry["outcome"] for entry in entries.values())
    words = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
    console().print(f"transformers {table['transformers']}: {len(entries)} families, {words}")


def print_examination(lines: Mapping[str, Sequence[str]]) -> None:
    """What was found in a model: a name and what stands behind it, in lines."""
    shown = Table(box=None, pad_edge=False, show_header=False)
    shown.add_column(style="bold")
    shown.add_column(overflow="fold")
    for name, values in lines.items():
        shown.add_row(name, "\n".join(values))
    console().print(shown)


class Plain(Console):
    """What rich would make of a reader that went away is an exit code of its own."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        discard_stream(sys.stdout)


def console() -> Console:
    return Plain(markup=False, highlight=False, soft_wrap=True)
