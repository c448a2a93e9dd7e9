"""A command for every metric of the table."""

from dataclasses import fields
from typing import Any

import pytest
from options_of import refusal

from logitlens_cli.commands.metric import MetricOptions, metric_commands, metric_options
from logitlens_cli.metrics.spec import Direction, MetricSpec
from logitlens_cli.metrics.table import METRICS
from logitlens_cli.options.metric import PARAMETERS

WITH_COMMANDS = [name for name, metric in METRICS.items() if metric.command]


def test_every_metric_has_one_but_those_that_only_color() -> None:
    assert list(metric_commands(without=())) == WITH_COMMANDS
    assert list(metric_commands(without={"rank", "js"})) == [
        name for name in WITH_COMMANDS if name not in ("rank", "js")
    ]
    assert not {"own-logit", "final-logit", "prob"} & set(WITH_COMMANDS)


@pytest.mark.parametrize("name", WITH_COMMANDS)
def test_its_options_are_its_parameters(name: str) -> None:
    metric = METRICS[name]
    options = metric_options(metric)
    assert options.command == name
    assert options.__doc__ == metric.about
    assert options.__name__ == name.title().replace("-", "")
    common = {field.name for field in fields(MetricOptions)}
    logarithm = {"log"} if name == "token-prob" else set()
    assert {field.name for field in fields(options)} - common == {*metric.parameters, *logarithm}
    assert set(metric.parameters) <= set(PARAMETERS)
    assert options(text="a").metrics == {name: metric.spec()}


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("rank", {"target": "id:3"}),
        ("kl-input", {"one_hot": True}),
        ("kl-final", {"direction": Direction.reverse}),
        ("overlap", {"k": 3}),
        ("cross-entropy", {"target": " cat"}),
        ("logit-diff", {"target": " a", "minus": " b"}),
    ],
)
def test_what_is_given_reaches_the_metric(name: str, parameters: dict[str, Any]) -> None:
    options = metric_options(METRICS[name])(text="a", **parameters)
    spec = options.metrics[name]
    assert {key: getattr(spec, key) for key in parameters} == parameters
    assert spec == METRICS[name].spec(**parameters)


def test_usual_targets() -> None:
    assert metric_options(METRICS["cross-entropy"])(text="a").metrics == {
        "cross-entropy": MetricSpec(metric="cross-entropy", target="next")
    }


def test_a_list_of_tokens_is_refused() -> None:
    options: Any = metric_options(METRICS["cross-entropy"])
    assert refusal(lambda: options(text="a", target="auto")) == (
        "--target auto is only for ranks; name one token; a token spelled auto is id:N"
    )
