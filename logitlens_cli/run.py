"""Request -> files. The only place that knows prompts, model, reading and figures together.

Heavy modules are loaded here and late, when it is certain that they are needed. Paths written go to
standard output, one a line; everything else to standard error.
"""

import os
from collections.abc import Iterator, Mapping, Sequence, Sized
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from logitlens_cli import batch, prompts
from logitlens_cli.errors import LogitLensError, UsageError
from logitlens_cli.files import require_writable
from logitlens_cli.metrics import Measure
from logitlens_cli.outputs import Outputs, looks_of, outputs, write
from logitlens_cli.progress import Progress
from logitlens_cli.prompts import Prompt
from logitlens_cli.request import Check, Figures, Read, Render

if TYPE_CHECKING:
    from logitlens_cli.reader import Plan, Subject, Task
    from logitlens_cli.reading import Reading

# Options that say where a result goes and not what it is; the dump does not hold them.
NOT_RECORDED = {
    *("text", "file", "lines", "name", "out", "json", "skip_existing", "dry_run", "quiet"),
    *("config", "format", "offline", "dump", "metric", "device", "device_map"),
    *("jobs", "batch_tokens", "shard"),
}


# ---------------------------------------------------------------------------------------------
# Reading prompts


def read(request: Read) -> Iterator[Path]:
    """Run the model over every prompt and write its files; yields each path once it is there.

    Raises BatchError at the end if some prompts of several failed.
    """
    progress = Progress(quiet=request.quiet)
    check_cmap(request)
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
    if not request.dry_run:
        require_writable(request.out)
    subject = open_subject(request, progress, subblocks=request.subblocks)
    task = task_of(request, subject)
    from logitlens_cli.reader import plan, read_together

    planned = plan(subject, task, prompt.text, prompt.name)
    if request.split:
        files = outputs_of(request, prompt, pieces(planned.columns, request.split))
        if request.dry_run:
            yield from files.paths()
            return
        if request.skip_existing and skipped(files, progress):
            return
    with progress.step(f"reading {prompt.name}"):
        (reading,) = read_together(subject, task, [planned])
    same, count = input_row(reading, task.measures)
    note_input_row(subject, task, same, count, progress)
    with progress.step(f"drawing {prompt.name}"):
        note_missing(write(reading, files, looks_of(request) if files.figures else None), progress)
    yield from files.paths()


def read_lines(request: Read, path: Path, progress: Progress) -> Iterator[Path]:
    """A batch: prompts of like length share a pass, figures are drawn meanwhile, a prompt that
    fails is told apart, and what is done already is not done again."""
    todo = part_of(request, path)
    if request.dry_run:
        yield from planned(request, todo, progress)
        return
    failures = batch.Failures(request.out, path, request.command, todo, progress)
    recipe = recipe_of(request)
    keys = {prompt.name: batch.key_of(prompt, recipe) for prompt in todo}
    ledger = batch.Ledger(request.out, f"{prompts.stem_of(path)}.{request.command}")
    before = len(todo)
    todo = [p for p in todo if not ledger.has(p.name, keys[p.name])]
    if len(todo) < before:
        progress.note(f"{before - len(todo)} of {before} prompts are done already")
    if request.skip_existing and not request.split:
        todo = [p for p in todo if not skipped(outputs_of(request, p, 1), progress)]
    if not todo:
        failures.save()
        return
    require_writable(request.out)
    subject = open_subject(request, progress, subblocks=request.subblocks)
    task = task_of(request, subject)
    by_name = {prompt.name: prompt for prompt in todo}
    looks = looks_of(request) if request.formats else None
    jobs = 0 if looks is None else os.cpu_count() or 1 if request.jobs is None else request.jobs
    same = count = 0
    missing: frozenset[str] = frozenset()

    def finished(made: Iterator[batch.Made]) -> Iterator[Path]:
        nonlocal missing
        for outcome in made:
            prompt, files = outcome.about
            if outcome.error is not None:
                failures.add(prompt, outcome.error)
            else:
                missing |= outcome.result
                written = list(files.paths())
                ledger.add(prompt.name, keys[prompt.name], written)
                yield from written
            shown.add(prompts=1)

    try:
        with (
            batch.Workers(min(jobs, len(todo))) as workers,
            progress.count(len(todo)) as shown,
        ):
            for name, outcome in readings(request, subject, task, todo):
                prompt = by_name[name]
                if isinstance(outcome, LogitLensError):
                    failures.add(prompt, outcome)
                    shown.add(prompts=1)
                    continue
                shown.add(tokens=len(outcome.text_ids))
                own, columns = input_row(outcome, task.measures)
                same, count = same + own, count + columns
                files = outputs_of(request, prompt, pieces(outcome.tokens, request.split))
                workers.hand((prompt, files), write, outcome, files, looks)
                yield from finished(workers.made())
            yield from finished(workers.made(room=0))
    finally:
        failures.save()
    note_input_row(subject, task, same, count, progress)
    note_missing(missing, progress)
    failures.require_none(len(todo))


def part_of(request: Read, path: Path, name: str | None = None) -> list[Prompt]:
    """The prompts of --shard, or all."""
    number, parts = request.part
    return prompts.from_lines(path, request.name if name is None else name)[number::parts]


def planned(request: Read, todo: Sequence[Prompt], progress: Progress) -> Iterator[Path]:
    """The files that a batch will write."""
    if not request.split:
        for prompt in todo:
            yield from outputs_of(request, prompt, 1).paths()
        return
    subject = open_subject(request, progress, subblocks=request.subblocks)
    task = task_of(request, subject)
    for prompt in todo:
        try:
            columns = plan_of(subject, task, prompt).columns
        except LogitLensError as error:
            progress.failure(f"line {prompt.line} ({prompt.name}): {error}")
        else:
            yield from outputs_of(request, prompt, pieces(columns, request.split)).paths()


AHEAD = 256
"""prompts among which those of like length are looked for"""


def readings(
    request: Read, subject: "Subject", task: "Task", todo: Sequence[Prompt]
) -> "Iterator[tuple[str, Reading | LogitLensError]]":
    """The reading of every prompt, or why there is none, by the prompt's name."""
    from logitlens_cli.reader import read_together, reads_together, rows_of

    budget = request.batch_tokens or batch.budget_of(subject, len(rows_of(subject.parts, task)))
    if len(todo) > 1 and not reads_together(subject, task):
        budget = 1  # each by itself
    for start in range(0, len(todo), AHEAD):
        plans = []
        for prompt in todo[start : start + AHEAD]:
            try:
                plans.append(plan_of(subject, task, prompt))
            except LogitLensError as error:
                yield prompt.name, error
        for group in batch.groups(plans, budget):
            made: list[Reading | LogitLensError] = []
            try:
                made.extend(read_together(subject, task, group))
            except LogitLensError:
                # One of them is to blame, or there are too many of them.
                for planned in group:
                    try:
                        made.extend(read_together(subject, task, [planned]))
                    except LogitLensError as error:
                        made.append(error)
            for planned, outcome in zip(group, made, strict=True):
                yield planned.name, outcome


def plan_of(subject: "Subject", task: "Task", prompt: Prompt) -> "Plan":
    from logitlens_cli.reader import plan

    prompts.require_text(prompt.text, "its text")
    return plan(subject, task, prompt.text, prompt.name)


def recipe_of(request: Read) -> dict[str, Any]:
    """Everything but the text that the files of a prompt depend on."""
    from importlib.metadata import version

    folder = Path(request.model)
    weights = sorted(folder.iterdir()) if folder.is_dir() else [folder] if folder.exists() else []
    stats = [(file.name, file.stat()) for file in weights]
    return {
        **options_of(request),
        "command": request.command,
        "format": request.formats,
        "json": request.json,
        "weights": [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats],
        "versions": [version(name) for name in ("logitlens-cli", "torch", "transformers")],
    }


def check_cmap(request: Figures) -> None:
    """Refuse an unknown colour map before any work; only then is matplotlib loaded for it."""
    if request.cmap is not None:
        from logitlens_cli.figure import require_cmap

        require_cmap(request.cmap)


def prompt_of(request: Read) -> Prompt:
    if request.text is not None:
        return prompts.from_text(request.text, request.name)
    assert request.file is not None
    return prompts.from_file(request.file, request.name)


def outputs_of(request: Read, prompt: Prompt, pieces: int) -> Outputs:
    return outputs(request, prompt.name, request.command, request.figures, pieces, request.json)


def skipped(files: Outputs, progress: Progress) -> bool:
    paths = list(files.paths())
    exists = all(path.exists() for path in paths)
    if exists:
        progress.note(f"{paths[0]} and what belongs to it are there; skipped")
    return exists


def pieces(columns: Sized, split: int | None) -> int:
    """Into how many figures a text is split."""
    return -(-len(columns) // split) if split else 1


def open_subject(request: Read | Check, progress: Progress, *, subblocks: bool) -> "Subject":
    """Open the model of a request and find its parts."""
    from logitlens_cli.model import open_model

    opened = open_model(
        request.model,
        revision=request.revision,
        device=request.device,
        dtype=request.dtype.value,
        device_map=request.device_map,
        offline=request.offline,
        trust_remote_code=request.trust_remote_code,
        allow_pickle=request.allow_pickle,
        progress=progress,
    )
    from logitlens_cli.reader import subject_of

    with progress.step("finding blocks, norm and head"):
        return subject_of(
            opened.model,
            opened.tokenizer,
            name=opened.name,
            revision=opened.revision,
            context=opened.context,
            subblocks=subblocks,
        )


def check(request: Check) -> dict[str, list[str]]:
    """What ``logitlens models check`` tells of a model, a name and its lines.

    Raises ProofError where the lens does not reproduce the model's own logits.
    """
    progress = Progress(quiet=request.quiet)
    subject = open_subject(request, progress, subblocks=True)
    from logitlens_cli.reader import examine

    return examine(subject)


def task_of(request: Read, subject: "Subject") -> "Task":
    """What is asked of a model, settled for this model."""
    from logitlens_cli.reader import Task

    return Task(
        command=request.command,
        measures={key: resolved(measure, subject) for key, measure in request.measures.items()},
        k=request.guesses,
        norm=request.norm.value,
        blocks=request.rows(len(subject.parts.blocks)),
        input_row=request.input_row is not False,
        subblocks=request.subblocks,
        decoder_blocks=request.decoder_blocks,
        window=request.window,
        bos=request.bos.value,
        chat=request.chat,
        follow=request.follows,
        options=options_of(request),
    )


def resolved(measure: Measure, subject: "Subject") -> Measure:
    """A measure whose target is one of "final", "input", "next" and "id:N"."""
    from dataclasses import replace

    from logitlens_cli import tokens

    target = measure.target
    if target in ("final", "input", "next"):
        return measure
    if target.startswith("id:"):
        number = target.removeprefix("id:")
        if not number.isascii() or not number.isdigit() or int(number) >= subject.parts.vocabulary:
            raise UsageError(
                f"--target {target} is no token", f"ids are 0 to {subject.parts.vocabulary - 1}"
            )
        return replace(measure, target=f"id:{int(number)}")
    return replace(measure, target=f"id:{tokens.target_id(subject.tokenizer, target)}")


def options_of(request: Figures) -> dict[str, Any]:
    """The options that make the result what it is, for the record."""
    values = {f.name: getattr(request, f.name) for f in fields(request)}
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in values.items()
        if name not in NOT_RECORDED
    }


def input_row(reading: "Reading", measures: Mapping[str, Measure]) -> tuple[int, int]:
    """In how many columns the input row decodes to the input token, and of how many; of none where
    nothing is measured from that row."""
    measure = measures.get("kl-input")
    if measure is None or measure.one_hot:
        return 0, 0
    if reading.layers[0].kind != "input":
        return 0, 0
    top = reading.top()[0]
    return sum(t.id == i for t, i in zip(reading.tokens, top, strict=True)), len(reading.tokens)


def note_input_row(
    subject: "Subject", task: "Task", same: int, count: int, progress: Progress
) -> None:
    """Tell where kl-input does not measure from the input token, though one might think so."""
    name, tied = subject.record.name, subject.record.tied
    why = "" if tied else " (its embedding is a matrix of its own)"
    measure = task.measures.get("kl-input")
    if same < count:
        progress.note(
            f"the input row of {name} decodes to the input token in {same} of {count} columns"
            f"{why}; --one-hot measures from the token itself"
        )
    elif measure is not None and not (measure.one_hot or task.input_row or tied):
        progress.note(
            f"the input row of {name} is not the input token{why}; --one-hot measures from that"
        )


def note_missing(missing: frozenset[str], progress: Progress) -> None:
    """Tell which characters no font has."""
    if missing:
        some = "".join(sorted(missing)[:8])
        progress.note(
            f"no installed font has {len(missing)} of the characters ({some}), so escapes stand "
            "for them; install a font that has them, such as Noto Sans CJK"
        )


# ---------------------------------------------------------------------------------------------
# Figures


def render(request: Render) -> Iterator[Path]:
    """Draw the figures of a dump again."""
    from logitlens_cli import reading as readings
    from logitlens_cli.figure import figures_of

    progress = Progress(quiet=request.quiet)
    reading = readings.from_json(request.dump)
    check_cmap(request)
    held = figures_of(reading)
    if request.metric is not None and request.metric not in {*held, *reading.metrics}:
        raise UsageError(
            f"{request.dump} holds no {request.metric!r}", f"it holds {', '.join(held)}"
        )
    chosen = (request.metric,) if request.metric else tuple(held)
    name = prompts.safe_name(request.name or stem(request.dump, reading.command))
    count = pieces(reading.tokens, request.split)
    files = outputs(request, name, reading.command, chosen, count, json=False)
    if request.dry_run:
        yield from files.paths()
        return
    if request.skip_existing and skipped(files, progress):
        return
    with progress.step(f"drawing {name}"):
        note_missing(write(reading, files, looks_of(request)), progress)
    yield from files.paths()


def stem(dump: Path, command: str) -> str:
    """NAME of ``NAME.COMMAND.json``."""
    return dump.name.removesuffix(".json").removesuffix(f".{command}")
