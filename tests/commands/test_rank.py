"""``logitlens rank``: several targets."""

import pytest

from logitlens_cli.commands.rank import Rank
from logitlens_cli.metrics.spec import MetricSpec


@pytest.mark.parametrize(
    ("targets", "names"),
    [
        (["next", "final"], ["rank-next", "rank-final"]),
        (["a", "A", "日"], ["rank-a", "rank-a-2", "rank-3"]),
        (["a 3", "a", "a!"], ["rank-a-3", "rank-a", "rank-a-4"]),  # not the third's number again
    ],
)
def test_every_rank_has_a_name_of_its_own(targets: list[str], names: list[str]) -> None:
    options = Rank(text="a", target=targets)
    assert options.metrics == {
        name: MetricSpec(metric="rank", target=target)
        for name, target in zip(names, targets, strict=True)
    }
    assert options.figures == tuple(names)
