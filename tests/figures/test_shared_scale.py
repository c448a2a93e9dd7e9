"""Colours that several readings share are the widest of any."""

import msgspec
import pytest
from readings import kl, scored

from logitlens_cli.errors import UsageError
from logitlens_cli.figures.shared_scale import shared_colors
from logitlens_cli.figures.style import FigureStyle
from logitlens_cli.metrics.spec import Scale

FREE = Scale("linear", None, None, "viridis")


def test_limits_are_the_widest() -> None:
    one = scored(**{"kl-final": kl([1.0, 2.0, 1.0], [3.0, 0.5, 1.0], [1.0, 1.0, 1.0], scale=FREE)})
    two = scored(**{"kl-final": kl([4.0, 2.0, 1.0], [3.0, 1.0, 1.0], [1.0, 1.0, 1.0], scale=FREE)})
    named = [("a", one, ["kl-final"]), ("b", two, ["kl-final"])]
    colors = shared_colors(named, FigureStyle())["kl-final"]
    assert (colors.low, colors.high) == (0.5, 4.0)


def test_different_quantities_share_none() -> None:
    usual = scored()
    one = scored(**{"kl-final": usual.metrics["kl-final"]})
    two = scored(**{"kl-final": msgspec.structs.replace(usual.metrics["kl-final"], unit="bits")})
    with pytest.raises(UsageError, match="only one quantity can share a scale"):
        shared_colors([("a", one, ["kl-final"]), ("b", two, ["kl-final"])], FigureStyle())
