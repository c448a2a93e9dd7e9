"""What one pass over the vocabulary leaves behind, and what metrics need of it."""

import numpy as np
from hand_sums import engine_sums

from logitlens_cli.metrics.sums import Needs


def test_the_engine_keeps_ties_and_the_lowest_id_first() -> None:
    sums = engine_sums()
    np.testing.assert_array_equal(sums.final_ids, [0, 2])
    np.testing.assert_array_equal(sums.output_ids, [[[0, 1, 2], [2, 1, 0]]])
    np.testing.assert_array_equal(sums.top_ids, [[[2, 1, 0], [0, 1, 2]], [[0, 1, 2], [2, 1, 0]]])
    np.testing.assert_array_equal(sums.targets["id:1"].ties, [[0, 1], [1, 0]])
    np.testing.assert_array_equal(sums.targets["next"].ties, [[0, 0], [1, 0]])
    np.testing.assert_array_equal(sums.targets["next"].above, [[1, -1], [1, -1]])


def test_needs_add_up() -> None:
    one = Needs(frozenset({"final"}), frozenset({"input"}), mean=True)
    two = Needs(frozenset({"next"}), reverse=True, js=True, best=3)
    everything = Needs(
        frozenset({"final", "next"}), frozenset({"input"}), True, True, js=True, best=5
    )
    assert one | two | Needs(best=5) == everything
