"""``logitlens trace``: which lines, and what cannot be one."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Shell
from options_of import refusal

from logitlens_cli.commands.trace import OF_TOKENS, Trace, of_columns
from logitlens_cli.metrics.spec import Direction, MetricSpec
from logitlens_cli.metrics.table import METRICS
from logitlens_cli.reading.dump import load_dump


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
        (
            {"metric": "js-final"},
            "--metric 'js-final' is unknown; did you mean kl-final? choose from prob, rank, ",
        ),
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
    others = "it is an option of [^;]+"
    assert re.fullmatch(f"No such option: {name}; {others}; see logitlens trace --help", said), said


# ---- every metric that can be traced

EVERY_METRIC = [*dict.fromkeys((*OF_TOKENS, *of_columns()))]
TEXT = "the cat sat"  # t h e ·cat · s a t


def test_which_metrics_are_offered() -> None:
    assert [
        *("prob", "rank", "logit", "kl-final", "kl-input", "js", "entropy", "cross-entropy"),
        "token-prob",
    ] == EVERY_METRIC
    with_commands = {name for name, metric in METRICS.items() if metric.command}
    assert with_commands - set(of_columns()) == {"overlap", "logit-diff"}  # k and minus are none


def test_the_help_names_them(logitlens: Shell) -> None:
    words = " ".join(" ".join(logitlens("trace", "--help").out).split())
    assert f"Of tokens ({', '.join(OF_TOKENS)}) or of whole columns" in words
    assert f"({', '.join(of_columns())})" in words


@pytest.mark.parametrize("metric", of_columns())
@pytest.mark.parametrize(("position", "columns"), [("2", 1), ("-2", 1), ("all", 8)])
def test_a_metric_of_columns(
    read: Shell, out: Path, metric: str, position: str, columns: int
) -> None:
    line = ["-t", TEXT, "--name", "x", "--metric", metric, "--position", position]
    if metric == "rank" and columns == 1:
        line += ["--target", "final"]
    ran = read("trace", *line)
    assert (ran.code, ran.err) == (0, []), ran
    assert ran.out == [str(out / f"x.trace.{form}") for form in ("json", "svg")]
    trace = load_dump(out / "x.trace.json")
    assert [token.position for token in trace.tokens] == {
        "2": [2], "-2": [6], "all": list(range(8))
    }[position]  # fmt: skip
    if metric in OF_TOKENS and columns == 1:
        assert trace.followed is not None
        values = np.array(trace.followed.ranks, float)
    else:
        assert trace.followed is None
        values = trace.values(metric)
    # As the metric's own command has it.
    arguments = ["-t", TEXT, "--name", "own", "--format", "none"]
    assert read(metric, *arguments).code == 0
    own = load_dump(out / f"own.{metric}.json")
    chosen = [token.position for token in trace.tokens]
    np.testing.assert_allclose(values, own.values(metric)[:, chosen], rtol=1e-4, atol=1e-5)
    figure = (out / "x.trace.svg").read_text("utf-8")
    assert METRICS[metric].unit in figure


def test_the_last_position_has_no_next_token(read: Shell, out: Path) -> None:
    line = ["-t", TEXT, "--metric", "cross-entropy", "--position", "-1"]
    assert read("trace", *line).refusal(2) == (
        "there is no cross-entropy of the true next token here; take a longer text or another "
        "--position"
    )
    assert not out.exists()


@pytest.mark.parametrize("metric", OF_TOKENS)
@pytest.mark.parametrize("position", ["2", "-1"])
def test_a_metric_of_tokens(read: Shell, out: Path, metric: str, position: str) -> None:
    line = ["-t", TEXT, "--name", "x", "--metric", metric, "--position", position]
    ran = read("trace", *line, "--target", "final", "--target", " cat")
    assert (ran.code, ran.err) == (0, []), ran
    trace = load_dump(out / "x.trace.json")
    followed = trace.followed
    assert followed is not None
    assert followed.position == {"2": 2, "-1": 7}[position]
    assert set(followed.ids) == {trace.final_ids[0], 261} == set(followed.chosen)
    ranks, logits, probs = (
        np.array(getattr(followed, name), float) for name in ("ranks", "logits", "probs")
    )
    final = followed.ids.index(trace.final_ids[0])
    assert ranks[-1, final] == 1
    # Of two tokens the one with the larger logit is the likelier one, and the better one.
    assert ((logits[:, 0] > logits[:, 1]) == (ranks[:, 0] < ranks[:, 1])).all()
    np.testing.assert_allclose(
        np.log(probs[:, 0] / probs[:, 1]), logits[:, 0] - logits[:, 1], rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("metric", [name for name in OF_TOKENS if name not in of_columns()])
def test_metrics_of_tokens_need_a_position(logitlens: Shell, metric: str) -> None:
    said = logitlens("trace", "-t", TEXT, "--metric", metric, "--position", "all").refusal(2)
    assert said == (
        f"--metric {metric} is about tokens at one position; over all positions, take cross-entropy"
    )
