"""The probability of a token, the difference of two logits: numbers worked out by hand."""

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
from logitlens_cli.metrics import target_probability
from logitlens_cli.metrics.spec import MetricSpec
from logitlens_cli.metrics.sums import Needs
from logitlens_cli.metrics.table import METRICS

CASES: list[Case] = [
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
    assert {spec.metric for spec, _ in CASES} == metrics_in(target_probability).keys()


@BY_BOTH
@pytest.mark.parametrize(
    ("spec", "expected"), CASES, ids=[f"{s.metric}-{n}" for n, (s, _) in enumerate(CASES)]
)
def test_target_probability_by_hand(
    spec: MetricSpec, expected: list[list[float]], sums: SumsOf
) -> None:
    require_by_hand(sums(), spec, expected)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
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
        ("token-prob", 1.0, "1.00"),
        ("token-prob", 0.314, "0.31"),
        ("token-prob", 0.0095, "0.01"),
        ("token-prob", 0.0094, "9e-3"),
        ("token-prob", 0.004, "4e-3"),
        ("token-prob", 3.14e-5, "3e-5"),
        ("token-prob", 9.6e-11, "1e-10"),
        ("token-prob", 5e-324, "5e-324"),
        ("token-prob", 0.0, "0"),
        ("logit-diff", -12.345, "-12.3"),
        ("logit-diff", -0.04, "0.0"),
    ],
)
def test_values_as_printed(metric: str, value: float, text: str) -> None:
    assert METRICS[metric].format_value(value) == text


@pytest.mark.parametrize(
    ("spec", "needs"),
    [
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
