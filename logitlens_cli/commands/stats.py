"""Many prompts -> one summary; summaries of parts -> the summary of the whole."""

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from logitlens_cli.batch import ledger, prompts
from logitlens_cli.batch.failures import Failures
from logitlens_cli.batch.prompts import Prompt
from logitlens_cli.commands.progress import Progress
from logitlens_cli.commands.read import check_extras, part_of, readings, skipped
from logitlens_cli.commands.render import stem
from logitlens_cli.commands.write import Outputs, figure_style_of, outputs, recipe_of
from logitlens_cli.errors import LogitLensError, UsageError
from logitlens_cli.options.groups import Stats
from logitlens_cli.reading import summary
from logitlens_cli.reading.atomic import require_writable, staged

SAVED_EVERY = 60.0
"""seconds between two states of a summary that is not finished"""


class State(msgspec.Struct):
    """A summary that is not finished, as it is kept on disk."""

    key: str
    done: list[str]
    """names of the prompts that are in it"""
    stats: summary.Summary


def summarize(request: Stats) -> Iterator[Path]:
    """Read every prompt and keep only what a summary needs, or put summaries together."""
    progress = Progress(quiet=request.quiet)
    parts = [(path, summary.load_summary(path)) for path in request.dumps or ()]
    name = summary_name(request)
    files = outputs(request, name, request.command, request.figures, 1, request.json)
    table = request.out / f"{name}.{request.command}.csv"
    paths = [*files.paths(), *([table] if request.json else [])]
    for path, _ in parts:
        if files.json is not None and path.absolute() == files.json.absolute():
            raise UsageError(f"--merge would overwrite {path}", "give another --name or --out")
    if request.dry_run:
        yield from paths
        return
    if request.skip_existing and not request.merge and skipped(files, progress):
        return
    require_writable(request.out)
    failures, tried = None, 0
    if request.merge:
        made = summary.merge_summaries(parts, name)
        absent = summary.missing_shards(made)
        if absent:
            progress.note(f"{', '.join(absent)} of the lines are not in this summary")
        if made.failed:
            progress.note(f"{made.failed} prompts could not be read and are not in this summary")
    else:
        assert request.lines is not None
        every = prompts.from_lines(request.lines, "{n}", named=False)
        todo = part_of(request, every)
        if not todo:
            progress.note(f"part {request.shard} of the lines is empty; there is nothing to sum up")
            return
        key = key_of(todo, recipe_of(request))
        if (
            files.json is not None
            and summary.key_of_summary(files.json) == key
            and all(path.exists() for path in paths)
        ):
            progress.note(f"{files.json} is made of the same; skipped")
            return
        check_extras(request)
        check_limits(request)
        failures = Failures(request.out, request.lines, request.command, every, progress)
        tried = len(todo)
        made = msgspec.structs.replace(
            gathered(request, todo, name, key, failures, progress),
            shards=[(key_of(every, {}), *request.part)],
            failed=len(failures.made),
            key="" if failures.made else key,
        )
    with progress.step("drawing"):
        write(request, made, files, table)
    yield from paths
    if failures is not None:
        failures.require_none(tried)  # then the state is kept: what failed may be mended
        state_path(request, name).unlink(missing_ok=True)


def write(request: Stats, made: summary.Summary, files: Outputs, table: Path) -> None:
    """The figures, the summary and its table, all or nothing."""
    with staged() as stage:
        if files.figures:
            from logitlens_cli.figures.summary_figure import draw_summary

            style = figure_style_of(request)
            for figure, (forms,) in files.figures.items():
                drawing = draw_summary(made, figure, style)
                for form, path in forms.items():
                    save: Any = lambda file, d=drawing, f=form: d.save(file, f, style.dpi)  # noqa: E731
                    stage.write(path, save)
        if files.json is not None:
            stage.write(files.json, lambda file: file.write(summary.summary_to_json(made)))
            stage.write(table, lambda file: file.write(summary.summary_to_csv(made)))


def state_path(request: Stats, stem: str) -> Path:
    return request.out / f"{stem}.{request.command}.part"


def summary_name(request: Stats) -> str:
    """The stem of a summary's files: of the lines, with the part; of parts, without it."""
    if request.merge and request.name is not None:
        return prompts.safe_name(request.name)
    if request.merge:
        stems = {re.sub(r"\.\d+-of-\d+$", "", stem(p, "stats")) for p in request.dumps or ()}
        return prompts.safe_name(stems.pop() if len(stems) == 1 else "merged")
    assert request.lines is not None
    number, parts = request.part
    own = prompts.stem_of(request.lines) if request.name is None else request.name
    return prompts.safe_name(own if parts == 1 else f"{own}.{number + 1}-of-{parts}")


def gathered(
    request: Stats,
    todo: Sequence[Prompt],
    stem: str,
    key: str,
    failures: Failures,
    progress: Progress,
) -> summary.Summary:
    """The summary of the prompts; it goes on where it stopped, if it is of the same ones.

    Raises BatchError if every prompt failed.
    """
    path = state_path(request, stem)
    state = load_state(path, key)
    if state is not None:
        progress.note(f"{len(state.done)} of {len(todo)} prompts are done already")
    done = set(state.done) if state else set()
    stats = state.stats if state else None
    left = [prompt for prompt in todo if prompt.name not in done]
    by_name = {prompt.name: prompt for prompt in left}

    def save() -> None:
        if stats is not None and done:
            data = msgspec.json.encode(State(key, sorted(done), stats))
            with staged() as stage:
                stage.write(path, lambda file: file.write(data))

    saved = time.monotonic()
    try:
        if left:
            outcomes = readings(request, left, progress)
            with progress.count(len(left)) as shown:
                for name, outcome in outcomes:
                    try:
                        if isinstance(outcome, LogitLensError):
                            raise outcome
                        before = stats or summary.empty_summary(outcome, request.measures, stem)
                        stats = summary.add_reading(before, outcome)
                    except LogitLensError as error:
                        failures.add(by_name[name], error)
                    else:
                        done.add(name)
                        failures.settle(by_name[name])
                        shown.add(tokens=len(outcome.text_ids))
                    shown.add(prompts=1)
                    if time.monotonic() - saved > SAVED_EVERY:
                        saved = time.monotonic()
                        save()
    finally:
        save()  # the summary is drawn next, and drawing may fail
        failures.save()
    if stats is None:
        failures.require_none(len(todo))
    assert stats is not None
    return stats


def key_of(todo: Sequence[Prompt], recipe: Mapping[str, Any]) -> str:
    """Changes where the summary of these prompts would."""
    every = msgspec.json.encode([(prompt.name, prompt.text) for prompt in todo]).decode()
    return ledger.prompt_key(Prompt("", every), recipe)


def check_limits(request: Stats) -> None:
    """Refuse limits of colours that cannot be, before any work."""
    if request.vmin is not None or request.vmax is not None:
        from logitlens_cli.figures.summary_figure import kl_limits

        kl_limits(figure_style_of(request))


def load_state(path: Path, key: str) -> State | None:
    """An unfinished summary of the same prompts and options."""
    if path.exists():
        with suppress(msgspec.DecodeError, UnicodeDecodeError):
            state = msgspec.json.decode(path.read_bytes(), type=State)
            return state if state.key == key else None
    return None
