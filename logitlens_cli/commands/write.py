"""What files come of a prompt, and how they are written, also by processes that only draw."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from logitlens_cli.metrics.table import FOLLOWED, TRACE
from logitlens_cli.options.groups import Figures, Read
from logitlens_cli.reading.atomic import Staged, staged

if TYPE_CHECKING:
    from logitlens_cli.figures.drawing import Drawing
    from logitlens_cli.figures.panel import Panel
    from logitlens_cli.figures.style import FigureStyle
    from logitlens_cli.reading.difference import Difference
    from logitlens_cli.reading.record import Reading


# Options that say where a result goes and not what it is; the dump does not hold them.
NOT_RECORDED = {
    *("text", "file", "lines", "name", "out", "json", "skip_existing", "dry_run", "quiet"),
    *("config", "format", "offline", "device", "device_map"),
    *("jobs", "batch_tokens", "shard", "engine", "address", "workers"),
    *("show", "table", "caption"),
}


@dataclass(frozen=True)
class Outputs:
    """The files of one prompt, known before any work is done."""

    json: Path | None
    parquet: Path | None
    figures: dict[str, list[dict[str, Path]]]
    """by figure, a piece of a split each, by format"""
    texts: dict[str, list[dict[str, Path]]]
    """captions and tables, likewise"""

    def paths(self) -> Iterator[Path]:
        if self.json is not None:
            yield self.json
        if self.parquet is not None:
            yield self.parquet
        for pieces in (*self.figures.values(), *self.texts.values()):
            for piece in pieces:
                yield from piece.values()

    def exist(self) -> bool:
        """Are all of them there? Not where there are none: then something is to be shown."""
        paths = list(self.paths())
        return bool(paths) and all(path.exists() for path in paths)


def outputs(
    request: Figures,
    name: str,
    command: str,
    figures: tuple[str, ...],
    pieces: int,
    json: bool,
    lines: str | None = None,
) -> Outputs:
    """``OUT/NAME.COMMAND.json`` and ``OUT/NAME.METRIC.png``, with ``.1``, ``.2`` for a split; the
    tables of the prompts of a file, of stem ``lines``, lie in a folder, which is a data set."""
    table = f"{name}.{command}.parquet"
    if lines is not None:
        table = f"{lines}.{command}.parquet/{name}.parquet"
    base = request.out / name

    def path(suffix: str) -> Path:
        return base.with_name(f"{base.name}.{suffix}")

    def numbered(figure: str) -> bool:
        return request.split is not None and figure not in (FOLLOWED, TRACE)  # no columns

    def each(forms: tuple[str, ...]) -> dict[str, list[dict[str, Path]]]:
        return {
            figure: [
                {
                    form: path(f"{figure}.{n}.{form}" if numbered(figure) else f"{figure}.{form}")
                    for form in forms
                }
                for n in range(1, pieces + 1 if numbered(figure) else 2)
            ]
            for figure in figures
            if forms
        }

    return Outputs(
        path(f"{command}.json") if json else None,
        request.out / table if request.parquet else None,
        each(request.formats),
        each(request.texts),
    )


def figure_style_of(request: Figures) -> FigureStyle:
    from logitlens_cli.figures.style import FigureStyle

    color = getattr(request, "color", None)
    return FigureStyle(
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
        width=request.width.value,
        lock_in=request.lock_in,
        next_ranks=request.next_ranks,
        probs=request.probs,
        delta=request.delta,
    )


def write(reading: Reading, files: Outputs, style: FigureStyle | None) -> frozenset[str]:
    """Draw and write whatever belongs to a reading, all or nothing; the characters that no
    installed font has. ``style`` may be None where there is no figure, caption or table.

    Raises WorkError that names the file that cannot be written, UsageError for style that do not
    fit the reading.
    """
    missing: frozenset[str] = frozenset()
    with staged() as stage:
        if files.parquet is not None:
            from logitlens_cli.reading.parquet import save

            stage.write(files.parquet, lambda file: save(reading, file))
        if files.figures:
            assert style is not None
            missing = stage_figures(stage, reading, files, style)
        if files.texts:
            assert style is not None
            from logitlens_cli.figures.panel import panels

            for name, parts in files.texts.items():
                stage_texts(stage, panels(reading, name, style), parts)
        if files.json is not None:
            from logitlens_cli.reading.record import dump_to_json

            stage.write(files.json, lambda file: file.write(dump_to_json(reading)))
    return missing


def stage_figures(
    stage: Staged, reading: Reading, files: Outputs, style: FigureStyle
) -> frozenset[str]:
    from logitlens_cli.figures.heatmap import draw_heatmaps
    from logitlens_cli.figures.line_figure import draw_lines

    missing: frozenset[str] = frozenset()
    for name, parts in files.figures.items():
        draw = draw_lines if name == TRACE else draw_heatmaps
        missing |= stage_drawings(stage, draw(reading, name, style), parts, style.dpi)
    return missing


def stage_drawings(
    stage: Staged, drawings: list[Drawing], parts: list[dict[str, Path]], dpi: int
) -> frozenset[str]:
    missing: frozenset[str] = frozenset()
    for drawing, paths in zip(drawings, parts, strict=True):
        missing |= drawing.missing
        for form, path in paths.items():
            stage.write(path, partial(drawing.save, form=form, dpi=dpi))
    return missing


@dataclass(frozen=True)
class Compared:
    """One figure of two readings and its numbers, and where they go."""

    files: Outputs
    panels: list[Panel]
    """pieces of a split"""
    numbers: Difference | None


def write_compared(every: list[Compared], style: FigureStyle) -> frozenset[str]:
    """Draw and write comparisons, all or nothing; the characters that no installed font has.

    Raises WorkError that names the file that cannot be written, UsageError for figures that are
    too large.
    """
    missing: frozenset[str] = frozenset()
    with staged() as stage:
        for one in every:
            missing |= stage_compared(stage, one, style)
    return missing


def stage_compared(stage: Staged, one: Compared, style: FigureStyle) -> frozenset[str]:
    from logitlens_cli.figures.heatmap import draw_panel
    from logitlens_cli.reading.difference import difference_to_json

    missing: frozenset[str] = frozenset()
    for parts in one.files.figures.values():
        drawings = [draw_panel(panel, style) for panel in one.panels]
        missing |= stage_drawings(stage, drawings, parts, style.dpi)
    for parts in one.files.texts.values():
        stage_texts(stage, one.panels, parts)
    numbers = one.numbers
    if one.files.json is not None and numbers is not None:
        stage.write(one.files.json, lambda file: file.write(difference_to_json(numbers)))
    return missing


def stage_texts(stage: Staged, panels: list[Panel], parts: list[dict[str, Path]]) -> None:
    from logitlens_cli.figures.caption import caption
    from logitlens_cli.figures.tables import panel_to_csv, panel_to_markdown

    makers = {"txt": caption, "md": panel_to_markdown, "csv": panel_to_csv}
    for panel, paths in zip(panels, parts, strict=True):
        for form, path in paths.items():
            stage.write(path, partial(put, data=makers[form](panel).encode()))


def put(file: Any, data: bytes) -> None:
    file.write(data)


def options_of(request: Figures) -> dict[str, Any]:
    """The options that make the result what it is, for the record."""
    values = {f.name: getattr(request, f.name) for f in fields(request)}
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in values.items()
        if name not in NOT_RECORDED
    }


def recipe_of(request: Read) -> dict[str, Any]:
    """Everything but the text that the files of a prompt depend on."""
    folder = Path(request.model)
    weights = sorted(folder.iterdir()) if folder.is_dir() else [folder] if folder.exists() else []
    stats = [(file.name, file.stat()) for file in weights]
    return {
        **options_of(request),
        "command": request.command,
        "format": (*request.written, *request.texts),
        "json": request.json,
        "weights": [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats],
        "versions": [version(name) for name in ("logitlens-cli", "torch", "transformers")],
    }
