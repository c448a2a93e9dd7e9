"""The entropy of a layer."""

from __future__ import annotations

from logitlens_cli.metrics.spec import (
    Metric,
    MetricSpec,
    Scale,
    clamp,
)
from logitlens_cli.metrics.sums import Floats, Needs, Sums


def entropy(sums: Sums, spec: MetricSpec) -> Floats:
    """- sum p log p = log sum exp z - sum p z, in nats."""
    assert sums.mean is not None
    return clamp(sums.lse - sums.mean)


ENTROPY = Metric(
    name="entropy",
    about="Entropy of every layer's distribution.",
    unit="nats",
    quantity=lambda spec: "entropy of the layer's distribution",
    formula=entropy,
    scale=lambda spec: Scale("linear", 0, None, "mako_r"),
    needs=lambda spec: Needs(mean=True),
    colors_guesses=True,
    summarized=True,
)
