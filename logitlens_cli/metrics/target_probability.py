"""The probability of a token, and the difference of two logits."""

from __future__ import annotations

from logitlens_cli.errors import UsageError
from logitlens_cli.metrics.spec import (
    DIFFERENCE_SCALE,
    LOG_PROBABILITY_SCALE,
    PROBABILITY_SCALE,
    Metric,
    MetricSpec,
    probability_text,
    target_alone,
)
from logitlens_cli.metrics.sums import Floats, Sums, log_probs_of
from logitlens_cli.metrics.target_names import target_words


def token_prob(sums: Sums, spec: MetricSpec) -> Floats:
    """p[target] = exp(z[target] - log sum exp z)."""
    import numpy as np

    return np.exp(log_probs_of(sums.targets[spec.target].logit, sums.lse))


def logit_diff(sums: Sums, spec: MetricSpec) -> Floats:
    """z[target] - z[minus] = log (p[target] / p[minus])."""
    return sums.targets[spec.target].logit - sums.targets[spec.minus].logit


def require_two_tokens(spec: MetricSpec) -> None:
    if spec.target == spec.minus:
        raise UsageError(
            f"--target and --minus are both {spec.target!r}, which differ by 0", "name two tokens"
        )


TOKEN_PROB = Metric(
    name="token-prob",
    about="Probability of a token at every layer, by default the final guess.",
    unit="probability",
    quantity=lambda spec: f"probability of {target_words(spec.target, spec.target_label)}",
    formula=token_prob,
    scale=lambda spec: PROBABILITY_SCALE,
    log_scale=LOG_PROBABILITY_SCALE,
    format_value=probability_text,
    targets=target_alone,
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
