"""``logitlens stats``: many prompts -> one summary; summaries of parts -> that of the whole."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from logitlens_cli.errors import UsageError
from logitlens_cli.figures.style import FigureStyle
from logitlens_cli.metrics.sets import summarized_metrics
from logitlens_cli.metrics.spec import MetricSpec
from logitlens_cli.options.groups import CmapOption
from logitlens_cli.options.option import MANY, option
from logitlens_cli.options.reading import ReadOptions

if TYPE_CHECKING:
    from logitlens_cli.batch.prompts import Prompt
    from logitlens_cli.commands.outputs import Outputs
    from logitlens_cli.model.progress import Progress
    from logitlens_cli.reading.summary import Summary


@dataclass(frozen=True, kw_only=True)
class Stats(ReadOptions):
    """Means and quantiles over many prompts, for every layer."""

    command = "stats"
    example = "logitlens stats --lines prompts.txt"

    cmap: CmapOption = FigureStyle.cmap
    dumps: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE.json]...", help="Summaries to merge, with --merge."),
    ] = None
    merge: Annotated[
        bool, option("--merge", section=MANY, help="Merge summaries of parts, exactly.")
    ] = False

    @property
    def figures(self) -> tuple[str, ...]:
        return ("stats", "positions")

    @property
    def metrics(self) -> Mapping[str, MetricSpec]:
        return summarized_metrics()

    def require_one_prompt_source(self) -> None:
        if self.merge != bool(self.dumps):
            raise UsageError(
                "--merge and the summaries to merge go together",
                "write logitlens stats --merge FILE.json FILE.json",
            )
        if self.merge and self.lines is not None:
            raise UsageError("--merge reads no prompt", "leave --lines out")
        if not self.merge and self.lines is None:
            raise UsageError("there is no prompt", "give --lines, a file with one prompt per line")

    def run(self) -> Iterator[Path]:
        return summarize(self)


def summarize(options: Stats) -> Iterator[Path]:
    """Read every prompt and keep only what a summary needs, or put summaries together."""
    from logitlens_cli.batch.processors import share_processors
    from logitlens_cli.commands.outputs import is_skipped, outputs
    from logitlens_cli.commands.progress import TerminalProgress
    from logitlens_cli.reading import summary as summaries
    from logitlens_cli.reading.atomic import require_writable

    share_processors(options.part[1])
    progress = TerminalProgress(quiet=options.quiet, long=options.lines is not None)
    parts = [(path, summaries.load_summary(path)) for path in options.dumps or ()]
    name = summary_name(options)
    files = outputs(options, name, options.command, options.figures, None, options.json)
    for path, _ in parts:
        if files.json is not None and path.absolute() == files.json.absolute():
            raise UsageError(f"--merge would overwrite {path}", "give another --name or --out")
    if options.dry_run:
        yield from summary_paths(files)
        return
    if options.skip_existing and not options.merge and is_skipped(files, progress):
        return
    require_writable(options.out)
    if options.merge:
        yield from write_summary(options, merged(parts, name, progress), files, progress)
    else:
        yield from summarize_lines(options, name, files, progress)


def summarize_lines(
    options: Stats, name: str, files: "Outputs", progress: "Progress"
) -> Iterator[Path]:
    """The summary of the prompts of a file, or of a shard of them."""
    import msgspec

    from logitlens_cli.batch import prompts
    from logitlens_cli.batch.failures import Failures
    from logitlens_cli.batch.summing import Summing
    from logitlens_cli.commands.checks import check_extras
    from logitlens_cli.commands.notes import TextNotes
    from logitlens_cli.commands.read_lines import outcomes_of_lines, shard_of
    from logitlens_cli.commands.translate import recipe_of
    from logitlens_cli.reading.sets import torn_files
    from logitlens_cli.reading.summary import key_of_summary

    assert options.lines is not None
    listed = prompts.from_lines(options.lines, "{n}", named=False, progress=progress)
    todo = shard_of(options, listed)
    if not todo:
        progress.note(f"part {options.shard} of the lines is empty; there is nothing to summarize")
        return
    key = summary_key(todo, recipe_of(options))
    paths = summary_paths(files)
    is_whole = all(path.exists() for path in paths) and not torn_files(paths)
    if files.json and is_whole and key_of_summary(files.json) == key:
        progress.note(f"{files.json} is up to date; skipped")
        return
    check_extras(options)
    check_kl_limits(options)
    failures = Failures(options.out, options.lines, options.command, listed, progress)
    state = options.out / f"{name}.{options.command}.part"
    summing = Summing(state, key, name, options.metrics, failures, progress)
    notes = TextNotes()
    summary = summing.add_all(
        todo, lambda left: notes.noted(outcomes_of_lines(options, left, progress))
    )
    notes.print(progress)
    summary = msgspec.structs.replace(
        summary,
        shards=[(summary_key(listed, {}), *options.part)],
        failed=len(failures.failed),
        key="" if failures.failed else key,
    )
    yield from write_summary(options, summary, files, progress)
    failures.require_none(len(todo))  # then the state is kept: what failed may be mended
    state.unlink(missing_ok=True)


def merged(parts: Sequence[tuple[Path, "Summary"]], name: str, progress: "Progress") -> "Summary":
    """The summary of summaries of parts; what is missing in it is noted."""
    from logitlens_cli.reading import summary as summaries

    summary = summaries.merge_summaries(parts, name)
    absent = summaries.missing_shards(summary)
    if absent:
        progress.note(f"{', '.join(absent)} of the lines are not in this summary")
    if summary.failed:
        progress.note(f"{summary.failed} prompts could not be read and are not in this summary")
    return summary


def summary_paths(files: "Outputs") -> list[Path]:
    """The files of a summary; its table lies beside its JSON."""
    return [*files.paths(), *([table_path(files.json)] if files.json else [])]


def table_path(json: Path) -> Path:
    return json.with_suffix(".csv")


def write_summary(
    options: Stats, summary: "Summary", files: "Outputs", progress: "Progress"
) -> Iterator[Path]:
    """The figures, the summary and its table, all or nothing."""
    from logitlens_cli.commands.translate import figure_style
    from logitlens_cli.commands.write import stage_caption, stage_drawings
    from logitlens_cli.reading import summary as summaries
    from logitlens_cli.reading.atomic import staged

    with progress.step("drawing"), staged(progress.note) as stage:
        if files.figures:
            from logitlens_cli.figures.summary_figure import draw_summary

            style = figure_style(options)
            for figure, pieces in files.figures.items():
                drawing = draw_summary(summary, figure, style)
                stage_drawings(stage, [drawing], pieces, style.dpi)
                for caption in files.texts.get(figure, ()):
                    stage_caption(stage, drawing.alt, caption["txt"])
        if files.json is not None:
            stage.write(files.json, lambda file: file.write(summaries.summary_to_json(summary)))
            stage.write(
                table_path(files.json), lambda file: file.write(summaries.summary_to_csv(summary))
            )
    yield from summary_paths(files)


def summary_name(options: Stats) -> str:
    """The stem of a summary's files: of the lines, with the part; of parts, without it."""
    from logitlens_cli.batch import prompts
    from logitlens_cli.commands.outputs import dump_stem

    if options.merge and options.name is not None:
        return prompts.safe_name(options.name)
    if options.merge:
        stems = {
            re.sub(r"\.\d+-of-\d+$", "", dump_stem(path, "stats")) for path in options.dumps or ()
        }
        return prompts.safe_name(stems.pop() if len(stems) == 1 else "merged")
    assert options.lines is not None
    number, parts = options.part
    stem = prompts.stem_of(options.lines) if options.name is None else options.name
    return prompts.safe_name(stem if parts == 1 else f"{stem}.{number + 1}-of-{parts}")


def summary_key(todo: "Sequence[Prompt]", recipe: Mapping[str, Any]) -> str:
    """Changes where the summary of these prompts would."""
    import msgspec

    from logitlens_cli.batch.ledger import prompt_key
    from logitlens_cli.batch.prompts import Prompt

    listed = msgspec.json.encode([(prompt.name, prompt.text) for prompt in todo]).decode()
    return prompt_key(Prompt("", listed), recipe)


def check_kl_limits(options: Stats) -> None:
    """Refuse limits of colours that cannot be, before any work."""
    if options.vmin is not None or options.vmax is not None:
        from logitlens_cli.commands.translate import figure_style
        from logitlens_cli.figures.summary_figure import kl_limits

        kl_limits(figure_style(options))
