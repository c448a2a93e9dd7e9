"""Overlap: numbers worked out by hand, words, needs."""

import pytest
from hand_sums import (
    BY_BOTH,
    Case,
    SumsOf,
    metrics_in,
    require_by_hand,
    words_and_scale,
)

from logitlens_cli.metrics import overlap
from logitlens_cli.metrics.spec import MetricSpec
from logitlens_cli.metrics.sums import Needs
from logitlens_cli.metrics.table import METRICS

CASES: list[Case] = [
    # the best of a is 2, of b 0
    (MetricSpec(metric="overlap", k=1), [[0, 0], [1, 1]]),
    # the two best of a are 2 and 1, of b 0 and 1, for 1 comes before 2 where they are level
    (MetricSpec(metric="overlap", k=2), [[1 / 2, 1 / 2], [1, 1]]),
    # three tokens are all that there are
    (MetricSpec(metric="overlap", k=10), [[1, 1], [1, 1]]),
]


def test_every_metric_is_pinned() -> None:
    assert {spec.metric for spec, _ in CASES} == metrics_in(overlap).keys()


@BY_BOTH
@pytest.mark.parametrize(
    ("spec", "expected"), CASES, ids=[f"{s.metric}-{n}" for n, (s, _) in enumerate(CASES)]
)
def test_overlap_by_hand(spec: MetricSpec, expected: list[list[float]], sums: SumsOf) -> None:
    require_by_hand(sums(), spec, expected)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (
            MetricSpec(metric="overlap", k=3),
            ("overlap of the 3 best tokens with the output's", "share", "linear", 0, 1),
        ),
    ],
)
def test_words_and_colours(spec: MetricSpec, words: tuple[object, ...]) -> None:
    assert words_and_scale(spec) == words


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("overlap", 0.7, "0.70"),
    ],
)
def test_values_as_printed(metric: str, value: float, text: str) -> None:
    assert METRICS[metric].format_value(value) == text


@pytest.mark.parametrize(
    ("spec", "needs"),
    [
        (MetricSpec(metric="overlap", k=7), Needs(best=7)),
    ],
)
def test_no_more_is_computed_than_needed(spec: MetricSpec, needs: Needs) -> None:
    assert METRICS[spec.metric].all_needs(spec) == needs
