"""``logitlens all``: the four figures of the post."""

from typing import Any

import pytest

from logitlens_cli.commands.all import All
from logitlens_cli.metrics.spec import Direction, MetricSpec
from logitlens_cli.options.metric import Color

USUAL = {
    "own-logit": MetricSpec(metric="own-logit"),
    "final-logit": MetricSpec(metric="final-logit"),
    "prob": MetricSpec(metric="prob"),
    "rank": MetricSpec(metric="rank"),
    "kl-final": MetricSpec(metric="kl-final"),
    "kl-input": MetricSpec(metric="kl-input"),
}
REVERSE = {
    key: MetricSpec(metric=key, direction=Direction.reverse) for key in ("kl-final", "kl-input")
}


@pytest.mark.parametrize(
    ("options", "figures", "changes"),
    [
        ({}, ("topk", "rank", "kl-final", "kl-input"), {}),
        (
            {"direction": Direction.reverse},
            ("topk", "rank", "kl-final", "kl-input"),
            REVERSE,
        ),
        (
            {"one_hot": True},
            ("topk", "rank", "kl-final", "kl-input"),
            {"kl-input": MetricSpec(metric="kl-input", one_hot=True)},
        ),
        (
            {"color": Color("js")},
            ("topk", "rank", "kl-final", "kl-input"),
            {"js": MetricSpec(metric="js")},
        ),
        (
            {"target": ["input", "auto"]},
            ("topk", "rank-input", "followed", "kl-final", "kl-input"),
            {"rank": None, "rank-input": MetricSpec(metric="rank", target="input")},
        ),
    ],
    ids=["usual", "reverse", "one-hot", "color", "targets"],
)
def test_its_figures_and_metrics(
    options: dict[str, Any], figures: tuple[str, ...], changes: dict[str, MetricSpec | None]
) -> None:
    command = All(text="a", **options)
    assert command.figures == figures
    expected = {**USUAL, **changes}
    assert command.metrics == {key: spec for key, spec in expected.items() if spec is not None}
    assert command.follow == ("followed" in figures)


def test_five_guesses_are_kept() -> None:
    assert (All(text="a").k, All(text="a", k=9).k) == (5, 9)
