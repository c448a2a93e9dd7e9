"""What is fuzzed: for each target a function of one input, which ends quietly where the input is
refused as it should be, and raises where anything else happens. Files go to a folder that is given.

A choice that is no part of what is parsed (the look of a figure, the command of a preset) hangs on
a checksum, so that corpora are plain dumps and presets.
"""

import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, TypeVar
from zlib import crc32

import msgspec
import numpy as np
import typer
from rich.cells import cell_len
from typer.exceptions import TyperException

from logitlens_cli.batch import prompts
from logitlens_cli.cli.app import build_app
from logitlens_cli.commands import show
from logitlens_cli.commands.metric import metric_options
from logitlens_cli.commands.outputs import outputs
from logitlens_cli.commands.rank import Rank
from logitlens_cli.commands.topk import TopK
from logitlens_cli.commands.trace import Trace
from logitlens_cli.commands.translate import read_spec
from logitlens_cli.errors import LONGEST, UsageError, one_line
from logitlens_cli.figures import caption, pair_panels, tables
from logitlens_cli.figures.line_data import line_panel
from logitlens_cli.figures.pair import Pair, difference_of
from logitlens_cli.figures.panel import Panel
from logitlens_cli.figures.reading_panels import figures_of, panels
from logitlens_cli.figures.scale import limits
from logitlens_cli.figures.style import FigureStyle
from logitlens_cli.metrics.spec import Scale
from logitlens_cli.metrics.table import METRICS, TOPK, TRACE
from logitlens_cli.model.tokenizer import (
    Encoded,
    label,
    single_column,
    text_of_bytes,
    window_columns,
)
from logitlens_cli.options.groups import LARGEST_LIMIT
from logitlens_cli.options.reading import ReadOptions, shard_spec
from logitlens_cli.reading import difference, marks
from logitlens_cli.reading.dump import dump_to_json, load_dump
from logitlens_cli.reading.record import Key, Reading
from logitlens_cli.reading.rounding import rounded
from logitlens_cli.reading.shapes import require_scale
from logitlens_cli.reading.summary import (
    load_summary,
    merge_summaries,
    missing_shards,
    summary_to_csv,
    summary_to_json,
)

T = TypeVar("T")
CORPUS = Path(__file__).parent / "corpus"
LogitDiff = metric_options(METRICS["logit-diff"])


def placed(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def as_text(data: bytes) -> str:
    """As Python hands over a command line: what is not UTF-8 becomes surrogates."""
    return data.decode("utf-8", "surrogateescape")


def chosen(among: Sequence[T], data: bytes) -> T:
    return among[crc32(data) % len(among)]


def same(one: object, other: object) -> bool:
    """NaN too, and 0 and -0 are two."""
    return one == other or repr(one) == repr(other)


# ---------------------------------------------------------------------------------------------
# Dumps

STYLES = (
    FigureStyle(),
    FigureStyle(delta=True, input_row=True, next_ranks=True),
    FigureStyle(probs=True, lock_in=True, changes_only=True, split=1, color="prob"),
    FigureStyle(input_row=False, skip_first=2, vmin=-1, vmax=5, title="\x1b[2J"),
    FigureStyle(vmin=0.5, color="entropy", input_row=True),
)


def dump(data: bytes, folder: Path) -> None:
    """What is accepted is written and read again as the same, and a figure of it can be made."""
    with suppress(UsageError):
        reading = load_dump(placed(folder / "x.json", data))
        written = dump_to_json(reading)
        again = load_dump(placed(folder / "y.json", written))
        assert same(again, reading)
        assert dump_to_json(again) == written
        draw = Random(crc32(data))
        style = draw.choice(STYLES)
        if reading.command == TRACE:
            line_panel(reading, style)
        elif draw.randrange(3):
            made = panels(reading, draw.choice(figures_of(reading) or [TOPK]), style)
            require_panel(draw.choice(made), draw)
        else:
            compared(draw.choice((reading, seed())), reading, style, draw)


@cache
def seed() -> Reading:
    return load_dump(CORPUS / "dump" / "all.json")


def compared(other: Reading, reading: Reading, style: FigureStyle, draw: Random) -> None:
    """Where a reading is compared with itself, there is no difference."""
    pair = Pair(other, reading, "a", "b")
    name = draw.choice(pair.figures() or [TOPK])
    if draw.randrange(2):
        made = pair_panels.over_panels(pair, name, style)
    else:
        numbers = difference_of(pair, name, style)
        assert other is not reading or not any(v for row in numbers.values for v in row)
        msgspec.json.decode(difference.difference_to_json(numbers))
        made = pair_panels.difference_panels(pair, name, numbers, style)
    require_panel(draw.choice(made), draw)


def require_panel(panel: Panel, draw: Random) -> None:
    """Its parts fit, and what is said of it cannot act."""
    shape = len(panel.rows), len(panel.input_labels)
    assert panel.values.shape == panel.outlined.shape == shape
    assert len(panel.texts) == shape[0]
    assert {len(row) for row in panel.texts} == {len(panel.next_labels)} == {shape[1]}
    assert -np.inf < panel.colors.low < panel.colors.high < np.inf
    assert panel.colors.kind != "log" or panel.colors.low > 0
    made = draw.choice(
        (caption.caption, caption.alt_text, tables.panel_to_csv, tables.panel_to_markdown, shown)
    )
    text = made(panel)
    assert text.replace("\n", "").isprintable()
    text.encode()


def shown(panel: Panel) -> str:
    """A panel for a terminal of 80 columns, but for the table itself."""
    table = show.TerminalTable(panel, None, brackets=True)
    first = table.first(80)
    table.grid(first)
    return table.notes(first) + table.legend().plain


def summary(data: bytes, folder: Path) -> None:
    """What is accepted can be written, read again as the same, and merged."""
    with suppress(UsageError):
        path = placed(folder / "x.json", data)
        made = load_summary(path)
        written = summary_to_json(made)
        again = load_summary(placed(folder / "y.json", written))
        assert same(again, made)
        match crc32(data) % 4:
            case 0:
                assert summary_to_json(again) == written
            case 1:
                summary_to_csv(made).decode()
            case 2:
                missing_shards(made)
            case _:
                others = msgspec.structs.replace(again, shards=[])  # else they hold the same lines
                whole = merge_summaries([(path, made), (path, others)], "x")
                assert whole.prompts == 2 * made.prompts


# ---------------------------------------------------------------------------------------------
# Options


def layers(data: bytes, folder: Path) -> None:
    blocks = 1 + int.from_bytes(data[:1])
    with suppress(UsageError):
        rows = read_spec(TopK(text="a", layers=as_text(data[1:]))).blocks(blocks)
        assert rows == tuple(sorted(set(rows)))
        assert 0 <= rows[0] <= rows[-1] < blocks


def shard(data: bytes, folder: Path) -> None:
    with suppress(UsageError):
        number, parts = shard_spec(as_text(data))
        assert 0 <= number < parts
        options = TopK(lines=Path("x"), shard=as_text(data))
        assert options.part == (number, parts)


WINDOWED = "Time flies like an arrow; 日本語 e\u0301\n\nfruit flies like it: 12:30"


def window(data: bytes, folder: Path) -> None:
    """A byte for the tokenizer, one for the position; the rest is what is asked for."""
    kind, place, spec = int.from_bytes(data[:1]), int.from_bytes(data[1:2]) - 128, as_text(data[2:])
    width = 1 + kind % 7
    starts = range(0, len(WINDOWED), width)
    spans = [(start, min(start + width, len(WINDOWED))) for start in starts]
    spans = [(0, 0)] * (kind // 7 % 2) + spans
    count = len(spans)
    known = tuple(spans) if kind < 200 else ()
    with suppress(UsageError):
        made = window_columns(spec, WINDOWED, Encoded((0,) * count, known, spans[0][1] == 0))
        assert 0 <= made.start < made.stop <= count
        first, colon, last = spec.partition(":")
        if spec in WINDOWED and not (colon and (first + last).strip("-0123456789 ") == ""):
            assert spec in WINDOWED[spans[made.start][0] : spans[made.stop - 1][1]]
        else:
            here, there = (int(side) if side else None for side in (first.strip(), last.strip()))
            assert range(count)[here:there] == made
        (column,) = single_column(place, made, count)
        assert column in made
        assert column % count == place % count


def names(data: bytes, folder: Path) -> None:
    text = as_text(data)
    short = prompts.slug(text)
    assert 0 < len(short) <= prompts.NAME_LENGTH
    assert prompts.safe_name(short) == short
    with suppress(UsageError):
        assert prompts.from_text(text, None).name == short
    with suppress(UsageError):
        require_name(prompts.safe_name(text))


def require_name(name: str) -> None:
    """Nothing that leaves its folder, hides, looks like an option, or that no system takes."""
    assert prompts.safe_name(name) == name
    assert name.isprintable()
    options = TopK(text="a", out=Path("out"))
    made = list(outputs(options, name, "topk", ("topk",), 1, json=True).paths())
    assert len(set(made)) == len(made) == 3
    for path in made:
        assert path.is_relative_to("out")
        assert all(len(part.encode()) < 255 for part in path.parts)
        assert not any(part.startswith(("-", ".")) for part in path.parts)


def targets(data: bytes, folder: Path) -> None:
    """One target per line, of one of the commands that take them."""
    with suppress(UsageError):
        chosen((ranked, subtracted, followed), data)(as_text(data).split("\n"))


def ranked(words: list[str]) -> None:
    options = Rank(text="a", target=words)
    made, wanted = options.metrics, set(words) - {"auto"}
    assert {spec.target for spec in made.values()} == wanted
    assert len(made) == len(wanted)
    msgspec.convert(list(made), list[Key])
    assert len(set(options.figures)) == len(made) + ("auto" in words)


def subtracted(words: list[str]) -> None:
    two: dict[str, Any] = {"target": words[0], "minus": words[-1]}
    (made,) = LogitDiff(text="a", **two).metrics.values()
    assert made.target != made.minus
    assert "auto" not in (made.target, made.minus)


def followed(words: list[str]) -> None:
    options = Trace(text="a", target=words[1:] or None, position=words[0])
    assert (options.column is None) == (words[0] == "all") == (not options.single)
    assert set(words[1:]) <= {"auto", *options.chosen}
    assert options.follow == ("auto" in options.targets)


def preset(data: bytes, folder: Path) -> None:
    """A preset of any command, up to the checked options."""
    path = placed(folder / "p.toml", data)
    name, given = chosen(COMMANDS, data)
    command: Any = group().commands[name]
    with suppress(UsageError, TyperException):
        context = command.make_context(name, [*given, "--config", str(path)])
        options = command.invoke(context)
        assert 30 <= options.dpi <= 1200
        assert options.writes or options.shown
        limits = (options.vmin, options.vmax)
        assert all(limit is None or abs(limit) <= LARGEST_LIMIT for limit in limits)
        if isinstance(options, ReadOptions):
            msgspec.convert(list(options.metrics), list[Key])
            with suppress(UsageError):
                assert read_spec(options).blocks(12)[-1] < 12
            number, parts = options.part
            assert 0 <= number < parts


@cache
def group() -> Any:
    return typer.main.get_command(build_app())


COMMANDS = (
    *((name, ["--text", "a"]) for name in ("topk", "rank", "all", "kl-input", "logit-diff")),
    ("trace", ["--text", "a"]),
    ("stats", ["--lines", "x"]),
    ("render", ["x.json"]),
    ("diff", ["a.json", "b.json"]),
)


# ---------------------------------------------------------------------------------------------
# Texts


def lines(data: bytes, folder: Path) -> None:
    """A file of --lines, of either kind, with a name or without."""
    file, name = chosen((("x.txt", None), ("x.jsonl", None), ("x.jsonl", "a/{n}")), data)
    with suppress(UsageError):
        made = prompts.from_lines(placed(folder / file, data), name)
        assert len({prompt.name for prompt in made}) == len(made)
        numbers = [prompt.line or 0 for prompt in made]
        assert numbers == sorted(set(numbers))
        assert numbers[0] > 0
        for prompt in made:
            assert prompts.safe_name(prompt.name) == prompt.name
            prompt.text.encode()


def texts(data: bytes, folder: Path) -> None:
    """What is shown of a text, a token or a message cannot act, wherever it is shown."""
    text = as_text(data)
    shown = marks.with_marks(text)
    assert shown.isprintable()
    assert " " not in shown
    assert marks.harmless(shown) == shown
    shown = marks.harmless(text)
    assert shown.isprintable()
    assert marks.harmless(shown) == shown
    shown.encode()
    text_of_bytes(data).encode()
    for kind in ("ByteLevel", "Metaspace"):
        assert label(tokenizer(text, kind), 0).isprintable()
    assert label(tokenizer(text, "ByteLevel", added={0}), 0) == marks.with_marks(text)
    for line in (one_line(text), str(UsageError(text, text))):
        assert line.isprintable()
        assert len(line) <= 2 * (2 * LONGEST + 5) + 2
    assert cell_len(show.fitted(text)) <= show.WIDEST
    cell = tables.escape_markdown(text)
    assert cell.replace("\\\\", "").count("|") == cell.replace("\\\\", "").count("\\|")
    assert not {"<", ">"} & set(cell)


def tokenizer(piece: str, decoder: str, added: Sequence[int] | set[int] = ()) -> Any:
    """One of a single token, as far as labels are concerned."""
    return SimpleNamespace(
        is_fast=True,
        convert_ids_to_tokens=lambda token_id: piece,
        added_tokens_decoder=dict.fromkeys(added, piece),
        backend_tokenizer=SimpleNamespace(decoder=decoder),
    )


# ---------------------------------------------------------------------------------------------
# Numbers


def numbers(data: bytes, folder: Path) -> None:
    """Limits of colours: a byte for the kind of scale, then floats, of which NaN is none."""
    kind = int.from_bytes(data[:1])
    floats = [
        value for (value,) in struct.iter_unpack("<d", data[1 : 1 + (len(data) - 1) // 8 * 8])
    ]
    given = [None if np.isnan(value) else value for value in floats]
    low, high, center, vmin, vmax = (given + [None] * 5)[:5]
    values = np.array(floats[5:]).clip(-LARGEST_LIMIT, LARGEST_LIMIT)
    scale = Scale("log" if kind & 1 else "linear", low, high, "vlag", center)
    for value, made in zip(values.tolist(), rounded(values), strict=True):
        assert (made is None) == np.isnan(value)
        assert made is None or not 1e-12 < abs(value) < 1e22 or abs(made / value - 1) < 1e-6
    with suppress(UsageError, ValueError):
        require_scale("x", scale)
        style = TopK(text="a", vmin=vmin, vmax=vmax)
        made = limits(scale, values, FigureStyle(vmin=style.vmin, vmax=style.vmax))
        assert -np.inf < made.low < made.high < np.inf
        assert made.kind != "log" or made.low > 0
        differences = np.array(rounded(values), float)
        centred = pair_panels.colors_around_zero(
            differences, FigureStyle(vmin=style.vmin, vmax=style.vmax)
        )
        assert -np.inf < centred.low < centred.high < np.inf


TARGETS: dict[str, Callable[[bytes, Path], None]] = {
    function.__name__: function
    for function in (
        *(dump, summary),
        *(layers, shard, window, names, targets, preset),
        *(lines, texts, numbers),
    )
}
