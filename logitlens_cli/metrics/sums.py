"""What one pass over the vocabulary leaves behind for every cell, and what a metric needs of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Floats: TypeAlias = "npt.NDArray[np.float64]"
Ints: TypeAlias = "npt.NDArray[np.int64]"


@dataclass(frozen=True)
class TargetSums:
    """Sums about one target token per position; each (layer, position)."""

    logit: Floats
    """z[target]; NaN where a position has no target"""
    above: Ints
    """number of entries whose logit is strictly larger; -1 where there is no target"""
    ties: Ints
    """number of other entries with the same logit"""


@dataclass(frozen=True)
class ReferenceSums:
    """Sums about one reference distribution q per position, in nats."""

    negentropy: Floats
    """(position,) sum q log q"""
    cross: Floats
    """(layer, position) sum q z"""
    reverse: Floats | None
    """(layer, position) sum p log q; None unless asked for"""
    js: Floats | None = None
    """(layer, position) sum p log(p/m) + q log(q/m), m = (p + q) / 2; None unless asked for"""


@dataclass(frozen=True)
class Sums:
    """Everything that formulas are made of."""

    final_ids: Ints
    """(position,) the model's own top guess"""
    top_ids: Ints
    """(layer, position, k) the k best tokens, best first, lowest id first among equals"""
    top_logits: Floats
    """(layer, position, k)"""
    lse: Floats
    """(layer, position) log sum exp z"""
    mean: Floats | None
    """(layer, position) sum p z; None unless asked for"""
    targets: Mapping[str, TargetSums]
    """by the target's name"""
    references: Mapping[str, ReferenceSums]
    """by the reference's name: "final" (the model's output) or "input" (the input row)"""
    output_ids: Ints | None = None
    """(1, position, k) the output's own best tokens, as a row of ``top_ids``; None unless asked
    for"""


def log_probs_of(logits: Floats, lse: Floats) -> Floats:
    """log p = z - log sum exp z, in nats; rounding would raise what is next to certain above 0."""
    return (logits - lse).clip(max=0.0)


@dataclass(frozen=True)
class Needs:
    """Which sums a metric needs beside the top guess and log-sum-exp, which are always there."""

    targets: frozenset[str] = frozenset()
    references: frozenset[str] = frozenset()
    mean: bool = False
    reverse: bool = False
    js: bool = False
    """of the reference "final"; takes a second pass over the vocabulary"""
    best: int = 0
    """how many of the best tokens, also of the output"""

    def __or__(self, other: Needs) -> Needs:
        return Needs(
            self.targets | other.targets,
            self.references | other.references,
            self.mean or other.mean,
            self.reverse or other.reverse,
            self.js or other.js,
            max(self.best, other.best),
        )
