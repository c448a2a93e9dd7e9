"""The cross-entropy of a token."""

from __future__ import annotations

from logitlens_cli.metrics.spec import (
    KL_SCALE,
    Metric,
    MetricSpec,
    clamp,
    short_number,
    target_alone,
)
from logitlens_cli.metrics.sums import Floats, Sums
from logitlens_cli.metrics.target_names import target_words


def cross_entropy(sums: Sums, spec: MetricSpec) -> Floats:
    """- log p[target] = log sum exp z - z[target], in nats."""
    return clamp(sums.lse - sums.targets[spec.target].logit)


CROSS_ENTROPY = Metric(
    name="cross-entropy",
    about="Cross-entropy of a token at every layer, by default the true next one.",
    unit="nats",
    quantity=lambda spec: f"cross-entropy of {target_words(spec.target, spec.target_label)}",
    formula=cross_entropy,
    scale=lambda spec: KL_SCALE,
    format_value=short_number,
    targets=target_alone,
    parameters=("target",),
    defaults={"target": "next"},
    summarized=True,
)
