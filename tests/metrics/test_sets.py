"""The metrics behind a figure, by their keys in the dump."""

import pytest

from logitlens_cli.metrics.sets import (
    all_metrics,
    guess_metrics,
    rank_figures,
    rank_metrics,
    summarized_metrics,
)
from logitlens_cli.metrics.spec import MetricSpec


@pytest.mark.parametrize(
    ("targets", "ranks", "figures"),
    [
        (None, {"rank": "final"}, ("rank",)),
        ([], {"rank": "final"}, ("rank",)),
        (["next"], {"rank": "next"}, ("rank",)),
        (["next", "next"], {"rank": "next"}, ("rank",)),
        (["auto"], {}, ("followed",)),
        (
            ["auto", " Paris"],
            {"rank-paris": " Paris"},
            ("rank-paris", "followed"),
        ),
        (
            ["final", "id:7"],
            {"rank-final": "final", "rank-id-7": "id:7"},
            ("rank-final", "rank-id-7"),
        ),
        # The second is named by its number where its name is taken.
        (["a", "A"], {"rank-a": "a", "rank-a-2": "A"}, ("rank-a", "rank-a-2")),
        # Without a letter or digit the number is the name.
        (["a", "日"], {"rank-a": "a", "rank-2": "日"}, ("rank-a", "rank-2")),
    ],
)
def test_ranks(targets: list[str] | None, ranks: dict[str, str], figures: tuple[str, ...]) -> None:
    assert rank_metrics(targets) == {
        key: MetricSpec(metric="rank", target=target) for key, target in ranks.items()
    }
    assert rank_figures(targets) == figures


@pytest.mark.parametrize(
    ("color", "keys"),
    [
        ("own-logit", ["own-logit", "final-logit", "prob"]),
        ("prob", ["own-logit", "final-logit", "prob"]),
        ("entropy", ["own-logit", "final-logit", "prob", "entropy"]),
    ],
)
def test_what_may_color_guesses(color: str, keys: list[str]) -> None:
    metrics = guess_metrics(color)
    assert list(metrics) == keys
    assert metrics == {key: MetricSpec(metric=key) for key in keys}


def test_those_of_the_four_figures() -> None:
    metrics = all_metrics("js", ["input"], "reverse", False)
    assert list(metrics) == [
        *("own-logit", "final-logit", "prob", "js", "rank", "kl-final", "kl-input")
    ]
    assert metrics["rank"] == MetricSpec(metric="rank", target="input")
    for key in ("kl-final", "kl-input"):
        assert metrics[key] == MetricSpec(metric=key, direction="reverse")
    one_hot = all_metrics("js", None, "forward", True)
    assert one_hot["kl-input"] == MetricSpec(metric="kl-input", one_hot=True)
    assert one_hot["kl-final"] == MetricSpec(metric="kl-final")


def test_those_of_the_statistics() -> None:
    assert summarized_metrics() == {
        "rank": MetricSpec(metric="rank"),
        "kl-final": MetricSpec(metric="kl-final"),
        "kl-input": MetricSpec(metric="kl-input"),
        "entropy": MetricSpec(metric="entropy"),
        "cross-entropy": MetricSpec(metric="cross-entropy", target="next"),
    }
