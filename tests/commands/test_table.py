"""Every command that reads texts: its figures, its metrics, its guesses, its options by default."""

from typing import Any

import pytest
from options_of import parsed

from logitlens_cli.commands.all import All
from logitlens_cli.commands.metric import metric_options
from logitlens_cli.commands.rank import Rank
from logitlens_cli.commands.table import commands
from logitlens_cli.commands.topk import TopK
from logitlens_cli.commands.trace import Trace
from logitlens_cli.commands.translate import read_spec
from logitlens_cli.metrics.spec import Direction, MetricSpec
from logitlens_cli.metrics.table import METRICS
from logitlens_cli.options.metric import Color
from logitlens_cli.options.reading import ReadOptions

READING = (
    *("topk", "rank", "kl-final", "kl-input", "js", "overlap", "entropy", "cross-entropy"),
    *("token-prob", "logit-diff", "all", "trace"),
)


def spec(metric: str, **parameters: Any) -> MetricSpec:
    return MetricSpec(metric=metric, **parameters)


def of_metric(name: str, **parameters: Any) -> ReadOptions:
    return metric_options(METRICS[name])(text="a", **parameters)


THREE = {name: spec(name) for name in ("own-logit", "final-logit", "prob")}


@pytest.mark.parametrize(
    ("options", "command", "figures", "metrics", "guesses"),
    [
        (TopK(text="a"), "topk", ("topk",), THREE, 5),
        (
            *(TopK(text="a", k=3, color=Color("entropy")), "topk", ("topk",)),
            *(THREE | {"entropy": spec("entropy")}, 3),
        ),
        (
            *(Rank(text="a", target=[" cat"]), "rank", ("rank",)),
            *({"rank": spec("rank", target=" cat")}, 1),
        ),
        (
            *(of_metric("kl-final", direction=Direction.reverse), "kl-final", ("kl-final",)),
            *({"kl-final": spec("kl-final", direction=Direction.reverse)}, 1),
        ),
        (
            *(of_metric("kl-input", one_hot=True), "kl-input", ("kl-input",)),
            *({"kl-input": spec("kl-input", one_hot=True)}, 1),
        ),
        (of_metric("js"), "js", ("js",), {"js": spec("js")}, 1),
        (
            *(of_metric("overlap", k=3), "overlap", ("overlap",)),
            *({"overlap": spec("overlap", k=3)}, 3),
        ),
        (of_metric("entropy"), "entropy", ("entropy",), {"entropy": spec("entropy")}, 1),
        (
            *(of_metric("cross-entropy"), "cross-entropy", ("cross-entropy",)),
            *({"cross-entropy": spec("cross-entropy", target="next")}, 1),
        ),
        (
            *(of_metric("token-prob", target=" cat"), "token-prob", ("token-prob",)),
            *({"token-prob": spec("token-prob", target=" cat")}, 1),
        ),
        (
            *(of_metric("logit-diff", target=" a", minus="id:7"), "logit-diff", ("logit-diff",)),
            *({"logit-diff": spec("logit-diff", target=" a", minus="id:7")}, 1),
        ),
        (
            *(All(text="a", target=["input"]), "all", ("topk", "rank", "kl-final", "kl-input")),
            {
                **THREE,
                "rank": spec("rank", target="input"),
                "kl-final": spec("kl-final"),
                "kl-input": spec("kl-input"),
            },
            5,
        ),
        (Trace(text="a"), "trace", ("trace",), {}, 1),
        (
            *(Trace(text="a", metric="kl-final", direction=Direction.reverse), "trace"),
            *(("trace",), {"kl-final": spec("kl-final", direction=Direction.reverse)}, 1),
        ),
    ],
    ids=["topk", "topk-entropy", *(name for name in READING if name != "topk"), "trace-kl"],
)
def test_commands(
    options: ReadOptions,
    command: str,
    figures: tuple[str, ...],
    metrics: dict[str, MetricSpec],
    guesses: int,
) -> None:
    assert options.command == command
    assert options.figures == figures
    assert options.metrics == metrics
    assert read_spec(options).k == guesses


def test_all_commands() -> None:
    last = ["stats", "fit", "render", "diff", "overlay", "tokens"]
    assert [*commands()] == [*READING, *last]


@pytest.mark.parametrize("command", READING)
def test_the_command_line_builds_the_options(command: str) -> None:
    options: Any = commands()[command]
    made, usual = parsed(command, "-t", "a"), options(text="a")
    assert (made.command, vars(made)) == (command, vars(usual))
    assert type(made).__name__ == options.__name__
