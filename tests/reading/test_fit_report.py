"""Scores of a lens on held-out text, by hand."""

import numpy as np

from logitlens_cli.reading.fit_report import LensScores, lens_scores


def test_scores_of_each_layer() -> None:
    kl = np.array([[1.0, 3.0, 8.0], [0.0, 0.0, 3.0]])
    agrees = np.array([[0.0, 0.0, 1.0], [1.0, 1.0, 1.0]])
    assert lens_scores(kl, agrees) == LensScores(
        kl_median=[3.0, 0.0], kl_mean=[4.0, 1.0], agrees=[0.3333333, 1.0]
    )
