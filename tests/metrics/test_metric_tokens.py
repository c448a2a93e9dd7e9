"""Metrics of one token, or of two: numbers worked out by hand, words, needs."""

import pytest
from hand_sums import (
    BY_BOTH,
    LN2,
    LN5,
    NAN,
    Case,
    SumsOf,
    metrics_in,
    require_by_hand,
    words_and_scale,
)

from logitlens_cli.errors import UsageError
from logitlens_cli.metrics import tokens
from logitlens_cli.metrics.spec import MetricSpec
from logitlens_cli.metrics.sums import Needs
from logitlens_cli.metrics.table import METRICS

NATS = ("nats", "linear", 0, 30)
CASES: list[Case] = [
    # of 0 and 2: two are above a[0]; only b[0] is above b[2], for b[1] is level
    (MetricSpec(metric="rank"), [[3, 2], [1, 1]]),
    # of 2 and 0: a[2] and b[0] are best; b[2] has b[0] above; a[0] has two above
    (MetricSpec(metric="rank", target="input"), [[1, 1], [2, 3]]),
    # of 1 and none: a[1] has a[2] above, b[1] has b[0] above
    (MetricSpec(metric="rank", target="next"), [[2, NAN], [2, NAN]]),
    (MetricSpec(metric="rank", target="id:1"), [[2, 2], [2, 2]]),
    # - ln p of 1 and none: p[1] is 2/8 in both
    (MetricSpec(metric="cross-entropy", target="next"), [[2 * LN2, NAN], [2 * LN2, NAN]]),
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
    assert {spec.metric for spec, _ in CASES} == metrics_in(tokens).keys()


@BY_BOTH
@pytest.mark.parametrize(
    ("spec", "expected"), CASES, ids=[f"{s.metric}-{n}" for n, (s, _) in enumerate(CASES)]
)
def test_tokens_by_hand(spec: MetricSpec, expected: list[list[float]], sums: SumsOf) -> None:
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
def test_words_and_colours(spec: MetricSpec, words: tuple[object, ...]) -> None:
    assert words_and_scale(spec) == words


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("rank", 1.0, "1"),
        ("rank", 49152.0, "49152"),
        ("token-prob", 0.004, "0.00"),
        ("logit-diff", -12.345, "-12.3"),
        ("logit-diff", -0.04, "0.0"),
        ("cross-entropy", 12.6, "13"),
    ],
)
def test_values_as_printed(metric: str, value: float, text: str) -> None:
    assert METRICS[metric].format_value(value) == text


@pytest.mark.parametrize(
    ("spec", "needs"),
    [
        (MetricSpec(metric="rank", target="id:7"), Needs(targets=frozenset({"id:7"}))),
        (MetricSpec(metric="token-prob", target="next"), Needs(targets=frozenset({"next"}))),
        (MetricSpec(metric="logit-diff"), Needs(targets=frozenset({"final", "input"}))),
    ],
)
def test_no_more_is_computed_than_needed(spec: MetricSpec, needs: Needs) -> None:
    assert METRICS[spec.metric].all_needs(spec) == needs


def test_the_difference_of_a_token_and_itself_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        METRICS["logit-diff"].spec(target="next", minus="next")
    assert str(caught.value) == (
        "--target and --minus are both 'next', which differ by 0; name two tokens"
    )
