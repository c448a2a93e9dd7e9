"""Sums of a grid whose numbers can be worked out by hand, for the tests of metrics.

Three tokens, two layers, two positions. The logits are chosen such that probabilities are plain:

    a = [0, ln 2, ln 5]         sum exp = 8   p = (1/8, 2/8, 5/8)   top guess 2
    b = [ln 4, ln 2, ln 2]      sum exp = 8   p = (4/8, 2/8, 2/8)   top guess 0, 1 and 2 level

                        position 0      position 1
    layer 1 (final)         b               a
    layer 0 (input)         a               b
    input token             2               0
    next token              1               none
"""

import math
from collections.abc import Callable
from types import ModuleType
from typing import TypeAlias

import numpy as np
import pytest
import torch
from torch import nn

from logitlens_cli.lens import grid
from logitlens_cli.lens.capture import INPUT, Stream, resid_post
from logitlens_cli.lens.direct import Direct
from logitlens_cli.metrics.spec import Metric, MetricSpec
from logitlens_cli.metrics.sums import Floats, Needs, ReferenceSums, Sums, TargetSums
from logitlens_cli.metrics.table import METRICS
from logitlens_cli.model.anatomy.parts import BlockRun, ModelParts, StreamLayout

Case: TypeAlias = tuple[MetricSpec, list[list[float]]]
"""a metric, and its values (layer, position)"""
SumsOf: TypeAlias = Callable[[], Sums]

LN2, LN5, LN8 = math.log(2), math.log(5), math.log(8)
A, B = [0.0, LN2, LN5], [2 * LN2, LN2, LN2]
LOGITS = np.array([[A, B], [B, A]])  # (layer, position, vocabulary)
FINAL, ENTERING = np.array([B, A]), np.array([A, B])  # (position, vocabulary)
TARGETS = {"final": [0, 2], "input": [2, 0], "next": [1, -1], "id:1": [1, 1]}
NAN = math.nan

# Entropy of a: ln 8 - sum p z = ln 8 - (2/8 ln 2 + 5/8 ln 5)
H_A = LN8 - (2 / 8 * LN2 + 5 / 8 * LN5)
# Entropy of b: ln 8 - (4/8 2 ln 2 + 2/8 ln 2 + 2/8 ln 2) = 3 ln 2 - 3/2 ln 2
H_B = 1.5 * LN2
# KL(a || b) = 1/8 ln (1/4) + 2/8 ln 1 + 5/8 ln (5/2)
A_TO_B = 1 / 8 * math.log(1 / 4) + 5 / 8 * math.log(5 / 2)
# KL(b || a) = 4/8 ln 4 + 2/8 ln 1 + 2/8 ln (2/5)
B_TO_A = 4 / 8 * math.log(4) + 2 / 8 * math.log(2 / 5)
# The mixture of a and b is m = (5/16, 4/16, 7/16).
# KL(a || m) = 1/8 ln (2/5) + 2/8 ln 1 + 5/8 ln (10/7), KL(b || m) = 4/8 ln (8/5) + 2/8 ln (4/7)
A_TO_M = 1 / 8 * math.log(2 / 5) + 5 / 8 * math.log(10 / 7)
B_TO_M = 4 / 8 * math.log(8 / 5) + 2 / 8 * math.log(4 / 7)
JS = (A_TO_M + B_TO_M) / 2


def textbook_sums() -> Sums:
    """The sums as their definitions say."""
    p = np.exp(LOGITS) / 8
    order = np.argsort(-LOGITS, axis=-1, kind="stable")

    def target(ids: list[int]) -> TargetSums:
        own = np.stack([LOGITS[:, j, i] for j, i in enumerate(ids)], 1)
        exists = np.array(ids) >= 0
        above = (own[..., None] < LOGITS).sum(-1)
        return TargetSums(
            logit=np.where(exists, own, NAN),
            above=np.where(exists, above, -1),
            ties=np.where(exists, (own[..., None] == LOGITS).sum(-1) - 1, 0),
        )

    def reference(logits: Floats) -> ReferenceSums:
        q, log_q = np.exp(logits) / 8, logits - LN8
        js = p * np.log(2 * p / (p + q)) + q * np.log(2 * q / (p + q))
        return ReferenceSums(
            (q * log_q).sum(-1), (q * LOGITS).sum(-1), (p * log_q).sum(-1), js.sum(-1)
        )

    return Sums(
        final_ids=np.array([0, 2]),
        top_ids=order,
        top_logits=np.take_along_axis(LOGITS, order, -1),
        lse=np.full((2, 2), LN8),
        mean=(p * LOGITS).sum(-1),
        targets={name: target(ids) for name, ids in TARGETS.items()},
        references={"final": reference(FINAL), "input": reference(ENTERING)},
        output_ids=np.array([[[0, 1, 2], [2, 1, 0]]]),
    )


def engine_sums() -> Sums:
    """The sums as the engine makes them, on a model whose residual stream is the logits."""
    head = nn.Linear(3, 3, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.eye(3))
    parts = ModelParts(
        runs=(BlockRun(nn.Identity(), 0, ((),), None),),
        entry=nn.Identity(),
        entry_slots=((),),
        layout=StreamLayout(0, 1, (3,), 1),
        after=(),
        chain=(),
        head=head,
        tail=(),
        traceable=True,
        vocabulary=3,
        names={head: "head"},
        idle=(),
        remembers=(),
        inner=torch.zeros(2, 1, 3),
        mids=(),
        samples_columns=True,
    )
    stream = Stream(
        rows=(INPUT, resid_post(0)),
        resid=torch.tensor(LOGITS).float(),
        final=torch.tensor(FINAL).float(),
        checked=torch.tensor([0]),
        logits=torch.tensor(FINAL[:1]).float(),
    )
    both = frozenset({"final", "input"})
    needs = Needs(frozenset(TARGETS), both, mean=True, reverse=True, js=True, best=3)
    given = {name: ids for name, ids in TARGETS.items() if name != "final"}
    return grid.grid(Direct(parts), stream, grid.GridSpec(stream.rows, 3, needs, given))


BY_BOTH = pytest.mark.parametrize("sums", [textbook_sums, engine_sums], ids=["textbook", "engine"])


def require_by_hand(sums: Sums, spec: MetricSpec, expected: list[list[float]]) -> None:
    values = METRICS[spec.metric].formula(sums, spec)
    np.testing.assert_allclose(values, expected, atol=1e-6, rtol=0)


def words_and_scale(spec: MetricSpec) -> tuple[object, ...]:
    """What a colour bar takes from the table."""
    metric = METRICS[spec.metric]
    scale = metric.scale(spec)
    return metric.quantity(spec), metric.unit, scale.kind, scale.low, scale.high


def metrics_in(module: ModuleType) -> dict[str, Metric]:
    """The entries that a module defines, by name."""
    return {entry.name: entry for entry in vars(module).values() if isinstance(entry, Metric)}
