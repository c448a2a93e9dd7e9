"""The rank of a token."""

from __future__ import annotations

from logitlens_cli.metrics.spec import (
    Metric,
    MetricSpec,
    Scale,
    target_alone,
)
from logitlens_cli.metrics.sums import Floats, Sums
from logitlens_cli.metrics.target_names import target_words


def rank(sums: Sums, spec: MetricSpec) -> Floats:
    """1 + the number of strictly larger logits."""
    import numpy as np

    above = sums.targets[spec.target].above
    return np.where(above >= 0, above + 1.0, np.nan)


RANK = Metric(
    name="rank",
    about="Rank of a token at every layer, by default the final guess.",
    unit="1 is best",
    quantity=lambda spec: f"rank of {target_words(spec.target, spec.target_label)}",
    formula=rank,
    # The post lets colours bottom out at 100, and at 1000 for the input token.
    scale=lambda spec: Scale("log", 1, 1000 if spec.target == "input" else 100, "mako_r"),
    format_value=lambda value: f"{value:.0f}",
    targets=target_alone,
    parameters=("target",),
    whole=True,
    ties=True,
    summarized=True,
)
