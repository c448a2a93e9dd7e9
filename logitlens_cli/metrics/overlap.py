"""Overlap of a layer's best tokens with the output's."""

from __future__ import annotations

from logitlens_cli.metrics.spec import (
    Metric,
    MetricSpec,
    Scale,
    two_decimals,
)
from logitlens_cli.metrics.sums import Floats, Needs, Sums


def overlap(sums: Sums, spec: MetricSpec) -> Floats:
    """The share of a layer's k best tokens that are among the output's k best."""
    import numpy as np

    assert sums.output_ids is not None
    layers, output = sums.top_ids[..., : spec.k], sums.output_ids[..., : spec.k]
    # Numbered anew for every position, so that one look-up serves all cells.
    column = np.arange(layers.shape[1])[:, None] * (1 + max(layers.max(), output.max()))
    share: Floats = np.isin(layers + column, output + column).mean(-1)
    return share


OVERLAP = Metric(
    name="overlap",
    about="Share of a layer's best tokens that are among the output's best.",
    unit="share",
    quantity=lambda spec: f"overlap of the {spec.k} best tokens with the output's",
    formula=overlap,
    scale=lambda spec: Scale("linear", 0, 1),
    format_value=two_decimals,
    needs=lambda spec: Needs(best=spec.k),
    reference=lambda spec: "final",
    parameters=("k",),
)
