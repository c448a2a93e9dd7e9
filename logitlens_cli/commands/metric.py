"""``logitlens kl-final``, ``logitlens entropy``, ...: a command for every metric of the table."""

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Any, ClassVar

from logitlens_cli.figures.style import FigureStyle
from logitlens_cli.metrics.spec import Metric, MetricSpec
from logitlens_cli.metrics.table import METRICS
from logitlens_cli.options.metric import PARAMETERS, LogOption, require_one_token
from logitlens_cli.options.reading import GridReadOptions


@dataclass(frozen=True, kw_only=True)
class MetricOptions(GridReadOptions):
    """Options of a command with the name of the one metric that it computes; subclasses add one
    for each parameter of the metric."""

    metric: ClassVar[Metric]

    @property
    def metrics(self) -> Mapping[str, MetricSpec]:
        given: dict[str, Any] = {name: getattr(self, name) for name in self.metric.parameters}
        for name in ("target", "minus"):
            if name in given:
                require_one_token(f"--{name}", given[name])
        return {self.metric.name: self.metric.spec(**given)}

    def run(self) -> Iterator[Path]:
        from logitlens_cli.commands.read import read_and_write

        return read_and_write(self)


def metric_options(metric: Metric) -> type[MetricOptions]:
    """The options of a metric's command."""
    usual = metric.spec()
    logarithm = [("log", LogOption, FigureStyle.log)] * (metric.log_scale is not None)
    options = make_dataclass(
        "".join(word.capitalize() for word in metric.name.split("-")),
        [(name, PARAMETERS[name], getattr(usual, name)) for name in metric.parameters] + logarithm,
        bases=(MetricOptions,),
        namespace={"metric": metric, "command": metric.name, "example": example_of(metric)},
        frozen=True,
        kw_only=True,
    )
    options.__doc__ = metric.about
    return options


def example_of(metric: Metric) -> str:
    """A command line of its command."""
    flags = {"target": ' --target " Paris"', "minus": ' --minus " London"'}
    chosen = "".join(flags[name] for name in metric.parameters if name in flags)
    return f'logitlens {metric.name} "The capital of France is"{chosen}'


def metric_commands(without: Container[str]) -> dict[str, type[MetricOptions]]:
    """By name, a command for every metric that has one and none of its own."""
    return {
        name: metric_options(metric)
        for name, metric in METRICS.items()
        if metric.command and name not in without
    }
