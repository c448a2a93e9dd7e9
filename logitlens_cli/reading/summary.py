"""Many readings -> one summary: how fast guesses converge over layers, on a corpus.

Streaming and exactly mergeable: whatever is kept is a whole number that is added up, so any order
and any division of the prompts gives the same summary of the same values. Knows no model and draws
nothing.
"""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

from logitlens_cli.errors import UsageError
from logitlens_cli.metrics.table import METRICS
from logitlens_cli.reading.dump import read_bounded, require_single_keys
from logitlens_cli.reading.record import (
    Layer,
    ModelRecord,
    Reading,
    Record,
    lock_in_of,
    skips_blocks,
)
from logitlens_cli.reading.rounding import rounded
from logitlens_cli.reading.sketch import BINS, LARGEST_COUNT, UNIT, Counted, Sketch, Tally

SUMMARY_SCHEMA = "logitlens-stats/2"
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
AGREES, LOCKED = "agrees", "locked-in"
SHARES = {
    AGREES: "share of positions whose guess is the model's",
    LOCKED: "share of positions whose guess is the model's from here up",
}


MOST_SHARDS = 2**20
ShardCount = Annotated[int, msgspec.Meta(ge=0, le=2**20)]


class Summary(Record, frozen=True):
    """A summary of readings of one model, decoded in one way."""

    schema: str
    name: str
    model: ModelRecord
    lens: dict[str, Any]
    """how the streams were decoded"""
    layers: list[Layer]
    prompts: Counted
    positions: Counted
    sketches: dict[str, list[Sketch]]
    """[layer] by metric; and "lock-in", of which there is one: the block from which a position's
    guess stays the model's"""
    tallies: dict[str, Tally]
    """by metric or share"""
    shards: list[tuple[str, ShardCount, ShardCount]]
    """(hash of the lines, number from 0, parts) of what is in it; part 0 of 1 is the whole"""
    failed: int
    """prompts that could not be read, and are not in it"""
    versions: dict[str, str]
    key: str = ""
    """what it was made of"""

    def __post_init__(self) -> None:
        if self.schema != SUMMARY_SCHEMA:
            raise ValueError(f"schema is {self.schema!r}, this version reads {SUMMARY_SCHEMA!r}")
        rows = len(self.layers)
        if not rows or not isinstance(self.lens.get("norm"), str):
            raise ValueError("it has no layer, or no lens.norm")
        if not isinstance(self.lens.get("decoder_blocks", 0), int):
            raise ValueError("lens.decoder_blocks is not a number")
        unknown = {*self.sketches, *self.tallies} - {*METRICS, *SHARES, LOCK_IN}
        missing = SHARES.keys() - self.tallies.keys()
        for name in sorted(unknown | missing):
            raise ValueError(f"{name} is unknown" if name in unknown else f"{name} is missing")
        if any(number >= count for _, number, count in self.shards):
            raise ValueError("it names a shard that does not exist")
        for name, sketches in self.sketches.items():
            require_sketches(name, sketches, 1 if name == LOCK_IN else rows)
        for name, tally in self.tallies.items():
            require_tally(name, tally, rows)


LOCK_IN = "lock-in"
LENS_WORDS = ("norm", "chain", "decoder_blocks", "chat", "bos", "maps")


def require_sketches(name: str, sketches: Sequence[Sketch], rows: int) -> None:
    """ValueError for sketches of another number of layers, or without limits."""
    if any(bool(s.count) != (s.least is not None and s.most is not None) for s in sketches):
        raise ValueError(f"sketches.{name} counts values but has no limits")
    if len(sketches) != rows:
        raise ValueError(f"sketches.{name} is not of {rows} layers")


def require_tally(name: str, tally: Tally, rows: int) -> None:
    """ValueError for a tally of another shape."""
    for grid in (tally.totals, tally.counts):
        if len(grid) != rows or any(len(row) != BINS for row in grid):
            raise ValueError(f"tallies.{name} is not of {rows} layers by {BINS} bins")


def empty_summary(reading: Reading, measured: Iterable[str], name: str) -> Summary:
    """A summary of nothing, for readings like ``reading``."""
    rows = len(reading.layers)
    measured = list(measured)
    return Summary(
        schema=SUMMARY_SCHEMA,
        name=name,
        model=reading.model,
        lens={word: msgspec.to_builtins(getattr(reading.lens, word)) for word in LENS_WORDS}
        | {"window": reading.options.get("window")},
        layers=reading.layers,
        prompts=0,
        positions=0,
        sketches={m: [Sketch() for _ in range(rows)] for m in measured} | {LOCK_IN: [Sketch()]},
        tallies={
            m: Tally([[0] * BINS for _ in range(rows)], [[0] * BINS for _ in range(rows)])
            for m in [*measured, *SHARES]
        },
        shards=[],
        failed=0,
        versions=reading.versions,
    )


def lock_in_rows(top: Any, final: Sequence[int]) -> Any:
    """(position,) the row from which the top guess (layer, position) stays the final one; where it
    never is, the number of rows."""
    agrees = np.asarray(top) == np.asarray(final)
    stays = np.logical_and.accumulate(agrees[::-1], axis=0)
    return len(agrees) - stays.sum(0)


def require_room(metric: str, total: float) -> None:
    """UsageError for a sum, in UNIT, that no file of a summary could hold."""
    if total > LARGEST_COUNT:
        raise UsageError(
            f"{metric} adds up to {total * UNIT:.3g}, "
            f"and a summary holds {LARGEST_COUNT * UNIT:.3g}",
            "leave texts with such numbers out, or sum up fewer lines, with --shard",
        )


def add_reading(summary: Summary, reading: Reading) -> Summary:
    """The summary with one more reading in it; UsageError where it cannot hold its numbers, and
    then nothing of it is counted."""
    for metric, sketches in summary.sketches.items():
        if metric != LOCK_IN:
            values = reading.values(metric)
            sums = np.where(np.isfinite(values), values, 0).sum(1).tolist()
            for sketch, more in zip(sketches, sums, strict=True):
                require_room(metric, sketch.total + more / UNIT)
    bins = [
        min(BINS - 1, t.position * BINS // max(1, reading.lens.text_tokens)) for t in reading.tokens
    ]
    rows = len(reading.layers)
    for metric in summary.sketches.keys() - {LOCK_IN}:
        values = reading.values(metric)
        summary.tallies[metric].add(values, bins)
        for sketch, row in zip(summary.sketches[metric], values, strict=True):
            sketch.add(row[np.isfinite(row)])
    top = reading.top()
    since = lock_in_rows(top, reading.final_ids)
    summary.tallies[AGREES].add((top == np.array(reading.final_ids)).astype(float), bins)
    summary.tallies[LOCKED].add((np.arange(rows)[:, None] >= since).astype(float), bins)
    blocks = [block for block in lock_in_of(reading).since if block is not None]
    summary.sketches[LOCK_IN][0].add(np.array(blocks, float))
    return msgspec.structs.replace(
        summary, prompts=summary.prompts + 1, positions=summary.positions + len(reading.tokens)
    )


def merge_summaries(parts: Sequence[tuple[Path, Summary]], name: str) -> Summary:
    """The summary of everything in ``parts``: exactly what one run over all would have counted.

    Raises UsageError where they are not of one kind, hold the same part of the lines, or add up
    to more than a file holds.
    """
    (first_path, first), *rest = parts
    seen = [(shard, first_path) for shard in first.shards]
    for path, other in rest:
        for what in ("model", "lens", "layers", "versions"):
            if getattr(other, what) != getattr(first, what):
                raise UsageError(
                    f"{path} and {first_path} cannot be merged: they differ in {what}",
                    "merge what one model and one set of options gave",
                )
        if other.sketches.keys() != first.sketches.keys():
            raise UsageError(
                f"{path} and {first_path} cannot be merged: they measure different things",
                "merge what one command gave",
            )
        for shard in other.shards:
            twice = [held_by for held, held_by in seen if shards_overlap(shard, held)]
            if twice:
                raise UsageError(
                    f"{path} and {twice[0]} hold the same lines", "give every line once"
                )
        seen += [(shard, path) for shard in other.shards]
        for metric, sketches in other.sketches.items():
            for mine, theirs in zip(first.sketches[metric], sketches, strict=True):
                mine.merge(theirs)
                require_room(metric, mine.total)
        for metric, tally in other.tallies.items():
            first.tallies[metric].merge(tally)
        first = msgspec.structs.replace(
            first,
            prompts=first.prompts + other.prompts,
            positions=first.positions + other.positions,
            failed=first.failed + other.failed,
            shards=sorted([*first.shards, *other.shards]),
        )
    return msgspec.structs.replace(first, name=name, key="")


def shards_overlap(one: tuple[str, int, int], other: tuple[str, int, int]) -> bool:
    """Do two parts, each every Nth line of a file, have a line in common?"""
    (lines, number, count), (other_lines, other_number, other_count) = one, other
    step = math.gcd(count, other_count)
    return lines == other_lines and (number - other_number) % step == 0


def missing_shards(summary: Summary) -> list[str]:
    """The parts of the lines that are not in a summary of parts."""
    absent = []
    for lines in sorted({lines for lines, _, _ in summary.shards}):
        held = [shard for shard in summary.shards if shard[0] == lines]
        count = math.lcm(*(shard_count for _, _, shard_count in held))
        if count > MOST_SHARDS:
            raise UsageError(
                f"the summaries are parts of {', '.join(sorted({f'1/{p}' for *_, p in held})[:5])}",
                "merge what was cut into the same number of parts",
            )
        absent += [
            f"{number + 1}/{count}"
            for number in range(count)
            if not any(number % shard_count == shard for _, shard, shard_count in held)
        ]
    return absent


# ---------------------------------------------------------------------------------------------
# Numbers for people and programs


def shares(summary: Summary, share: str) -> list[float | None]:
    """[layer] a share over all positions."""
    tally = summary.tallies[share]
    return [
        sum(totals) * UNIT / sum(counts) if sum(counts) else None
        for totals, counts in zip(tally.totals, tally.counts, strict=True)
    ]


def quantiles(sketch: Sketch, whole: bool) -> list[float | None]:
    """The quantiles of a sketch; of whole numbers they are whole."""
    values = [sketch.quantile(q) for q in QUANTILES]
    return [None if v is None else round(v) if whole else rounded(v) for v in values]


def is_whole(metric: str) -> bool:
    return metric == LOCK_IN or METRICS[metric].whole


def summary_skips_blocks(summary: Summary) -> bool:
    """Is there a block without a row, so that the lock-in is of the rows only?"""
    return skips_blocks(summary.layers, summary.model, summary.lens.get("decoder_blocks", 0))


def summary_numbers(summary: Summary) -> dict[str, Any]:
    """The numbers, by metric: [layer] mean and quantiles; shares; lock-in."""
    numbers: dict[str, Any] = {}
    for metric, sketches in summary.sketches.items():
        kept = [quantiles(sketch, is_whole(metric)) for sketch in sketches]
        numbers[metric] = {
            "count": [sketch.count for sketch in sketches],
            "mean": [rounded(sketch.mean()) for sketch in sketches],
            **{name: [row[n] for row in kept] for n, name in enumerate(QUANTILE_NAMES)},
        }
        if metric == LOCK_IN:
            numbers[metric]["all_blocks"] = not summary_skips_blocks(summary)
    for share in SHARES:
        numbers[share] = {"share": rounded(shares(summary, share))}
    return numbers


QUANTILE_NAMES = tuple(f"p{round(100 * q)}" for q in QUANTILES)


def summary_to_json(summary: Summary) -> bytes:
    """The summary for people and programs, and what a merge needs."""
    for sketches in summary.sketches.values():
        for sketch in sketches:
            sketch.buckets = dict(sorted(sketch.buckets.items()))  # whatever the order of prompts
    raw: Any = msgspec.to_builtins(summary)
    return msgspec.json.encode({**raw, "summary": summary_numbers(summary)}) + b"\n"


def load_summary(path: Path) -> Summary:
    """Read a summary; UsageError where it is none of this version."""
    try:
        data = read_bounded(path)
        summary = msgspec.json.decode(data, type=Summary)
        require_single_keys(data)
        return summary
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", "name a summary") from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"{path} is not a summary of logitlens ({error})", "make it with logitlens stats"
        ) from error


def key_of_summary(path: Path) -> str | None:
    """What the summary at a path was made of, if there is one."""
    try:
        return load_summary(path).key
    except UsageError:
        return None


def summary_to_csv(summary: Summary) -> bytes:
    """A line for each metric and layer."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["metric", "layer", "count", "mean", *QUANTILE_NAMES])
    for metric, numbers in summary_numbers(summary).items():
        if metric in SHARES:
            continue
        for n, count in enumerate(numbers["count"]):
            row = "" if metric == LOCK_IN else summary.layers[n].label
            kept = [numbers[name][n] for name in ("mean", *QUANTILE_NAMES)]
            table.writerow([metric, row, count, *("" if v is None else v for v in kept)])
    for share in SHARES:
        for layer, value in zip(summary.layers, shares(summary, share), strict=True):
            table.writerow(
                [share, layer.label, summary.positions, rounded(value), *[""] * len(QUANTILES)]
            )
    return text.getvalue().encode()
