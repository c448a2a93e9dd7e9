"""What files come of a prompt, and how they are written, also by processes that only draw."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from logitlens_cli.files import staged
from logitlens_cli.metrics import FOLLOWED
from logitlens_cli.request import Figures, Read

if TYPE_CHECKING:
    from logitlens_cli.panels import Looks
    from logitlens_cli.reading import Reading

# It warns of a home that cannot be written, which is nobody's concern here.
logging.getLogger("matplotlib").setLevel(logging.CRITICAL)


# Options that say where a result goes and not what it is; the dump does not hold them.
NOT_RECORDED = {
    *("text", "file", "lines", "name", "out", "json", "skip_existing", "dry_run", "quiet"),
    *("config", "format", "offline", "dump", "metric", "device", "device_map"),
    *("jobs", "batch_tokens", "shard", "engine", "address", "workers"),
}


@dataclass(frozen=True)
class Outputs:
    """The files of one prompt, known before any work is done."""

    json: Path | None
    parquet: Path | None
    figures: dict[str, list[dict[str, Path]]]
    """by figure, a piece of a split each, by format"""

    def paths(self) -> Iterator[Path]:
        if self.json is not None:
            yield self.json
        if self.parquet is not None:
            yield self.parquet
        for pieces in self.figures.values():
            for piece in pieces:
                yield from piece.values()

    def exist(self) -> bool:
        """Are all of them there?"""
        return all(path.exists() for path in self.paths())


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
        return request.split is not None and figure != FOLLOWED  # which has no columns of text

    return Outputs(
        path(f"{command}.json") if json else None,
        request.out / table if request.parquet else None,
        {
            figure: [
                {
                    form: path(f"{figure}.{n}.{form}" if numbered(figure) else f"{figure}.{form}")
                    for form in request.formats
                }
                for n in range(1, pieces + 1 if numbered(figure) else 2)
            ]
            for figure in figures
            if request.formats
        },
    )


def looks_of(request: Figures) -> Looks:
    from logitlens_cli.panels import Looks

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


def write(reading: Reading, files: Outputs, looks: Looks | None) -> frozenset[str]:
    """Draw and write whatever belongs to a reading, all or nothing; the characters that no
    installed font has. ``looks`` may be None where there is no figure.

    Raises WorkError that names the file that cannot be written, UsageError for looks that do not
    fit the reading.
    """
    missing: frozenset[str] = frozenset()
    with staged() as stage:
        if files.parquet is not None:
            from logitlens_cli import parquet

            stage.write(files.parquet, lambda file: parquet.save(reading, file))
        if files.figures:
            assert looks is not None
            missing = stage_figures(stage, reading, files, looks)
        if files.json is not None:
            from logitlens_cli.reading import to_json

            stage.write(files.json, lambda file: file.write(to_json(reading)))
    return missing


def stage_figures(stage: Any, reading: Reading, files: Outputs, looks: Looks) -> frozenset[str]:
    from logitlens_cli.figure import draw

    missing: frozenset[str] = frozenset()
    for name, parts in files.figures.items():
        for drawing, paths in zip(draw(reading, name, looks), parts, strict=True):
            missing |= drawing.missing
            for form, path in paths.items():
                stage.write(path, lambda file, d=drawing, f=form: d.save(file, f, looks.dpi))
    return missing


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
        "format": request.written,
        "json": request.json,
        "weights": [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats],
        "versions": [version(name) for name in ("logitlens-cli", "torch", "transformers")],
    }
