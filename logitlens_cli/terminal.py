"""What is printed for people to read: tables on standard output."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from logitlens_cli.model import AtHand


def print_models(models: Sequence["AtHand"]) -> None:
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
    Console(markup=False, highlight=False, soft_wrap=True).print(table)
