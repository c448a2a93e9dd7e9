"""``logitlens topk``: what may colour the guesses."""

import pytest

from logitlens_cli.commands.topk import TopK
from logitlens_cli.errors import UsageError
from logitlens_cli.metrics.spec import MetricSpec
from logitlens_cli.options.metric import Color

FREE = ("own-logit", "final-logit", "prob")


@pytest.mark.parametrize("color", Color)
def test_every_color_is_computed_beside_those_that_cost_nothing(color: Color) -> None:
    options = TopK(text="a", color=color)
    assert options.figures == ("topk",)
    names = dict.fromkeys([*FREE, str(color)])
    assert options.metrics == {name: MetricSpec(metric=name) for name in names}


def test_by_default() -> None:
    options = TopK(text="a")
    assert (options.k, options.color, options.follow) == (5, "own-logit", False)


def test_a_logarithmic_scale_is_of_probabilities() -> None:
    assert TopK(text="a", color=Color("prob"), log=True).log
    with pytest.raises(
        UsageError, match="--log is of probabilities, and the colours show own-logit; give --color"
    ):
        TopK(text="a", log=True)
