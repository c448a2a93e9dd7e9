"""All metrics by name, in the order in which the command line lists them."""

from __future__ import annotations

from collections.abc import Iterable

from logitlens_cli.metrics import (
    cross_entropy,
    divergence,
    entropy,
    guesses,
    overlap,
    rank,
    target_probability,
)
from logitlens_cli.metrics.spec import Metric, MetricSpec
from logitlens_cli.metrics.sums import Needs

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        *(guesses.OWN_LOGIT, guesses.FINAL_LOGIT, guesses.PROB),
        *(rank.RANK, divergence.KL_FINAL, divergence.KL_INPUT),
        *(divergence.JS, overlap.OVERLAP, entropy.ENTROPY),
        *(
            cross_entropy.CROSS_ENTROPY,
            target_probability.TOKEN_PROB,
            target_probability.LOGIT_DIFF,
        ),
    )
}

TOPK = "topk"
"""the figure of top guesses; no metric of its own"""
FOLLOWED = "followed"
"""the figure of the ranks of every token that was ever a top guess; no metric of cells"""
TRACE = "trace"
"""the figure of lines over layers; no metric of cells either"""
MOST_LINES = 8
"""most lines of a figure that can be told apart"""
COLORS = tuple(name for name, metric in METRICS.items() if metric.colors_guesses)
"""metrics that may colour the figure of top guesses; the first is the default"""


def metric_of(key: str) -> Metric | None:
    """The metric of a key of the dump: "rank-input" is a "rank"."""
    return METRICS.get(key) or (METRICS["rank"] if key.startswith("rank-") else None)


def needs_of(specs: Iterable[MetricSpec]) -> Needs:
    """What several metrics need together."""
    needs = Needs()
    for spec in specs:
        needs |= METRICS[spec.metric].all_needs(spec)
    return needs
