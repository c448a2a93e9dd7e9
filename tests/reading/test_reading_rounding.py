"""Seven significant figures, as float32 has them."""

import math
from decimal import Decimal
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from logitlens_cli.reading import rounding

SMALLEST = Decimal(2) ** -1074
"""the least that a float64 tells from nothing"""


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1 / 3, 0.3333333),
        (123456789.0, 123456800.0),
        (-1.23456789e-12, -1.234568e-12),
        (2.0, 2.0),
        (math.nan, None),
        (-math.inf, None),
        (None, None),
        (np.array([[0.1, np.nan]]), [[0.1, None]]),
        (np.array([0.1], np.float32), [0.1]),
    ],
)
def test_rounding(value: Any, expected: Any) -> None:
    assert rounding.rounded(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.23456789e-30, 1.234568e-30),
        (4.5678915e-17, 4.567892e-17),  # where powers of ten are no longer exact
        (9.9999996e-23, 1e-22),
        (2.2250738585072014e-308, 2.225074e-308),  # the smallest that is not denormal
        (5e-324, 5e-324),  # the smallest of all
        (2.5e-310, 2.5e-310),
        (-1.7976931348623157e308, -1.797693e308),  # the largest
        (1.4e-45, 1.4e-45),  # the smallest of float32
        (3.4028234663852886e38, 3.402823e38),  # and its largest
        (1.23456789e300, 1.234568e300),
        (0.0, 0.0),
    ],
)
def test_the_edges_of_the_range(value: float, expected: float) -> None:
    assert rounding.rounded(value) == expected
    assert rounding.rounded([value, 0.1]) == [expected, 0.1]


@pytest.mark.parametrize("exponent", [*range(-323, -300), *range(-50, 51), *range(290, 309)])
def test_what_has_seven_figures_stays(exponent: int) -> None:
    """The very same float, over the whole range of float64."""
    value = float(f"1.234567e{exponent}")
    assert rounding.rounded(value) == value
    assert rounding.rounded(-value) == -value


@hypothesis.given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_has_its_nearest_number_of_seven_figures(value: float) -> None:
    made = rounding.rounded(value)
    assert float(f"{made:.6e}") == made
    last = Decimal(10) ** (Decimal(value).adjusted() - 6)
    assert abs(Decimal(made) - Decimal(value)) <= max(last * Decimal("0.50001"), SMALLEST / 2)


def test_nested_lists_keep_their_shape() -> None:
    values = np.array([[[1.00000004, np.inf]], [[0.0, -2.5]]])
    assert rounding.rounded(values) == [[[1.0, None]], [[0.0, -2.5]]]
    assert rounding.rounded(np.empty((2, 0))) == [[], []]
