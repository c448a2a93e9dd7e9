"""What is drawn is tested on the artists: data, labels, outlines, stars."""

import msgspec
import numpy as np
import pytest
from drawn import all_texts, cells, heatmap_of, mesh_of, top_labels
from matplotlib.collections import LineCollection
from readings import make

from logitlens_cli.errors import UsageError
from logitlens_cli.figures import heatmap
from logitlens_cli.figures.layout import lay_out
from logitlens_cli.figures.reading_panels import panels
from logitlens_cli.figures.style import FigureStyle, Width
from logitlens_cli.reading.record import Followed, Token


def test_layer_zero_is_at_the_bottom_and_values_are_in_their_cells() -> None:
    fig = heatmap_of(make(), "kl-final")
    ax = fig.axes[0]
    low, high = ax.get_ylim()
    assert low < high  # upwards
    assert [t.get_text() for t in ax.get_yticklabels()] == ["input", "0", "1"]
    data = np.asarray(mesh_of(fig).get_array()).reshape(3, 3)
    np.testing.assert_array_equal(data, [[40, 50, 2], [7.25, 0, 31], [0, 0, 0]])
    assert cells(fig)[0.5, 0.5] == "40"
    assert cells(fig)[0.5, 1.5] == "7.2"
    assert cells(fig)[2.5, 2.5] == "0.0"


def test_token_labels_are_tilted_below_and_starred_above() -> None:
    fig = heatmap_of(make(), "topk")
    below = fig.axes[0].get_xticklabels()
    assert [t.get_text() for t in below] == ["t0", "t1", "last"]
    assert {t.get_rotation() for t in below} == {45}
    # Columns 0 and 1: the model's top guess is the next token, by id. The last has no next token.
    assert top_labels(fig) == ["t1 (*)", "t2 (*)", ""]


def test_star_compares_ids_not_texts() -> None:
    reading = make([["same"] * 3, ["same"] * 3])
    tokens = list(reading.tokens)
    tokens[0] = Token(position=4, id=1, label="same", next_id=55, next_label="same")
    fig = heatmap_of(msgspec.structs.replace(reading, tokens=tokens), "topk")
    assert top_labels(fig)[0] == "same"  # prints alike, is another id


def test_topk_prints_guesses_and_outlines_those_that_are_final() -> None:
    fig = heatmap_of(make(), "topk")
    assert cells(fig) == {
        (0.5, 0.5): "b", (1.5, 0.5): "c", (2.5, 0.5): "z",
        (0.5, 1.5): "b", (1.5, 1.5): "c", (2.5, 1.5): "a",
    }  # fmt: skip
    lines = [c for c in fig.axes[0].collections if isinstance(c, LineCollection)]
    assert len(lines) == 2  # black on white, so that it shows on every colour
    edges = {tuple(map(tuple, np.sort(s, axis=0).tolist())) for s in lines[0].get_segments()}
    # All of the top row, and two cells below: one contour, nothing between neighbours.
    by_hand = {((x, 2.0), (x + 1, 2.0)) for x in (0.0, 1.0, 2.0)}  # above
    by_hand |= {((0.0, 0.0), (1.0, 0.0)), ((1.0, 0.0), (2.0, 0.0)), ((2.0, 1.0), (3.0, 1.0))}
    by_hand |= {((0.0, 0.0), (0.0, 1.0)), ((0.0, 1.0), (0.0, 2.0))}  # left
    by_hand |= {((2.0, 0.0), (2.0, 1.0)), ((3.0, 1.0), (3.0, 2.0))}  # right
    assert edges == by_hand
    assert not [c for c in heatmap_of(make(), "rank").axes[0].collections
                if isinstance(c, LineCollection)]  # fmt: skip


def test_followed_tokens_are_drawn_by_layers() -> None:
    followed = Followed(
        position=6, ids=[5, 3], labels=["yes", "no"], ranks=[[9, 9], [2, 1], [1, 3]]
    )
    fig = heatmap_of(msgspec.structs.replace(make(), followed=followed), "followed")
    assert [t.get_text() for t in fig.axes[0].get_xticklabels()] == ["yes", "no"]
    assert cells(fig) == {(0.5, 0.5): "2", (1.5, 0.5): "1", (0.5, 1.5): "1", (1.5, 1.5): "3"}
    words = all_texts(fig)
    assert "token, best rank first" in words
    assert "true next token" not in words


def test_figures_that_a_reading_does_not_hold() -> None:
    with pytest.raises(UsageError, match="topk, rank, kl-final"):
        heatmap.draw_heatmaps(make(), "kl-input", FigureStyle())
    with pytest.raises(UsageError, match="entropy is not in this dump; it holds own-logit"):
        heatmap.draw_heatmaps(make(), "topk", FigureStyle(color="entropy"))


def test_a_figure_that_is_too_wide() -> None:
    wide = make([["a"] * 4000] * 2)
    with pytest.raises(UsageError, match=r"inches, at 300 dpi \d+ x \d+ pixels; use --split"):
        heatmap.draw_heatmaps(wide, "topk", FigureStyle())


def test_a_model_may_be_called_otherwise() -> None:
    assert "– step 512" in all_texts(heatmap_of(make(), "topk", model_label="step 512"))


def test_uneven_columns_are_drawn_as_laid_out() -> None:
    """Cells, labels below and labels above stand over one another."""
    words = [["a", "·internationalization", "b", "c", "·some", "·cat", "·a", "e"]] * 5
    style = FigureStyle(width=Width.single)
    pieces = panels(make(words), "topk", style)
    (layout,), _ = lay_out(pieces, style)
    assert not layout.even
    fig = heatmap.draw_panels(pieces, style)[0].figure
    fig.draw_without_rendering()
    ax = fig.axes[0]
    inches = fig.dpi_scale_trans.inverted()
    edges = [
        inches.transform(ax.transData.transform((n, 0)))[0] - layout.left
        for n in range(len(layout.edges))
    ]
    np.testing.assert_allclose(edges, layout.edges, atol=1e-6)
    below = [ax.transData.transform((n + 0.5, 0))[0] for n in range(8)]
    (top,) = ax.child_axes
    above = [top.transData.transform((x, 0))[0] for x in top.get_xticks()]
    np.testing.assert_allclose(above, below, atol=0.01)
