"""``logitlens overlay``: several summaries in one figure, without the model."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from logitlens_cli.errors import UsageError
from logitlens_cli.metrics.sets import summarized_metrics
from logitlens_cli.options.groups import CommandOptions, FigureOptions, files_and_metric
from logitlens_cli.options.option import FIGURE, option

if TYPE_CHECKING:
    from logitlens_cli.reading.summary import Summary


@dataclass(frozen=True, kw_only=True)
class Overlay(FigureOptions, CommandOptions):
    """Draw the summaries of several models, lenses or conditions in one figure."""

    example = "logitlens overlay outputs/plain.stats.json outputs/fitted.stats.json kl-final"

    given: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE.stats.json... [METRIC]",
            help=f"Summaries of logitlens stats; {', '.join(summarized_metrics())}, agrees.",
        ),
    ]
    label: Annotated[
        list[str] | None,
        option(
            "--label",
            section=FIGURE,
            help="What a line is called; one for each file.",
            show_default="what tells them apart",
        ),
    ] = None
    relative: Annotated[
        bool,
        option(
            "--relative", section=FIGURE, help="Layers as shares of the depth, for unlike models."
        ),
    ] = False

    @property
    def metric(self) -> str | None:
        """The quantity asked for; None is all that the summaries share."""
        return files_and_metric(self.given)[1]

    @property
    def summaries(self) -> list[Path]:
        return files_and_metric(self.given)[0]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.formats:
            raise UsageError("--format none leaves nothing to draw", "name a format")

    def run(self) -> Iterator[Path]:
        return overlay(self)


def overlay(options: Overlay) -> Iterator[Path]:
    """Draw the figure. All that can be refused is refused before anything is written, on a dry run
    too."""
    from logitlens_cli.batch import prompts
    from logitlens_cli.commands.checks import check_extras
    from logitlens_cli.commands.notes import note_missing_fonts
    from logitlens_cli.commands.outputs import is_skipped, outputs
    from logitlens_cli.commands.progress import TerminalProgress
    from logitlens_cli.commands.translate import figure_style
    from logitlens_cli.commands.write import stage_caption, stage_drawings
    from logitlens_cli.figures.overlay_figure import draw_overlay
    from logitlens_cli.reading.atomic import staged

    progress = TerminalProgress(quiet=options.quiet)
    check_extras(options)
    named = named_summaries(options.summaries)
    joined = "-vs-".join(name for name, _ in named).replace("/", "-")
    name = prompts.safe_name(options.name or joined)
    figure = f"overlay-{options.metric}" if options.metric else "overlay"
    files = outputs(options, name, "overlay", (figure,), None, json=False)
    style = figure_style(options)
    with progress.step(f"drawing {name}"):
        drawing = draw_overlay(named, options.metric, options.label or [], options.relative, style)
    if options.dry_run:
        yield from files.paths()
        return
    if options.skip_existing and is_skipped(files, progress):
        return
    with staged(progress.note) as stage:
        missing = stage_drawings(stage, [drawing], files.figures[figure], style.dpi)
        for caption in files.texts.get(figure, ()):
            stage_caption(stage, drawing.alt, caption["txt"])
    note_missing_fonts(missing, progress)
    yield from files.paths()


def named_summaries(paths: list[Path]) -> "list[tuple[str, Summary]]":
    """The summaries, named by their files; where those are named alike, by their folders too."""
    from logitlens_cli.commands.outputs import dump_stem
    from logitlens_cli.reading.summary import load_summary

    names = [dump_stem(path, "stats") for path in paths]
    if len(set(names)) < len(names):
        names = [
            f"{path.absolute().parent.name}/{name}" for path, name in zip(paths, names, strict=True)
        ]
    return [(name, load_summary(path)) for name, path in zip(names, paths, strict=True)]
