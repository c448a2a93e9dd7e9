"""``logitlens diff``: two dumps cell by cell, without the model."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from logitlens_cli.errors import UsageError, nearest
from logitlens_cli.metrics.table import METRICS
from logitlens_cli.options.groups import CellOptions, CommandOptions, JsonOption
from logitlens_cli.options.metric import DumpedColorOption
from logitlens_cli.options.option import METRIC, option

if TYPE_CHECKING:
    from logitlens_cli.commands.write import Comparison
    from logitlens_cli.figures.pair import Pair


@dataclass(frozen=True, kw_only=True)
class Diff(CellOptions, CommandOptions):
    """Compare two dumps cell by cell: B minus A, or A over B on one scale."""

    example = "logitlens diff outputs/a.all.json outputs/b.all.json kl-final --over"

    a: Annotated[Path, typer.Argument(metavar="A.json", help="A dump that logitlens wrote.")]
    b: Annotated[
        Path, typer.Argument(metavar="B.json", help="Another dump, with the same columns.")
    ]
    metric: Annotated[
        str | None,
        typer.Argument(
            metavar="[METRIC]", help=f"topk, {', '.join(METRICS)}.", show_default="all of both"
        ),
    ] = None
    over: Annotated[
        bool, option("--over", section=METRIC, help="Draw A over B on one scale, not B minus A.")
    ] = False
    color: DumpedColorOption = None
    json: JsonOption = True

    @property
    def writes(self) -> bool:
        return super().writes or (self.json and not self.over)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.writes and not self.show:
            raise UsageError("--format none leaves nothing to write", "name a format, or --show")

    def run(self) -> Iterator[Path]:
        return diff(self)


def diff(options: Diff) -> Iterator[Path]:
    """Draw and write the difference of two dumps, or draw both on one scale. All that can be
    refused is refused before anything is written, on a dry run too."""
    from logitlens_cli.batch import prompts
    from logitlens_cli.commands.checks import check_extras
    from logitlens_cli.commands.notes import note_missing_fonts, note_torn
    from logitlens_cli.commands.outputs import is_skipped
    from logitlens_cli.commands.progress import TerminalProgress
    from logitlens_cli.commands.show import show_panels
    from logitlens_cli.commands.translate import figure_style
    from logitlens_cli.commands.write import write_comparisons

    progress = TerminalProgress(quiet=options.quiet)
    if not options.dry_run:
        note_torn((options.a, options.b), progress)
    pair = pair_of(options)
    check_extras(options)
    name = prompts.safe_name(options.name or f"{pair.a_name}-vs-{pair.b_name}".replace("/", "-"))
    comparisons = [
        comparison(options, pair, figure, name) for figure in compared_figures(options, pair)
    ]
    if options.dry_run:
        for one in comparisons:
            yield from one.files.paths()
        return
    todo = [
        one
        for one in comparisons
        if not (options.skip_existing and is_skipped(one.files, progress))
    ]
    with progress.step(f"drawing {name}"):
        note_missing_fonts(write_comparisons(todo, figure_style(options), progress.note), progress)
    if options.show:
        show_panels(
            [panel for one in comparisons for panel in one.panels], to_stderr=options.writes
        )
    for one in todo:
        yield from one.files.paths()


def pair_of(options: Diff) -> "Pair":
    """Both dumps, named by their files; where those are named alike, by their folders too."""
    from logitlens_cli.commands.outputs import dump_stem
    from logitlens_cli.figures.pair import Pair
    from logitlens_cli.reading.dump import load_dump

    a, b = load_dump(options.a), load_dump(options.b)
    names = dump_stem(options.a, a.command), dump_stem(options.b, b.command)
    if names[0] == names[1]:
        names = (
            f"{options.a.absolute().parent.name}/{names[0]}",
            f"{options.b.absolute().parent.name}/{names[1]}",
        )
    return Pair(a, b, *names)


def compared_figures(options: Diff, pair: "Pair") -> tuple[str, ...]:
    """The figures asked for, which both dumps must hold."""
    figures = (options.metric,) if options.metric else tuple(pair.figures())
    both = f"{options.a} and {options.b}"
    if not figures:
        raise UsageError(f"{both} share no grid", "read both with logitlens all")
    if not pair.held().issuperset(figures):
        shared = list(pair.figures())
        raise UsageError(
            f"{options.metric!r} is not a grid of both {both}",
            f"{nearest(str(options.metric), shared)}they share {', '.join(shared) or 'none'}",
        )
    return figures


def comparison(options: Diff, pair: "Pair", figure: str, name: str) -> "Comparison":
    """One figure of both: its panels, its numbers, and where they go."""
    from logitlens_cli.commands.outputs import outputs
    from logitlens_cli.commands.translate import figure_style
    from logitlens_cli.commands.write import Comparison
    from logitlens_cli.figures.pair import difference_of
    from logitlens_cli.figures.pair_panels import difference_panels, over_panels

    style, numbers = figure_style(options), None
    if options.over:
        panels = over_panels(pair, figure, style)
    else:
        numbers = difference_of(pair, figure, style)
        panels = difference_panels(pair, figure, numbers, style)
    command = f"{'over' if options.over else 'diff'}-{figure}"
    json = options.json and numbers is not None
    pieces = len(panels) if options.split else None
    return Comparison(outputs(options, name, command, (command,), pieces, json), panels, numbers)
