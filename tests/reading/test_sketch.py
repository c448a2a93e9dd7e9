"""Distributions that stream and merge, against numbers computed with everything at hand."""

import numpy as np
import pytest

from logitlens_cli.reading import summary
from logitlens_cli.reading.sketch import SMALLEST, Sketch
from logitlens_cli.reading.summary import QUANTILES


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e5])
def test_quantiles_are_right_within_half_a_percent(scale: float) -> None:
    values = scale * np.random.default_rng(0).lognormal(0, 2, 5000)
    sketch = Sketch()
    for part in np.array_split(values, 7):
        sketch.add(part)
    assert sketch.count == 5000
    assert sketch.mean() == pytest.approx(values.mean(), rel=1e-4, abs=1e-7)
    for q in (0, *QUANTILES, 1):
        exact = np.quantile(values, q, method="lower")
        assert sketch.quantile(q) == pytest.approx(exact, rel=0.0051, abs=SMALLEST)
    assert sketch.quantile(1) == values.max()


def test_small_whole_numbers_are_exact() -> None:
    values = np.random.default_rng(0).integers(1, 60, 1000).astype(float)
    sketch = Sketch()
    sketch.add(values)
    exact = np.quantile(values, QUANTILES, method="lower")
    assert summary.quantiles(sketch, whole=True) == exact.tolist()


def test_zeros_and_nothing() -> None:
    sketch = Sketch()
    assert (sketch.count, sketch.mean(), sketch.quantile(0.5)) == (0, None, None)
    sketch.add(np.array([]))
    sketch.add(np.array([0.0, 0.0, 0.0, 5.0]))
    assert (sketch.quantile(0.5), sketch.quantile(1), sketch.mean()) == (0.0, 5.0, 1.25)


def test_sketches_merge_exactly_in_any_order() -> None:
    values = np.random.default_rng(0).lognormal(0, 3, 999)
    whole = Sketch()
    whole.add(values)
    parts = []
    for some in np.array_split(values, 5):
        parts.append(Sketch())
        parts[-1].add(some)
    merged = Sketch()
    for part in reversed(parts):
        merged.merge(part)
    assert merged == whole
