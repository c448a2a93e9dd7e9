"""Request -> files. The only place that knows prompts, model, reading and figures together.

Heavy modules are loaded here and late, when it is certain that they are needed. Paths written go to
standard output, one a line; everything else to standard error.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from logitlens_cli import prompts
from logitlens_cli.errors import BatchError, LogitLensError, UsageError
from logitlens_cli.files import require_writable, staged
from logitlens_cli.metrics import FOLLOWED, Measure
from logitlens_cli.progress import Progress
from logitlens_cli.prompts import Prompt
from logitlens_cli.request import Check, Figures, Read, Render

if TYPE_CHECKING:
    from logitlens_cli.figure import Looks
    from logitlens_cli.reader import Subject, Task
    from logitlens_cli.reading import Reading

# Options that say where a result goes and not what it is; the dump does not hold them.
NOT_RECORDED = {
    *("text", "file", "lines", "name", "out", "json", "skip_existing", "dry_run", "quiet"),
    *("config", "format", "offline", "dump", "metric", "device", "device_map"),
}


@dataclass(frozen=True)
class Outputs:
    """The files of one prompt, known before any work is done."""

    json: Path | None
    figures: dict[str, list[dict[str, Path]]]
    """by figure, a piece of a split each, by format"""

    def paths(self) -> Iterator[Path]:
        if self.json is not None:
            yield self.json
        for pieces in self.figures.values():
            for piece in pieces:
                yield from piece.values()


def outputs(
    request: Figures, name: str, command: str, figures: tuple[str, ...], pieces: int, json: bool
) -> Outputs:
    """``OUT/NAME.COMMAND.json`` and ``OUT/NAME.METRIC.png``, with ``.1``, ``.2`` for a split."""
    base = request.out / name

    def path(suffix: str) -> Path:
        return base.with_name(f"{base.name}.{suffix}")

    def numbered(figure: str) -> bool:
        return request.split is not None and figure != FOLLOWED  # which has no columns of text

    return Outputs(
        path(f"{command}.json") if json else None,
        {
            figure: [
                {
                    form: path(f"{figure}.{n}.{form}" if numbered(figure) else f"{figure}.{form}")
                    for form in request.formats
                }
                for n in range(1, pieces + 1 if numbered(figure) else 2)
            ]
            for figure in figures
        },
    )


# ---------------------------------------------------------------------------------------------
# Reading prompts


def read(request: Read) -> Iterator[Path]:
    """Run the model over every prompt and write its files; yields each path once it is there.

    Raises BatchError at the end if some prompts of several failed.
    """
    progress = Progress(quiet=request.quiet)
    todo = prompts_of(request)
    check_cmap(request)
    if not request.split:
        planned = [(prompt, outputs_of(request, prompt, 1)) for prompt in todo]
        if request.dry_run:
            for _, files in planned:
                yield from files.paths()
            return
        if request.skip_existing:
            todo = [p for p, files in planned if not skipped(files, progress)]
        if not todo:
            return
    if not request.dry_run:
        require_writable(request.out)
    subject = open_subject(request, progress, subblocks=request.subblocks)
    task = task_of(request, subject)
    failed: list[str] = []
    for prompt in todo:
        try:
            yield from read_one(request, subject, task, prompt, progress)
        except LogitLensError as error:
            if prompt.line is None:
                raise
            failed.append(f"line {prompt.line} ({prompt.name})")
            progress.failure(f"line {prompt.line} ({prompt.name}): {error}")
    if failed:
        raise BatchError(
            f"{len(failed)} of {len(todo)} prompts failed: {', '.join(failed[:5])}"
            + (", ..." if len(failed) > 5 else ""),
            "the files of the others are written",
        )


def check_cmap(request: Figures) -> None:
    """Refuse an unknown colour map before any work; only then is matplotlib loaded for it."""
    if request.cmap is not None:
        from logitlens_cli.figure import require_cmap

        require_cmap(request.cmap)


def prompts_of(request: Read) -> list[Prompt]:
    if request.text is not None:
        return [prompts.from_text(request.text, request.name)]
    if request.file is not None:
        return [prompts.from_file(request.file, request.name)]
    assert request.lines is not None
    return prompts.from_lines(request.lines, request.name)


def outputs_of(request: Read, prompt: Prompt, pieces: int) -> Outputs:
    return outputs(request, prompt.name, request.command, request.figures, pieces, request.json)


def skipped(files: Outputs, progress: Progress) -> bool:
    paths = list(files.paths())
    exists = all(path.exists() for path in paths)
    if exists:
        progress.note(f"{paths[0]} and what belongs to it are there; skipped")
    return exists


def read_one(
    request: Read, subject: "Subject", task: "Task", prompt: Prompt, progress: Progress
) -> Iterator[Path]:
    """One prompt: its reading, its figures, its files."""
    from logitlens_cli.reader import read as read_text
    from logitlens_cli.reading import to_json

    if request.split:
        files = outputs_of(request, prompt, pieces(subject, task, request.split, prompt.text))
        if request.dry_run:
            yield from files.paths()
            return
        if request.skip_existing and skipped(files, progress):
            return
    with progress.step(f"reading {prompt.name}"):
        reading = read_text(subject, task, prompt.text, prompt.name)
    for note in notes(reading, task.measures):
        progress.note(note)
    if not request.split:
        files = outputs_of(request, prompt, 1)
    with staged() as stage:
        with progress.step(f"drawing {prompt.name}"):
            write_figures(stage, reading, files, looks_of(request), progress)
        if files.json is not None:
            stage.write(files.json, lambda file: file.write(to_json(reading)))
    yield from files.paths()


def pieces(subject: "Subject", task: "Task", split: int, text: str) -> int:
    """Into how many figures a text is split."""
    from logitlens_cli.reader import plan

    return -(-len(plan(subject, task, text, "").columns) // split)


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


def notes(reading: "Reading", measures: Mapping[str, Measure]) -> Iterator[str]:
    """What the user ought to know about the numbers."""
    measure = measures.get("kl-input")
    if measure is None or measure.one_hot:
        return
    name = reading.model.name
    why = "" if reading.model.tied else " (its embedding is a matrix of its own)"
    if reading.layers[0].kind == "input":
        count = len(reading.tokens)
        same = sum(t.id == i for t, i in zip(reading.tokens, reading.top()[0], strict=True))
        if same < count:
            yield (
                f"the input row of {name} decodes to the input token in {same} of {count} columns"
                f"{why}; --one-hot measures from the token itself"
            )
    elif why:
        yield f"the input row of {name} is not the input token{why}; --one-hot measures from that"


# ---------------------------------------------------------------------------------------------
# Figures


def looks_of(request: Figures) -> "Looks":
    from logitlens_cli.figure import Looks

    color = getattr(request, "color", None)
    return Looks(
        input_row=request.input_row,
        split=request.split,
        vmin=request.vmin,
        vmax=request.vmax,
        cmap=request.cmap,
        title=request.title,
        changes_only=request.changes_only,
        color=None if color is None else str(color.value),
        dpi=request.dpi,
        skip_first=request.skip_first,
    )


def write_figures(
    stage: Any, reading: "Reading", files: Outputs, looks: "Looks", progress: Progress
) -> None:
    """Draw and stage every figure of a reading."""
    from logitlens_cli.figure import draw

    missing: set[str] = set()
    for name, parts in files.figures.items():
        for drawing, paths in zip(draw(reading, name, looks), parts, strict=True):
            missing |= drawing.missing
            for form, path in paths.items():
                stage.write(path, lambda file, d=drawing, f=form: d.save(file, f, looks.dpi))
    if missing:
        some = "".join(sorted(missing)[:8])
        progress.note(
            f"no installed font has {len(missing)} of the characters ({some}), so escapes stand "
            "for them; install a font that has them, such as Noto Sans CJK"
        )


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
    count = -(-len(reading.tokens) // request.split) if request.split else 1
    files = outputs(request, name, reading.command, chosen, count, json=False)
    if request.dry_run:
        yield from files.paths()
        return
    if request.skip_existing and skipped(files, progress):
        return
    with staged() as stage, progress.step(f"drawing {name}"):
        write_figures(stage, reading, files, looks_of(request), progress)
    yield from files.paths()


def stem(dump: Path, command: str) -> str:
    """NAME of ``NAME.COMMAND.json``."""
    return dump.name.removesuffix(".json").removesuffix(f".{command}")
