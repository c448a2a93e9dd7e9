"""Options that several commands share: which model, what is drawn, what is written where."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from logitlens_cli.errors import UsageError, nearest
from logitlens_cli.figures.style import FigureStyle, Width
from logitlens_cli.options.option import COLUMNS, FIGURE, LENS, OUTPUT, names_in, option
from logitlens_cli.options.preset import load_preset

FIGURE_FORMATS = ("png", "svg", "pdf")
PARQUET, NO_FIGURE = "parquet", "none"
TABLES = {"md": "md", "markdown": "md", "csv": "csv"}
"""the end of a file's name, by what --table may say"""
PROMPTS = ("given_text", "text")
"""options whose text has a message of its own where it is no Unicode"""
LARGEST_LIMIT = 1e100
"""of colours, which leaves room to compute with it"""


class CommandOptions(ABC):
    """What the command line makes of a command's arguments."""

    example: ClassVar[str | None] = None
    """a command line that shows what it is for"""

    @abstractmethod
    def run(self) -> Iterator[Path]:
        """Do what the command is for; yields each path once its file is there."""


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Where results go."""

    out: Annotated[
        Path, option("--out", "-o", section=OUTPUT, recorded=False, help="Folder for the files.")
    ] = Path("outputs")
    name: Annotated[
        str | None,
        option(
            "--name",
            section=OUTPUT,
            recorded=False,
            help="Stem of the file names; {n} is the line's number.",
            show_default="from the prompt",
        ),
    ] = None
    skip_existing: Annotated[
        bool,
        option(
            "--skip-existing",
            section=OUTPUT,
            recorded=False,
            help="Do nothing if all files exist already.",
        ),
    ] = False
    dry_run: Annotated[
        bool,
        option("--dry-run", section=OUTPUT, recorded=False, help="Print the paths, write nothing."),
    ] = False
    quiet: Annotated[
        bool,
        option("--quiet", "-q", section=OUTPUT, recorded=False, help="No progress and no notes."),
    ] = False
    config: Annotated[
        Path | None,
        option(
            "--config",
            section=OUTPUT,
            recorded=False,
            is_eager=True,
            callback=load_preset,
            help="TOML file of options; flags and environment override it.",
        ),
    ] = None


JsonOption = Annotated[
    bool,
    option("--json/--no-json", section=OUTPUT, recorded=False, help="Write the numbers as JSON."),
]


@dataclass(frozen=True, kw_only=True)
class FigureOptions(OutputOptions, ABC):
    """Options of everything that draws."""

    allowed_formats: ClassVar[tuple[str, ...]] = FIGURE_FORMATS

    input_row: Annotated[
        bool | None,
        option(
            "--input-row/--no-input-row",
            section=LENS,
            help="Show what enters block 0 as the lowest row.",
            show_default="in KL and JS figures only",
        ),
    ] = FigureStyle.input_row
    format: Annotated[
        str,
        option(
            "--format",
            section=FIGURE,
            recorded=False,
            help="png, svg, pdf; several with commas; or none.",
        ),
    ] = "png,svg"
    vmin: Annotated[float | None, option("--vmin", section=FIGURE, help="Lower colour limit.")] = (
        FigureStyle.vmin
    )
    vmax: Annotated[float | None, option("--vmax", section=FIGURE, help="Upper colour limit.")] = (
        FigureStyle.vmax
    )
    dpi: Annotated[
        int, option("--dpi", section=FIGURE, min=30, max=1200, help="Resolution of PNG files.")
    ] = FigureStyle.dpi
    title: Annotated[
        str | None,
        option(
            "--title", section=FIGURE, help='Title, instead of quantity and model; "" for none.'
        ),
    ] = FigureStyle.title
    model_label: Annotated[
        str | None,
        option("--model-label", section=FIGURE, help="What the model is called in figures."),
    ] = FigureStyle.model_label
    font: Annotated[
        str | None,
        option("--font", section=FIGURE, help="Font family, or several with commas."),
    ] = FigureStyle.font
    bare: Annotated[
        bool,
        option(
            "--bare",
            section=FIGURE,
            help="Leave out title and notes; the caption, as .txt, says them.",
        ),
    ] = FigureStyle.bare

    def __post_init__(self) -> None:
        choice = f"choose from {', '.join(self.allowed_formats)}, or {NO_FIGURE}"
        if not self.written:
            raise UsageError(f"--format {self.format!r} names no format", choice)
        for name in self.written:
            if name not in self.allowed_formats and self.written != (NO_FIGURE,):
                raise UsageError(
                    f"--format {name!r} is unknown",
                    f"{nearest(name, self.allowed_formats)}{choice}",
                )
        for flag, limit in (("--vmin", self.vmin), ("--vmax", self.vmax)):
            if limit is not None and not abs(limit) <= LARGEST_LIMIT:
                raise UsageError(f"{flag} {limit:g} cannot be a colour limit", "give a number")
        for name, value in vars(self).items():
            for text in value if isinstance(value, list) else [value]:
                if name not in PROMPTS and isinstance(text, str):
                    require_unicode(text, flag_of(name))
        if self.vmin is not None and self.vmax is not None and self.vmin >= self.vmax:
            raise UsageError(
                f"--vmin {self.vmin:g} is not below --vmax {self.vmax:g}", "give a range"
            )

    @property
    def written(self) -> tuple[str, ...]:
        """What --format names, each once, in the order given."""
        return names_in(self.format)

    @property
    def formats(self) -> tuple[str, ...]:
        """Formats of figures; none where no figure is wanted."""
        return tuple(name for name in self.written if name in FIGURE_FORMATS)

    @property
    def parquet(self) -> bool:
        """Are all cells wanted as a Parquet table?"""
        return PARQUET in self.written

    @property
    def texts(self) -> tuple[str, ...]:
        """Ends of the names of the texts about each figure: its caption and its tables."""
        return ("txt",) if self.bare else ()

    @property
    def writes(self) -> bool:
        """Will there be any file?"""
        return bool(self.formats or self.parquet or self.texts)

    @property
    def figure_columns(self) -> int | None:
        """Most columns of a figure; None where a text is not split."""
        return None

    @property
    def shown(self) -> bool:
        """Is the grid printed in the terminal?"""
        return False


def files_and_metric(given: list[str]) -> tuple[list[Path], str | None]:
    """Files, and the last of what was given apart, if it is no file."""
    last = given[-1]
    only_files = len(given) == 1 or last.endswith(".json") or Path(last).exists()
    names, metric = (given, None) if only_files else (given[:-1], last)
    return [Path(name) for name in names], metric


def flag_of(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def require_unicode(text: str, flag: str) -> None:
    """Refuse what no file can hold: bytes of the command line that are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{flag} {text!r} is not valid Unicode at character {error.start}", "give it as UTF-8"
        ) from error


CmapOption = Annotated[
    str | None,
    option("--cmap", section=FIGURE, help="Colour map, as matplotlib or seaborn calls it."),
]


@dataclass(frozen=True, kw_only=True)
class CellOptions(FigureOptions, ABC):
    """Options of figures with a column for every position."""

    split: Annotated[
        int | None,
        option(
            "--split",
            section=COLUMNS,
            min=1,
            help="At most N columns per figure; files .1, .2, ...",
        ),
    ] = FigureStyle.split
    skip_first: Annotated[
        int,
        option(
            "--skip-first",
            section=FIGURE,
            min=0,
            help="Leave the first N positions out of the colour limits.",
        ),
    ] = FigureStyle.skip_first
    cmap: CmapOption = FigureStyle.cmap
    width: Annotated[
        Width,
        option(
            "--width",
            section=FIGURE,
            help="Page: single or double column of a paper, or slide; auto fits the text.",
        ),
    ] = FigureStyle.width
    height: Annotated[
        float | None,
        option(
            "--height",
            section=FIGURE,
            min=0.5,
            max=100,
            help="Height of the figure, in inches.",
            show_default="as the rows need",
        ),
    ] = FigureStyle.height
    font_size: Annotated[
        float | None,
        option(
            "--font-size",
            section=FIGURE,
            min=3,
            max=72,
            help="Of labels, in points; other texts in proportion.",
            show_default="that of the page",
        ),
    ] = FigureStyle.font_size
    changes_only: Annotated[
        bool,
        option(
            "--changes-only",
            section=FIGURE,
            help="Print a cell's text only where it differs from the row below.",
        ),
    ] = FigureStyle.changes_only
    show: Annotated[
        bool,
        option(
            "--show",
            section=OUTPUT,
            recorded=False,
            help="Print the grid here: on standard output if no file is written, else on standard "
            "error.",
        ),
    ] = False
    table: Annotated[
        str | None,
        option(
            "--table",
            section=OUTPUT,
            recorded=False,
            help="Also write the grid as a table: md, csv, or md,csv.",
        ),
    ] = None
    caption: Annotated[
        bool,
        option("--caption", section=OUTPUT, recorded=False, help="Also write a caption, as .txt."),
    ] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in names_in(self.table):
            if name not in TABLES:
                raise UsageError(f"--table {name!r} is unknown", "give md, csv, or md,csv")
        if self.table is not None and not names_in(self.table):
            raise UsageError(f"--table {self.table!r} names no format", "give md, csv, or md,csv")

    @property
    def texts(self) -> tuple[str, ...]:
        tables = dict.fromkeys(TABLES[name] for name in names_in(self.table))
        return (*(("txt",) if self.caption or self.bare else ()), *tables)

    @property
    def figure_columns(self) -> int | None:
        return self.split

    @property
    def shown(self) -> bool:
        return self.show


@dataclass(frozen=True, kw_only=True)
class ReadingCellOptions(CellOptions, ABC):
    """Options of cells that only a reading has, not a comparison of two."""

    allowed_formats = (*FIGURE_FORMATS, PARQUET)

    format: Annotated[
        str,
        option(
            "--format",
            section=FIGURE,
            recorded=False,
            help="png, svg, pdf, parquet; several with commas; or none.",
        ),
    ] = "png,svg"
    lock_in: Annotated[
        bool,
        option(
            "--lock-in",
            section=FIGURE,
            help="Add rows below: the layer from which the guess is the model's.",
        ),
    ] = FigureStyle.lock_in
    next_ranks: Annotated[
        bool,
        option(
            "--next-ranks",
            section=FIGURE,
            help="Add a row below: the true next token's rank in the output.",
        ),
    ] = FigureStyle.next_ranks
    probs: Annotated[
        bool, option("--probs", section=FIGURE, help="Print the probability below each guess.")
    ] = FigureStyle.probs
    delta: Annotated[
        bool,
        option("--delta", section=FIGURE, help="Show differences to the layer below, not values."),
    ] = FigureStyle.delta
