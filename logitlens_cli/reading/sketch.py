"""Distributions that stream and merge exactly."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import msgspec
import numpy as np

from logitlens_cli.metrics.sums import Floats

BINS = 20
"""of the relative position in a text"""

# Buckets of a sketch grow by this factor, so a quantile is right within half a percent (DDSketch:
# Masson, Rim and Lee, 2019, https://arxiv.org/abs/1908.10693).
ACCURACY = 0.005
GROWTH = math.log((1 + ACCURACY) / (1 - ACCURACY))
SMALLEST = 1e-6
"""smaller values are counted as zero"""
UNIT = 2.0**-24
"""sums are kept in whole numbers of it"""


# What a file may hold, far beyond what is counted: nothing overflows, and no loop is endless.
LARGEST_COUNT = 2**62
WholeNumber = Annotated[int, msgspec.Meta(ge=-LARGEST_COUNT, le=LARGEST_COUNT)]
Counted = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Bucket = Annotated[int, msgspec.Meta(ge=-(2**14), le=2**14)]


@dataclass
class Sketch:
    """The distribution of values of zero and more: buckets of a logarithmic scale, and a sum."""

    buckets: dict[Bucket, Counted] = field(default_factory=dict)
    """values by bucket n, of the values from exp((n-1) GROWTH) to exp(n GROWTH)"""
    zeros: Counted = 0
    total: WholeNumber = 0
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
        large = values[values >= SMALLEST]
        numbers = np.ceil(np.log(large) / GROWTH).astype(int)
        for bucket, count in zip(*np.unique(numbers, return_counts=True), strict=True):
            self.buckets[int(bucket)] = self.buckets.get(int(bucket), 0) + int(count)
        self.zeros += len(values) - len(large)
        self.total += int(np.rint(values / UNIT).astype(np.int64).sum())
        self.stretch(float(values.min()), float(values.max()))

    def stretch(self, least: float | None, most: float | None) -> None:
        if least is not None and most is not None:
            self.least = least if self.least is None else min(self.least, least)
            self.most = most if self.most is None else max(self.most, most)

    def merge(self, other: "Sketch") -> None:
        for bucket, count in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count
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
        for bucket in sorted(self.buckets):
            passed += self.buckets[bucket]
            if rank < passed:
                # The middle of the bucket, by ratio; never outside what was seen.
                middle = 2 * math.exp(bucket * GROWTH) / (1 + math.exp(GROWTH))
                return min(max(middle, self.least), self.most)
        return self.most


@dataclass
class Tally:
    """The mean of a value by layer and relative position."""

    totals: list[list[WholeNumber]]
    """[layer][bin] in UNIT"""
    counts: list[list[Counted]]

    def add(self, values: Floats, bins: Sequence[int]) -> None:
        """Count values (layer, position), where they are numbers."""
        for row, (totals, counts) in enumerate(zip(self.totals, self.counts, strict=True)):
            for value, n in zip(values[row].tolist(), bins, strict=True):
                if math.isfinite(value):
                    totals[n] += round(value / UNIT)
                    counts[n] += 1

    def merge(self, other: "Tally") -> None:
        for mine, theirs in ((self.totals, other.totals), (self.counts, other.counts)):
            for row, more in zip(mine, theirs, strict=True):
                row[:] = [a + b for a, b in zip(row, more, strict=True)]

    def filled(self) -> int:
        """The most bins, of one width, that all hold something: short texts leave gaps between
        many."""
        held = np.array(self.counts).sum(axis=0) > 0
        parts = (n for n in range(len(held), 0, -1) if len(held) % n == 0)
        return next((n for n in parts if held.reshape(n, -1).any(axis=1).all()), 1)

    def means(self, bins: int | None = None) -> Floats:
        """(layer, bin), NaN where there is nothing; ``bins`` divides their number, else all."""
        counts, totals = (
            np.array(each, float).reshape(len(each), bins or len(each[0]), -1).sum(axis=2)
            for each in (self.counts, self.totals)
        )
        totals *= UNIT
        means: Floats = np.full_like(counts, math.nan)
        np.divide(totals, counts, out=means, where=counts > 0)
        return means
