"""One text -> its files: the story of every command that runs a model.

torch and numpy are loaded where they are certain to be needed: a dry run does without.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from logitlens_cli.batch import prompts
from logitlens_cli.batch.processors import share_processors
from logitlens_cli.batch.prompts import Prompt
from logitlens_cli.commands.checks import check_extras, check_limits
from logitlens_cli.commands.notes import InputRowNote, TextNotes, note_missing_fonts
from logitlens_cli.commands.outputs import Outputs, is_skipped, piece_count, prompt_files
from logitlens_cli.commands.progress import TerminalProgress
from logitlens_cli.commands.read_lines import read_lines
from logitlens_cli.commands.translate import figure_style, read_job
from logitlens_cli.commands.write import write_reading
from logitlens_cli.model.progress import Progress
from logitlens_cli.options.reading import TextOptions, TextReadOptions
from logitlens_cli.reading.atomic import require_no_folders, require_writable


def read_and_write(options: TextReadOptions) -> Iterator[Path]:
    """Run the model over every prompt and write its files; yields each path once it is there.

    Raises BatchError at the end if some prompts of several failed.
    """
    progress = TerminalProgress(quiet=options.quiet, long=options.lines is not None)
    check_extras(options)
    check_limits(options)
    share_processors(options.part[1])
    if options.lines is not None:
        yield from read_lines(options, options.lines, progress)
    else:
        prompt = prompt_of(options, options.name, progress)
        if options.file is not None and prompts.is_json_line(prompt.text.partition("\n")[0]):
            progress.note(
                f"--file {options.file} looks like JSON lines, and is read as one text; "
                f"--lines {options.file} reads a prompt of each"
            )
        if len(options.lenses) > 1:
            from logitlens_cli.commands.read_lenses import read_with_lenses

            yield from read_with_lenses(options, prompt, progress)
        else:
            yield from read_one_text(options, prompt, progress)


def read_one_text(options: TextReadOptions, prompt: Prompt, progress: Progress) -> Iterator[Path]:
    """One prompt. How many figures a split makes is known after the text is tokenized, the names of
    all other files before."""
    files = None if options.figure_columns else prompt_files(options, prompt, None)
    answer = answer_without_work(options, files, progress)
    if answer is not None:
        yield from answer
        return
    if not options.dry_run and options.writes:
        require_writable(options.out)
        require_no_folders(prompt_files(options, prompt, None).paths())
    from logitlens_cli.batch.tokenizing import PromptTokenizer

    job = read_job(options)
    tokenizer = PromptTokenizer(job, progress)
    tokenized = tokenizer.tokenize(prompt)
    if files is None:
        files = prompt_files(
            options, prompt, piece_count(tokenized.columns, options.figure_columns)
        )
        answer = answer_without_work(options, files, progress)
        if answer is not None:
            yield from answer
            return
    from logitlens_cli.batch.session import Session

    session = Session(job, progress, tokenizer)
    session.require_fits(tokenized)
    with progress.step(f"reading {prompt.name}"):
        reading = session.read(tokenized)
    for note in (InputRowNote(options.metrics), TextNotes()):
        note.add(reading)
        note.print(progress)
    style = figure_style(options)
    with progress.step(f"drawing {prompt.name}"):
        note_missing_fonts(write_reading(reading, files, style, progress.note), progress)
    if options.shown:
        from logitlens_cli.commands.show import show_reading

        show_reading(reading, options.figures, style, to_stderr=options.writes)
    yield from files.paths()


def answer_without_work(
    options: TextReadOptions, files: Outputs | None, progress: Progress
) -> Iterable[Path] | None:
    """The paths to print where no model is needed: on a dry run, or where all files are there."""
    if files is None:
        return None
    if options.dry_run:
        return files.paths()
    return () if options.skip_existing and is_skipped(files, progress) else None


def prompt_of(options: TextOptions, name: str | None, progress: Progress) -> Prompt:
    """The one text of a command."""
    if options.file is not None:
        prompt = prompts.from_file(options.file, name)
    else:
        text = options.given_text if options.text is None else options.text
        assert text is not None
        if os.path.isfile(text):  # unlike Path's, it minds no name
            progress.note(f"{text} is read as the text itself; --file {text} reads that file")
        prompt = prompts.from_text(text, name, "--text" if options.given_text is None else "TEXT")
    if name not in (None, prompt.name):
        progress.note(f"--name {name!r} changed to {prompt.name!r}, to be safe as a file's name")
    return prompt
