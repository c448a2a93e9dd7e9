"""One text through several lenses -> a set of files for each, on one scale."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from logitlens_cli.batch.prompts import Prompt, safe_name
from logitlens_cli.commands.notes import TextNotes, note_missing_fonts
from logitlens_cli.commands.outputs import Outputs, is_skipped, piece_count, prompt_files
from logitlens_cli.commands.translate import figure_style, read_job
from logitlens_cli.commands.write import write_reading
from logitlens_cli.errors import UsageError
from logitlens_cli.lens.spec import PLAIN
from logitlens_cli.model.progress import Progress
from logitlens_cli.options.reading import TextReadOptions
from logitlens_cli.reading.atomic import require_no_folders, require_writable

if TYPE_CHECKING:
    from logitlens_cli.batch.tokenizing import PromptTokenizer
    from logitlens_cli.lens.prompt import TokenizedPrompt
    from logitlens_cli.reading.record import Reading


def read_with_lenses(
    options: TextReadOptions, prompt: Prompt, progress: Progress
) -> Iterator[Path]:
    """The files of each lens, NAME.LENS. in the place of NAME., in the order given. The model is
    opened once."""
    named = names_of_lenses(options, prompt)
    if options.dry_run and not options.figure_columns:
        for one in named.values():
            yield from prompt_files(options, one, None).paths()
        return
    if options.writes and not options.dry_run:
        require_writable(options.out)
        for one in named.values():
            require_no_folders(prompt_files(options, one, None).paths())
    from logitlens_cli.batch.tokenizing import PromptTokenizer

    tokenizer = PromptTokenizer(read_job(options), progress)
    tokenized = tokenizer.tokenize(prompt)
    pieces = piece_count(tokenized.columns, options.figure_columns)
    files = [prompt_files(options, one, pieces) for one in named.values()]
    if options.dry_run:
        for of_lens in files:
            yield from of_lens.paths()
    elif not (options.skip_existing and all_skipped(files, progress)):
        prompts = {lens: replace(tokenized, name=one.name) for lens, one in named.items()}
        readings = readings_of_lenses(options, prompts, tokenizer, progress)
        yield from write_on_one_scale(options, readings, files, progress)


def readings_of_lenses(
    options: TextReadOptions,
    prompts: Mapping[str, TokenizedPrompt],
    tokenizer: PromptTokenizer,
    progress: Progress,
) -> list[Reading]:
    """The readings of one text, which has a name for each lens."""
    from logitlens_cli.batch.session import Session

    job = read_job(options)
    readings: list[Reading] = []
    session: Session | None = None
    for lens, prompt in prompts.items():
        plain = None if session is None else session.plain
        revision = None if lens == PLAIN else job.spec.lens_revision
        spec = replace(job.spec, lens=lens, lens_revision=revision)
        session = Session(replace(job, spec=spec), progress, tokenizer, plain)
        session.require_fits(prompt)
        with progress.step(f"reading {prompt.name}"):
            readings.append(session.read(prompt))
    notes = TextNotes()
    notes.add(readings[0])
    notes.print(progress)
    return readings


def write_on_one_scale(
    options: TextReadOptions,
    readings: Sequence[Reading],
    files: Sequence[Outputs],
    progress: Progress,
) -> Iterator[Path]:
    """Draw and write readings, whose figures share their colours."""
    from logitlens_cli.figures.shared_scale import shared_colors

    style = figure_style(options)
    named = ((reading.name, reading, options.figures) for reading in readings)
    style = replace(style, shared_colors=shared_colors(named, style))
    for reading, of_lens in zip(readings, files, strict=True):
        with progress.step(f"drawing {reading.name}"):
            note_missing_fonts(write_reading(reading, of_lens, style, progress.note), progress)
        if options.shown:
            from logitlens_cli.commands.show import show_reading

            show_reading(reading, options.figures, style, to_stderr=options.writes)
        yield from of_lens.paths()


def names_of_lenses(options: TextReadOptions, prompt: Prompt) -> Mapping[str, Prompt]:
    """The prompt under the name of each lens; UsageError where two lenses have one name."""
    named: dict[str, Prompt] = {}
    for lens in options.lenses:
        stem = safe_name(Path(lens).name.removesuffix(".safetensors").removesuffix(".pt"))
        one = replace(prompt, name=f"{prompt.name}.{stem}")
        if one in named.values():
            raise UsageError(
                f"--lens {lens} and another lens are both called {stem}", "rename one of the files"
            )
        named[lens] = one
    return named


def all_skipped(files: Sequence[Outputs], progress: Progress) -> bool:
    """Are the files of every lens there? All of them are drawn on one scale."""
    return all(of_lens.exist() for of_lens in files) and all(
        [is_skipped(of_lens, progress) for of_lens in files]
    )
