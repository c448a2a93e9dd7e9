"""What ``logitlens fit`` does: texts -> sums -> maps, and what the maps do on held-out text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from logitlens_cli.batch import prompts
from logitlens_cli.batch.chunks import Chunk, chunk_of, divided, key_of_chunks, short_hash
from logitlens_cli.batch.fitting import FitJob, FitSession, Fitting, added_here
from logitlens_cli.batch.processors import share_processors
from logitlens_cli.commands.fit_result import (
    Facts,
    maps_header,
    print_report,
    report_key,
    report_of,
    solved,
)
from logitlens_cli.commands.progress import TerminalProgress
from logitlens_cli.commands.translate import model_source
from logitlens_cli.commands.write import stage_drawings
from logitlens_cli.errors import UsageError
from logitlens_cli.figures.style import FigureStyle
from logitlens_cli.lens.fitting.fit_sums import FitSums, read_sums, write_sums
from logitlens_cli.lens.maps.maps_file import write_maps
from logitlens_cli.lens.spec import ReadSpec
from logitlens_cli.model.lens_files import fitted_path
from logitlens_cli.model.progress import Progress
from logitlens_cli.options.fit_options import FitOptions
from logitlens_cli.options.reading import Engine
from logitlens_cli.reading.atomic import require_no_folders, require_writable, staged
from logitlens_cli.reading.fit_report import (
    FitReport,
    fit_report_to_json,
)

MOST_MEASURED = 8192
"""tokens of held-out chunks that are measured"""


class FitFiles:
    """The files of a fit, beside each other."""

    def __init__(self, options: FitOptions) -> None:
        out = options.out or fitted_path(options.model)
        number, parts = options.part
        self.lens = out
        self.folder, self.stem = out.parent, out.stem
        part = "" if parts == 1 else f".{number + 1}-of-{parts}"
        self.sums = self.beside(f"{part}.sums") if part else None
        """of a part"""
        self.state = self.beside(f"{part}.part")
        """sums that are not finished"""
        self.report = self.beside(".fit.json")
        self.figures = {form: self.beside(f".fit.{form}") for form in options.formats}

    def beside(self, suffix: str) -> Path:
        return self.folder / f"{self.stem}{suffix}"

    def paths(self) -> list[Path]:
        """In the order in which they are printed."""
        return [self.sums] if self.sums else [self.lens, self.report, *self.figures.values()]


@dataclass(frozen=True)
class Corpus:
    """Chunks to fit to, and what is said of them."""

    fitted: list[Chunk]
    """of this part"""
    facts: Facts


def fit(options: FitOptions) -> Iterator[Path]:
    """Fit a lens to texts, or to the sums of parts of them; or add up the sums of a part."""
    share_processors(options.part[1])
    progress = TerminalProgress(quiet=options.quiet, long=True)
    files = FitFiles(options)
    require_no_folders([*files.paths(), files.state])
    if options.dry_run:
        yield from files.paths()
        return
    require_writable(files.folder)
    if options.merge:
        sums, facts = merged_sums(options.sums or [], progress)
        session = FitSession(fit_job(options, facts.kind, facts.skip_first, facts.bos), progress)
        require_same_model(facts, session)
    else:
        job = fit_job(options, options.kind, options.skip_first, options.bos)
        session = FitSession(job, progress)
        corpus = corpus_of(options, session, progress)
        facts = corpus.facts
        if is_done(options, files, facts):
            progress.note(f"{files.paths()[0]} is up to date; skipped")
            return
        sums = sums_of(options, session, corpus, files, progress)
        sums.require_finite(session.labels)
        if files.sums is not None:
            yield from write_part(files, sums, facts, progress)
            return
    yield from finish(options, session, sums, facts, files, progress)
    files.state.unlink(missing_ok=True)


def fit_job(options: FitOptions, kind: str, skip_first: int, bos: str) -> FitJob:
    spec = ReadSpec(metrics={}, command="fit", bos=type(options.bos)(bos), chat=options.chat)
    return FitJob(
        source=model_source(options),
        spec=spec,
        batch_tokens=options.batch_tokens,
        kind=str(kind),
        skip_first=skip_first,
    )


def corpus_of(options: FitOptions, session: FitSession, progress: Progress) -> Corpus:
    """The chunks of --lines, or of a part of them, and those that are held out."""
    assert options.lines is not None
    chunker = session.chunker()
    listed = prompts.from_lines(options.lines, "{n}", named=False, progress=progress)
    with progress.step("cutting the texts into chunks"):
        chunks = chunker.chunks(listed, options.tokens)
        if options.holdout is None:
            fitted, held_out = divided(chunks)
        else:
            others = prompts.from_lines(options.holdout, "{n}", named=False, progress=progress)
            held_out = chunker.chunks(others)
            measured = {chunk.key for chunk in held_out}
            fitted = [chunk for chunk in chunks if chunk.key not in measured]
            if not fitted:
                raise UsageError(
                    "all chunks of --lines are held out by --holdout",
                    "give other text to one of them",
                )
    record = session.lens_model.record
    number, parts = options.part
    corpus_key = key_of_chunks([*fitted, *held_out])
    recipe = [corpus_key, len(fitted), options.kind, options.skip_first, options.bos, options.chat,
              record.revision, record.dtype]  # fmt: skip
    facts = Facts(
        key=short_hash(msgspec.json.encode(recipe)).hex(),
        shard=options.part,
        kind=options.kind,
        skip_first=options.skip_first,
        bos=options.bos,
        revision=record.revision,
        dtype=record.dtype,
        corpus=prompts.stem_of(options.lines),
        corpus_key=corpus_key,
        holdout=None if options.holdout is None else prompts.stem_of(options.holdout),
        held_out=measured_chunks(held_out),
    )
    return Corpus(fitted[number::parts], facts)


def measured_chunks(held_out: Sequence[Chunk]) -> list[list[int]]:
    """The tokens of the first chunks, as many as are measured."""
    chosen: list[list[int]] = []
    tokens = 0
    for chunk in held_out:
        tokens += len(chunk.ids)
        if chosen and tokens > MOST_MEASURED:
            break
        chosen.append(list(chunk.ids))
    return chosen


def sums_of(
    options: FitOptions, session: FitSession, corpus: Corpus, files: FitFiles, progress: Progress
) -> FitSums:
    """What the chunks add up to, here or on a cluster; goes on where it was stopped."""
    fitting = Fitting(files.state, f"{corpus.facts.key} {corpus.facts.shard}", progress)
    add = partial(added_here, session)
    if options.engine is Engine.ray:
        try:
            from logitlens_cli.batch import cluster
        except ModuleNotFoundError as error:
            raise UsageError(
                "--engine ray needs Ray", 'pip install "logitlens-cli[ray]"'
            ) from error
        add = partial(cluster.added_by_cluster, session.job, progress, options.address,
                      options.workers)  # fmt: skip
    return fitting.add_all(corpus.fitted, session.empty, add)


def write_part(files: FitFiles, sums: FitSums, facts: Facts, progress: Progress) -> Iterator[Path]:
    """The sums of a part, to be merged with the others."""
    assert files.sums is not None
    about = {"facts": msgspec.to_builtins(facts)}
    with staged(progress.note) as stage:
        stage.write(files.sums, lambda file: write_sums(file, sums, about))
    files.state.unlink(missing_ok=True)
    yield files.sums


def read_part(path: Path) -> tuple[FitSums, Facts]:
    """The sums of a part; UsageError for any other file."""
    sums, words = read_sums(path)
    try:
        return sums, msgspec.convert(words.get("facts"), Facts)
    except msgspec.ValidationError as error:
        raise UsageError(
            f"{path} does not say what its sums are of ({error})",
            "name a file that logitlens fit --shard wrote",
        ) from error


def merged_sums(paths: Sequence[Path], progress: Progress) -> tuple[FitSums, Facts]:
    """The sums of the whole; what is missing in it is noted."""
    sums, facts = read_part(paths[0])
    at = {facts.shard[0]: paths[0]}
    for path in paths[1:]:
        more, other = read_part(path)
        if (other.key, other.shard[1]) != (facts.key, facts.shard[1]):
            raise UsageError(
                f"{paths[0]} and {path} are not parts of one fit",
                "merge parts of the same texts, model and options",
            )
        number = other.shard[0]
        if number in at:
            raise UsageError(
                f"{at[number]} and {path} are both part {number + 1} of {facts.shard[1]}",
                "name each part once",
            )
        at[number] = path
        sums.add(more)
    absent = [f"{n + 1}/{facts.shard[1]}" for n in range(facts.shard[1]) if n not in at]
    if absent:
        progress.note(f"parts {', '.join(absent)} of the texts are not in this lens")
    return sums, facts


def require_same_model(facts: Facts, session: FitSession) -> None:
    """UsageError where the sums are of another model."""
    record = session.lens_model.record
    if (facts.revision, facts.dtype) != (record.revision, record.dtype):
        raise UsageError(
            f"the sums are of a model at {facts.revision} in {facts.dtype}, and {record.name} is "
            f"at {record.revision} in {record.dtype}",
            "name that model with --model",
        )


def is_done(options: FitOptions, files: FitFiles, facts: Facts) -> bool:
    """Are the files there, and of the same texts, model and options?"""
    if not all(path.is_file() for path in files.paths()):
        return False
    if files.sums is not None:
        try:
            return read_part(files.sums)[1] == facts
        except UsageError:
            return False
    try:
        report = msgspec.json.decode(files.report.read_bytes(), type=FitReport)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return False
    return report.key == report_key(options, facts)


def finish(
    options: FitOptions,
    session: FitSession,
    sums: FitSums,
    facts: Facts,
    files: FitFiles,
    progress: Progress,
) -> Iterator[Path]:
    """Solve, measure on the held-out chunks, write everything together."""
    with progress.step("solving"):
        maps = solved(options, sums, facts)
    chunks = [chunk_of(ids) for ids in facts.held_out]
    with progress.count(len(chunks), "held-out chunk") as count:
        both = session.held_out(maps, chunks, count.add)
    report = report_of(options, session, sums, facts, both)
    with progress.step("drawing"), staged(progress.note) as stage:
        header = maps_header(options, session, sums, facts)
        stage.write(files.lens, lambda file: write_maps(file, maps, header))
        stage.write(files.report, lambda file: file.write(fit_report_to_json(report)))
        if files.figures:
            from logitlens_cli.figures.fit_figure import draw_fit

            stage_drawings(stage, [draw_fit(report)], [files.figures], FigureStyle.dpi)
    if not options.quiet:
        print_report(report)
    yield from files.paths()
