"""Metrics of one token, or of two."""

from __future__ import annotations

from collections.abc import Mapping

from logitlens_cli.errors import UsageError
from logitlens_cli.metrics.spec import (
    DIFFERENCE_SCALE,
    KL_SCALE,
    Metric,
    MetricSpec,
    Scale,
    clamp,
    short_number,
    two_decimals,
)
from logitlens_cli.metrics.sums import Floats, Sums
from logitlens_cli.metrics.target import target_words


def rank(sums: Sums, spec: MetricSpec) -> Floats:
    """1 + the number of strictly larger logits."""
    import numpy as np

    above = sums.targets[spec.target].above
    return np.where(above >= 0, above + 1.0, np.nan)


def cross_entropy(sums: Sums, spec: MetricSpec) -> Floats:
    """- log p[target] = log sum exp z - z[target], in nats."""
    return clamp(sums.lse - sums.targets[spec.target].logit)


def token_prob(sums: Sums, spec: MetricSpec) -> Floats:
    """p[target] = exp(z[target] - log sum exp z)."""
    import numpy as np

    return np.exp(sums.targets[spec.target].logit - sums.lse)


def logit_diff(sums: Sums, spec: MetricSpec) -> Floats:
    """z[target] - z[minus] = log (p[target] / p[minus])."""
    return sums.targets[spec.target].logit - sums.targets[spec.minus].logit


def of_target(spec: MetricSpec) -> Mapping[str, str]:
    return {"target": spec.target}


def require_two_tokens(spec: MetricSpec) -> None:
    if spec.target == spec.minus:
        raise UsageError(
            f"--target and --minus are both {spec.target!r}, which differ by 0", "name two tokens"
        )


RANK = Metric(
    name="rank",
    about="Rank of a token at every layer, by default the final guess.",
    unit="1 is best",
    quantity=lambda spec: f"rank of {target_words(spec.target, spec.target_label)}",
    formula=rank,
    # The post lets colours bottom out at 100, and at 1000 for the input token.
    scale=lambda spec: Scale("log", 1, 1000 if spec.target == "input" else 100, "mako_r"),
    format_value=lambda value: f"{value:.0f}",
    targets=of_target,
    parameters=("target",),
    whole=True,
    ties=True,
    summarized=True,
)
CROSS_ENTROPY = Metric(
    name="cross-entropy",
    about="Cross-entropy of a token at every layer, by default the true next one.",
    unit="nats",
    quantity=lambda spec: f"cross-entropy of {target_words(spec.target, spec.target_label)}",
    formula=cross_entropy,
    scale=lambda spec: KL_SCALE,
    format_value=short_number,
    targets=of_target,
    parameters=("target",),
    defaults={"target": "next"},
    summarized=True,
)
TOKEN_PROB = Metric(
    name="token-prob",
    about="Probability of a token at every layer, by default the final guess.",
    unit="probability",
    quantity=lambda spec: f"probability of {target_words(spec.target, spec.target_label)}",
    formula=token_prob,
    scale=lambda spec: Scale("linear", 0, 1),
    format_value=two_decimals,
    targets=of_target,
    parameters=("target",),
)
LOGIT_DIFF = Metric(
    name="logit-diff",
    about="Logit of one token minus that of another at every layer.",
    unit="logit",
    quantity=lambda spec: (
        f"logit of {target_words(spec.target, spec.target_label)} minus that of "
        f"{target_words(spec.minus, spec.minus_label)}"
    ),
    formula=logit_diff,
    scale=lambda spec: DIFFERENCE_SCALE,
    format_value=lambda value: f"{value:z.1f}",
    targets=lambda spec: {"target": spec.target, "minus": spec.minus},
    parameters=("target", "minus"),
    check=require_two_tokens,
)
