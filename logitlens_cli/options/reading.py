"""Options of the commands that run a model: the prompt, the rows and columns, many prompts."""

import re
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, ClassVar

from logitlens_cli.errors import UsageError
from logitlens_cli.lens.spec import PLAIN, Bos, Norm, ReadSpec, layer_numbers
from logitlens_cli.metrics.spec import MetricSpec
from logitlens_cli.metrics.table import FOLLOWED
from logitlens_cli.options.groups import (
    CommandOptions,
    FigureOptions,
    JsonOption,
    ReadingCellOptions,
)
from logitlens_cli.options.model_options import ModelName, ModelOptions
from logitlens_cli.options.option import COLUMNS, LENS, MANY, PROMPT, argument, option


class Engine(StrEnum):
    """Where prompts of a batch are read."""

    local = "local"
    ray = "ray"


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """One text."""

    given_text: Annotated[str | None, argument("TEXT", "The text itself, in quotes.")] = None
    text: Annotated[
        str | None,
        option("--text", "-t", section=PROMPT, recorded=False, help="The same, as an option."),
    ] = None
    file: Annotated[
        Path | None,
        option(
            "--file",
            "-f",
            section=PROMPT,
            recorded=False,
            help="Text file; - is standard input.",
        ),
    ] = None

    @property
    def one_text(self) -> dict[str, object]:
        """What one text can be given by, and what was given."""
        return {"TEXT": self.given_text, "--text": self.text, "--file": self.file}


ChatOption = Annotated[
    bool, option("--chat", section=PROMPT, help="Put the text into the model's chat template.")
]
BosOption = Annotated[
    Bos,
    option("--bos", section=COLUMNS, help="Start token: as the tokenizer does, always, or never."),
]


def require_one(sources: Mapping[str, object], nothing: str, hint: str) -> None:
    """UsageError unless exactly one of several options is given."""
    given = [name for name, value in sources.items() if value is not None]
    if not given:
        raise UsageError(nothing, hint)
    if len(given) > 1:
        named = f"{', '.join(given[:-1])} and {given[-1]}"
        raise UsageError(f"{named} cannot be combined", "give one prompt source")


@dataclass(frozen=True, kw_only=True)
class LinesOptions:
    """Many texts."""

    lines: Annotated[
        Path | None,
        option(
            "--lines",
            section=PROMPT,
            recorded=False,
            help='File with a prompt per line, or JSON lines of "text" and perhaps "name".',
        ),
    ] = None
    chat: ChatOption = ReadSpec.chat


@dataclass(frozen=True, kw_only=True)
class GridOptions:
    """Which rows and columns, and how they are decoded."""

    norm: Annotated[
        Norm,
        option(
            "--norm", section=LENS, help="Final norm: as it is, without gain and bias, or none."
        ),
    ] = ReadSpec.norm
    lens: Annotated[
        list[str] | None,
        option(
            "--lens",
            section=LENS,
            help="plain, fitted (see logitlens fit), a file, a folder or a hub name; may repeat.",
            show_default=PLAIN,
        ),
    ] = None
    lens_revision: Annotated[
        str | None,
        option("--lens-revision", section=LENS, help="Branch, tag or commit of a lens of the hub."),
    ] = ReadSpec.lens_revision
    every: Annotated[
        int,
        option(
            "--every", section=LENS, min=1, help="Show every Nth block, and always the last one."
        ),
    ] = ReadSpec.every
    layers: Annotated[
        str | None, option("--layers", section=LENS, help="Show only these blocks, as in 0,4,8-12.")
    ] = ReadSpec.layers
    subblocks: Annotated[
        bool,
        option(
            "--subblocks",
            section=LENS,
            help="Also show a row between attention and MLP of each block.",
        ),
    ] = ReadSpec.subblocks
    decoder_blocks: Annotated[
        int,
        option(
            "--decoder-blocks",
            section=LENS,
            min=0,
            help="Count the last N blocks as part of the decoder.",
        ),
    ] = ReadSpec.decoder_blocks
    window: Annotated[
        str | None,
        option(
            "--window",
            section=COLUMNS,
            help="Show positions A:B (negative from the end), or words of the text (dog#2: the "
            "second time).",
        ),
    ] = ReadSpec.window
    bos: BosOption = ReadSpec.bos

    @property
    def lenses(self) -> tuple[str, ...]:
        """The lenses asked for, each once."""
        return tuple(dict.fromkeys(self.lens or (PLAIN,)))


@dataclass(frozen=True, kw_only=True)
class BatchOptions:
    """How the prompts of --lines share the machine."""

    batch_tokens: Annotated[
        int | None,
        option(
            "--batch-tokens",
            section=MANY,
            recorded=False,
            min=1,
            help="Most tokens per forward pass, padding included.",
            show_default="from free memory",
        ),
    ] = None
    engine: Annotated[
        Engine,
        option("--engine", section=MANY, recorded=False, help="Read here, or on a Ray cluster."),
    ] = Engine.local
    address: Annotated[
        str | None,
        option(
            "--address",
            section=MANY,
            recorded=False,
            help="Address of the Ray cluster, as in ray://head:10001, or auto.",
            show_default="a new one on this machine",
        ),
    ] = None
    workers: Annotated[
        int | None,
        option(
            "--workers",
            section=MANY,
            recorded=False,
            min=1,
            help="Workers in the cluster, each with the model open.",
            show_default="one per GPU, or per machine",
        ),
    ] = None
    shard: Annotated[
        str | None,
        option(
            "--shard",
            section=MANY,
            recorded=False,
            help="Read only part I of N of the lines, as in 2/8.",
        ),
    ] = None

    @property
    def part(self) -> tuple[int, int]:
        """(number of the part, from 0; number of parts) of --shard."""
        return (0, 1) if self.shard is None else shard_spec(self.shard)


@dataclass(frozen=True, kw_only=True)
class DrawingOptions:
    """Who draws the prompts of --lines."""

    jobs: Annotated[
        int | None,
        option(
            "--jobs",
            section=MANY,
            recorded=False,
            min=0,
            help="Processes that draw while the model runs; 0 draws in between.",
            show_default="one per core",
        ),
    ] = None


def shard_spec(spec: str) -> tuple[int, int]:
    """ "2/8" as (1, 8)."""
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", spec)
    number, parts = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= parts:
        raise UsageError(f"--shard {spec!r} is not a part", "write I/N, with I from 1 to N")
    return number - 1, parts


@dataclass(frozen=True, kw_only=True)
class ReadOptions(
    BatchOptions,
    FigureOptions,
    GridOptions,
    ModelOptions,
    ModelName,
    LinesOptions,
    CommandOptions,
):
    """Options of every command that runs a model."""

    command: ClassVar[str]
    """its name on the command line"""
    way_out: ClassVar[str] = "drop one"
    """where nothing would be written"""

    json: JsonOption = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_one_prompt_source()
        if self.layers is not None and self.every != 1:
            raise UsageError("--layers and --every are both given", "give one of them")
        if self.layers is not None:
            layer_numbers(self.layers)
        _ = self.part
        if len(self.lenses) > 1 and self.lines is not None:
            raise UsageError(
                f"--lens {' and '.join(self.lenses)} cannot share --lines",
                "give one text, or run once for each lens",
            )
        if self.shard is not None and self.lines is None:
            raise UsageError(f"--shard {self.shard} without --lines", "name a file of prompts")
        if self.engine is Engine.ray and self.lines is None:
            raise UsageError("--engine ray without --lines", "name a file of prompts")
        if self.engine is Engine.local and (self.address or self.workers):
            raise UsageError("--address and --workers are for a cluster", "give --engine ray too")
        if self.chat and self.bos is Bos.add:
            raise UsageError(
                "--chat and --bos add are both given", "the template has its own start token"
            )
        if self.is_idle:
            raise UsageError("--format none and --no-json leave nothing to write", self.way_out)
        _ = self.metrics  # which may refuse

    @abstractmethod
    def require_one_prompt_source(self) -> None:
        """UsageError unless exactly one is given."""

    @property
    def writes(self) -> bool:
        return super().writes or self.json

    @property
    def is_idle(self) -> bool:
        """Will nobody see a result?"""
        return not self.writes

    @property
    @abstractmethod
    def metrics(self) -> Mapping[str, MetricSpec]:
        """What is computed, by its key in the dump."""

    @property
    def figures(self) -> tuple[str, ...]:
        """The figures that come of it."""
        return (self.command,)

    @property
    def follow(self) -> bool:
        """Are the tokens that were ever a top guess ranked too?"""
        return FOLLOWED in self.figures


@dataclass(frozen=True, kw_only=True)
class TextReadOptions(DrawingOptions, ReadOptions, TextOptions):
    """Options of the commands that read one text, or many one by one."""

    def require_one_prompt_source(self) -> None:
        require_one(
            {**self.one_text, "--lines": self.lines},
            "there is no prompt",
            "give a text in quotes, --file or --lines",
        )


@dataclass(frozen=True, kw_only=True)
class GridReadOptions(ReadingCellOptions, TextReadOptions):
    """Options of the commands whose figures have a cell for every layer and position."""

    way_out = "drop one, or give --show"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.show and self.lines is not None:
            raise UsageError(
                "--show is for one text, not for --lines",
                "give --text or --file, or show a dump with logitlens render --show",
            )

    @property
    def is_idle(self) -> bool:
        return super().is_idle and not self.show
