"""Seven significant figures, as float32 has them."""

import math
from typing import Any

import numpy as np
import pytest

from logitlens_cli.reading import rounding


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


@pytest.mark.parametrize("exponent", [-38, -30, -7, -1, 0, 6, 7, 22, 30, 38])
def test_what_has_seven_figures_stays(exponent: int) -> None:
    value = float(f"1.234567e{exponent}")
    # Beyond the powers that a float64 holds exactly, the last bits of it are not kept.
    assert rounding.rounded(value) == pytest.approx(value, rel=1e-15 if exponent > -16 else 1e-7)
    assert rounding.rounded(-value) == -rounding.rounded(value)


def test_nested_lists_keep_their_shape() -> None:
    values = np.array([[[1.00000004, np.inf]], [[0.0, -2.5]]])
    assert rounding.rounded(values) == [[[1.0, None]], [[0.0, -2.5]]]
    assert rounding.rounded(np.empty((2, 0))) == [[], []]
