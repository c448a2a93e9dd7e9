"""Chunks through the model: all rows, at the positions that are fitted to."""

import numpy as np
from fitted import TEXTS, rows_of_texts

from logitlens_cli.lens.fitting.passes import row_labels, stream_of
from logitlens_cli.lens.lens_model import LensModel


def test_the_stream_of_texts_side_by_side(tiny: LensModel) -> None:
    stream = stream_of(tiny, TEXTS, 3)
    expected = rows_of_texts(tiny.model, TEXTS, 3)
    np.testing.assert_allclose(stream.resid, expected, rtol=1e-4, atol=1e-4)


def test_the_last_row_gets_no_map(tiny: LensModel) -> None:
    assert row_labels(tiny) == ["input", "0", "1", "2"]
