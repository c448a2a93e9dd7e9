"""Entropy: numbers worked out by hand, words, needs."""

import pytest
from hand_sums import (
    BY_BOTH,
    H_A,
    H_B,
    Case,
    SumsOf,
    metrics_in,
    require_by_hand,
    words_and_scale,
)

from logitlens_cli.metrics import entropy
from logitlens_cli.metrics.spec import MetricSpec
from logitlens_cli.metrics.sums import Needs
from logitlens_cli.metrics.table import METRICS

CASES: list[Case] = [
    (MetricSpec(metric="entropy"), [[H_A, H_B], [H_B, H_A]]),
]


def test_every_metric_is_pinned() -> None:
    assert {spec.metric for spec, _ in CASES} == metrics_in(entropy).keys()


@BY_BOTH
@pytest.mark.parametrize(
    ("spec", "expected"), CASES, ids=[f"{s.metric}-{n}" for n, (s, _) in enumerate(CASES)]
)
def test_entropy_by_hand(spec: MetricSpec, expected: list[list[float]], sums: SumsOf) -> None:
    require_by_hand(sums(), spec, expected)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            MetricSpec(metric="entropy"),
            ("entropy of the layer's distribution", "nats", "linear", 0, None),
        ),
    ],
)
def test_words_and_colours(spec: MetricSpec, words: tuple[object, ...]) -> None:
    assert words_and_scale(spec) == words


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("entropy", 10.8, "10.8"),
    ],
)
def test_values_as_printed(metric: str, value: float, text: str) -> None:
    assert METRICS[metric].format_value(value) == text


@pytest.mark.parametrize(
    ("spec", "needs"),
    [
        (MetricSpec(metric="entropy"), Needs(mean=True)),
    ],
)
def test_no_more_is_computed_than_needed(spec: MetricSpec, needs: Needs) -> None:
    assert METRICS[spec.metric].all_needs(spec) == needs
