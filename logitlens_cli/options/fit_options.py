"""Options of a fit: what is fitted, to which texts, and where the lens goes."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from logitlens_cli.errors import UsageError, nearest
from logitlens_cli.lens.spec import Bos
from logitlens_cli.options.groups import FIGURE_FORMATS, NO_FIGURE
from logitlens_cli.options.model_options import ModelName, ModelOptions
from logitlens_cli.options.option import FIGURE, LENS, MANY, OUTPUT, PROMPT, names_in, option
from logitlens_cli.options.preset import load_preset
from logitlens_cli.options.reading import BatchOptions, BosOption, Engine, LinesOptions

LENS_SUFFIX = ".safetensors"


class Kind(StrEnum):
    """What is fitted."""

    linear = "linear"
    jacobian = "jacobian"


@dataclass(frozen=True, kw_only=True)
class FitOptions(BatchOptions, ModelOptions, ModelName, LinesOptions):
    """Options of the command that fits a lens."""

    sums: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE.sums]...", help="Sums of parts to merge, with --merge."),
    ] = None
    kind: Annotated[
        Kind,
        option(
            "--kind",
            section=LENS,
            help="linear: least squares, in one pass over the texts. jacobian: how the output "
            "moves with the layer, by as many backward passes as the model is wide.",
        ),
    ] = Kind.linear
    tokens: Annotated[
        int | None,
        option(
            "--tokens",
            section=LENS,
            min=1,
            help="Take at most N tokens, a sample of all lines.",
            show_default="all",
        ),
    ] = None
    ridge: Annotated[
        float,
        option(
            "--ridge",
            section=LENS,
            min=0.0,
            help="What is added to the diagonal of a linear fit, times its mean.",
        ),
    ] = 1e-4
    skip_first: Annotated[
        int,
        option(
            "--skip-first",
            section=LENS,
            min=0,
            max=200,
            help="Leave out the first N positions of each piece of text, whose streams are unlike "
            "all others.",
        ),
    ] = 4
    holdout: Annotated[
        Path | None,
        option(
            "--holdout",
            section=PROMPT,
            help="Measure the lens on the lines of this file.",
            show_default="on 5 % of the pieces of --lines, to which nothing is fitted",
        ),
    ] = None
    bos: BosOption = Bos.auto
    merge: Annotated[
        bool, option("--merge", section=MANY, help="Merge the sums of parts, exactly.")
    ] = False
    out: Annotated[
        Path | None,
        option(
            "--out",
            "-o",
            section=OUTPUT,
            recorded=False,
            help="File for the lens, FILE.safetensors; report and figure lie beside it.",
            show_default="where --lens fitted looks, of the default model",
        ),
    ] = None
    format: Annotated[
        str,
        option(
            "--format",
            section=FIGURE,
            recorded=False,
            help="Of the figure: png, svg, pdf; several with commas; or none.",
        ),
    ] = "png,svg"
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

    def __post_init__(self) -> None:
        self.require_one_source()
        _ = self.part
        if self.engine is Engine.local and (self.address or self.workers):
            raise UsageError("--address and --workers are for a cluster", "give --engine ray too")
        if not self.ridge < float("inf"):
            raise UsageError(f"--ridge {self.ridge:g} is no number to add", "give one such as 1e-4")
        if self.out is not None and self.out.suffix != LENS_SUFFIX:
            raise UsageError(f"--out {self.out} is no name of a lens", f"give FILE{LENS_SUFFIX}")
        choice = f"choose from {', '.join(FIGURE_FORMATS)}, or {NO_FIGURE}"
        if not self.written:
            raise UsageError(f"--format {self.format!r} names no format", choice)
        for name in self.written:
            if name not in FIGURE_FORMATS and self.written != (NO_FIGURE,):
                raise UsageError(
                    f"--format {name!r} is unknown", f"{nearest(name, FIGURE_FORMATS)}{choice}"
                )

    def require_one_source(self) -> None:
        """UsageError unless there are texts, or sums to merge."""
        if self.merge != bool(self.sums):
            raise UsageError(
                "--merge and the sums to merge go together",
                "write logitlens fit --merge FILE.sums FILE.sums --out FILE.safetensors",
            )
        if self.merge:
            for flag, given in (("--lines", self.lines), ("--holdout", self.holdout),
                                ("--shard", self.shard), ("--tokens", self.tokens)):  # fmt: skip
                if given is not None:
                    raise UsageError(f"--merge reads no text, so {flag} counts for nothing",
                                     "leave it out")  # fmt: skip
        elif self.lines is None:
            raise UsageError("there is no text", "give --lines, a file with one text per line")

    @property
    def written(self) -> tuple[str, ...]:
        """What --format names."""
        return names_in(self.format)

    @property
    def formats(self) -> tuple[str, ...]:
        """Formats of the figure; none where none is wanted."""
        return tuple(name for name in self.written if name in FIGURE_FORMATS)
