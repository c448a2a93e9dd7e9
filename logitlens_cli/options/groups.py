"""Every option, declared once; the commands as frozen dataclasses.

Typer builds a command's request from its fields, subclasses inherit them, and a request checks
itself when it is made. Knows nothing of what is done with it, and loads nothing heavy. (No
postponed annotations in this module: Typer reads them.)
"""

import re
import tomllib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, ClassVar

import typer
from typer.core import TyperCommand

from logitlens_cli.errors import UsageError
from logitlens_cli.metrics.table import COLORS, FOLLOWED, LINES, METRICS, TRACE, Measure

FORMATS = ("png", "svg", "pdf")
PARQUET, NO_FIGURE = "parquet", "none"
TABLES = {"md": "md", "markdown": "md", "csv": "csv"}
"""the end of a file's name, by what --table may say"""


class Norm(StrEnum):
    """What becomes of the final norm before the head."""

    full = "full"
    no_affine = "no-affine"
    none = "none"


class Bos(StrEnum):
    """Is there a start token before the text?"""

    auto = "auto"
    add = "add"
    none = "none"


class Dtype(StrEnum):
    """Of the model's body; norm, head and metrics are float32 always."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class DeviceMap(StrEnum):
    """How accelerate spreads a model over devices."""

    auto = "auto"
    balanced = "balanced"
    sequential = "sequential"


class Width(StrEnum):
    """The page that a figure must fit."""

    auto = "auto"
    single = "single"
    double = "double"
    slide = "slide"


class Engine(StrEnum):
    """Where prompts of a batch are read."""

    local = "local"
    ray = "ray"


class Direction(StrEnum):
    """KL(reference || layer) or KL(layer || reference)."""

    forward = "forward"
    reverse = "reverse"


class Traced(StrEnum):
    """What a line over layers shows: the first three of tokens, the others of a whole column."""

    prob = "prob"
    rank = "rank"
    logit = "logit"
    cross_entropy = "cross-entropy"
    entropy = "entropy"
    kl_final = "kl-final"
    kl_input = "kl-input"


OF_TOKENS = (Traced.prob, Traced.rank, Traced.logit)


Color = StrEnum("Color", {name.replace("-", "_"): name for name in COLORS})  # type: ignore[misc]
OWN_LOGIT = Color(COLORS[0])


def option(*names: str, panel: str, help: str, **rest: Any) -> Any:
    """An option that the environment may set too, as LOGITLENS_ and its long name."""
    long = next(name for name in names if name.startswith("--")).split("/")[0]
    variable = "LOGITLENS_" + long.removeprefix("--").replace("-", "_").upper()
    return typer.Option(
        *names, help=help, rich_help_panel=panel, envvar=variable, show_envvar=False, **rest
    )


LARGEST_PRESET = 2**20
"""bytes"""
MOST = 1e100
"""the largest limit of colours, which leaves room to compute with it"""


def load_preset(context: typer.Context, path: Path | None) -> Path | None:
    """Make a preset's keys the defaults of the command; they have the names of its options."""
    if path is None or context.resilient_parsing:
        return path
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_PRESET + 1)
        if len(data) > LARGEST_PRESET:
            raise ValueError(f"it has more than {LARGEST_PRESET >> 20} MB")
        preset = tomllib.loads(data.decode("utf-8-sig"))
    except OSError as error:
        raise UsageError(f"--config {path}: {error.strerror}", "name a preset file") from error
    except (ValueError, RecursionError) as error:  # a number of 5000 digits is a plain ValueError
        raise UsageError(f"--config {path} is not TOML ({error})", "mend the file") from error
    options = (p for p in context.command.params if p.param_type_name == "option")
    known = {p.name: p for p in options if p.name not in (None, "config", "help")}
    defaults: dict[str, Any] = {}
    for key, value in preset.items():
        name = key.replace("-", "_")
        if name not in known:
            raise UsageError(
                f"--config {path}: unknown key {key!r}",
                f"keys are the options of logitlens {context.info_name}",
            )
        repeats = getattr(known[name], "multiple", False)
        many = repeats and isinstance(value, list) and all(isinstance(v, str) for v in value)
        stray = isinstance(value, bool) and not getattr(known[name], "is_flag", False)
        if stray or (not many and not isinstance(value, (str, int, float, bool))):
            raise UsageError(
                f"--config {path}: {key} is a {type(value).__name__}",
                "write the value as on the command line",
            )
        # Files are named beside the preset, wherever the command runs.
        is_path = name in ("file", "lines") and value != "-"
        value = str(path.parent / str(value)) if is_path else value
        if repeats:
            defaults[name] = value if many else [str(value)]
        else:
            defaults[name] = value if isinstance(value, bool) else str(value)
    context.default_map = defaults
    return path


SOURCES = ("COMMANDLINE", "ENVIRONMENT", "DEFAULT_MAP", "DEFAULT")  # Typer's names, strongest first
RIVALS = (("text", "file", "lines"), ("layers", "every"))
"""options of which only one can be given"""


class Command(TyperCommand):
    """A command in which the rivals of an option from a weaker source make way for it (--text goes
    before the file of a preset), and whose help shows the options in their groups."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                panel = getattr(parameter, "rich_help_panel", None)
                own = "Arguments" if parameter.param_type_name == "argument" else "Options"
                groups.setdefault(panel or own, []).append(record)
        for name, records in groups.items():
            with formatter.section(name):
                formatter.write_dl(records)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for p in self.params:  # what the environment says is one value, spaces and all: " Paris"
            p.envvar_list_splitter = "\0"  # type: ignore[misc]
        rest = super().parse_args(ctx, args)
        for group in RIVALS:
            rivals = [p for p in self.params if p.name in group]
            strength = {
                p.name: SOURCES.index(source.name)
                for p in rivals
                if p.name and (source := ctx.get_parameter_source(p.name))
            }
            for p in rivals:
                if p.name and strength[p.name] > min(strength.values()):
                    ctx.params[p.name] = p.default
        return rest


OF_ONE_READING = ("lock_in", "next_ranks", "probs", "delta")
"""styles that neither a summary nor a comparison has"""
OF_CELLS = (
    *("split", "cmap", "skip_first", "changes_only", "width", "show", "table", "caption"),
    *OF_ONE_READING,
)
PROMPT, MODEL, LENS, COLUMNS = "Prompt", "Model", "Lens", "Columns"
METRIC, FIGURE, OUTPUT, MANY = "Metric", "Figure", "Output", "Many prompts"


def refuse(request: Any, names: Sequence[str], what: str, hint: str = "leave it out") -> None:
    """UsageError for an option that was given and has no meaning there."""
    own = {field.name: field.default for field in fields(request)}
    for name in names:
        if getattr(request, name) != own[name]:
            flag = f"--{name.replace('_', '-')}"
            raise UsageError(f"{flag} has no meaning for {what}", hint)


@dataclass(frozen=True, kw_only=True)
class Prompting:
    """Which text."""

    text: Annotated[str | None, option("--text", "-t", panel=PROMPT, help="The text itself.")] = (
        None
    )
    file: Annotated[
        Path | None, option("--file", "-f", panel=PROMPT, help="A text file; - is standard input.")
    ] = None
    lines: Annotated[
        Path | None,
        option("--lines", panel=PROMPT, help='A prompt a line; .jsonl: "text", optional "name".'),
    ] = None
    chat: Annotated[
        bool,
        option("--chat", panel=PROMPT, help="Put the text into the model's chat template."),
    ] = False


@dataclass(frozen=True, kw_only=True)
class Named:
    """Which model."""

    model: Annotated[
        str,
        option("--model", "-m", panel=MODEL, help="smollm2, a hub name, a folder, a .gguf file."),
    ] = "smollm2"


@dataclass(frozen=True, kw_only=True)
class Opening:
    """How a model is opened."""

    revision: Annotated[
        str | None, option("--revision", panel=MODEL, help="Branch, tag or commit on the hub.")
    ] = None
    device: Annotated[
        str, option("--device", panel=MODEL, help="cpu, cuda, cuda:1, mps; auto takes the best.")
    ] = "auto"
    dtype: Annotated[
        Dtype, option("--dtype", panel=MODEL, help="Of the body; metrics are float32 always.")
    ] = Dtype.auto
    device_map: Annotated[
        DeviceMap | None,
        option(
            "--device-map",
            panel=MODEL,
            help="Let accelerate spread the model over all devices.",
            show_default="one device",
        ),
    ] = None
    offline: Annotated[bool, option("--offline", panel=MODEL, help="Never touch the network.")] = (
        False
    )
    trust_remote_code: Annotated[
        bool, option("--trust-remote-code", panel=MODEL, help="Run code that comes with a model.")
    ] = False
    allow_pickle: Annotated[
        bool, option("--allow-pickle", panel=MODEL, help="Read weights that can run code.")
    ] = False


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Which rows and columns, and how they are decoded."""

    norm: Annotated[
        Norm,
        option("--norm", panel=LENS, help="The final norm: whole, without gain and bias, none."),
    ] = Norm.full
    every: Annotated[
        int,
        option("--every", panel=LENS, min=1, help="Every Nth block; the last is always kept."),
    ] = 1
    layers: Annotated[
        str | None, option("--layers", panel=LENS, help="These blocks only, as in 0,4,8-12.")
    ] = None
    subblocks: Annotated[
        bool,
        option("--subblocks", panel=LENS, help="Also rows between the halves of each block."),
    ] = False
    decoder_blocks: Annotated[
        int,
        option("--decoder-blocks", panel=LENS, min=0, help="Let the last N blocks decode too."),
    ] = 0
    window: Annotated[
        str | None,
        option(
            "--window",
            panel=COLUMNS,
            help="Positions A:B, negatives allowed, or words of the text.",
        ),
    ] = None
    bos: Annotated[
        Bos, option("--bos", panel=COLUMNS, help="Start token: the tokenizer's habit, add, none.")
    ] = Bos.auto


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Options of everything that draws."""

    input_row: Annotated[
        bool | None,
        option(
            "--input-row/--no-input-row",
            panel=LENS,
            help="Show what enters block 0 as the lowest row.",
            show_default="in KL and JS figures only",
        ),
    ] = None
    split: Annotated[
        int | None,
        option(
            "--split", panel=COLUMNS, min=1, help="At most N columns a figure; files .1, .2, ..."
        ),
    ] = None
    skip_first: Annotated[
        int,
        option(
            "--skip-first",
            panel=FIGURE,
            min=0,
            help="Colour limits leave the first N positions out.",
        ),
    ] = 0
    format: Annotated[
        str,
        option(
            "--format", panel=FIGURE, help="png, svg, pdf, parquet; several with commas; or none."
        ),
    ] = "png,svg"
    vmin: Annotated[
        float | None, option("--vmin", panel=FIGURE, help="Lower limit of the colours.")
    ] = None
    vmax: Annotated[
        float | None, option("--vmax", panel=FIGURE, help="Upper limit of the colours.")
    ] = None
    cmap: Annotated[
        str | None, option("--cmap", panel=FIGURE, help="A colour map of matplotlib or seaborn.")
    ] = None
    width: Annotated[
        Width,
        option(
            "--width",
            panel=FIGURE,
            help="Of the page: single or double column of a paper, slide; auto fits the text.",
        ),
    ] = Width.auto
    lock_in: Annotated[
        bool,
        option(
            "--lock-in", panel=FIGURE, help="Below: from which layer on the guess is the model's."
        ),
    ] = False
    next_ranks: Annotated[
        bool,
        option("--next-ranks", panel=FIGURE, help="Below: the true next token's rank at the end."),
    ] = False
    probs: Annotated[
        bool, option("--probs", panel=FIGURE, help="Print the probability below each guess.")
    ] = False
    delta: Annotated[
        bool,
        option("--delta", panel=FIGURE, help="Show differences to the layer below, not values."),
    ] = False
    dpi: Annotated[
        int, option("--dpi", panel=FIGURE, min=30, max=1200, help="Resolution of PNG files.")
    ] = 300
    title: Annotated[
        str | None, option("--title", panel=FIGURE, help="Title instead of the model and quantity.")
    ] = None
    changes_only: Annotated[
        bool,
        option(
            "--changes-only",
            panel=FIGURE,
            help="Print a cell's text only where it differs from the row below.",
        ),
    ] = False
    show: Annotated[
        bool,
        option(
            "--show",
            panel=OUTPUT,
            help="Print the grid here: on standard output if no file is written, else on standard "
            "error.",
        ),
    ] = False
    table: Annotated[
        str | None, option("--table", panel=OUTPUT, help="Write the grid too: md, csv, or md,csv.")
    ] = None
    caption: Annotated[
        bool, option("--caption", panel=OUTPUT, help="Write a caption too, as .txt.")
    ] = False
    out: Annotated[Path, option("--out", "-o", panel=OUTPUT, help="Folder for the files.")] = Path(
        "outputs"
    )
    name: Annotated[
        str | None,
        option(
            "--name",
            panel=OUTPUT,
            help="Stem of the files; {n} is the line's number.",
            show_default="from the prompt",
        ),
    ] = None
    skip_existing: Annotated[
        bool, option("--skip-existing", panel=OUTPUT, help="Do nothing where all files are there.")
    ] = False
    dry_run: Annotated[
        bool, option("--dry-run", panel=OUTPUT, help="Print the paths, write nothing.")
    ] = False
    quiet: Annotated[
        bool, option("--quiet", "-q", panel=OUTPUT, help="No progress and no notes.")
    ] = False
    config: Annotated[
        Path | None,
        option(
            "--config",
            panel=OUTPUT,
            is_eager=True,
            callback=load_preset,
            help="A TOML file of options; flags and environment go before it.",
        ),
    ] = None

    def __post_init__(self) -> None:
        choice = f"choose of {', '.join((*FORMATS, PARQUET))}, or {NO_FIGURE}"
        if not self.written:
            raise UsageError(f"--format {self.format!r} names no format", choice)
        for name in self.written:
            if name not in (*FORMATS, PARQUET) and self.written != (NO_FIGURE,):
                raise UsageError(f"--format {name!r} is unknown", choice)
        for name in names_in(self.table):
            if name not in TABLES:
                raise UsageError(f"--table {name!r} is unknown", "give md, csv, or md,csv")
        if self.table is not None and not names_in(self.table):
            raise UsageError(f"--table {self.table!r} names no format", "give md, csv, or md,csv")
        for name, limit in (("--vmin", self.vmin), ("--vmax", self.vmax)):
            if limit is not None and not abs(limit) <= MOST:
                raise UsageError(f"{name} {limit:g} is no limit of colours", "give a number")
        for name, value in vars(self).items():
            for text in value if isinstance(value, list) else [value]:
                if name != "text" and isinstance(text, str):  # the prompt has words of its own
                    require_unicode(text, f"--{name.replace('_', '-')}")
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
        """Of figures; none where no figure is wanted."""
        return tuple(name for name in self.written if name in FORMATS)

    @property
    def parquet(self) -> bool:
        """Are all cells wanted as a Parquet table?"""
        return PARQUET in self.written

    @property
    def texts(self) -> tuple[str, ...]:
        """Ends of the names of the texts about each figure: its caption and its tables."""
        tables = dict.fromkeys(TABLES[name] for name in names_in(self.table))
        return (*(("txt",) if self.caption else ()), *tables)

    @property
    def writes(self) -> bool:
        """Will there be any file?"""
        return bool(self.formats or self.parquet or self.texts)


def names_in(spec: str | None) -> tuple[str, ...]:
    """The names in a list with commas, each once, in the order given."""
    names = (name.strip().lower() for name in (spec or "").split(","))
    return tuple(dict.fromkeys(name for name in names if name))


def require_unicode(text: str, option: str) -> None:
    """Refuse what no file can hold: bytes of the command line that are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{option} {text!r} is not valid Unicode at character {error.start}", "give it as UTF-8"
        ) from error


@dataclass(frozen=True, kw_only=True)
class Many:
    """How the prompts of --lines share the machine."""

    batch_tokens: Annotated[
        int | None,
        option(
            "--batch-tokens",
            panel=MANY,
            min=1,
            help="Most tokens of prompts that share a pass, fill included.",
            show_default="from free memory",
        ),
    ] = None
    jobs: Annotated[
        int | None,
        option(
            "--jobs",
            panel=MANY,
            min=0,
            help="Processes that draw while the model runs; 0: draw in between.",
            show_default="one a core",
        ),
    ] = None
    engine: Annotated[
        Engine, option("--engine", panel=MANY, help="Read here, or on a Ray cluster.")
    ] = Engine.local
    address: Annotated[
        str | None,
        option(
            "--address",
            panel=MANY,
            help="Of the Ray cluster, as in ray://head:10001 or auto.",
            show_default="a new one on this machine",
        ),
    ] = None
    workers: Annotated[
        int | None,
        option(
            "--workers",
            panel=MANY,
            min=1,
            help="Models that are open in the cluster.",
            show_default="one a GPU, or a machine",
        ),
    ] = None
    shard: Annotated[
        str | None,
        option("--shard", panel=MANY, help="Only part I/N of the lines, as in 2/8."),
    ] = None

    @property
    def part(self) -> tuple[int, int]:
        """(number of the part, from 0; parts) of --shard."""
        return (0, 1) if self.shard is None else shard_spec(self.shard)


def shard_spec(spec: str) -> tuple[int, int]:
    """ "2/8" as (1, 8)."""
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", spec)
    number, parts = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1 <= number <= parts:
        raise UsageError(f"--shard {spec!r} is no part", "write I/N, with I from 1 to N")
    return number - 1, parts


JsonOption = Annotated[bool, option("--json/--no-json", panel=OUTPUT, help="Write the numbers.")]


@dataclass(frozen=True, kw_only=True)
class Read(Many, Figures, Grid, Opening, Named, Prompting, ABC):
    """Options of every command that runs a model."""

    json: JsonOption = True

    def __post_init__(self) -> None:
        super().__post_init__()
        sources = {"--text": self.text, "--file": self.file, "--lines": self.lines}
        given = [name for name, value in sources.items() if value is not None]
        if not given and self.prompted:
            raise UsageError("there is no prompt", "give --text, --file or --lines")
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)} are both given", "give one prompt source")
        if self.layers is not None and self.every != 1:
            raise UsageError("--layers and --every are both given", "give one of them")
        if self.layers is not None:
            layer_spec(self.layers)
        _ = self.part
        if self.shard is not None and self.lines is None:
            raise UsageError(f"--shard {self.shard} without --lines", "name a file of prompts")
        if self.engine is Engine.ray and self.lines is None:
            raise UsageError("--engine ray without --lines", "name a file of prompts")
        if self.engine is Engine.local and (self.address or self.workers):
            raise UsageError("--address and --workers are of a cluster", "give --engine ray too")
        if not self.writes and not self.show:
            raise UsageError(
                "--format none and --no-json leave nothing to write", "drop one, or --show"
            )
        if self.show and self.lines is not None:
            raise UsageError(
                "--show is of one text, not of --lines",
                "give --text or --file, or show a dump with logitlens render --show",
            )
        if self.chat and self.bos is Bos.add:
            raise UsageError(
                "--chat and --bos add are both given", "the template has its own start token"
            )

    @property
    def writes(self) -> bool:
        return super().writes or self.json

    @property
    @abstractmethod
    def command(self) -> str:
        """Its name on the command line."""

    @property
    def prompted(self) -> bool:
        """Is there a text to read?"""
        return True

    @property
    def figures(self) -> tuple[str, ...]:
        """The figures that come of it."""
        return (self.command,)

    @property
    def of_cells(self) -> bool:
        """Have its figures a column for every position?"""
        return True

    @property
    @abstractmethod
    def measures(self) -> dict[str, Measure]:
        """What is measured, by its key in the dump."""

    @property
    def guesses(self) -> int:
        """How many guesses of a cell the dump holds."""
        return 1

    @property
    def follows(self) -> bool:
        """Are the tokens that were ever a top guess ranked too?"""
        return FOLLOWED in self.figures

    @property
    def chosen(self) -> tuple[str, ...]:
        """Tokens that are followed whether or not they were ever a top guess."""
        return ()

    @property
    def single(self) -> bool:
        """Is one column all that is read?"""
        return False

    @property
    def column(self) -> int | None:
        """Position of a single column; None is the last one."""
        return None

    def rows(self, blocks: int) -> tuple[int, ...]:
        """Numbers of the blocks asked for, of a model with that many, ascending."""
        if self.layers is None:
            return tuple(sorted({*range(0, blocks, self.every), blocks - 1}))
        chosen = layer_spec(self.layers)
        if chosen[-1] >= blocks:
            raise UsageError(
                f"--layers {self.layers}: there is no block {chosen[-1]}",
                f"the model's blocks are 0 to {blocks - 1}",
            )
        return chosen


def layer_spec(spec: str) -> tuple[int, ...]:
    """The numbers that "0,4,8-12" stands for, ascending."""
    ranges = []
    for part in spec.split(","):
        match = re.fullmatch(r"\s*(\d{1,6})(?:\s*-\s*(\d{1,6}))?\s*", part)
        if match is None:
            raise UsageError(f"--layers {spec}: {part!r} is no block", "write 0,4,8-12")
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last:
            raise UsageError(f"--layers {spec}: {part!r} runs backwards", f"write {last}-{first}")
        ranges.append((first, last))
    chosen: list[int] = []
    for first, last in sorted(ranges):  # every number once, however often it is named
        chosen += range(max(first, chosen[-1] + 1) if chosen else first, last + 1)
    return tuple(chosen)


K = Annotated[
    int, option("--k", panel=METRIC, min=1, max=1000, help="Guesses of each cell in the JSON.")
]
ColorOption = Annotated[
    Color, option("--color", panel=METRIC, help="What colours the cells of top guesses.")
]
TargetOption = Annotated[
    list[str] | None,
    option(
        "--target",
        panel=METRIC,
        help="Whose rank: final, input, next, a token's TEXT, id:N; may repeat. auto: every token "
        "that was ever the top guess in the last column.",
        show_default="final",
    ),
]
OneTarget = Annotated[
    str,
    option("--target", panel=METRIC, help="Whose: final, input, next, a token's TEXT, or id:N."),
]
Minus = Annotated[
    str, option("--minus", panel=METRIC, help="Whose is subtracted; words as of --target.")
]
Compared = Annotated[
    int,
    option("--k", panel=METRIC, min=1, max=1000, help="Best tokens compared, and in the JSON."),
]
AUTO = "auto"


def rank_measures(targets: Sequence[str] | None) -> dict[str, Measure]:
    """One target is "rank"; several are "rank-final", "rank-input", "rank-paris", ..."""
    wanted = list(dict.fromkeys(targets or ("final",)))
    ranked = [target for target in wanted if target != AUTO]
    if len(wanted) == 1:
        return dict.fromkeys(["rank"] if ranked else [], Measure(metric="rank", target=wanted[0]))
    made: dict[str, Measure] = {}
    for n, target in enumerate(ranked, 1):
        words = re.sub(r"[^a-z0-9]+", "-", target.lower()).strip("-") or str(n)
        keys = (f"rank-{words}", *(f"rank-{words}-{i}" for i in range(n, 2 * n)))
        made[next(key for key in keys if key not in made)] = Measure(metric="rank", target=target)
    return made


def rank_figures(targets: Sequence[str] | None) -> tuple[str, ...]:
    auto = (FOLLOWED,) if targets and AUTO in targets else ()
    return tuple(rank_measures(targets)) + auto


def one_target(name: str, target: str) -> str:
    """A target that is no list of tokens."""
    if target == AUTO:
        raise UsageError(
            f"{name} {AUTO} is of ranks", "name one token; one that is spelled so is id:N"
        )
    return target


DirectionOption = Annotated[
    Direction, option("--direction", panel=METRIC, help="KL(reference || layer), or the reverse.")
]
OneHot = Annotated[
    bool,
    option(
        "--one-hot",
        panel=METRIC,
        help="Measure from the input token itself, not from the decoded input row.",
    ),
]


def topk_measures(color: str) -> dict[str, Measure]:
    # The first three cost nothing beside the guesses, so render can always choose among them.
    names = dict.fromkeys(["own-logit", "final-logit", "prob", color])
    return {name: Measure(metric=name) for name in names}


def kl_measure(metric: str, direction: Direction, one_hot: bool = False) -> Measure:
    if one_hot and direction is Direction.reverse:
        raise UsageError(
            "--one-hot with --direction reverse: KL(layer || input token) is infinite",
            "use the forward direction",
        )
    return Measure(metric=metric, reverse=direction is Direction.reverse, one_hot=one_hot)


@dataclass(frozen=True, kw_only=True)
class TopK(Read):
    """Top guesses of every layer, coloured by their logit."""

    k: K = 5
    color: ColorOption = OWN_LOGIT

    @property
    def command(self) -> str:
        return "topk"

    @property
    def measures(self) -> dict[str, Measure]:
        return topk_measures(self.color)

    @property
    def guesses(self) -> int:
        return self.k


@dataclass(frozen=True, kw_only=True)
class Rank(Read):
    """Rank of a token at every layer, by default the final guess."""

    target: TargetOption = None

    @property
    def command(self) -> str:
        return "rank"

    @property
    def measures(self) -> dict[str, Measure]:
        return rank_measures(self.target)

    @property
    def figures(self) -> tuple[str, ...]:
        return rank_figures(self.target)


@dataclass(frozen=True, kw_only=True)
class OneMetric(Read):
    """A command with the name of the one metric that it measures."""

    metric: ClassVar[str]

    @property
    def command(self) -> str:
        return self.metric

    @property
    def measure(self) -> Measure:
        return Measure(metric=self.metric)

    @property
    def measures(self) -> dict[str, Measure]:
        return {self.metric: self.measure}

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.measures  # which may refuse


@dataclass(frozen=True, kw_only=True)
class KlFinal(OneMetric):
    """KL divergence from the model's output to every layer."""

    metric = "kl-final"
    direction: DirectionOption = Direction.forward

    @property
    def measure(self) -> Measure:
        return kl_measure(self.metric, self.direction)


@dataclass(frozen=True, kw_only=True)
class KlInput(OneMetric):
    """KL divergence from the decoded input to every layer."""

    metric = "kl-input"
    direction: DirectionOption = Direction.forward
    one_hot: OneHot = False

    @property
    def measure(self) -> Measure:
        return kl_measure(self.metric, self.direction, self.one_hot)


@dataclass(frozen=True, kw_only=True)
class Js(OneMetric):
    """Jensen-Shannon divergence of every layer and the model's output."""

    metric = "js"


@dataclass(frozen=True, kw_only=True)
class Overlap(OneMetric):
    """Share of a layer's best tokens that are among the output's best."""

    metric = "overlap"
    k: Compared = 10

    @property
    def measure(self) -> Measure:
        return Measure(metric=self.metric, k=self.k)

    @property
    def guesses(self) -> int:
        return self.k


@dataclass(frozen=True, kw_only=True)
class Entropy(OneMetric):
    """Entropy of every layer's distribution."""

    metric = "entropy"


@dataclass(frozen=True, kw_only=True)
class OfToken(OneMetric):
    """A metric of one token."""

    target: OneTarget = "final"

    @property
    def measure(self) -> Measure:
        return Measure(metric=self.metric, target=one_target("--target", self.target))


@dataclass(frozen=True, kw_only=True)
class CrossEntropy(OfToken):
    """Cross-entropy of a token at every layer, by default the true next one."""

    metric = "cross-entropy"
    target: OneTarget = "next"


@dataclass(frozen=True, kw_only=True)
class TokenProb(OfToken):
    """Probability of a token at every layer, by default the final guess."""

    metric = "token-prob"


@dataclass(frozen=True, kw_only=True)
class LogitDiff(OneMetric):
    """Logit of one token minus that of another at every layer."""

    metric = "logit-diff"
    target: OneTarget = "final"
    minus: Minus = "input"

    @property
    def measure(self) -> Measure:
        if self.target == self.minus:
            raise UsageError(
                f"--target and --minus are both {self.target!r}, which differ by 0",
                "name two tokens",
            )
        return Measure(
            metric=self.metric,
            target=one_target("--target", self.target),
            minus=one_target("--minus", self.minus),
        )


@dataclass(frozen=True, kw_only=True)
class All(Read):
    """The four figures from one forward pass."""

    k: K = 5
    color: ColorOption = OWN_LOGIT
    target: TargetOption = None
    direction: DirectionOption = Direction.forward
    one_hot: OneHot = False

    @property
    def command(self) -> str:
        return "all"

    @property
    def figures(self) -> tuple[str, ...]:
        return ("topk", *rank_figures(self.target), "kl-final", "kl-input")

    @property
    def measures(self) -> dict[str, Measure]:
        return {
            **topk_measures(self.color),
            **rank_measures(self.target),
            "kl-final": kl_measure("kl-final", self.direction),
            "kl-input": kl_measure("kl-input", self.direction, self.one_hot),
        }

    @property
    def guesses(self) -> int:
        return self.k

    def __post_init__(self) -> None:
        super().__post_init__()
        _ = self.measures


@dataclass(frozen=True, kw_only=True)
class Trace(Read):
    """Lines over layers: tokens at one position, or a metric over all."""

    metric: Annotated[
        Traced,
        option(
            "--metric",
            panel=METRIC,
            help="Of tokens (prob, rank, logit) or of whole columns (the others; rank too).",
        ),
    ] = Traced.prob
    position: Annotated[
        str | None,
        option(
            "--position",
            panel=COLUMNS,
            help="One position, negatives from the end; all: median, mean and quantiles over the "
            "positions.",
            show_default="the last for tokens, else all",
        ),
    ] = None
    target: Annotated[
        list[str] | None,
        option(
            "--target",
            panel=METRIC,
            help="Whose line: final, input, next, a token's TEXT, id:N; may repeat. auto: every "
            "token that was ever the top guess there.",
            show_default="auto; over all positions final, of cross-entropy next",
        ),
    ] = None
    direction: DirectionOption = Direction.forward
    one_hot: OneHot = False
    log: Annotated[bool, option("--log", panel=FIGURE, help="A logarithmic axis for prob.")] = False

    @property
    def command(self) -> str:
        return TRACE

    @property
    def single(self) -> bool:
        return self.metric in OF_TOKENS if self.position is None else self.position != "all"

    @property
    def of_cells(self) -> bool:
        return False

    @property
    def column(self) -> int | None:
        return int(self.position) if self.position not in (None, "all") else None

    @property
    def of_tokens(self) -> bool:
        """Is there a line for every token?"""
        return self.single and self.metric in OF_TOKENS

    @property
    def targets(self) -> tuple[str, ...]:
        """Whose lines, each once."""
        usual = AUTO if self.of_tokens else "final" if self.metric is Traced.rank else "next"
        return tuple(dict.fromkeys(self.target or (usual,)))

    @property
    def measures(self) -> dict[str, Measure]:
        name = self.metric.value
        if self.of_tokens:
            return {}
        if self.metric in (Traced.rank, Traced.cross_entropy):
            return {name: Measure(metric=name, target=self.targets[0])}
        return {name: kl_measure(name, self.direction, self.one_hot)}

    @property
    def chosen(self) -> tuple[str, ...]:
        return tuple(t for t in self.targets if t != AUTO) if self.of_tokens else ()

    @property
    def follows(self) -> bool:
        return self.of_tokens and AUTO in self.targets

    def __post_init__(self) -> None:
        super().__post_init__()
        name, position = self.metric.value, self.position
        if position is not None and not re.fullmatch(r"all|-?\d{1,18}", position, re.ASCII):
            raise UsageError(f"--position {position!r} is none", "give a number, or all")
        if self.metric in OF_TOKENS and not self.single and self.metric is not Traced.rank:
            raise UsageError(
                f"--metric {name} is of tokens at one position", "over all, take cross-entropy"
            )
        if not self.of_tokens:
            self.require_one_target()
        if len(self.targets) > LINES:
            raise UsageError(
                f"--target is given {len(self.targets)} times", f"{LINES} lines can be told apart"
            )
        if self.one_hot and self.metric is not Traced.kl_input:
            raise UsageError(f"--one-hot is not of {name}", "take --metric kl-input")
        if self.direction is Direction.reverse and not name.startswith("kl-"):
            raise UsageError(f"--direction is not of {name}", "take kl-final or kl-input")
        if self.log and self.metric is not Traced.prob:
            raise UsageError(f"--log is not of {name}", "ranks have it anyhow, the others are logs")
        if self.parquet:
            raise UsageError("--format parquet is of cells, not of lines", "use rank or all")
        refuse(self, OF_CELLS, "a trace, which has no cells")
        _ = self.measures

    def require_one_target(self) -> None:
        """Where a metric has one line or band, of one target or none."""
        name = self.metric.value
        if self.target and self.metric not in (Traced.rank, Traced.cross_entropy):
            raise UsageError(f"--target is not of {name}", "leave it out")
        if len(self.targets) > 1 or AUTO in self.targets:
            raise UsageError(
                f"--target {', '.join(map(repr, self.targets))}: {name} has one line here",
                "give one token, or final, input, next",
            )


@dataclass(frozen=True, kw_only=True)
class Stats(Read):
    """Means and quantiles over many prompts, for every layer."""

    dumps: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE.json]...", help="Summaries to put together, with --merge."),
    ] = None
    merge: Annotated[
        bool, option("--merge", panel=MANY, help="Put summaries of parts together, exactly.")
    ] = False

    @property
    def command(self) -> str:
        return "stats"

    @property
    def prompted(self) -> bool:
        return not self.merge

    @property
    def figures(self) -> tuple[str, ...]:
        return ("stats", "positions")

    @property
    def of_cells(self) -> bool:
        return False

    @property
    def measures(self) -> dict[str, Measure]:
        names = ("rank", "kl-final", "kl-input", "entropy")
        made = {name: Measure(metric=name) for name in names}
        return made | {"cross-entropy": Measure(metric="cross-entropy", target="next")}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.parquet:
            raise UsageError("--format parquet is of cells, not of a summary", "use rank or all")
        refuse(
            self,
            ("split", "changes_only", "width", "show", "table", "caption", *OF_ONE_READING),
            "a summary, which is of no one text",
        )
        refuse(self, ("skip_first",), "a summary", "--window 4: leaves four positions out")
        if self.merge != bool(self.dumps):
            raise UsageError(
                "--merge and the summaries to merge go together",
                "write logitlens stats --merge FILE.json FILE.json",
            )
        if self.merge and self.lines is not None:
            raise UsageError("--merge reads no prompt", "leave --lines out")
        if self.text is not None or self.file is not None:
            raise UsageError("a summary is of many prompts", "give them with --lines, one a line")


DumpedColor = Annotated[
    Color | None,
    option("--color", panel=METRIC, help="What colours topk.", show_default="as dumped"),
]


@dataclass(frozen=True, kw_only=True)
class Render(Figures):
    """Draw the figures of dumps again, without the model."""

    given: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE.json... [METRIC]",
            help=f"Dumps that logitlens wrote; topk, {', '.join(METRICS)}, or all.",
        ),
    ]
    color: DumpedColor = None
    share_scale: Annotated[
        bool,
        option("--share-scale", panel=FIGURE, help="One scale of colours for all the dumps."),
    ] = False

    @property
    def metric(self) -> str | None:
        """The last of what was given, if it is no file."""
        last = self.given[-1]
        return None if self.only_files or last == "all" else last

    @property
    def dumps(self) -> list[Path]:
        return [Path(name) for name in self.given[: None if self.only_files else -1]]

    @property
    def only_files(self) -> bool:
        last = self.given[-1]
        return len(self.given) == 1 or last.endswith(".json") or Path(last).exists()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.writes and not self.show:
            raise UsageError("--format none leaves nothing to draw", "name a format, or --show")
        if self.name is not None and len(self.dumps) > 1:
            raise UsageError(
                f"--name {self.name!r} is one name for {len(self.dumps)} dumps", "leave it out"
            )


@dataclass(frozen=True, kw_only=True)
class Diff(Figures):
    """Compare two dumps cell by cell: B minus A, or A over B on one scale."""

    a: Annotated[Path, typer.Argument(metavar="A.json", help="A dump that logitlens wrote.")]
    b: Annotated[Path, typer.Argument(metavar="B.json", help="Another, of the same columns.")]
    metric: Annotated[
        str | None,
        typer.Argument(
            metavar="[METRIC]", help=f"topk, {', '.join(METRICS)}.", show_default="all of both"
        ),
    ] = None
    over: Annotated[
        bool, option("--over", panel=METRIC, help="Draw A over B on one scale, not B minus A.")
    ] = False
    color: DumpedColor = None
    json: JsonOption = True

    @property
    def writes(self) -> bool:
        return super().writes or (self.json and not self.over)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.parquet:
            raise UsageError("--format parquet is of cells, not of a comparison", "use render")
        if not self.writes and not self.show:
            raise UsageError("--format none leaves nothing to write", "name a format, or --show")
        refuse(self, OF_ONE_READING, "a comparison")


@dataclass(frozen=True, kw_only=True)
class Check(Opening):
    """Prove the lens on a model; tell what it cannot do there."""

    model: Annotated[
        str, typer.Argument(metavar="NAME", help="smollm2, a hub name, a folder, a .gguf file.")
    ]
    quiet: Annotated[bool, option("--quiet", "-q", panel=OUTPUT, help="No progress.")] = False
