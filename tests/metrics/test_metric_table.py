"""All metrics by name."""

import pytest
from hand_sums import metrics_in

from logitlens_cli.metrics import (
    cross_entropy,
    divergence,
    entropy,
    guesses,
    overlap,
    rank,
    target_probability,
)
from logitlens_cli.metrics.spec import MetricSpec
from logitlens_cli.metrics.sums import Needs
from logitlens_cli.metrics.table import COLORS, METRICS, metric_of, needs_of


def test_the_table_holds_every_entry() -> None:
    """Each module's entries are pinned by the test file of that module."""
    modules = (guesses, rank, divergence, overlap, entropy, cross_entropy, target_probability)
    entries = [item for module in modules for item in metrics_in(module).items()]
    assert dict(entries) == METRICS
    assert len(entries) == len(METRICS)


def test_the_order_of_the_command_line() -> None:
    assert list(METRICS) == [
        *("own-logit", "final-logit", "prob", "rank", "kl-final", "kl-input", "js", "overlap"),
        *("entropy", "cross-entropy", "token-prob", "logit-diff"),
    ]


def test_only_ranks_are_whole_numbers() -> None:
    assert {name for name, metric in METRICS.items() if metric.whole} == {"rank"}


def test_colors_of_guesses_begin_with_the_default() -> None:
    assert COLORS == ("own-logit", "final-logit", "prob", "js", "entropy")


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("rank", "rank"),
        ("rank-input", "rank"),
        ("rank-id-7", "rank"),
        ("kl-final", "kl-final"),
        ("ranks", None),
        ("topk", None),
        ("", None),
    ],
)
def test_the_metric_of_a_key(key: str, name: str | None) -> None:
    assert metric_of(key) is (None if name is None else METRICS[name])


def test_needs_of_several_are_needs_of_each() -> None:
    assert needs_of([]) == Needs()
    specs = [
        MetricSpec(metric="entropy"),
        MetricSpec(metric="rank", target="next"),
        MetricSpec(metric="overlap", k=3),
        MetricSpec(metric="kl-final"),
        MetricSpec(metric="overlap", k=7),
    ]
    assert needs_of(specs) == Needs(
        targets=frozenset({"next"}), references=frozenset({"final"}), mean=True, best=7
    )
