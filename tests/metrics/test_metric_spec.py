"""A metric's entry: its parameters and their defaults, and how values are printed."""

import math

import numpy as np
import pytest

from logitlens_cli.errors import UsageError
from logitlens_cli.metrics.spec import (
    Direction,
    Metric,
    MetricSpec,
    Scale,
    clamp,
    short_number,
    two_decimals,
)
from logitlens_cli.metrics.sums import Floats, Needs, Sums


def formula(sums: Sums, spec: MetricSpec) -> Floats:
    return sums.lse


def require_small_k(spec: MetricSpec) -> None:
    if spec.k > 5:
        raise UsageError("too many", "take fewer")


PLAIN = Metric(name="x", about="X.", unit="u", quantity=lambda spec: "x", formula=formula)
RICH = Metric(
    name="y",
    about="Y.",
    unit="u",
    quantity=lambda spec: "y",
    formula=formula,
    needs=lambda spec: Needs(best=spec.k),
    targets=lambda spec: {"target": spec.target, "minus": spec.minus},
    parameters=("target", "minus", "k"),
    defaults={"target": "next"},
    check=require_small_k,
)


def test_rounding_never_makes_a_divergence_negative() -> None:
    values = clamp(np.array([-1e-7, 0.0, 2.5, math.nan]))
    np.testing.assert_array_equal(values, [0, 0, 2.5, math.nan])
    assert not np.signbit(values[0])


def test_the_usual_parameters() -> None:
    assert PLAIN.spec() == MetricSpec(
        metric="x", target="final", minus="input", k=10, direction="forward", one_hot=False
    )


def test_an_entrys_own_defaults_give_way_to_what_is_given() -> None:
    assert RICH.spec(k=5) == MetricSpec(metric="y", target="next", k=5)
    assert RICH.spec(k=5, target="id:3") == MetricSpec(metric="y", target="id:3", k=5)


def test_parameters_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(UsageError, match=r"^too many; take fewer$"):
        RICH.spec(k=6)


def test_a_direction_is_reverse_by_its_word_too() -> None:
    assert MetricSpec(metric="x", direction=Direction.reverse).reverse
    assert MetricSpec(metric="x", direction="reverse").reverse
    assert not MetricSpec(metric="x").reverse


def test_an_entry_without_more_needs_nothing_and_has_open_limits() -> None:
    spec = PLAIN.spec()
    assert PLAIN.all_needs(spec) == Needs()
    assert PLAIN.scale(spec) == Scale("linear", None, None, "viridis", None)
    assert PLAIN.reference(spec) is None
    assert PLAIN.format_value(2.25) == "2.2"


def test_needs_hold_those_of_the_tokens() -> None:
    spec = RICH.spec(k=3, minus="id:7")
    assert RICH.all_needs(spec) == Needs(targets=frozenset({"next", "id:7"}), best=3)


@pytest.mark.parametrize(
    ("value", "short", "decimals"),
    [
        (0.0, "0.0", "0.00"),
        (0.249, "0.2", "0.25"),
        (9.94, "9.9", "9.94"),
        (9.96, "10", "9.96"),
        (28.4, "28", "28.40"),
    ],
)
def test_numbers_as_printed(value: float, short: str, decimals: str) -> None:
    assert (short_number(value), two_decimals(value)) == (short, decimals)
