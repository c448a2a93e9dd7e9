"""Means by layer and relative position: what is no number is left out, and merging is exact."""

import math

import numpy as np

from logitlens_cli.reading.sketch import BINS, Tally


def test_a_tally_is_the_mean_of_what_is_a_number() -> None:
    tally = Tally([[0] * 3, [0] * 3], [[0] * 3, [0] * 3])
    # Two layers, three positions, of which two share the first bin.
    tally.add(np.array([[1.0, 2.0, 5.0], [math.nan, 4.0, math.nan]]), [0, 0, 2])
    expected = [[1.5, math.nan, 5.0], [4.0, math.nan, math.nan]]
    np.testing.assert_array_equal(tally.means(), expected)


def test_tallies_merge_exactly() -> None:
    rows = np.random.default_rng(0).lognormal(0, 2, (1, 6))
    bins = [0, 1, 1, 2, 0, 2]
    whole, left, right = (Tally([[0] * 3], [[0] * 3]) for _ in range(3))
    whole.add(rows, bins)
    left.add(rows[:, :4], bins[:4])
    right.add(rows[:, 4:], bins[4:])
    right.merge(left)
    assert right == whole


def test_bins_are_joined_until_all_hold_something() -> None:
    """Of texts of five tokens every fourth of twenty bins is filled."""
    tally = Tally([[0] * BINS], [[0] * BINS])
    tally.add(np.array([[1.0, 2, 3, 4, 5]]), [0, 4, 8, 12, 16])
    assert tally.filled() == 5
    assert tally.means(5).tolist() == [[1, 2, 3, 4, 5]]
    tally.add(np.array([[7.0]]), [1])
    assert tally.means(5)[0, 0] == 4
    assert Tally([[0] * BINS], [[0] * BINS]).filled() == 1
    full = Tally([[0] * BINS], [[1] * BINS])
    assert full.filled() == BINS
