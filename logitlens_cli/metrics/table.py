"""The table of what can be measured in a cell: formula, unit, colour scale and text format.

A metric is one function of the sums that one pass over the vocabulary leaves behind, and one entry
in METRICS; commands, dump, figures and tests follow from it. Logarithms are natural, z are logits,
p probabilities. This module loads neither torch nor matplotlib, and numpy only when it computes:
the command line takes names and words from here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


Floats: TypeAlias = "npt.NDArray[np.float64]"
Ints: TypeAlias = "npt.NDArray[np.int64]"


@dataclass(frozen=True)
class Target:
    """Sums about one target token per position; each (layer, position)."""

    logit: Floats
    """z[target]; NaN where a position has no target"""
    above: Ints
    """number of entries whose logit is strictly larger; -1 where there is no target"""
    ties: Ints
    """number of other entries with the same logit"""


@dataclass(frozen=True)
class Reference:
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
    """What one pass over the vocabulary leaves behind for every cell."""

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
    targets: Mapping[str, Target]
    """by the target's name"""
    references: Mapping[str, Reference]
    """by the reference's name: "final" (the model's output) or "input" (the input row)"""
    output_ids: Ints | None = None
    """(1, position, k) the output's own best tokens, as a row of ``top_ids``; None unless asked
    for"""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A metric with its parameters, as one run asks for it."""

    metric: str
    target: str = "final"
    """whose logit or rank: "final", "input", "next", or "id:N" """
    minus: str = "input"
    """whose logit is subtracted, as ``target``"""
    target_label: str = ""
    """of a token, for people: with its id it says which one it is"""
    minus_label: str = ""
    k: int = 10
    """how many of the best tokens are compared"""
    reverse: bool = False
    """KL(layer || reference) instead of KL(reference || layer)"""
    one_hot: bool = False
    """KL to the input token itself instead of to the decoded input row"""


@dataclass(frozen=True)
class Needs:
    """Which sums a measure is made of, beside the always present top guesses and log-sum-exp."""

    targets: frozenset[str] = frozenset()
    references: frozenset[str] = frozenset()
    mean: bool = False
    reverse: bool = False
    js: bool = False
    """of the reference "final"; takes a second pass over the vocabulary"""
    best: int = 0
    """so many of the best tokens, also of the output"""

    def __or__(self, other: Needs) -> Needs:
        return Needs(
            self.targets | other.targets,
            self.references | other.references,
            self.mean or other.mean,
            self.reverse or other.reverse,
            self.js or other.js,
            max(self.best, other.best),
        )


@dataclass(frozen=True)
class Scale:
    """How values become colours. A limit of None is taken from the data."""

    kind: Literal["linear", "log"] = "linear"
    low: float | None = None
    high: float | None = None
    cmap: str = "viridis"
    center: float | None = None
    """of a map with two sides: limits that are taken from the data lie evenly about it"""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One entry of the table."""

    unit: str
    quantity: Callable[[Measure], str]
    """what the colour bar says, without the unit"""
    needs: Callable[[Measure], Needs]
    formula: Callable[[Sums, Measure], Floats]
    """values, (layer, position); NaN where a value does not exist"""
    scale: Callable[[Measure], Scale]
    text: Callable[[float], str] = field(default=lambda value: f"{value:.1f}")
    """a value as printed in its cell"""
    whole: bool = False
    """are the values whole numbers?"""


# ---------------------------------------------------------------------------------------------
# Formulas


def own_logit(sums: Sums, measure: Measure) -> Floats:
    """max z: the logit of the layer's own top guess."""
    return sums.top_logits[..., 0]


def own_prob(sums: Sums, measure: Measure) -> Floats:
    """max p = exp(max z - log sum exp z)."""
    import numpy as np

    return np.exp(sums.top_logits[..., 0] - sums.lse)


def final_logit(sums: Sums, measure: Measure) -> Floats:
    """z[final top guess], at every layer."""
    return sums.targets["final"].logit


def token_prob(sums: Sums, measure: Measure) -> Floats:
    """p[target] = exp(z[target] - log sum exp z)."""
    import numpy as np

    return np.exp(sums.targets[measure.target].logit - sums.lse)


def logit_diff(sums: Sums, measure: Measure) -> Floats:
    """z[target] - z[minus] = log (p[target] / p[minus])."""
    return sums.targets[measure.target].logit - sums.targets[measure.minus].logit


def entropy(sums: Sums, measure: Measure) -> Floats:
    """- sum p log p = log sum exp z - sum p z, in nats."""
    assert sums.mean is not None
    return clamp(sums.lse - sums.mean)


def cross_entropy(sums: Sums, measure: Measure) -> Floats:
    """- log p[target] = log sum exp z - z[target], in nats."""
    return clamp(sums.lse - sums.targets[measure.target].logit)


def rank(sums: Sums, measure: Measure) -> Floats:
    """1 + the number of strictly larger logits."""
    import numpy as np

    above = sums.targets[measure.target].above
    return np.where(above >= 0, above + 1.0, np.nan)


def divergence(name: str) -> Callable[[Sums, Measure], Floats]:
    """KL between the reference ``name`` and a layer, in nats, without any floor.

    Forward: sum q (log q - log p) = sum q log q - sum q z + log sum exp z.
    Reverse: sum p (log p - log q) = sum p z - log sum exp z - sum p log q.
    One-hot: - log p[input token], which is KL from a reference that is sure of the input token.
    """

    def kl(sums: Sums, measure: Measure) -> Floats:
        if measure.one_hot:
            return clamp(sums.lse - sums.targets["input"].logit)
        reference = sums.references[name]
        if not measure.reverse:
            return clamp(reference.negentropy - reference.cross + sums.lse)
        assert sums.mean is not None
        assert reference.reverse is not None
        return clamp(sums.mean - sums.lse - reference.reverse)

    return kl


def jensen_shannon(sums: Sums, measure: Measure) -> Floats:
    """1/2 KL(p || m) + 1/2 KL(q || m) with m = (p + q) / 2, in nats; at most ln 2 (Lin, 1991)."""
    js = sums.references["final"].js
    assert js is not None
    return (js / 2).clip(0.0, LN2)


def overlap(sums: Sums, measure: Measure) -> Floats:
    """The share of a layer's k best tokens that are among the output's k best."""
    import numpy as np

    assert sums.output_ids is not None
    own, output = sums.top_ids[..., : measure.k], sums.output_ids[..., : measure.k]
    # Numbered anew for every position, so that one look-up serves all cells.
    column = np.arange(own.shape[1])[:, None] * (1 + max(own.max(), output.max()))
    share: Floats = np.isin(own + column, output + column).mean(-1)
    return share


def clamp(values: Floats) -> Floats:
    """Divergences and entropies are not negative; rounding makes them so by a hair."""
    return values.clip(min=0.0)


# ---------------------------------------------------------------------------------------------
# Words and formats

TARGET_WORDS = {
    "final": "the final top guess",
    "input": "the input token",
    "next": "the true next token",
}


ID_PREFIX = "id:"
"""how a target begins that names a token by its number"""


def token_target(token_id: int) -> str:
    """The target that is one token: "id:N"."""
    return f"{ID_PREFIX}{token_id}"


def target_token_id(target: str) -> int | None:
    """N of "id:N"; None where a target is no such token."""
    number = target.removeprefix(ID_PREFIX)
    digits = number.isascii() and number.isdecimal() and len(number) <= 18
    return int(number) if digits and target.startswith(ID_PREFIX) else None


def target_words(target: str, label: str = "") -> str:
    """A target for people, with the token's label if it has one."""
    if (number := target_token_id(target)) is not None:
        return f"token {number}{label and f' {label}'}"
    return TARGET_WORDS.get(target, f"token {target}")


def kl_words(name: str) -> Callable[[Measure], str]:
    def words(measure: Measure) -> str:
        if measure.one_hot:
            return "KL(input token || layer)"
        return f"KL(layer || {name})" if measure.reverse else f"KL({name} || layer)"

    return words


def kl_needs(name: str) -> Callable[[Measure], Needs]:
    def needs(measure: Measure) -> Needs:
        if measure.one_hot:
            return Needs(targets=frozenset({"input"}))
        return Needs(references=frozenset({name}), mean=measure.reverse, reverse=measure.reverse)

    return needs


def short_number(value: float) -> str:
    """Two figures that matter: 0.3, 7.1, 28."""
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


LN2 = math.log(2)
KL_SCALE = Scale("linear", 0, 30, "mako_r")
# Blue to red through white, which the colour-blind tell apart.
DIFFERENCE_SCALE = Scale(cmap="vlag", center=0)
METRICS: dict[str, Metric] = {
    "own-logit": Metric(
        unit="logit",
        quantity=lambda m: "logit of the layer's own top guess",
        needs=lambda m: Needs(),
        formula=own_logit,
        scale=lambda m: Scale(),
    ),
    "final-logit": Metric(
        unit="logit",
        quantity=lambda m: "logit of the final top guess",
        needs=lambda m: Needs(targets=frozenset({"final"})),
        formula=final_logit,
        scale=lambda m: Scale(),
    ),
    "prob": Metric(
        unit="probability",
        quantity=lambda m: "probability of the layer's own top guess",
        needs=lambda m: Needs(),
        formula=own_prob,
        scale=lambda m: Scale("linear", 0, 1),
        text=lambda value: f"{value:.2f}",
    ),
    "token-prob": Metric(
        unit="probability",
        quantity=lambda m: f"probability of {target_words(m.target, m.target_label)}",
        needs=lambda m: Needs(targets=frozenset({m.target})),
        formula=token_prob,
        scale=lambda m: Scale("linear", 0, 1),
        text=lambda value: f"{value:.2f}",
    ),
    "logit-diff": Metric(
        unit="logit",
        quantity=lambda m: (
            f"logit of {target_words(m.target, m.target_label)} minus that of "
            f"{target_words(m.minus, m.minus_label)}"
        ),
        needs=lambda m: Needs(targets=frozenset({m.target, m.minus})),
        formula=logit_diff,
        scale=lambda m: DIFFERENCE_SCALE,
        text=lambda value: f"{value:z.1f}",
    ),
    "entropy": Metric(
        unit="nats",
        quantity=lambda m: "entropy of the layer's distribution",
        needs=lambda m: Needs(mean=True),
        formula=entropy,
        scale=lambda m: Scale("linear", 0, None, "mako_r"),
    ),
    "rank": Metric(
        unit="1 is best",
        quantity=lambda m: f"rank of {target_words(m.target, m.target_label)}",
        needs=lambda m: Needs(targets=frozenset({m.target})),
        formula=rank,
        # The post lets colours bottom out at 100, and at 1000 for the input token.
        scale=lambda m: Scale("log", 1, 1000 if m.target == "input" else 100, "mako_r"),
        text=lambda value: f"{value:.0f}",
        whole=True,
    ),
    "cross-entropy": Metric(
        unit="nats",
        quantity=lambda m: f"cross-entropy of {target_words(m.target, m.target_label)}",
        needs=lambda m: Needs(targets=frozenset({m.target})),
        formula=cross_entropy,
        scale=lambda m: KL_SCALE,
        text=short_number,
    ),
    "kl-final": Metric(
        unit="nats",
        quantity=kl_words("final"),
        needs=kl_needs("final"),
        formula=divergence("final"),
        scale=lambda m: KL_SCALE,
        text=short_number,
    ),
    "kl-input": Metric(
        unit="nats",
        quantity=kl_words("input"),
        needs=kl_needs("input"),
        formula=divergence("input"),
        scale=lambda m: KL_SCALE,
        text=short_number,
    ),
    "js": Metric(
        unit="nats",
        quantity=lambda m: "Jensen-Shannon divergence of layer and output",
        needs=lambda m: Needs(references=frozenset({"final"}), js=True),
        formula=jensen_shannon,
        # As the dump rounds values, or the largest would lie beyond.
        scale=lambda m: Scale("linear", 0, round(LN2, 7), "mako_r"),
        text=lambda value: f"{value:.2f}",
    ),
    "overlap": Metric(
        unit="share",
        quantity=lambda m: f"overlap of the {m.k} best tokens with the output's",
        needs=lambda m: Needs(best=m.k),
        formula=overlap,
        scale=lambda m: Scale("linear", 0, 1),
        text=lambda value: f"{value:.2f}",
    ),
}


def entry(key: str) -> Metric | None:
    """The metric of a key of the dump: "rank-input" is a "rank"."""
    return METRICS.get(key) or (METRICS["rank"] if key.startswith("rank-") else None)


FOLLOWED = "followed"
"""the figure of the ranks of every token that was ever a top guess; no metric of cells"""
TRACE = "trace"
"""the figure of lines over layers; no metric of cells either"""
LINES = 8
"""most lines of a figure that can be told apart"""
COLORS = ("own-logit", "final-logit", "prob", "entropy", "js")
"""metrics that colour the figure of top guesses"""
