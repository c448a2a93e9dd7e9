"""The linear map of a row, against least squares on the same rows."""

import numpy as np
import pytest
import torch
from fitted import TEXTS, rows_of_texts
from torch import Tensor

from logitlens_cli.errors import UsageError
from logitlens_cli.lens.fitting.fit_sums import FitSums
from logitlens_cli.lens.fitting.linear import add_linear, empty_linear, linear_maps
from logitlens_cli.lens.lens_model import LensModel


def sums_of(lens_model: LensModel, *groups: list[list[int]]) -> FitSums:
    sums = empty_linear(lens_model)
    for group in groups:
        add_linear(sums, lens_model, group, 4)
    return sums


@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_it_is_least_squares(tiny: LensModel, ridge: float) -> None:
    """A ridge is so many rows more, the root of the penalty in each, whose output is 0."""
    sums = sums_of(tiny, TEXTS[:2], TEXTS[2:])
    weights, biases = linear_maps(sums, ridge)
    streams = rows_of_texts(tiny.model, TEXTS, 4)
    assert (sums.tokens, sums.chunks) == (36 + 19 + 27 + 36, 4)
    width = streams.shape[-1]
    for n, x in enumerate(streams[:-1]):
        ones = np.concatenate([x, np.ones((len(x), 1))], 1)
        penalty = np.sqrt(ridge * np.square(x).sum(0).mean()) * np.eye(width, width + 1)
        expected, *_ = np.linalg.lstsq(
            np.concatenate([ones, penalty]),
            np.concatenate([streams[-1], np.zeros((width, width))]),
        )
        np.testing.assert_allclose(weights[n], expected[:width].T, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(biases[n], expected[width], rtol=1e-5, atol=1e-5)


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def test_parts_add_up_to_the_whole(tiny: LensModel) -> None:
    whole = sums_of(tiny, TEXTS)
    sums = sums_of(tiny, [TEXTS[0]], [TEXTS[3]])
    sums.add(sums_of(tiny, TEXTS[1:3]))
    assert (sums.tokens, sums.chunks) == (whole.tokens, whole.chunks)
    for a, b in zip(linear_maps(sums, 1e-4), linear_maps(whole, 1e-4), strict=True):
        close(a, b)


def test_texts_that_share_a_pass_are_as_by_themselves(tiny: LensModel) -> None:
    together, alone = (sums_of(tiny, *groups).rows for groups in ([TEXTS], [[t] for t in TEXTS]))
    assert float((together - alone).abs().max() / alone.abs().max()) < 1e-6


def test_too_little_text_is_refused(tiny: LensModel) -> None:
    sums = sums_of(tiny, [TEXTS[1]])
    with pytest.raises(UsageError) as caught:
        linear_maps(sums, 0.0)
    assert str(caught.value) == (
        "19 positions do not determine a map of width 32 with --ridge 0; give more text, or a "
        "larger --ridge"
    )
    assert all(bool(made.isfinite().all()) for made in linear_maps(sums, 1e-4))
