"""B minus A, against numbers by hand."""

import msgspec
import numpy as np
import pytest
from readings import OTHER, compared, json_like, kl, reading_of, scored, without_input

from logitlens_cli.metrics.spec import Scale
from logitlens_cli.reading.record import Scores


@pytest.mark.parametrize(
    ("a", "b", "tens"), [(1.0, 100.0, 2), (1e-320, 1e100, 420), (1e100, 1e-300, -400)]
)
def test_ratios_of_any_size(a: float, b: float, tens: float) -> None:
    """What a foreign dump may hold as a rank is divided without an overflow."""
    scale = Scale("log", 1, 100)
    here, there = (kl([v] * 3, [v] * 3, [v] * 3, scale=scale) for v in (a, b))
    made, panel = compared(scored(kl_final=here), scored(kl_final=there), "kl-final")
    assert made.values == [[tens] * 3] * 3
    assert (panel.colors.low, panel.colors.high) == (-abs(tens), abs(tens))


def test_difference_by_hand() -> None:
    # A is [[40, 50, 2], [7.25, 0, 31], [0, 0, 0]]
    made, panel = compared(reading_of(), scored(kl_final=OTHER), "kl-final")
    assert made.values == [[-10, 0, None], [-0.25, 2.5, -30], [0, 0.04, 0]]
    assert [layer.label for layer in made.layers] == panel.rows == ["input", "0", "1"]
    assert panel.texts == [["-10", "0.0", ""], ["-0.2", "+2.5", "-30"], ["0.0", "0.0", "0.0"]]
    assert (made.metric, made.unit) == ("kl-final", "nats")
    assert panel.bar_label == "KL(final || layer), B minus A [nats]"
    assert panel.title == "KL(final || layer), B minus A – hand-made"
    assert not panel.outlined.any()
    assert panel.all_notes()[:2] == ["A: one", "B: two"]


def test_ranks_are_divided() -> None:
    rank = reading_of().metrics[
        "rank"
    ]  # [[1, 50, 500], [1, 1, 101], [1, 1, 1]], the input row hidden
    ranks = msgspec.structs.replace(rank, values=[[9, 9, 9], [100, 1, 10.1], [1, 2, 1000]])
    made, panel = compared(reading_of(), scored(rank=ranks), "rank")
    by_hand = np.array([[2, 0, -1], [0, 0.30103, 3]])
    np.testing.assert_allclose(np.array(made.values, float), by_hand, rtol=1e-6)
    assert panel.texts == [["+2.0", "0.0", "-1.0"], ["0.0", "+0.3", "+3.0"]]
    assert panel.bar_label == "rank of the final top guess, log10(B / A) [powers of ten]"
    assert "below 0: better in B" in panel.all_notes()
    assert (panel.colors.low, panel.colors.high) == (-3, 3)  # a difference, with no scale of ranks


def test_top_guesses_are_outlined_where_they_agree() -> None:
    a = reading_of()  # b c z, then b c a
    b = reading_of(labels=[["in", "x", "y"], ["b", "c", "z"], ["b", "z", "c"]])
    made, panel = compared(a, b, "topk")
    assert panel.texts == [["b", "c", "z"], ["b", "c→z", "a→c"]]
    assert made.same == panel.outlined.tolist() == [[True] * 3, [True, False, False]]
    assert made.metric == "own-logit"
    assert "outlined: A and B have the same guess" in panel.all_notes()


def test_what_colours_top_guesses_can_be_chosen() -> None:
    prob = Scores(values=[[0.5] * 3, [0.5] * 3, [0.5, 0.25, 1.0]], unit="probability", quantity="p")
    halves = msgspec.structs.replace(prob, values=[[0.5] * 3] * 3)
    made, panel = compared(scored(prob=halves), scored(prob=prob), "topk", color="prob")
    assert (made.metric, made.values) == ("prob", [[0, 0, 0], [0, -0.25, 0.5]])
    assert panel.texts[1] == ["b", "c", "a"]
    _, panel = compared(scored(prob=halves), scored(prob=prob), "prob")
    assert panel.texts[1] == ["0", "-0.25", "+0.50"]


def test_two_that_are_the_same() -> None:
    made, panel = compared(reading_of(), reading_of(), "kl-final")
    assert made.values == [[0, 0, 0]] * 3
    assert (panel.colors.low, panel.colors.high) == (-0.5, 0.5)


def test_rows_that_are_not_drawn_need_not_fit() -> None:
    b = json_like(reading_of(), without_input)
    made, _ = compared(reading_of(), b, "rank")
    assert [layer.label for layer in made.layers] == ["0", "1"]
    made, _ = compared(reading_of(), b, "kl-final", input_row=False)
    assert made.values == [[0, 0, 0]] * 2
