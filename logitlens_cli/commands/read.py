"""Request -> files. The only place that knows prompts, model, reading and figures together.

Heavy modules are loaded here and late, when it is certain that they are needed. Paths written go to
standard output, one a line; everything else to standard error. Tables for the terminal go to
standard output where no path does: then they are what was asked for.
"""

import sys
from collections.abc import Iterator, Sequence, Sized
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from logitlens_cli.batch import prompts
from logitlens_cli.batch.failures import Failures
from logitlens_cli.batch.ledger import Ledger, prompt_key
from logitlens_cli.batch.prompts import Prompt
from logitlens_cli.batch.workers import Finished, Workers, cpu_count
from logitlens_cli.commands.progress import Progress
from logitlens_cli.commands.write import Outputs, figure_style_of, outputs, recipe_of, write
from logitlens_cli.errors import LogitLensError, UsageError
from logitlens_cli.metrics.table import METRICS
from logitlens_cli.options.groups import Check, Engine, Figures, Read
from logitlens_cli.reading.atomic import require_writable

if TYPE_CHECKING:
    from logitlens_cli.batch.session import Outcome
    from logitlens_cli.figures.panel import Panel
    from logitlens_cli.figures.style import FigureStyle
    from logitlens_cli.reading.record import ModelRecord, Reading


# ---------------------------------------------------------------------------------------------
# Reading prompts


def read(request: Read) -> Iterator[Path]:
    """Run the model over every prompt and write its files; yields each path once it is there.

    Raises BatchError at the end if some prompts of several failed.
    """
    progress = Progress(quiet=request.quiet)
    check_extras(request)
    check_limits(request)
    if request.lines is not None:
        yield from read_lines(request, request.lines, progress)
        return
    prompt = prompt_of(request)
    if not request.split:
        files = outputs_of(request, prompt, 1)
        if request.dry_run:
            yield from files.paths()
            return
        if request.skip_existing and skipped(files, progress):
            return
    if not request.dry_run and request.writes:
        require_writable(request.out)
    from logitlens_cli.batch.session import Session

    session = Session(request, progress)
    tokenized = session.tokenize(prompt)
    if request.split:
        files = outputs_of(request, prompt, pieces(tokenized.columns, request.split))
        if request.dry_run:
            yield from files.paths()
            return
        if request.skip_existing and skipped(files, progress):
            return
    with progress.step(f"reading {prompt.name}"):
        reading = session.read(tokenized)
    row = InputRow(request)
    row.add(reading)
    row.note(progress)
    with progress.step(f"drawing {prompt.name}"):
        note_missing(write(reading, files, figure_style_of(request)), progress)
    if request.show:
        show_reading(request, reading, request.figures, figure_style_of(request))
    yield from files.paths()


def read_lines(request: Read, path: Path, progress: Progress) -> Iterator[Path]:
    """A batch: prompts of like length share a pass, figures are drawn meanwhile, a prompt that
    fails is told apart, and what is done already is not done again."""
    every = prompts.from_lines(path, request.name)
    todo = part_of(request, every)
    if request.dry_run:
        yield from planned(request, todo, progress)
        return
    failures = Failures(request.out, path, request.command, every, progress)
    recipe = recipe_of(request)
    keys = {prompt.name: prompt_key(prompt, recipe) for prompt in todo}
    ledger = Ledger(request.out, f"{prompts.stem_of(path)}.{request.command}")
    before = len(todo)

    def done(prompt: Prompt) -> bool:
        if request.skip_existing and not request.split:
            return outputs_of(request, prompt, 1).exist()
        return ledger.has(prompt.name, keys[prompt.name])

    for prompt in filter(done, todo):
        failures.settle(prompt)
    todo = [prompt for prompt in todo if prompt.line not in failures.settled]
    if len(todo) < before:
        progress.note(f"{before - len(todo)} of {before} prompts are done already")
    if not todo:
        failures.save()
        return
    require_writable(request.out)
    by_name = {prompt.name: prompt for prompt in todo}
    style = figure_style_of(request)
    jobs = cpu_count() if request.jobs is None else request.jobs
    if not request.formats:
        jobs = 0
    row = InputRow(request)
    missing: frozenset[str] = frozenset()

    def record(prompt: Prompt, files: Outputs) -> list[Path]:
        written = list(files.paths())
        ledger.add(prompt.name, keys[prompt.name], written)
        failures.settle(prompt)
        return written

    def finished(made: Iterator[Finished]) -> Iterator[Path]:
        nonlocal missing
        for outcome in made:
            prompt, files = outcome.about
            if outcome.error is not None:
                failures.add(prompt, outcome.error)
            else:
                missing |= outcome.result
                yield from record(prompt, files)
            shown.add(prompts=1)

    outcomes = readings(request, todo, progress)
    workers = Workers(min(jobs, len(todo)))
    try:
        with workers, progress.count(len(todo)) as shown:
            for name, outcome in outcomes:
                prompt = by_name[name]
                if isinstance(outcome, LogitLensError):
                    failures.add(prompt, outcome)
                    shown.add(prompts=1)
                    continue
                shown.add(tokens=len(outcome.text_ids))
                row.add(outcome)
                files = outputs_of(request, prompt, pieces(outcome.tokens, request.split))
                workers.hand((prompt, files), write, outcome, files, style)
                yield from finished(workers.made())
            yield from finished(workers.made(room=0))
    finally:
        for rest in workers.rest():
            record(*rest.about)
        failures.save()
    row.note(progress)
    note_missing(missing, progress)
    failures.require_none(len(todo))


def readings(request: Read, todo: Sequence[Prompt], progress: Progress) -> "Iterator[Outcome]":
    """The reading of every prompt, or why there is none, by the prompt's name; opens the model."""
    if request.engine is Engine.ray:
        try:
            from logitlens_cli.batch import cluster
        except ModuleNotFoundError as error:
            raise UsageError(
                "--engine ray needs Ray", 'pip install "logitlens-cli[ray]"'
            ) from error
        return cluster.readings(request, todo, progress)
    from logitlens_cli.batch.session import Session

    return Session(request, progress).readings(todo)


def part_of(request: Read, every: list[Prompt]) -> list[Prompt]:
    """The prompts of --shard, or all."""
    number, parts = request.part
    return every[number::parts]


def planned(request: Read, todo: Sequence[Prompt], progress: Progress) -> Iterator[Path]:
    """The files that a batch will write."""
    if not request.split:
        for prompt in todo:
            yield from outputs_of(request, prompt, 1).paths()
        return
    from logitlens_cli.batch.session import Session

    session = Session(request, progress)
    failures = Failures(request.out, request.lines or Path("-"), request.command, todo, progress)
    for prompt in todo:
        try:
            columns = session.tokenize(prompt).columns
        except LogitLensError as error:
            failures.add(prompt, error)
        else:
            yield from outputs_of(request, prompt, pieces(columns, request.split)).paths()
    failures.require_none(len(todo))


def check_extras(request: Figures) -> None:
    """Refuse an unknown colour map, or a table that cannot be written, before any work; what tells
    is loaded only then."""
    if request.parquet and find_spec("pyarrow") is None:
        raise UsageError("--format parquet needs pyarrow", 'pip install "logitlens-cli[parquet]"')
    if request.cmap is not None:
        from logitlens_cli.figures.colors import require_cmap

        require_cmap(request.cmap)


def check_limits(request: Read) -> None:
    """Refuse limits of colours that no data could mend, before any work."""
    if not request.formats or (request.vmin is None and request.vmax is None):
        return
    from logitlens_cli.figures.panel import TOPK
    from logitlens_cli.figures.scale import limits

    style = figure_style_of(request)
    for figure in request.figures:
        measure = request.measures.get(str(style.color) if figure == TOPK else figure)
        if measure is not None:
            limits(METRICS[measure.metric].scale(measure), None, style)


def prompt_of(request: Read) -> Prompt:
    if request.text is not None:
        return prompts.from_text(request.text, request.name)
    assert request.file is not None
    return prompts.from_file(request.file, request.name)


def outputs_of(request: Read, prompt: Prompt, pieces: int) -> Outputs:
    lines = None if request.lines is None else prompts.stem_of(request.lines)
    return outputs(
        request, prompt.name, request.command, request.figures, pieces, request.json, lines
    )


def skipped(files: Outputs, progress: Progress) -> bool:
    if not files.exist():
        return False
    progress.note(f"{next(files.paths())} and what belongs to it are there; skipped")
    return True


def pieces(columns: Sized, split: int | None) -> int:
    """Into how many figures a text is split."""
    return -(-len(columns) // split) if split else 1


def check(request: Check) -> dict[str, list[str]]:
    """What ``logitlens models check`` tells of a model, a name and its lines.

    Raises ProofError where the lens does not reproduce the model's own logits.
    """
    from logitlens_cli.batch.session import open_lens_model
    from logitlens_cli.lens.proof_report import proof_report

    return proof_report(open_lens_model(request, Progress(quiet=request.quiet), subblocks=True))


class InputRow:
    """In how many columns the input row decodes to the input token, where kl-input measures from
    that row."""

    def __init__(self, request: Read) -> None:
        measure = request.measures.get("kl-input")
        self.matters = measure is not None and not measure.one_hot
        self.same = self.count = 0
        self.model: ModelRecord | None = None

    def add(self, reading: "Reading") -> None:
        self.model = reading.model
        if not self.matters:
            return
        if reading.layers[0].kind == "input":
            top = reading.top()[0]
            self.same += sum(t.id == i for t, i in zip(reading.tokens, top, strict=True))
            self.count += len(reading.tokens)

    def note(self, progress: Progress) -> None:
        """Tell where kl-input does not measure from the input token, though one might think so."""
        if self.model is None or not self.matters:
            return
        name, tied = self.model.name, self.model.tied
        why = "" if tied else " (its embedding is a matrix of its own)"
        if self.same < self.count:
            progress.note(
                f"the input row of {name} decodes to the input token in {self.same} of "
                f"{self.count} columns{why}; --one-hot measures from the token itself"
            )
        elif not self.count and not tied:
            progress.note(
                f"the input row of {name} is not the input token{why}; --one-hot measures from that"
            )


def note_missing(missing: frozenset[str], progress: Progress) -> None:
    """Tell which scripts no font has, and what brings one; that control characters are escaped
    needs no word."""
    characters = sorted(filter(str.isprintable, missing))
    if characters:
        from logitlens_cli.figures.fonts import scripts_of

        scripts = scripts_of(characters)
        progress.note(
            f"no installed font has {len(characters)} of the characters "
            f"({''.join(characters[:8])}: {', '.join(scripts)}), so escapes stand for them; "
            f"install {', '.join(dict.fromkeys(scripts.values()))}"
        )


def show_reading(
    request: Figures, reading: "Reading", figures: Sequence[str], style: "FigureStyle"
) -> None:
    from logitlens_cli.figures.panel import panels

    show(request, [panel for name in figures for panel in panels(reading, name, style)])


def show(request: Figures, panels: "Sequence[Panel]") -> None:
    """Print figures as tables."""
    from logitlens_cli.commands.show import print_panel
    from logitlens_cli.figures.colors import cell_colors

    for panel in panels:
        print_panel(panel, cell_colors(panel), sys.stderr if request.writes else sys.stdout)
