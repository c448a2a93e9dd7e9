"""Numbers with the seven significant figures that float32 has, over the whole range of float64."""

from typing import Any

import numpy as np

POWERS = np.array([float(f"1e{n}") for n in range(23)])  # those that a float64 holds exactly


def rounded(values: Any) -> Any:
    """A float, or nested lists of an array's, with seven significant figures, all of float32; NaN
    is None."""
    given = np.asarray(values, float)
    finite = np.isfinite(given)
    array = np.where(finite, given, 0.0)
    size = np.log10(np.abs(array), out=np.zeros_like(array), where=array != 0)
    digits = 6 - np.floor(size).astype(int)
    far = np.abs(digits) >= len(POWERS)
    near, digits = np.where(far, 0.0, array), np.where(far, 0, digits)
    up, down = POWERS[digits.clip(min=0)], POWERS[(-digits).clip(min=0)]
    # A whole number times or over an exact power is the float nearest to the decimal number.
    result = np.asarray(np.rint(near * up / down) * down / up)
    result[far] = [float(f"{value:.6e}") for value in array[far]]  # slower, and right anywhere
    return result.tolist() if finite.all() else np.where(finite, result, np.array(None)).tolist()
