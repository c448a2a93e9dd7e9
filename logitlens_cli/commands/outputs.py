"""Which files come of what, known before any work is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass
from pathlib import Path

from logitlens_cli.batch import prompts
from logitlens_cli.batch.prompts import Prompt
from logitlens_cli.metrics.table import FOLLOWED, TRACE
from logitlens_cli.model.progress import Progress
from logitlens_cli.options.groups import FigureOptions
from logitlens_cli.options.reading import TextReadOptions
from logitlens_cli.reading.sets import torn_files


@dataclass(frozen=True)
class Outputs:
    """The files of one prompt."""

    json: Path | None
    parquet: Path | None
    figures: dict[str, list[dict[str, Path]]]
    """by figure, one entry per piece of a split, by format"""
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
        """Are all of them there, from one run? Not where there are none: then something is to be
        shown."""
        paths = list(self.paths())
        return bool(paths) and not torn_files(paths) and all(path.is_file() for path in paths)


TYPICAL_SIZES = {
    ".png": (120_000, 7_000),
    ".svg": (20_000, 2_700),
    ".pdf": (33_000, 180),
    ".json": (10_000, 1_800),
    ".parquet": (13_000, 1_200),
}
"""bytes of a file, and how many more for each character of the text, as measured with the default
model, all its rows and metrics; texts and tables are small beside them"""


class Plan:
    """Files that are going to be written."""

    def __init__(self) -> None:
        self.by_suffix: Counter[str] = Counter()

    def counted(self, paths: Iterable[Path]) -> Iterator[Path]:
        """The same paths, each counted."""
        for path in paths:
            self.by_suffix[path.suffix] += 1
            yield path

    def words(self, length: float) -> str:
        """How many they are and how large, for texts of so many characters on average."""
        size = sum(
            count * (base + more * length)
            for suffix, count in self.by_suffix.items()
            for base, more in [TYPICAL_SIZES.get(suffix, (0, 50))]
        )
        return f"{self.by_suffix.total()} files, about {size / 1e6:.1f} MB"


def outputs(
    options: FigureOptions,
    name: str,
    command: str,
    figures: tuple[str, ...],
    pieces: int | None,
    json: bool,
    lines: str | None = None,
) -> Outputs:
    """``OUT/NAME.COMMAND.json`` and ``OUT/NAME.METRIC.png``, with ``.1``, ``.2`` for a split into
    ``pieces``; the tables of the prompts of a file, of stem ``lines``, lie in a folder, which
    is a data set."""
    table = f"{name}.{command}.parquet"
    if lines is not None:
        table = f"{lines}.{command}.parquet/{name}.parquet"
    base = options.out / name

    def path(suffix: str) -> Path:
        return base.with_name(f"{base.name}.{suffix}")

    def numbers(figure: str) -> list[str]:
        if pieces is None or figure in (FOLLOWED, TRACE):  # these have no columns
            return [""]
        return [f".{n}" for n in range(1, pieces + 1)]

    def each(forms: tuple[str, ...]) -> dict[str, list[dict[str, Path]]]:
        return {
            figure: [{form: path(f"{figure}{n}.{form}") for form in forms} for n in numbers(figure)]
            for figure in figures
            if forms
        }

    return Outputs(
        path(f"{command}.json") if json else None,
        options.out / table if options.parquet else None,
        each(options.formats),
        each(options.texts),
    )


def prompt_files(options: TextReadOptions, prompt: Prompt, pieces: int | None) -> Outputs:
    lines = None if options.lines is None else prompts.stem_of(options.lines)
    return outputs(
        options, prompt.name, options.command, options.figures, pieces, options.json, lines
    )


def is_skipped(files: Outputs, progress: Progress) -> bool:
    """Are all files there? Then it is said."""
    if not files.exist():
        return False
    progress.note(f"{next(files.paths())} and its other files exist already; skipped")
    return True


def piece_count(columns: Sized, split: int | None) -> int | None:
    """Into how many figures a text is split; None where it is not."""
    return -(-len(columns) // split) if split else None


def dump_stem(dump: Path, command: str) -> str:
    """NAME of ``NAME.COMMAND.json``."""
    return dump.name.removesuffix(".json").removesuffix(f".{command}")
