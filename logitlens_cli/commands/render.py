"""Dumps -> figures, without the model: one again, several on one scale, or two compared."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from logitlens_cli.batch import prompts
from logitlens_cli.commands.progress import Progress
from logitlens_cli.commands.read import (
    check_extras,
    note_missing,
    pieces,
    show,
    show_reading,
    skipped,
)
from logitlens_cli.commands.write import Compared, figure_style_of, outputs, write, write_compared
from logitlens_cli.errors import UsageError
from logitlens_cli.metrics.table import FOLLOWED, TRACE
from logitlens_cli.options.groups import OF_CELLS, Diff, Render, refuse

if TYPE_CHECKING:
    from logitlens_cli.figures.pair import Pair
    from logitlens_cli.figures.scale import Colors
    from logitlens_cli.figures.style import FigureStyle
    from logitlens_cli.reading.record import Reading


def render(request: Render) -> Iterator[Path]:
    """Draw the figures of dumps again, one dump after the other."""
    from logitlens_cli.reading.record import load_dump

    progress = Progress(quiet=request.quiet)
    check_extras(request)
    style = figure_style_of(request)
    if request.share_scale:
        style = replace(style, shared_colors=shared_colors(request, style))
    missing: frozenset[str] = frozenset()
    seen: dict[Path, Path] = {}
    for dump in request.dumps:
        reading = load_dump(dump)
        chosen = chosen_of(request, dump, reading)
        if TRACE in chosen:
            refuse(request, OF_CELLS, "a trace, which has no cells")
        name = prompts.safe_name(request.name or stem(dump, reading.command))
        count = pieces(reading.tokens, request.split)
        files = outputs(request, name, reading.command, chosen, count, json=False)
        for path in files.paths():
            if seen.setdefault(path, dump) != dump:
                raise UsageError(
                    f"{seen[path]} and {dump} would both write {path}", "give each its own --out"
                )
        if request.dry_run:
            yield from files.paths()
            continue
        if request.skip_existing and skipped(files, progress):
            continue
        with progress.step(f"drawing {name}"):
            missing |= write(reading, files, style)
        if request.show:
            show_reading(request, reading, chosen, style)
        yield from files.paths()
    note_missing(missing, progress)


def chosen_of(request: Render, dump: Path, reading: "Reading") -> tuple[str, ...]:
    """The figures asked for, which the dump must hold."""
    from logitlens_cli.figures.panel import figures_of

    held = figures_of(reading)
    if not held:
        raise UsageError(f"{dump} holds no metric", "make it again with logitlens all")
    if request.metric is None:
        return tuple(held)
    if request.metric not in {*held, *reading.metrics}:
        raise UsageError(f"{dump} holds no {request.metric!r}", f"it holds {', '.join(held)}")
    return (request.metric,)


def shared_colors(request: Render, style: "FigureStyle") -> "Mapping[str, Colors]":
    """By figure, colours whose limits are the widest of any dump's; UsageError where the same
    figure shows different quantities."""
    from logitlens_cli.figures.panel import panels
    from logitlens_cli.reading.record import load_dump

    made: dict[str, tuple[Path, str, Colors]] = {}
    for dump in request.dumps:
        reading = load_dump(dump)
        for figure in chosen_of(request, dump, reading):
            if figure in (FOLLOWED, TRACE):  # no grid of a text
                continue
            panel = panels(reading, figure, style)[0]
            first, bar, colors = made.get(figure, (dump, panel.bar, panel.colors))
            if bar != panel.bar:
                raise UsageError(
                    f"{figure} is {bar} in {first} and {panel.bar} in {dump}",
                    "only one quantity can share a scale",
                )
            low, high = min(colors.low, panel.colors.low), max(colors.high, panel.colors.high)
            made[figure] = first, bar, replace(colors, low=low, high=high)
    return {figure: colors for figure, (_, _, colors) in made.items()}


def stem(dump: Path, command: str) -> str:
    """NAME of ``NAME.COMMAND.json``."""
    return dump.name.removesuffix(".json").removesuffix(f".{command}")


def diff(request: Diff) -> Iterator[Path]:
    """Draw and write the difference of two dumps, or draw both on one scale. All that can be
    refused is refused before anything is written, on a dry run too."""
    from logitlens_cli.figures.pair import Pair
    from logitlens_cli.reading.record import load_dump

    progress = Progress(quiet=request.quiet)
    a, b = load_dump(request.a), load_dump(request.b)
    check_extras(request)
    names = stem(request.a, a.command), stem(request.b, b.command)
    if names[0] == names[1]:  # in two folders
        names = (
            f"{request.a.absolute().parent.name}/{names[0]}",
            f"{request.b.absolute().parent.name}/{names[1]}",
        )
    pair = Pair(a, b, *names)
    chosen = (request.metric,) if request.metric else tuple(pair.figures())
    both = f"{request.a} and {request.b}"
    if not chosen:
        raise UsageError(f"{both} share no grid", "read both with logitlens all")
    if not pair.held().issuperset(chosen):
        shared = ", ".join(pair.figures()) or "none"
        raise UsageError(f"{request.metric!r} is no grid of both {both}", f"they share {shared}")
    name = prompts.safe_name(request.name or "-vs-".join(names).replace("/", "-"))
    every = [compared(request, pair, figure, name) for figure in chosen]
    if request.dry_run:
        for one in every:
            yield from one.files.paths()
        return
    todo = [one for one in every if not (request.skip_existing and skipped(one.files, progress))]
    with progress.step(f"drawing {name}"):
        note_missing(write_compared(todo, figure_style_of(request)), progress)
    if request.show:
        show(request, [panel for one in every for panel in one.panels])
    for one in todo:
        yield from one.files.paths()


def compared(request: Diff, pair: "Pair", figure: str, name: str) -> Compared:
    from logitlens_cli.figures.pair import difference_of
    from logitlens_cli.figures.pair_panels import difference_panels, stacked_panels

    style, numbers = figure_style_of(request), None
    if request.over:
        panels = stacked_panels(pair, figure, style)
    else:
        numbers = difference_of(pair, figure, style)
        panels = difference_panels(pair, figure, numbers, style)
    command = f"{'over' if request.over else 'diff'}-{figure}"
    json = request.json and numbers is not None
    files = outputs(request, name, command, (command,), len(panels), json)
    return Compared(files, panels, numbers)
