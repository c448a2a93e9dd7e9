"""Which value has which colour: limits of the user, of the metric and of the data."""

import matplotlib
import numpy as np
import pytest
from drawn import all_texts, heatmap_of, mesh_of, texts_of
from matplotlib.colors import LogNorm
from readings import make

from logitlens_cli.errors import UsageError
from logitlens_cli.figures import heatmap
from logitlens_cli.figures.scale import limit_text, log_ticks
from logitlens_cli.figures.style import Colors, FigureStyle
from logitlens_cli.metrics.spec import Scale
from logitlens_cli.reading.record import Scores


def test_limits_and_map_are_the_users_if_given() -> None:
    fig = heatmap_of(make(), "kl-final", vmin=1, vmax=45, cmap="rocket")
    assert (mesh_of(fig).norm.vmin, mesh_of(fig).norm.vmax) == (1, 45)
    assert mesh_of(fig).cmap.name == "rocket"
    words = all_texts(fig).replace("\n", " ")
    assert "4 cells < 1" in words
    assert "1 cell > 45" in words


def test_a_scale_with_two_sides_keeps_its_middle() -> None:
    """Its limits are as far from it as the farthest value; a limit that is given is mirrored."""
    scores = Scores(values=[[-1.0, 2.0], [None, -6.0]], unit="logit", quantity="difference",
                    scale=Scale(cmap="vlag", center=0))  # fmt: skip
    reading = make([["a", "b"], ["a", "c"]], **{"logit-diff": scores})
    for style, limits in (
        ({}, (-6, 6)),
        ({"vmax": 3}, (-3, 3)),
        ({"vmin": -8}, (-8, 8)),
        ({"vmin": -1, "vmax": 4}, (-1, 4)),
    ):
        norm = mesh_of(heatmap_of(reading, "logit-diff", input_row=True, **style)).norm
        assert (norm.vmin, norm.vmax) == limits
    fig = heatmap_of(reading, "logit-diff")
    middle = matplotlib.colormaps["vlag"](np.array([0.5]))
    np.testing.assert_allclose(mesh_of(fig).to_rgba(np.zeros(1)), middle, atol=0.01)


def test_colour_limits_can_leave_out_the_first_tokens() -> None:
    # Columns 0, 1, 2 are positions 4, 5, 6 of the text.
    assert mesh_of(heatmap_of(make(), "topk")).norm.vmin == 10
    fig = heatmap_of(make(), "topk", skip_first=5)
    assert mesh_of(fig).norm.vmin == 11
    assert "colour limits leave out the first 5 tokens" in all_texts(fig).replace("\n", " ")
    assert "1 cell < 11" in all_texts(fig)  # left out, yet seen to be


def test_refusals() -> None:
    with pytest.raises(UsageError, match="logarithmic"):
        heatmap.draw_heatmaps(make(), "rank", FigureStyle(vmin=0))
    with pytest.raises(
        UsageError, match="--vmin 99 is above the upper colour limit 30; give --vmax too"
    ):
        heatmap.draw_heatmaps(make(), "kl-final", FigureStyle(vmin=99))
    with pytest.raises(UsageError, match="--skip-first 7 leaves no column"):
        heatmap.draw_heatmaps(make(), "topk", FigureStyle(skip_first=7))


def test_probabilities_may_have_a_logarithmic_scale() -> None:
    scores = Scores(values=[[0.5, 3.1e-5], [0.0, 1e-9]], unit="probability", quantity="p",
                    scale=Scale("linear", 0, 1))  # fmt: skip
    reading = make([["a", "b"], ["a", "c"]], **{"token-prob": scores})
    fig = heatmap_of(reading, "token-prob", input_row=True, log=True)
    mesh = mesh_of(fig)
    assert (mesh.norm.vmin, mesh.norm.vmax) == (1e-6, 1)
    assert isinstance(mesh.norm, LogNorm)
    assert {"0.50", "3e-5", "0", "1e-9"} <= {cell.text for cell in texts_of(fig)}
    assert "2 cells < 1e-6" in all_texts(fig).replace("\n", " ")
    below = mesh.cmap.get_under()
    colors = mesh.to_rgba(np.asarray(mesh.get_array()).reshape(2, 2))
    np.testing.assert_allclose(colors[1], [below, below])  # a probability of 0 is small, not absent
    # What is no probability keeps its own scale.
    assert not isinstance(mesh_of(heatmap_of(make(), "kl-final", log=True)).norm, LogNorm)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (1, 1000, ["1", "3", "10", "30", "100", "300", "1000"]),
        (2, 50, ["2", "3", "10", "30", "50"]),
        (1e-6, 1, ["1e-6", "1e-5", "0.0001", "0.001", "0.01", "0.1", "1"]),
        (1e-30, 1, ["1e-30", "1e-27", *(f"1e-{n}" for n in range(24, 5, -3)), "0.001", "1"]),
    ],
)
def test_numbers_beside_a_logarithmic_bar(low: float, high: float, ticks: list[str]) -> None:
    made = log_ticks(Colors("log", low, high, "viridis"))
    assert [limit_text(number) for number in made] == ticks
