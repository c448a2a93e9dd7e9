"""Many readings -> one summary: how fast guesses converge over layers, on a corpus.

Streaming and exactly mergeable: whatever is kept is a whole number that is added up, so any order
and any division of the prompts gives the same summary of the same values. Knows no model and draws
nothing.
"""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

from logitlens_cli.errors import UsageError
from logitlens_cli.metrics import METRICS, Floats
from logitlens_cli.reading import (
    Layer,
    ModelRecord,
    Reading,
    Record,
    bounded,
    require_single_keys,
    rounded,
)

SCHEMA = "logitlens-stats/1"
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
BINS = 20
"""of the relative position in a text"""
AGREES, LOCKED = "agrees", "locked-in"
SHARES = {
    AGREES: "share of positions whose guess is the model's",
    LOCKED: "share of positions whose guess is the model's from here up",
}

# Buckets of a sketch grow by this factor, so a quantile is right within half a percent (DDSketch:
# Masson, Rim and Lee, 2019, https://arxiv.org/abs/1908.10693).
ACCURACY = 0.005
GROWTH = math.log((1 + ACCURACY) / (1 - ACCURACY))
LEAST = 1e-6
"""smaller values are counted as zero"""
UNIT = 2.0**-24
"""sums are kept in whole numbers of it"""


MOST_PARTS = 2**20


# What a file may hold, far beyond what is counted: nothing overflows, and no loop is endless.
MOST = 2**62
Whole = Annotated[int, msgspec.Meta(ge=-MOST, le=MOST)]
Many = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Place = Annotated[int, msgspec.Meta(ge=-(2**14), le=2**14)]
Parts = Annotated[int, msgspec.Meta(ge=0, le=2**20)]


@dataclass
class Sketch:
    """The distribution of values of zero and more: buckets of a logarithmic scale, and a sum."""

    buckets: dict[Place, Many] = field(default_factory=dict)
    """values by bucket n, of the values from exp((n-1) GROWTH) to exp(n GROWTH)"""
    zeros: Many = 0
    total: Whole = 0
    """sum of the values, in UNIT"""
    least: float | None = None
    most: float | None = None

    @property
    def count(self) -> int:
        return self.zeros + sum(self.buckets.values())

    def add(self, values: Floats) -> None:
        """Count finite values of zero and more."""
        if not len(values):
            return
        large = values[values >= LEAST]
        places = np.ceil(np.log(large) / GROWTH).astype(int)
        for place, count in zip(*np.unique(places, return_counts=True), strict=True):
            self.buckets[int(place)] = self.buckets.get(int(place), 0) + int(count)
        self.zeros += len(values) - len(large)
        self.total += int(np.rint(values / UNIT).astype(np.int64).sum())
        self.stretch(float(values.min()), float(values.max()))

    def stretch(self, least: float | None, most: float | None) -> None:
        if least is not None and most is not None:
            self.least = least if self.least is None else min(self.least, least)
            self.most = most if self.most is None else max(self.most, most)

    def merge(self, other: "Sketch") -> None:
        for place, count in other.buckets.items():
            self.buckets[place] = self.buckets.get(place, 0) + count
        self.zeros += other.zeros
        self.total += other.total
        self.stretch(other.least, other.most)

    def mean(self) -> float | None:
        return self.total * UNIT / self.count if self.count else None

    def quantile(self, q: float) -> float | None:
        """The value below which a share ``q`` lies, within half a percent; None of nothing."""
        if not self.count:
            return None
        assert self.least is not None
        assert self.most is not None
        rank = q * (self.count - 1)
        if rank in (0, self.count - 1):
            return self.most if rank else self.least
        passed = self.zeros
        if rank < passed:
            return 0.0
        for place in sorted(self.buckets):
            passed += self.buckets[place]
            if rank < passed:
                # The middle of the bucket, by ratio; never outside what was seen.
                middle = 2 * math.exp(place * GROWTH) / (1 + math.exp(GROWTH))
                return min(max(middle, self.least), self.most)
        return self.most


@dataclass
class Tally:
    """The mean of a value by layer and relative position."""

    totals: list[list[Whole]]
    """[layer][bin] in UNIT"""
    counts: list[list[Many]]

    def add(self, values: Floats, bins: Sequence[int]) -> None:
        """Count values (layer, position), where they are numbers."""
        for row, (totals, counts) in enumerate(zip(self.totals, self.counts, strict=True)):
            for value, place in zip(values[row].tolist(), bins, strict=True):
                if math.isfinite(value):
                    totals[place] += round(value / UNIT)
                    counts[place] += 1

    def merge(self, other: "Tally") -> None:
        for mine, theirs in ((self.totals, other.totals), (self.counts, other.counts)):
            for row, more in zip(mine, theirs, strict=True):
                row[:] = [a + b for a, b in zip(row, more, strict=True)]

    def means(self) -> Floats:
        """(layer, bin), NaN where there is nothing."""
        counts = np.array(self.counts, float)
        totals = np.array(self.totals, float) * UNIT
        means: Floats = np.full_like(counts, math.nan)
        np.divide(totals, counts, out=means, where=counts > 0)
        return means


class Stats(Record, frozen=True):
    """A summary of readings of one model, decoded in one way."""

    schema: str
    name: str
    model: ModelRecord
    lens: dict[str, Any]
    """how the streams were decoded"""
    layers: list[Layer]
    prompts: Many
    positions: Many
    sketches: dict[str, list[Sketch]]
    """[layer] by metric; and "lock-in", of which there is one: the layer from which a position's
    guess stays the model's, as the number of its row from 0"""
    tallies: dict[str, Tally]
    """by metric or share"""
    shards: list[tuple[str, Parts, Parts]]
    """(hash of the lines, number from 0, parts) of what is in it; part 0 of 1 is the whole"""
    failed: int
    """prompts that could not be read, and are not in it"""
    versions: dict[str, str]
    key: str = ""
    """what it was made of"""

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ValueError(f"schema is {self.schema!r}, this version reads {SCHEMA!r}")
        rows = len(self.layers)
        if not rows or not isinstance(self.lens.get("norm"), str):
            raise ValueError("it has no layer, or no lens.norm")
        unknown = {*self.sketches, *self.tallies} - {*METRICS, *SHARES, LOCK_IN}
        missing = SHARES.keys() - self.tallies.keys()
        for name in sorted(unknown | missing):
            raise ValueError(f"{name} is unknown" if name in unknown else f"{name} is missing")
        if any(number >= parts for _, number, parts in self.shards):
            raise ValueError("it is a part that there is not")
        for name, sketches in self.sketches.items():
            if any(bool(s.count) != (s.least is not None and s.most is not None) for s in sketches):
                raise ValueError(f"sketches.{name} counts values of which it knows no limits")
            if len(sketches) != (1 if name == LOCK_IN else rows):
                raise ValueError(f"sketches.{name} is not of {rows} layers")
        for name, tally in self.tallies.items():
            for grid in (tally.totals, tally.counts):
                if len(grid) != rows or any(len(row) != BINS for row in grid):
                    raise ValueError(f"tallies.{name} is not of {rows} layers by {BINS} bins")


LOCK_IN = "lock-in"
LENS_WORDS = ("norm", "chain", "decoder_blocks", "chat", "bos")


def empty(reading: Reading, measured: Iterable[str], name: str) -> Stats:
    """A summary of nothing, for readings like ``reading``."""
    rows = len(reading.layers)
    measured = list(measured)
    return Stats(
        schema=SCHEMA,
        name=name,
        model=reading.model,
        lens={word: getattr(reading.lens, word) for word in LENS_WORDS}
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


def lock_in(top: Any, final: Sequence[int]) -> Any:
    """(position,) the row from which the top guess (layer, position) stays the final one; where it
    never is, the number of rows."""
    agrees = np.asarray(top) == np.asarray(final)
    stays = np.logical_and.accumulate(agrees[::-1], axis=0)
    return len(agrees) - stays.sum(0)


def require_room(metric: str, total: float) -> None:
    """UsageError for a sum, in UNIT, that no file of a summary could hold."""
    if total > MOST:
        raise UsageError(
            f"{metric} adds up to {total * UNIT:.3g}, and a summary holds {MOST * UNIT:.3g}",
            "leave texts with such numbers out, or sum up fewer lines, with --shard",
        )


def add(stats: Stats, reading: Reading) -> Stats:
    """The summary with one more reading in it; UsageError where it cannot hold its numbers, and
    then nothing of it is counted."""
    for metric, sketches in stats.sketches.items():
        if metric != LOCK_IN:
            values = reading.values(metric)
            sums = np.where(np.isfinite(values), values, 0).sum(1).tolist()
            for sketch, more in zip(sketches, sums, strict=True):
                require_room(metric, sketch.total + more / UNIT)
    bins = [
        min(BINS - 1, t.position * BINS // max(1, reading.lens.text_tokens)) for t in reading.tokens
    ]
    rows = len(reading.layers)
    for metric in stats.sketches.keys() - {LOCK_IN}:
        values = reading.values(metric)
        stats.tallies[metric].add(values, bins)
        for sketch, row in zip(stats.sketches[metric], values, strict=True):
            sketch.add(row[np.isfinite(row)])
    top = reading.top()
    since = lock_in(top, reading.final_ids)
    stats.tallies[AGREES].add((top == np.array(reading.final_ids)).astype(float), bins)
    stats.tallies[LOCKED].add((np.arange(rows)[:, None] >= since).astype(float), bins)
    stats.sketches[LOCK_IN][0].add(since.astype(float))
    return msgspec.structs.replace(
        stats, prompts=stats.prompts + 1, positions=stats.positions + len(reading.tokens)
    )


def merge(parts: Sequence[tuple[Path, Stats]], name: str) -> Stats:
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
            twice = [known for held, known in seen if overlap(shard, held)]
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


def overlap(one: tuple[str, int, int], other: tuple[str, int, int]) -> bool:
    """Do two parts, of every so many lines, have a line in common?"""
    (lines, number, parts), (others, second, step) = one, other
    return lines == others and (number - second) % math.gcd(parts, step) == 0


def missing(stats: Stats) -> list[str]:
    """The parts of the lines that are not in a summary of parts."""
    absent = []
    for lines in sorted({lines for lines, _, _ in stats.shards}):
        held = [shard for shard in stats.shards if shard[0] == lines]
        every = math.lcm(*(parts for _, _, parts in held))
        if every > MOST_PARTS:
            raise UsageError(
                f"the summaries are parts of {', '.join(sorted({f'1/{p}' for *_, p in held})[:5])}",
                "merge what was cut into the same number of parts",
            )
        absent += [
            f"{number + 1}/{every}"
            for number in range(every)
            if not any(number % parts == own for _, own, parts in held)
        ]
    return absent


# ---------------------------------------------------------------------------------------------
# Numbers for people and programs


def shares(stats: Stats, share: str) -> list[float | None]:
    """[layer] a share over all positions."""
    tally = stats.tallies[share]
    return [
        sum(totals) * UNIT / sum(counts) if sum(counts) else None
        for totals, counts in zip(tally.totals, tally.counts, strict=True)
    ]


def quantiles(sketch: Sketch, whole: bool) -> list[float | None]:
    """The quantiles of a sketch; of whole numbers they are whole."""
    made = [sketch.quantile(q) for q in QUANTILES]
    return [None if v is None else round(v) if whole else rounded(v) for v in made]


def whole(metric: str) -> bool:
    return metric == LOCK_IN or METRICS[metric].whole


def summary(stats: Stats) -> dict[str, Any]:
    """The numbers, by metric: [layer] mean and quantiles; shares; lock-in."""
    made: dict[str, Any] = {}
    for metric, sketches in stats.sketches.items():
        kept = [quantiles(sketch, whole(metric)) for sketch in sketches]
        made[metric] = {
            "count": [sketch.count for sketch in sketches],
            "mean": [rounded(sketch.mean()) for sketch in sketches],
            **{name: [row[n] for row in kept] for n, name in enumerate(QUANTILE_NAMES)},
        }
    for share in SHARES:
        made[share] = {"share": rounded(shares(stats, share))}
    return made


QUANTILE_NAMES = tuple(f"p{round(100 * q)}" for q in QUANTILES)


def to_json(stats: Stats) -> bytes:
    """The summary for people and programs, and what a merge needs."""
    for sketches in stats.sketches.values():
        for sketch in sketches:
            sketch.buckets = dict(sorted(sketch.buckets.items()))  # whatever the order of prompts
    raw: Any = msgspec.to_builtins(stats)
    return msgspec.json.encode({**raw, "summary": summary(stats)}) + b"\n"


def load(path: Path) -> Stats:
    """Read a summary; UsageError where it is none of this version."""
    try:
        data = bounded(path)
        made = msgspec.json.decode(data, type=Stats)
        require_single_keys(data)
        return made
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", "name a summary") from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise UsageError(
            f"{path} is no summary of logitlens ({error})", "make it with logitlens stats"
        ) from error


def key_of(path: Path) -> str | None:
    """What the summary at a path was made of, if there is one."""
    try:
        return load(path).key
    except UsageError:
        return None


def to_csv(stats: Stats) -> bytes:
    """A line for each metric and layer."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["metric", "layer", "count", "mean", *QUANTILE_NAMES])
    for metric, made in summary(stats).items():
        if metric in SHARES:
            continue
        for n, count in enumerate(made["count"]):
            row = "" if metric == LOCK_IN else stats.layers[n].label
            kept = [made[name][n] for name in ("mean", *QUANTILE_NAMES)]
            table.writerow([metric, row, count, *("" if v is None else v for v in kept)])
    for share in SHARES:
        for layer, value in zip(stats.layers, shares(stats, share), strict=True):
            table.writerow(
                [share, layer.label, stats.positions, rounded(value), *[""] * len(QUANTILES)]
            )
    return text.getvalue().encode()
