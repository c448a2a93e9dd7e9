"""``logitlens render``: dumps -> figures, without the model."""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from logitlens_cli.errors import UsageError, nearest
from logitlens_cli.figures.style import FigureStyle
from logitlens_cli.metrics.table import METRICS, TRACE
from logitlens_cli.options.groups import (
    CommandOptions,
    FigureOptions,
    ReadingCellOptions,
    files_and_metric,
    flag_of,
)
from logitlens_cli.options.metric import DumpedColorOption, LogOption
from logitlens_cli.options.option import FIGURE, option

if TYPE_CHECKING:
    from logitlens_cli.commands.outputs import Outputs
    from logitlens_cli.reading.record import Reading


@dataclass(frozen=True, kw_only=True)
class Render(ReadingCellOptions, CommandOptions):
    """Draw the figures of dumps again, without the model."""

    example = "logitlens render outputs/mine.all.json topk --width double"

    given: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE.json... [METRIC]",
            help=f"Dumps that logitlens wrote; topk, {', '.join(METRICS)}, or all.",
        ),
    ]
    color: DumpedColorOption = None
    log: LogOption = FigureStyle.log
    share_scale: Annotated[
        bool,
        option("--share-scale", section=FIGURE, help="Use one colour scale for all dumps."),
    ] = False

    @property
    def metric(self) -> str | None:
        """The figure asked for; None is all of a dump."""
        _, metric = files_and_metric(self.given)
        return None if metric == "all" else metric

    @property
    def dumps(self) -> list[Path]:
        return files_and_metric(self.given)[0]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.writes and not self.show:
            raise UsageError("--format none leaves nothing to draw", "name a format, or --show")
        if self.name is not None and len(self.dumps) > 1:
            raise UsageError(
                f"--name {self.name!r} cannot name {len(self.dumps)} dumps", "leave it out"
            )

    def run(self) -> Iterator[Path]:
        return render(self)


def render(options: Render) -> Iterator[Path]:
    """Draw the figures of dumps again, one dump after the other."""
    from logitlens_cli.commands.checks import check_extras
    from logitlens_cli.commands.notes import note_missing_fonts, note_torn
    from logitlens_cli.commands.outputs import is_skipped
    from logitlens_cli.commands.progress import TerminalProgress
    from logitlens_cli.commands.show import show_reading
    from logitlens_cli.commands.translate import figure_style
    from logitlens_cli.commands.write import write_reading
    from logitlens_cli.reading.dump import load_dump

    progress = TerminalProgress(quiet=options.quiet)
    check_extras(options)
    if not options.dry_run:
        note_torn(options.dumps, progress)
    style = figure_style(options)
    if options.share_scale:
        from logitlens_cli.figures.shared_scale import shared_colors

        drawn = ((str(dump), load_dump(dump)) for dump in options.dumps)
        figures_of_dumps = (
            (name, reading, drawn_figures(options, Path(name), reading)) for name, reading in drawn
        )
        style = replace(style, shared_colors=shared_colors(figures_of_dumps, style))
    missing: frozenset[str] = frozenset()
    writers: dict[Path, Path] = {}
    for dump in options.dumps:
        reading = load_dump(dump)
        figures = drawn_figures(options, dump, reading)
        files = dump_files(options, dump, reading, figures, writers)
        if options.dry_run:
            yield from files.paths()
            continue
        if options.skip_existing and is_skipped(files, progress):
            continue
        with progress.step(f"drawing {dump}"):
            missing |= write_reading(reading, files, style, progress.note)
        if options.show:
            show_reading(reading, figures, style, to_stderr=options.writes)
        yield from files.paths()
    note_missing_fonts(missing, progress)


def drawn_figures(options: Render, dump: Path, reading: "Reading") -> tuple[str, ...]:
    """The figures asked for, which the dump must hold."""
    from logitlens_cli.figures.reading_panels import figures_of

    held = figures_of(reading)
    if not held:
        raise UsageError(f"{dump} holds no metric", "make it again with logitlens all")
    if TRACE in held:
        require_no_cell_option(options)
    if options.metric is None:
        return tuple(held)
    if options.metric not in {*held, *reading.metrics}:
        raise UsageError(
            f"{dump} holds no {options.metric!r}",
            f"{nearest(options.metric, held)}it holds {', '.join(held)}",
        )
    return (options.metric,)


def require_no_cell_option(options: Render) -> None:
    """UsageError for an option of cells, where the dump is a trace."""
    common = {field.name for field in fields(FigureOptions)}
    for field in fields(ReadingCellOptions):
        if field.name not in common and getattr(options, field.name) != field.default:
            raise UsageError(
                f"{flag_of(field.name)} has no meaning for a trace, which has no cells",
                "leave it out",
            )


def dump_files(
    options: Render,
    dump: Path,
    reading: "Reading",
    figures: tuple[str, ...],
    writers: dict[Path, Path],
) -> "Outputs":
    """The files of a dump; UsageError where another dump, kept in ``writers``, has the same."""
    from logitlens_cli.batch import prompts
    from logitlens_cli.commands.outputs import dump_stem, outputs, piece_count

    name = prompts.safe_name(options.name or dump_stem(dump, reading.command))
    pieces = piece_count(reading.tokens, options.split)
    files = outputs(options, name, reading.command, figures, pieces, json=False)
    for path in files.paths():
        if writers.setdefault(path, dump) != dump:
            raise UsageError(
                f"{writers[path]} and {dump} would both write {path}", "give each its own --out"
            )
    return files
