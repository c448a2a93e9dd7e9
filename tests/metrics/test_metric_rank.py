"""The rank of a token: numbers worked out by hand, words, needs."""

import pytest
from hand_sums import (
    BY_BOTH,
    NAN,
    Case,
    SumsOf,
    metrics_in,
    require_by_hand,
    words_and_scale,
)

from logitlens_cli.metrics import rank
from logitlens_cli.metrics.spec import MetricSpec
from logitlens_cli.metrics.sums import Needs
from logitlens_cli.metrics.table import METRICS

CASES: list[Case] = [
    # of 0 and 2: two are above a[0]; only b[0] is above b[2], for b[1] is level
    (MetricSpec(metric="rank"), [[3, 2], [1, 1]]),
    # of 2 and 0: a[2] and b[0] are best; b[2] has b[0] above; a[0] has two above
    (MetricSpec(metric="rank", target="input"), [[1, 1], [2, 3]]),
    # of 1 and none: a[1] has a[2] above, b[1] has b[0] above
    (MetricSpec(metric="rank", target="next"), [[2, NAN], [2, NAN]]),
    (MetricSpec(metric="rank", target="id:1"), [[2, 2], [2, 2]]),
]


def test_every_metric_is_pinned() -> None:
    assert {spec.metric for spec, _ in CASES} == metrics_in(rank).keys()


@BY_BOTH
@pytest.mark.parametrize(
    ("spec", "expected"), CASES, ids=[f"{s.metric}-{n}" for n, (s, _) in enumerate(CASES)]
)
def test_rank_by_hand(spec: MetricSpec, expected: list[list[float]], sums: SumsOf) -> None:
    require_by_hand(sums(), spec, expected)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
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
    ],
)
def test_words_and_colours(spec: MetricSpec, words: tuple[object, ...]) -> None:
    assert words_and_scale(spec) == words


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("rank", 1.0, "1"),
        ("rank", 49152.0, "49152"),
    ],
)
def test_values_as_printed(metric: str, value: float, text: str) -> None:
    assert METRICS[metric].format_value(value) == text


@pytest.mark.parametrize(
    ("spec", "needs"),
    [
        (MetricSpec(metric="rank", target="id:7"), Needs(targets=frozenset({"id:7"}))),
    ],
)
def test_no_more_is_computed_than_needed(spec: MetricSpec, needs: Needs) -> None:
    assert METRICS[spec.metric].all_needs(spec) == needs
