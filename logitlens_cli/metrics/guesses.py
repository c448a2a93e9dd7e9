"""Metrics of a layer's own top guess, which colour the figure of top guesses."""

from __future__ import annotations

from logitlens_cli.metrics.spec import (
    LOG_PROBABILITY_SCALE,
    PROBABILITY_SCALE,
    Metric,
    MetricSpec,
    probability_text,
)
from logitlens_cli.metrics.sums import Floats, Sums, log_probs_of


def own_logit(sums: Sums, spec: MetricSpec) -> Floats:
    """max z: the logit of the layer's own top guess."""
    return sums.top_logits[..., 0]


def final_logit(sums: Sums, spec: MetricSpec) -> Floats:
    """z[final top guess], at every layer."""
    return sums.targets["final"].logit


def own_prob(sums: Sums, spec: MetricSpec) -> Floats:
    """max p = exp(max z - log sum exp z)."""
    import numpy as np

    return np.exp(log_probs_of(sums.top_logits[..., 0], sums.lse))


OWN_LOGIT = Metric(
    name="own-logit",
    about="Logit of every layer's own top guess.",
    unit="logit",
    quantity=lambda spec: "logit of the layer's own top guess",
    formula=own_logit,
    command=False,
    colors_guesses=True,
)
FINAL_LOGIT = Metric(
    name="final-logit",
    about="Logit of the model's final top guess at every layer.",
    unit="logit",
    quantity=lambda spec: "logit of the final top guess",
    formula=final_logit,
    targets=lambda spec: {"target": "final"},
    command=False,
    colors_guesses=True,
)
PROB = Metric(
    name="prob",
    about="Probability of every layer's own top guess.",
    unit="probability",
    quantity=lambda spec: "probability of the layer's own top guess",
    formula=own_prob,
    scale=lambda spec: PROBABILITY_SCALE,
    log_scale=LOG_PROBABILITY_SCALE,
    format_value=probability_text,
    command=False,
    colors_guesses=True,
)
