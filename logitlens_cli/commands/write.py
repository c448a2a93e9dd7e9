"""How a prompt's files are written, also by processes that only draw."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

from logitlens_cli.commands.outputs import Outputs
from logitlens_cli.metrics.table import TRACE
from logitlens_cli.reading.atomic import Staged, staged
from logitlens_cli.reading.lock import Note, no_note

if TYPE_CHECKING:
    from logitlens_cli.figures.drawing import Drawing
    from logitlens_cli.figures.panel import Panel
    from logitlens_cli.figures.style import FigureStyle
    from logitlens_cli.reading.difference import Difference
    from logitlens_cli.reading.record import Reading


def write_reading(
    reading: Reading, files: Outputs, style: FigureStyle, note: Note = no_note
) -> frozenset[str]:
    """Draw and write whatever belongs to a reading, all or nothing; the characters that no
    installed font has. ``note`` is told where another process has to be waited for.

    Raises WorkError that names the file that cannot be written, UsageError for a style that does
    not fit the reading.
    """
    missing: frozenset[str] = frozenset()
    with staged(note) as stage:
        if files.parquet is not None:
            from logitlens_cli.reading import parquet

            stage.write(files.parquet, lambda file: parquet.save(reading, file))
        if files.figures:
            missing = stage_figures(stage, reading, files, style)
        if files.texts:
            stage_reading_texts(stage, reading, files, style)
        if files.json is not None:
            from logitlens_cli.reading.dump import dump_to_json

            stage.write(files.json, lambda file: file.write(dump_to_json(reading)))
    return missing


def stage_figures(
    stage: Staged, reading: Reading, files: Outputs, style: FigureStyle
) -> frozenset[str]:
    from logitlens_cli.figures.heatmap import draw_heatmaps
    from logitlens_cli.figures.line_figure import draw_lines

    missing: frozenset[str] = frozenset()
    for name, pieces in files.figures.items():
        draw = draw_lines if name == TRACE else draw_heatmaps
        missing |= stage_drawings(stage, draw(reading, name, style), pieces, style.dpi)
        gc.collect(0)  # a figure refers to itself, and holds its pixels
    return missing


def stage_drawings(
    stage: Staged, drawings: list[Drawing], pieces: list[dict[str, Path]], dpi: int
) -> frozenset[str]:
    missing: frozenset[str] = frozenset()
    for drawing, paths in zip(drawings, pieces, strict=True):
        missing |= drawing.missing
        for form, path in paths.items():
            stage.write(path, partial(drawing.save, form=form, dpi=dpi))
    return missing


@dataclass(frozen=True)
class Comparison:
    """One figure of two readings and its numbers, and where they go."""

    files: Outputs
    panels: list[Panel]
    """pieces of a split"""
    numbers: Difference | None


def write_comparisons(
    comparisons: list[Comparison], style: FigureStyle, note: Note = no_note
) -> frozenset[str]:
    """Draw and write comparisons, all or nothing; the characters that no installed font has.

    Raises WorkError that names the file that cannot be written, UsageError for figures that are
    too large.
    """
    missing: frozenset[str] = frozenset()
    with staged(note) as stage:
        for comparison in comparisons:
            missing |= stage_comparison(stage, comparison, style)
    return missing


def stage_comparison(stage: Staged, one: Comparison, style: FigureStyle) -> frozenset[str]:
    from logitlens_cli.figures.heatmap import draw_panels
    from logitlens_cli.reading.difference import difference_to_json

    missing: frozenset[str] = frozenset()
    for pieces in one.files.figures.values():
        drawings = draw_panels(one.panels, style)
        missing |= stage_drawings(stage, drawings, pieces, style.dpi)
    for pieces in one.files.texts.values():
        stage_texts(stage, one.panels, pieces)
    numbers = one.numbers
    if one.files.json is not None and numbers is not None:
        stage.write(one.files.json, lambda file: file.write(difference_to_json(numbers)))
    return missing


def stage_reading_texts(
    stage: Staged, reading: Reading, files: Outputs, style: FigureStyle
) -> None:
    from logitlens_cli.figures.reading_panels import panels

    for name, pieces in files.texts.items():
        if name == TRACE:  # no grid that could be a table
            from logitlens_cli.figures.line_figure import line_words

            stage_caption(stage, line_words(reading, style), pieces[0]["txt"])
        else:
            stage_texts(stage, panels(reading, name, style), pieces)


def stage_caption(stage: Staged, words: str, path: Path) -> None:
    stage.write(path, partial(write_bytes, data=f"{words}\n".encode()))


def stage_texts(stage: Staged, panels: list[Panel], pieces: list[dict[str, Path]]) -> None:
    from logitlens_cli.figures.caption import caption
    from logitlens_cli.figures.tables import panel_to_csv, panel_to_markdown

    texts = {"txt": caption, "md": panel_to_markdown, "csv": panel_to_csv}
    for panel, paths in zip(panels, pieces, strict=True):
        for form, path in paths.items():
            stage.write(path, partial(write_bytes, data=texts[form](panel).encode()))


def write_bytes(file: IO[bytes], data: bytes) -> None:
    file.write(data)
