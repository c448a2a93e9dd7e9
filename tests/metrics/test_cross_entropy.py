"""Cross-entropy: numbers worked out by hand, words, needs."""

import pytest
from hand_sums import (
    BY_BOTH,
    LN2,
    NAN,
    Case,
    SumsOf,
    metrics_in,
    require_by_hand,
    words_and_scale,
)

from logitlens_cli.metrics import cross_entropy
from logitlens_cli.metrics.spec import MetricSpec
from logitlens_cli.metrics.table import METRICS

NATS = ("nats", "linear", 0, 30)
CASES: list[Case] = [
    # - ln p of 1 and none: p[1] is 2/8 in both
    (MetricSpec(metric="cross-entropy", target="next"), [[2 * LN2, NAN], [2 * LN2, NAN]]),
]


def test_every_metric_is_pinned() -> None:
    assert {spec.metric for spec, _ in CASES} == metrics_in(cross_entropy).keys()


@BY_BOTH
@pytest.mark.parametrize(
    ("spec", "expected"), CASES, ids=[f"{s.metric}-{n}" for n, (s, _) in enumerate(CASES)]
)
def test_cross_entropy_by_hand(spec: MetricSpec, expected: list[list[float]], sums: SumsOf) -> None:
    require_by_hand(sums(), spec, expected)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            MetricSpec(metric="cross-entropy", target="next"),
            ("cross-entropy of the true next token", *NATS),
        ),
    ],
)
def test_words_and_colours(spec: MetricSpec, words: tuple[object, ...]) -> None:
    assert words_and_scale(spec) == words


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("cross-entropy", 12.6, "13"),
    ],
)
def test_values_as_printed(metric: str, value: float, text: str) -> None:
    assert METRICS[metric].format_value(value) == text
