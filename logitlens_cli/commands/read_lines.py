"""--lines: many texts -> their files.

Prompts of like length share a pass, figures are drawn meanwhile, a prompt that fails is reported
and does not stop the rest, and what is done already is not done again.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from logitlens_cli.batch import prompts
from logitlens_cli.batch.failures import FAILURES, Failures
from logitlens_cli.batch.ledger import Ledger, prompt_key
from logitlens_cli.batch.meetings import require_side_by_side
from logitlens_cli.batch.processors import share_processors
from logitlens_cli.batch.prompts import Prompt
from logitlens_cli.batch.workers import Finished, Workers
from logitlens_cli.commands.notes import InputRowNote, TextNotes, note_missing_fonts
from logitlens_cli.commands.outputs import Outputs, Plan, piece_count, prompt_files
from logitlens_cli.commands.progress import TerminalProgress
from logitlens_cli.commands.translate import figure_style, read_job, recipe_of
from logitlens_cli.commands.write import write_reading
from logitlens_cli.errors import LogitLensError, UsageError
from logitlens_cli.model.progress import Count, Progress
from logitlens_cli.options.reading import Engine, ReadOptions, TextReadOptions
from logitlens_cli.reading.atomic import require_writable, sweep

if TYPE_CHECKING:
    from logitlens_cli.batch.session import Outcome


LAST_WAIT = 1.0
"""seconds after an interrupt for another process that writes to the folder"""


def read_lines(options: TextReadOptions, path: Path, progress: Progress) -> Iterator[Path]:
    """Yields the paths of each prompt once its files are there. Raises BatchError at the end if
    some prompts failed."""
    listed = prompts.from_lines(path, options.name, progress=progress)
    require_names(options, path, listed)
    shard = shard_of(options, listed)
    if options.dry_run:
        plan = Plan()
        yield from plan.counted(planned_paths(options, shard, progress))
        length = sum(len(prompt.text) for prompt in shard) / len(shard) if shard else 0
        progress.note(f"{len(shard)} prompts, {plan.words(length)}; nothing is written")
        return
    lines = PromptLines(options, path, listed, shard, progress)
    todo = lines.unfinished(shard)
    if len(todo) < len(shard):
        progress.note(f"{len(shard) - len(todo)} of {len(shard)} prompts are done already")
    yield from lines.finished_paths(shard, todo)
    if not todo:
        lines.failures.save()
        return
    require_writable(options.out)
    yield from lines.read(todo)
    lines.note()
    lines.failures.require_none(len(todo))


def batch_stem(options: TextReadOptions, path: Path) -> str:
    """Of the names of a batch's own files."""
    return f"{prompts.stem_of(path)}.{options.command}"


def require_names(options: TextReadOptions, path: Path, listed: Sequence[Prompt]) -> None:
    """UsageError for names of prompts whose files get into each other's way, or the batch's."""
    stem = batch_stem(options, path)
    files = prompt_files(options, Prompt("x", ""), None).paths()
    endings = {path.name.removeprefix("x.") for path in files}
    require_side_by_side(
        listed, endings, {FAILURES, f"{stem}.done.jsonl", f"{stem}.parquet"}, options.out
    )


class PromptLines:
    """The prompts of a file, and what became of them."""

    def __init__(
        self,
        options: TextReadOptions,
        path: Path,
        listed: Sequence[Prompt],
        shard: Sequence[Prompt],
        progress: Progress,
    ) -> None:
        self.options, self.progress = options, progress
        self.failures = Failures(options.out, path, options.command, listed, progress)
        self.ledger = Ledger(options.out, batch_stem(options, path), progress.note)
        recipe = recipe_of(options)
        self.keys = {prompt.name: prompt_key(prompt, recipe) for prompt in shard}
        self.notes = InputRowNote(options.metrics), TextNotes()
        self.missing: frozenset[str] = frozenset()
        """characters that no font has"""

    def unfinished(self, shard: Sequence[Prompt]) -> list[Prompt]:
        """The prompts that are not done already."""
        todo = []
        for prompt in shard:
            if self.is_done(prompt):
                self.failures.settle(prompt)
            else:
                todo.append(prompt)
        return todo

    def finished_paths(self, shard: Sequence[Prompt], todo: Sequence[Prompt]) -> Iterator[Path]:
        """The files of the prompts that are done already, in the order of the prompts."""
        left = {prompt.name for prompt in todo}
        for prompt in shard:
            if prompt.name not in left:
                files = prompt_files(self.options, prompt, None).paths()
                yield from self.ledger.paths(prompt.name) or files

    def is_done(self, prompt: Prompt) -> bool:
        if self.options.skip_existing and not self.options.figure_columns:
            return prompt_files(self.options, prompt, None).exist()
        split = self.options.figure_columns
        files = None if split else list(prompt_files(self.options, prompt, None).paths())
        return self.ledger.has(prompt.name, self.keys[prompt.name], files)

    def read(self, todo: Sequence[Prompt]) -> Iterator[Path]:
        """Read them, and have their figures drawn meanwhile."""
        options = self.options
        jobs = share_processors(options.part[1]) if options.jobs is None else options.jobs
        outcomes = outcomes_of_lines(options, todo, self.progress)
        workers = Workers(min(jobs, len(todo)) if options.formats else 0)
        by_name = {prompt.name: prompt for prompt in todo}
        style, tell = figure_style(options), TerminalProgress(quiet=options.quiet).note
        try:
            with workers, self.progress.count(len(todo)) as count:
                for name, outcome in outcomes:
                    prompt = by_name[name]
                    if isinstance(outcome, LogitLensError):
                        self.failures.add(prompt, outcome)
                        count.add(prompts=1)
                        continue
                    count.add(tokens=len(outcome.text_ids))
                    for note in self.notes:
                        note.add(outcome)
                    pieces = piece_count(outcome.tokens, options.figure_columns)
                    files = prompt_files(options, prompt, pieces)
                    workers.submit((prompt, files), write_reading, outcome, files, style, tell)
                    yield from self.settle(workers.completed(), count)
                yield from self.settle(workers.completed(pending=0), count)
        except KeyboardInterrupt:  # nobody waits for others any more
            self.ledger.wait = self.failures.wait = LAST_WAIT
            for finished in workers.drain():
                yield from self.record(*finished.subject)
            raise
        finally:
            for finished in workers.drain():
                self.record(*finished.subject)
            self.failures.save()
            unasked = [path for _, files in workers.subjects() for path in files.paths()]
            for folder in {path.parent for path in unasked}:  # in which a process was killed
                sweep(folder)

    def settle(self, finished: Iterator[Finished], count: Count) -> Iterator[Path]:
        """Record what was written, and what failed."""
        for outcome in finished:
            prompt, files = outcome.subject
            if outcome.error is not None:
                self.failures.add(prompt, outcome.error)
            else:
                self.missing |= outcome.result
                yield from self.record(prompt, files)
            count.add(prompts=1)

    def record(self, prompt: Prompt, files: Outputs) -> list[Path]:
        written = list(files.paths())
        self.ledger.add(prompt.name, self.keys[prompt.name], written)
        self.failures.settle(prompt)
        return written

    def note(self) -> None:
        """Say what a user ought to know of all of them."""
        for note in self.notes:
            note.print(self.progress)
        note_missing_fonts(self.missing, self.progress)


def outcomes_of_lines(
    options: ReadOptions, todo: Sequence[Prompt], progress: Progress
) -> "Iterator[Outcome]":
    """The reading of every prompt, or why there is none, by the prompt's name; opens the model."""
    job = read_job(options)
    if options.engine is Engine.local:
        from logitlens_cli.batch.session import Session

        return Session(job, progress).readings(todo)
    try:
        from logitlens_cli.batch import cluster
    except ModuleNotFoundError as error:
        raise UsageError("--engine ray needs Ray", 'pip install "logitlens-cli[ray]"') from error
    return cluster.cluster_readings(job, todo, progress, options.address, options.workers)


def shard_of(options: ReadOptions, listed: list[Prompt]) -> list[Prompt]:
    """The prompts of --shard, or all."""
    number, parts = options.part
    return listed[number::parts]


def planned_paths(
    options: TextReadOptions, todo: Sequence[Prompt], progress: Progress
) -> Iterator[Path]:
    """The files that a batch will write; of a split, the texts must be tokenized."""
    if not options.figure_columns:
        for prompt in todo:
            yield from prompt_files(options, prompt, None).paths()
        return
    from logitlens_cli.batch.tokenizing import PromptTokenizer

    tokenizer = PromptTokenizer(read_job(options), progress)
    path = options.lines or Path("-")
    failures = Failures(options.out, path, options.command, todo, progress)
    for prompt in todo:
        try:
            columns = tokenizer.tokenize(prompt).columns
        except LogitLensError as error:
            failures.add(prompt, error)
        else:
            yield from prompt_files(
                options, prompt, piece_count(columns, options.figure_columns)
            ).paths()
    failures.require_none(len(todo))
