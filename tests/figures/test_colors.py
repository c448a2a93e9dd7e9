"""Colours: that texts stand out on them, and that everybody can tell them apart."""

from typing import Any

import matplotlib
import numpy as np
import pytest
from drawn import all_texts, heatmap_of, mesh_of
from readings import make

from logitlens_cli.errors import UsageError
from logitlens_cli.figures import heatmap
from logitlens_cli.figures.colors import color_map, luminance, map_ends
from logitlens_cli.figures.style import Colors, FigureStyle


def test_rank_is_logarithmic_and_clipping_is_visible() -> None:
    fig = heatmap_of(make(), "rank", input_row=True)
    norm = mesh_of(fig).norm
    assert isinstance(norm, matplotlib.colors.LogNorm)
    assert (norm.vmin, norm.vmax) == (1, 100)
    assert "2 cells > 100" in all_texts(fig)
    colors = mesh_of(fig).to_rgba(np.array([100.0, 101.0]))
    assert not np.allclose(colors[0], colors[1])  # what is clipped has a colour of its own


def test_an_unknown_map_is_refused() -> None:
    with pytest.raises(UsageError, match="'nonsense' is unknown"):
        heatmap.draw_heatmaps(make(), "rank", FigureStyle(cmap="nonsense"))


def test_text_stands_out_on_every_colour() -> None:
    for name in ("viridis", "mako_r", "rocket", "coolwarm", "gray"):
        colors = color_map(name)(np.linspace(0, 1, 101))
        for color in colors:
            background = float(luminance(color))
            ink = 1.0 if background < 0.179 else 0.0
            light, dark = max(background, ink), min(background, ink)
            assert (light + 0.05) / (dark + 0.05) >= 4.5


# Machado, Oliveira and Fernandes (2009), complete deficiency, on linear RGB.
DEFICIENCIES = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
    "none": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
}  # fmt: skip


def seen_by(kind: str, colors: Any) -> Any:
    """CIELAB of sRGB colours as somebody with this deficiency sees them; L is what greyscale
    leaves."""
    rgb = np.asarray(colors)[..., :3]
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = (linear @ np.array(DEFICIENCIES[kind]).T).clip(0, 1)
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    x, y, z = np.moveaxis(linear @ to_xyz.T / to_xyz.sum(1), -1, 0)
    x, y, z = (
        np.where(t > 0.008856, np.cbrt(t.clip(1e-9)), 7.787 * t + 16 / 116) for t in (x, y, z)
    )
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


@pytest.mark.parametrize("kind", DEFICIENCIES)
def test_default_colours_are_ordered_for_everybody(kind: str) -> None:
    """In lightness, so in greyscale too; what is clipped lies beyond the ends."""
    for name in ("viridis", "mako_r"):
        cmap = color_map(name)
        colors = [cmap.get_under(), *cmap(np.linspace(0, 1, 33)), cmap.get_over()]
        steps = np.diff(seen_by(kind, colors)[:, 0])
        assert (steps > 0).all() or (steps < 0).all()


@pytest.mark.parametrize("kind", DEFICIENCIES)
def test_the_two_sides_of_differences_are_told_apart(kind: str) -> None:
    ends = map_ends(Colors("linear", -1, 1, "vlag", centered=True))
    low, middle, high = seen_by(kind, color_map("vlag", ends)([0.0, 0.5, 1.0]))
    assert np.linalg.norm(low - high) > 25
    assert min(np.linalg.norm(low - middle), np.linalg.norm(high - middle)) > 25
