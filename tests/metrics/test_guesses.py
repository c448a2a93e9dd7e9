"""Metrics of a layer's own top guess: numbers worked out by hand, words, needs."""

import pytest
from hand_sums import (
    BY_BOTH,
    LN2,
    LN5,
    Case,
    SumsOf,
    metrics_in,
    require_by_hand,
    words_and_scale,
)

from logitlens_cli.metrics import guesses
from logitlens_cli.metrics.spec import MetricSpec
from logitlens_cli.metrics.sums import Needs
from logitlens_cli.metrics.table import METRICS

CASES: list[Case] = [
    # max z
    (MetricSpec(metric="own-logit"), [[LN5, 2 * LN2], [2 * LN2, LN5]]),
    # max p
    (MetricSpec(metric="prob"), [[5 / 8, 4 / 8], [4 / 8, 5 / 8]]),
    # z of the final guess, 0 and 2: a[0], b[2]; b[0], a[2]
    (MetricSpec(metric="final-logit"), [[0, LN2], [2 * LN2, LN5]]),
]


def test_every_metric_is_pinned() -> None:
    assert {spec.metric for spec, _ in CASES} == metrics_in(guesses).keys()


@BY_BOTH
@pytest.mark.parametrize(
    ("spec", "expected"), CASES, ids=[f"{s.metric}-{n}" for n, (s, _) in enumerate(CASES)]
)
def test_guesses_by_hand(spec: MetricSpec, expected: list[list[float]], sums: SumsOf) -> None:
    require_by_hand(sums(), spec, expected)


@pytest.mark.parametrize(
    ("spec", "words"),
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
    ],
)
def test_words_and_colours(spec: MetricSpec, words: tuple[object, ...]) -> None:
    assert words_and_scale(spec) == words


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("own-logit", 3.14159, "3.1"),
        ("final-logit", -12.345, "-12.3"),
        ("prob", 0.626, "0.63"),
    ],
)
def test_values_as_printed(metric: str, value: float, text: str) -> None:
    assert METRICS[metric].format_value(value) == text


@pytest.mark.parametrize(
    ("spec", "needs"),
    [
        (MetricSpec(metric="own-logit"), Needs()),
        (MetricSpec(metric="final-logit"), Needs(targets=frozenset({"final"}))),
    ],
)
def test_no_more_is_computed_than_needed(spec: MetricSpec, needs: Needs) -> None:
    assert METRICS[spec.metric].all_needs(spec) == needs
