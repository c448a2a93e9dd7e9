"""``logitlens trace``: which lines, and what cannot be one."""

import re
from typing import Any

import pytest
from conftest import Shell
from options_of import refusal

from logitlens_cli.commands.trace import Trace
from logitlens_cli.metrics.spec import Direction, MetricSpec


def spec(metric: str, **parameters: Any) -> MetricSpec:
    return MetricSpec(metric=metric, **parameters)


# What a trace is of: one column (which), followed tokens, chosen ones, target of the metric.
TRACES: dict[str, tuple[dict[str, Any], tuple[Any, ...]]] = {
    "tokens": ({}, (True, None, True, (), None)),
    "chosen": ({"target": [" a", " a", "next"]}, (True, None, False, (" a", "next"), None)),
    "both": ({"target": ["auto", " a"], "position": "-2"}, (True, -2, True, (" a",), None)),
    "rank": ({"metric": "rank"}, (True, None, True, (), None)),
    "all ranks": (
        {"metric": "rank", "position": "all"},
        (False, None, False, (), spec("rank", target="final")),
    ),
    "losses": (
        {"metric": "cross-entropy"},
        (False, None, False, (), spec("cross-entropy", target="next")),
    ),
    "loss": (
        {"metric": "cross-entropy", "position": "3", "target": ["id:4"]},
        (True, 3, False, (), spec("cross-entropy", target="id:4")),
    ),
    "kl": ({"metric": "kl-input"}, (False, None, False, (), spec("kl-input"))),
}


@pytest.mark.parametrize("name", TRACES)
def test_traces(name: str) -> None:
    options, (single, column, follows, chosen, measured) = TRACES[name]
    made = Trace(text="a", **options)
    assert (made.single, made.column, made.follow, made.chosen) == (
        single,
        column,
        follows,
        chosen,
    )
    assert made.metrics == ({} if measured is None else {made.metric: measured})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"position": "two"}, "--position 'two' is not a position; give a number, or all"),
        ({"position": "1.5"}, "--position '1.5' is not a position; give a number, or all"),
        (
            {"position": "all"},
            "--metric prob is about tokens at one position; over all positions, take cross-entropy",
        ),
        (
            {"metric": "entropy", "target": [" a"]},
            "--target is not an option of entropy; leave it out",
        ),
        (
            {"metric": "rank", "position": "all", "target": ["auto"]},
            "--target 'auto': rank has one line here; give one token, or final, input, next",
        ),
        (
            {"metric": "cross-entropy", "target": [" a", " b"]},
            "--target ' a', ' b': cross-entropy has one line here; give one token, or final, ",
        ),
        (
            {"target": [f"id:{n}" for n in range(9)]},
            "--target is given 9 times; 8 lines can be told apart",
        ),
        (
            {"log": True, "metric": "rank"},
            "--log works only with --metric prob; ranks are logarithmic anyhow, the ",
        ),
        ({"one_hot": True}, "--one-hot is not an option of prob; take kl-input"),
        (
            {"direction": Direction.reverse},
            "--direction is not an option of prob; take kl-final or kl-input",
        ),
        (
            {"format": "parquet"},
            "--format 'parquet' is unknown; choose from png, svg, pdf, or none",
        ),
        ({"metric": "js-final"}, "--metric 'js-final' is unknown; choose from prob, rank, logit, "),
    ],
)
def test_what_no_trace_is_of(options: dict[str, Any], words: str) -> None:
    assert refusal(lambda: Trace(text="a", **options)).startswith(words)


@pytest.mark.parametrize(
    "option",
    [
        *("--split=4", "--cmap=rocket", "--skip-first=1", "--changes-only", "--width=double"),
        *("--show", "--table=md", "--caption", "--lock-in", "--next-ranks", "--probs", "--delta"),
    ],
)
def test_what_only_cells_have_is_no_option(logitlens: Shell, option: str) -> None:
    said = logitlens("trace", "-t", "a", option).refusal(2)
    name = option.partition("=")[0]
    guess = r"( \(Possible options: [^)]+\))?"
    assert re.fullmatch(f"No such option: {name}{guess}; see logitlens trace --help", said), said
