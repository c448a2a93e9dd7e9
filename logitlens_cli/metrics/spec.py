"""A metric's entry, and the parameters with which one run asks for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Literal

from logitlens_cli.metrics.sums import Floats, Needs, Sums


class Direction(StrEnum):
    """KL(reference || layer) or KL(layer || reference)."""

    forward = "forward"
    reverse = "reverse"


@dataclass(frozen=True, kw_only=True)
class MetricSpec:
    """A metric with its parameters."""

    metric: str
    """its name in the table"""
    target: str = "final"
    """whose logit or rank: "final", "input", "next", or "id:N" """
    target_label: str = ""
    """of a token, for people: with its id it says which one it is"""
    minus: str = "input"
    """whose logit is subtracted, as ``target``"""
    minus_label: str = ""
    k: int = 10
    """how many of the best tokens are compared"""
    direction: str = Direction.forward
    one_hot: bool = False
    """KL to the input token itself instead of to the decoded input row"""

    @property
    def reverse(self) -> bool:
        return self.direction == Direction.reverse


@dataclass(frozen=True)
class Scale:
    """How values become colours. A limit of None is taken from the data."""

    kind: Literal["linear", "log"] = "linear"
    low: float | None = None
    high: float | None = None
    cmap: str = "viridis"
    center: float | None = None
    """of a map with two sides: limits that are taken from the data lie evenly about it"""


KL_SCALE = Scale("linear", 0, 30, "mako_r")
PROBABILITY_SCALE, LOG_PROBABILITY_SCALE = Scale("linear", 0, 1), Scale("log", 1e-6, 1)
# Blue to red through white, which the colour-blind tell apart.
DIFFERENCE_SCALE = Scale(cmap="vlag", center=0)


def no_needs(spec: MetricSpec) -> Needs:
    return Needs()


def no_check(spec: MetricSpec) -> None:
    """Every choice of parameters makes sense."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One entry of the table."""

    name: str
    about: str
    """the help of its command, a sentence"""
    unit: str
    quantity: Callable[[MetricSpec], str]
    """what the colour bar says, without the unit"""
    formula: Callable[[Sums, MetricSpec], Floats]
    """values, (layer, position); NaN where a value does not exist"""
    scale: Callable[[MetricSpec], Scale] = field(default=lambda spec: Scale())
    format_value: Callable[[float], str] = field(default=lambda value: f"{value:.1f}")
    """a value as printed in its cell"""
    needs: Callable[[MetricSpec], Needs] = no_needs
    """sums beside those about its tokens"""
    targets: Callable[[MetricSpec], Mapping[str, str]] = field(default=lambda spec: {})
    """whose sums it needs, by role: "target", "minus" """
    reference: Callable[[MetricSpec], str | None] = field(default=lambda spec: None)
    """what layers are held against, for the dump"""
    log_scale: Scale | None = None
    """its scale where small values are to be told apart; None where its command has no --log"""
    parameters: tuple[str, ...] = ()
    """fields of MetricSpec that its command has an option for"""
    defaults: Mapping[str, str] = field(default_factory=dict)
    """of its parameters, where they are not those of MetricSpec"""
    check: Callable[[MetricSpec], None] = no_check
    """raises UsageError for parameters that contradict each other"""
    whole: bool = False
    """are the values whole numbers?"""
    ties: bool = False
    """does the dump count the tokens level with the target?"""
    input_row: bool = False
    """do its figures show the input row unless told otherwise?"""
    command: bool = True
    """has it a command and a trace? Else it only colours top guesses"""
    colors_guesses: bool = False
    """may it colour the figure of top guesses?"""
    summarized: bool = False
    """is it part of the statistics over many prompts?"""

    def spec(self, **parameters: object) -> MetricSpec:
        """The metric with its own defaults, but for ``parameters``; UsageError where they
        contradict each other."""
        spec = replace(MetricSpec(metric=self.name), **{**self.defaults, **parameters})  # type: ignore[arg-type]
        self.check(spec)
        return spec

    def all_needs(self, spec: MetricSpec) -> Needs:
        return self.needs(spec) | Needs(targets=frozenset(self.targets(spec).values()))


def target_alone(spec: MetricSpec) -> Mapping[str, str]:
    """The targets of a metric of one token."""
    return {"target": spec.target}


def clamp(values: Floats) -> Floats:
    """Divergences and entropies are not negative; rounding makes them so by a hair."""
    return values.clip(min=0.0)


def short_number(value: float) -> str:
    """Two figures that matter: 0.3, 7.1, 28."""
    return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"


def probability_text(value: float) -> str:
    """Two figures that matter, or one of what is small: 0.31, 3e-5."""
    if value >= 0.0095 or value == 0:
        return two_decimals(value) if value else "0"
    return short_exponent(f"{value:.0e}")


def short_exponent(number: str) -> str:
    """A number without the zeros of its exponent: 3e-05 is 3e-5."""
    digits, _, exponent = number.partition("e")
    return f"{digits}e{int(exponent)}" if exponent else digits


def two_decimals(value: float) -> str:
    return f"{value:.2f}"
