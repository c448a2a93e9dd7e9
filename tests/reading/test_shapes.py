"""Parts of a dump that do not fit each other are named."""

import pytest

from logitlens_cli.metrics.spec import Scale
from logitlens_cli.reading.record import LockIn
from logitlens_cli.reading.shapes import require_lock_in, require_scale


@pytest.mark.parametrize(
    ("scale", "said"),
    [
        (Scale(low=2, high=1), "x runs from 2 to 1"),
        (Scale("log", 0, 1), "x is logarithmic and has a limit that is not above 0"),
        (Scale(high=1e101), "x has a limit beyond 1e100"),
    ],
)
def test_scales_that_no_colours_fit(scale: Scale, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        require_scale("x", scale)


def test_a_lock_in_is_of_all_positions() -> None:
    found = LockIn(first=[1, 2], since=[1], mean_first=None, mean_since=None)
    with pytest.raises(ValueError, match=r"lock_in\.since is not of 2 positions"):
        require_lock_in(found, 2)
