"""KL divergence, and Jensen-Shannon divergence: numbers worked out by hand, words, needs."""

import math

import numpy as np
import pytest
from hand_sums import (
    A_TO_B,
    B_TO_A,
    BY_BOTH,
    JS,
    LN2,
    Case,
    SumsOf,
    metrics_in,
    require_by_hand,
    words_and_scale,
)

from logitlens_cli.errors import UsageError
from logitlens_cli.metrics import divergence
from logitlens_cli.metrics.spec import MetricSpec
from logitlens_cli.metrics.sums import Needs, ReferenceSums, Sums
from logitlens_cli.metrics.table import METRICS

NATS = ("nats", "linear", 0, 30)
CASES: list[Case] = [
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
]


def test_every_metric_is_pinned() -> None:
    assert {spec.metric for spec, _ in CASES} == metrics_in(divergence).keys()


@BY_BOTH
@pytest.mark.parametrize(
    ("spec", "expected"), CASES, ids=[f"{s.metric}-{n}" for n, (s, _) in enumerate(CASES)]
)
def test_divergence_by_hand(spec: MetricSpec, expected: list[list[float]], sums: SumsOf) -> None:
    require_by_hand(sums(), spec, expected)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (MetricSpec(metric="kl-final"), ("KL(final || layer)", *NATS)),
        (MetricSpec(metric="kl-final", direction="reverse"), ("KL(layer || final)", *NATS)),
        (MetricSpec(metric="kl-input"), ("KL(input || layer)", *NATS)),
        (MetricSpec(metric="kl-input", direction="reverse"), ("KL(layer || input)", *NATS)),
        (MetricSpec(metric="kl-input", one_hot=True), ("KL(input token || layer)", *NATS)),
        (
            MetricSpec(metric="js"),
            ("Jensen-Shannon divergence of layer and output", "nats", "linear", 0, 0.6931472),
        ),
    ],
)
def test_words_and_colours(spec: MetricSpec, words: tuple[object, ...]) -> None:
    assert words_and_scale(spec) == words


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("kl-final", 0.0, "0.0"),
        ("kl-final", 0.3421, "0.3"),
        ("kl-input", 9.94, "9.9"),
        ("kl-input", 9.96, "10"),
        ("kl-input", 28.4, "28"),
        ("js", 0.6931, "0.69"),
    ],
)
def test_values_as_printed(metric: str, value: float, text: str) -> None:
    assert METRICS[metric].format_value(value) == text


@pytest.mark.parametrize(
    ("spec", "needs"),
    [
        (MetricSpec(metric="kl-final"), Needs(references=frozenset({"final"}))),
        (
            MetricSpec(metric="kl-input", direction="reverse"),
            Needs(references=frozenset({"input"}), mean=True, reverse=True),
        ),
        (MetricSpec(metric="kl-input", one_hot=True), Needs(targets=frozenset({"input"}))),
        (MetricSpec(metric="js"), Needs(references=frozenset({"final"}), js=True)),
    ],
)
def test_no_more_is_computed_than_needed(spec: MetricSpec, needs: Needs) -> None:
    assert METRICS[spec.metric].all_needs(spec) == needs


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


def test_an_infinite_divergence_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        METRICS["kl-input"].spec(one_hot=True, direction="reverse")
    assert str(caught.value) == (
        "--one-hot with --direction reverse: KL(layer || input token) is infinite; "
        "use the forward direction"
    )
