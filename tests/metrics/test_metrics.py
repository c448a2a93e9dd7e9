"""Every metric pinned by numbers worked out by hand.

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
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from logitlens_cli.lens import grid
from logitlens_cli.lens.capture import INPUT, Stream, resid_post
from logitlens_cli.lens.direct import Direct
from logitlens_cli.metrics.spec import MetricSpec, clamp
from logitlens_cli.metrics.sums import Floats, Needs, ReferenceSums, Sums, TargetSums
from logitlens_cli.metrics.table import METRICS
from logitlens_cli.model.anatomy.parts import BlockRun, ModelParts, StreamLayout

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

CASES: list[tuple[MetricSpec, list[list[float]]]] = [
    # max z
    (MetricSpec(metric="own-logit"), [[LN5, 2 * LN2], [2 * LN2, LN5]]),
    # max p
    (MetricSpec(metric="prob"), [[5 / 8, 4 / 8], [4 / 8, 5 / 8]]),
    # z of the final guess, 0 and 2: a[0], b[2]; b[0], a[2]
    (MetricSpec(metric="final-logit"), [[0, LN2], [2 * LN2, LN5]]),
    (MetricSpec(metric="entropy"), [[H_A, H_B], [H_B, H_A]]),
    # of 0 and 2: two are above a[0]; only b[0] is above b[2], for b[1] is level
    (MetricSpec(metric="rank"), [[3, 2], [1, 1]]),
    # of 2 and 0: a[2] and b[0] are best; b[2] has b[0] above; a[0] has two above
    (MetricSpec(metric="rank", target="input"), [[1, 1], [2, 3]]),
    # of 1 and none: a[1] has a[2] above, b[1] has b[0] above
    (MetricSpec(metric="rank", target="next"), [[2, NAN], [2, NAN]]),
    (MetricSpec(metric="rank", target="id:1"), [[2, 2], [2, 2]]),
    # - ln p of 1 and none: p[1] is 2/8 in both
    (MetricSpec(metric="cross-entropy", target="next"), [[2 * LN2, NAN], [2 * LN2, NAN]]),
    # the final distribution is b, then a
    (MetricSpec(metric="kl-final"), [[B_TO_A, A_TO_B], [0, 0]]),
    (MetricSpec(metric="kl-final", direction="reverse"), [[A_TO_B, B_TO_A], [0, 0]]),
    # the input row is a, then b
    (MetricSpec(metric="kl-input"), [[0, 0], [A_TO_B, B_TO_A]]),
    (MetricSpec(metric="kl-input", direction="reverse"), [[0, 0], [B_TO_A, A_TO_B]]),
    # - ln p of the input tokens 2 and 0: a[2] 5/8, b[0] 4/8; b[2] 2/8, a[0] 1/8
    (
        MetricSpec(metric="kl-input", one_hot=True),
        [[math.log(8 / 5), LN2], [2 * LN2, 3 * LN2]],
    ),
    # the same both ways
    (MetricSpec(metric="js"), [[JS, JS], [0, 0]]),
    # the best of a is 2, of b 0
    (MetricSpec(metric="overlap", k=1), [[0, 0], [1, 1]]),
    # the two best of a are 2 and 1, of b 0 and 1, for 1 comes before 2 where they are level
    (MetricSpec(metric="overlap", k=2), [[1 / 2, 1 / 2], [1, 1]]),
    # three tokens are all that there are
    (MetricSpec(metric="overlap", k=10), [[1, 1], [1, 1]]),
    # of 0 and 2: a[0], b[2]; b[0], a[2]
    (MetricSpec(metric="token-prob"), [[1 / 8, 2 / 8], [4 / 8, 5 / 8]]),
    (MetricSpec(metric="token-prob", target="next"), [[2 / 8, NAN], [2 / 8, NAN]]),
    # of 0 and 2 minus that of 2 and 0
    (MetricSpec(metric="logit-diff"), [[-LN5, -LN2], [LN2, LN5]]),
    # of 1 minus that of 0 and 2: a[1] - a[0], b[1] - b[2]; b[1] - b[0], a[1] - a[2]
    (MetricSpec(metric="logit-diff", target="id:1", minus="final"), [[LN2, 0], [-LN2, LN2 - LN5]]),
    # of 2 and 0 minus that of 1 and none
    (MetricSpec(metric="logit-diff", target="input", minus="next"), [[LN5 - LN2, NAN], [0, NAN]]),
]


def test_every_metric_is_pinned() -> None:
    assert {measure.metric for measure, _ in CASES} == set(METRICS)


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


@pytest.mark.parametrize("sums", [textbook_sums, engine_sums], ids=["textbook", "engine"])
@pytest.mark.parametrize(
    ("measure", "expected"), CASES, ids=[f"{m.metric}-{n}" for n, (m, _) in enumerate(CASES)]
)
def test_by_hand(measure: MetricSpec, expected: list[list[float]], sums: Any) -> None:
    made = METRICS[measure.metric].formula(sums(), measure)
    np.testing.assert_allclose(made, expected, atol=1e-6, rtol=0)


def test_the_engine_keeps_ties_and_the_lowest_id_first() -> None:
    sums = engine_sums()
    np.testing.assert_array_equal(sums.final_ids, [0, 2])
    np.testing.assert_array_equal(sums.output_ids, [[[0, 1, 2], [2, 1, 0]]])
    np.testing.assert_array_equal(sums.top_ids, [[[2, 1, 0], [0, 1, 2]], [[0, 1, 2], [2, 1, 0]]])
    np.testing.assert_array_equal(sums.targets["id:1"].ties, [[0, 1], [1, 0]])
    np.testing.assert_array_equal(sums.targets["next"].ties, [[0, 0], [1, 0]])
    np.testing.assert_array_equal(sums.targets["next"].above, [[1, -1], [1, -1]])


def test_a_divergence_has_no_floor() -> None:
    # q is sure of token 0, p of token 1: sum q log q = 0, sum q z = 0, log sum exp z = 100.
    one = np.ones((1, 1))
    sums = Sums(
        final_ids=np.array([0]),
        top_ids=np.array([[[1]]]),
        top_logits=100 * one[..., None],
        lse=100 * one,
        mean=100 * one,
        targets={},
        references={"final": ReferenceSums(np.zeros(1), 0 * one, -100 * one)},
    )
    forward, backward = (
        MetricSpec(metric="kl-final"),
        MetricSpec(metric="kl-final", direction="reverse"),
    )
    assert METRICS["kl-final"].formula(sums, forward).tolist() == [[100]]
    # 100 - 100 + 100: p is sure of token 1, of which log q is -100
    assert METRICS["kl-final"].formula(sums, backward).tolist() == [[100]]


def test_rounding_never_leads_out_of_the_bounds_of_a_divergence() -> None:
    final = ReferenceSums(np.zeros(1), np.zeros((1, 3)), None, 2 * np.array([[-1e-7, 0.5, 0.6932]]))
    row = np.zeros((1, 3))
    sums = Sums(
        final_ids=np.zeros(3, int),
        top_ids=np.zeros((1, 3, 1), int),
        top_logits=row[..., None],
        lse=row,
        mean=None,
        targets={},
        references={"final": final},
    )
    made = METRICS["js"].formula(sums, MetricSpec(metric="js"))
    np.testing.assert_array_equal(made, [[0, 0.5, LN2]])


def test_rounding_never_makes_a_divergence_negative() -> None:
    made = clamp(np.array([-1e-7, 0.0, 2.5, NAN]))
    np.testing.assert_array_equal(made, [0, 0, 2.5, NAN])
    assert not np.signbit(made[0])


# ---- what the figures take from the table


NATS = ("nats", "linear", 0, 30)


@pytest.mark.parametrize(
    ("measure", "words"),
    [
        (
            MetricSpec(metric="own-logit"),
            ("logit of the layer's own top guess", "logit", "linear", None, None),
        ),
        (
            MetricSpec(metric="final-logit"),
            ("logit of the final top guess", "logit", "linear", None, None),
        ),
        (
            MetricSpec(metric="prob"),
            ("probability of the layer's own top guess", "probability", "linear", 0, 1),
        ),
        (
            MetricSpec(metric="entropy"),
            ("entropy of the layer's distribution", "nats", "linear", 0, None),
        ),
        (MetricSpec(metric="rank"), ("rank of the final top guess", "1 is best", "log", 1, 100)),
        (
            MetricSpec(metric="rank", target="input"),
            ("rank of the input token", "1 is best", "log", 1, 1000),
        ),
        (
            MetricSpec(metric="rank", target="next"),
            ("rank of the true next token", "1 is best", "log", 1, 100),
        ),
        (MetricSpec(metric="rank", target="id:7"), ("rank of token 7", "1 is best", "log", 1, 100)),
        (MetricSpec(metric="kl-final"), ("KL(final || layer)", *NATS)),
        (MetricSpec(metric="kl-final", direction="reverse"), ("KL(layer || final)", *NATS)),
        (MetricSpec(metric="kl-input"), ("KL(input || layer)", *NATS)),
        (MetricSpec(metric="kl-input", direction="reverse"), ("KL(layer || input)", *NATS)),
        (MetricSpec(metric="kl-input", one_hot=True), ("KL(input token || layer)", *NATS)),
        (
            MetricSpec(metric="js"),
            ("Jensen-Shannon divergence of layer and output", "nats", "linear", 0, 0.6931472),
        ),
        (
            MetricSpec(metric="overlap", k=3),
            ("overlap of the 3 best tokens with the output's", "share", "linear", 0, 1),
        ),
        (
            MetricSpec(metric="cross-entropy", target="next"),
            ("cross-entropy of the true next token", *NATS),
        ),
        (
            MetricSpec(metric="token-prob", target="id:7"),
            ("probability of token 7", "probability", "linear", 0, 1),
        ),
        (
            MetricSpec(metric="logit-diff", target="id:7", target_label="·cat", minus="next"),
            (
                "logit of token 7 ·cat minus that of the true next token",
                *("logit", "linear", None, None),
            ),
        ),
    ],
)
def test_words_and_colours(measure: MetricSpec, words: tuple[object, ...]) -> None:
    metric = METRICS[measure.metric]
    scale = metric.scale(measure)
    assert (metric.quantity(measure), metric.unit, scale.kind, scale.low, scale.high) == words


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("own-logit", 3.14159, "3.1"),
        ("final-logit", -12.345, "-12.3"),
        ("entropy", 10.8, "10.8"),
        ("prob", 0.626, "0.63"),
        ("rank", 1.0, "1"),
        ("rank", 49152.0, "49152"),
        ("kl-final", 0.0, "0.0"),
        ("kl-final", 0.3421, "0.3"),
        ("kl-input", 9.94, "9.9"),
        ("kl-input", 9.96, "10"),
        ("kl-input", 28.4, "28"),
        ("js", 0.6931, "0.69"),
        ("overlap", 0.7, "0.70"),
        ("token-prob", 0.004, "0.00"),
        ("logit-diff", -12.345, "-12.3"),
        ("logit-diff", -0.04, "0.0"),
        ("cross-entropy", 12.6, "13"),
    ],
)
def test_values_as_printed(metric: str, value: float, text: str) -> None:
    assert METRICS[metric].text(value) == text


@pytest.mark.parametrize(
    ("measure", "needs"),
    [
        (MetricSpec(metric="own-logit"), Needs()),
        (MetricSpec(metric="final-logit"), Needs(targets=frozenset({"final"}))),
        (MetricSpec(metric="entropy"), Needs(mean=True)),
        (MetricSpec(metric="rank", target="id:7"), Needs(targets=frozenset({"id:7"}))),
        (MetricSpec(metric="kl-final"), Needs(references=frozenset({"final"}))),
        (
            MetricSpec(metric="kl-input", direction="reverse"),
            Needs(references=frozenset({"input"}), mean=True, reverse=True),
        ),
        (MetricSpec(metric="kl-input", one_hot=True), Needs(targets=frozenset({"input"}))),
        (MetricSpec(metric="js"), Needs(references=frozenset({"final"}), js=True)),
        (MetricSpec(metric="overlap", k=7), Needs(best=7)),
        (MetricSpec(metric="token-prob", target="next"), Needs(targets=frozenset({"next"}))),
        (MetricSpec(metric="logit-diff"), Needs(targets=frozenset({"final", "input"}))),
    ],
)
def test_no_more_is_computed_than_needed(measure: MetricSpec, needs: Needs) -> None:
    assert METRICS[measure.metric].all_needs(measure) == needs


def test_needs_add_up() -> None:
    one = Needs(frozenset({"final"}), frozenset({"input"}), mean=True)
    two = Needs(frozenset({"next"}), reverse=True, js=True, best=3)
    everything = Needs(
        frozenset({"final", "next"}), frozenset({"input"}), True, True, js=True, best=5
    )
    assert one | two | Needs(best=5) == everything


def test_only_ranks_are_whole_numbers() -> None:
    assert {name for name, metric in METRICS.items() if metric.whole} == {"rank"}
