"""What a comparison shows: colours, labels and notes of a difference; A over B on one scale."""

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from drawn import all_texts, cells, mesh_of, top_labels
from matplotlib import colormaps
from matplotlib.colors import Normalize
from readings import OTHER, changed, compared, kl, lens, moved, pair, reading_of, scored

from logitlens_cli.errors import UsageError
from logitlens_cli.figures import heatmap, pair_panels
from logitlens_cli.figures.pair import Pair, difference_of
from logitlens_cli.figures.panel import Heading
from logitlens_cli.figures.style import FigureStyle, Width
from logitlens_cli.reading.record import Scores


@pytest.mark.parametrize(
    ("style", "limits"),
    [
        ({}, (-30, 30)),
        ({"vmax": 5}, (-5, 5)),
        ({"vmin": -4}, (-4, 4)),
        ({"vmin": -4, "vmax": 8}, (-4, 8)),
        ({"skip_first": 6}, (-30, 30)),
        ({"input_row": False}, (-30, 30)),
    ],
)
def test_limits_of_the_colours(style: dict[str, Any], limits: tuple[float, float]) -> None:
    _, panel = compared(reading_of(), scored(kl_final=OTHER), "kl-final", **style)
    assert (panel.colors.low, panel.colors.high) == limits


def test_the_input_row_and_the_first_tokens_leave_the_colours_to_the_others() -> None:
    b = kl([4000.0, 0.0, 0.0], [8.25, 0.0, 31.123], [0.0, 0.0, 0.0])
    _, panel = compared(reading_of(), scored(kl_final=b), "kl-final")
    assert (panel.colors.low, panel.colors.high) == (-1, 1)
    assert panel.clipping() == ["2 cells < -1", "1 cell > 1"]
    _, panel = compared(reading_of(), scored(kl_final=b), "kl-final", skip_first=5)
    assert panel.colors.high == 0.13  # 0.123, as the colour bar can say it
    assert "colour limits leave out the first 5 tokens" in panel.all_notes()


def test_nothing_is_the_middle_of_the_colour_map() -> None:
    both, style = pair(reading_of(), scored(kl_final=OTHER)), FigureStyle(vmin=-10, vmax=40)
    made = difference_of(both, "kl-final", style)
    panel = pair_panels.difference_panels(both, "kl-final", made, style)[0]
    mesh = mesh_of(heatmap.draw_panels([panel], FigureStyle(dpi=100))[0].figure)
    assert type(mesh.norm) is Normalize  # equal steps on both sides
    middle = colormaps["vlag"](0.5)
    np.testing.assert_allclose(mesh.to_rgba(np.array([0.0]))[0], middle, atol=0.02)
    blue, red = mesh.to_rgba(np.array([-10.0, 10.0]))[:, [0, 2]]
    assert blue[1] > blue[0]
    assert red[0] > red[1]


def test_changes_only_and_a_title() -> None:
    same = kl([40.0, 51.0, 2.0], [8.25, 1.0, 31.0], [1.0, 1.0, 0.0])
    _, panel = compared(
        reading_of(), scored(kl_final=same), "kl-final", changes_only=True, title="T"
    )
    assert panel.texts == [["0.0", "+1.0", "0.0"], ["+1.0", "", ""], ["", "", ""]]
    assert panel.title == "T"


# ---- labels and notes


def test_two_prompts_of_one_length() -> None:
    a, b = (
        reading_of(),
        reading_of("the dog sat", labels=[["in", "x", "y"], ["b", "c", "z"], ["b", "z", "c"]]),
    )
    a = msgspec.structs.replace(a, final_ids=[51, 52, 5])
    b = msgspec.structs.replace(b, final_ids=[53, 7, 4])
    _, panel = compared(a, b, "kl-final")
    assert panel.input_labels == ["the", "cat|dog", "sat"]
    assert panel.next_labels == ["cat|dog", "sat", ""]
    assert panel.next_is_guess == [True, False, False]  # where both are right
    assert "A|B: the tokens differ in 1 column" in panel.all_notes()


def test_a_target_that_is_not_the_same_token_is_told() -> None:
    a, b = reading_of(), reading_of(labels=[["in", "x", "y"], ["b", "c", "z"], ["b", "z", "c"]])
    metrics = {"rank": msgspec.structs.replace(a.metrics["rank"], target="final")}
    a, b = (msgspec.structs.replace(reading, metrics=metrics) for reading in (a, b))
    _, panel = compared(a, b, "rank")
    assert "the final guess of A is not that of B in 2 columns" in panel.all_notes()


def test_what_is_not_the_same_is_told_of_each() -> None:
    a, b = reading_of(), reading_of()
    b = msgspec.structs.replace(b, lens=changed(b.lens, norm="no-affine"))
    _, panel = compared(a, b, "kl-final")
    assert panel.all_notes()[:2] == ["A: one, full norm", "B: two, no-affine norm"]
    b = msgspec.structs.replace(a, model=changed(a.model, revision="abc", dtype="bfloat16"))
    _, panel = compared(a, b, "kl-final")
    head = "decoded with the model's head, full norm"
    assert panel.all_notes()[:3] == ["A: one, float32", "B: two, abc, bfloat16", head]
    b = msgspec.structs.replace(a, model=changed(a.model, name="other", revision="abc"))
    _, panel = compared(a, b, "kl-final")
    assert panel.all_notes()[:2] == ["A: one, hand-made", "B: two, other"]
    assert panel.title == "KL(final || layer), B minus A"


def test_positions_are_told_of_each_where_they_are_not_the_same() -> None:
    _, panel = compared(reading_of(), moved(reading_of(lens=lens(text_tokens=21)), 1), "rank")
    assert {"A: positions 4–6 of 20 tokens", "B: positions 5–7 of 21 tokens"} <= set(
        panel.all_notes()
    )


@pytest.mark.parametrize(
    ("a", "b", "made"),
    [
        ("12345678", "12345678", "12345678→12345678"),
        ("123456789", "123456789", "1234567…→1234567…"),
        ("123456789abc", "1234", "123456789abc→1234"),
        ("12", "123456789abcdefg", "12→123456789abcd…"),
    ],
)
def test_two_labels_share_the_room(a: str, b: str, made: str) -> None:
    assert pair_panels.joint_label(a, b, "→", same=False) == made


def test_a_split_cuts_numbers_labels_and_outlines() -> None:
    both, style = pair(reading_of(), reading_of()), FigureStyle(split=2)
    made = difference_of(both, "topk", style)
    first, second = pair_panels.difference_panels(both, "topk", made, style)
    assert (first.input_labels, second.input_labels) == (["the", "cat"], ["sat"])
    assert second.texts == [["z"], ["a"]]
    assert (second.values.shape, second.outlined.shape) == ((2, 1), (2, 1))
    assert "positions 4–5 of 20 tokens" in first.all_notes()
    assert "position 6 of 20 tokens" in second.all_notes()
    assert [part.colors for part in pair_panels.over_panels(both, "topk", style)] == [
        pair_panels.over_panels(both, "topk", FigureStyle())[0].colors
    ] * 2


# ---- A over B


def test_a_lies_over_b_on_one_scale() -> None:
    b = Scores(values=[[-9, 0, 0], [1, 2, 3], [4, 5, 60]], unit="logit", quantity="own logit")
    panel = pair_panels.over_panels(
        pair(reading_of(), scored(own_logit=b)), "own-logit", FigureStyle()
    )[0]
    # From the bottom: B, its name, A, its name; the input rows are hidden.
    assert panel.rows == ["0", "1", "", "0", "1", ""]
    assert panel.headings == [Heading(2, 0, 3, "B: two"), Heading(5, 0, 3, "A: one")]
    nan = [math.nan] * 3
    np.testing.assert_array_equal(
        panel.values, [[1, 2, 3], [4, 5, 60], nan, [10, 11, 12], [20, 21, 22], nan]
    )
    assert (panel.colors.kind, panel.colors.low, panel.colors.high) == ("linear", 1, 60)
    assert panel.texts[1] == ["4.0", "5.0", "60.0"]
    assert panel.bar_label == "own logit [logit]"


def test_top_guesses_over_one_another_keep_their_outlines() -> None:
    b = reading_of(labels=[["in", "x", "y"], ["b", "z", "z"], ["b", "c", "z"]])
    with pytest.raises(UsageError, match="token 4 is"):
        pair(reading_of(), b)
    b = reading_of(labels=[["in", "x", "y"], ["b", "c", "z"], ["c", "b", "z"]])
    panel = pair_panels.over_panels(pair(reading_of(), b), "topk", FigureStyle())[0]
    off, on = [False] * 3, [True] * 3
    assert panel.outlined.tolist() == [[False, False, True], on, off, [True, True, False], on, off]
    assert panel.texts[1] == ["c", "b", "z"]
    assert panel.texts[4] == ["b", "c", "a"]


def test_a_logarithmic_scale_stays_one() -> None:
    panel = pair_panels.over_panels(pair(reading_of(), reading_of()), "rank", FigureStyle(vmax=50))[
        0
    ]
    assert (panel.colors.kind, panel.colors.low, panel.colors.high) == ("log", 1, 50)
    assert panel.clipping() == ["2 cells > 50"]


def test_narrow_grids_lie_beside_each_other() -> None:
    """Thirty rows by three columns would become a tower."""
    rows: list[list[float | None]] = [[float(n * c) for c in (1, 2, 3)] for n in range(31)]
    mirrored: list[list[float | None]] = [[-float(n * c) for c in (1, 2, 3)] for n in range(31)]
    labels = [["in", "x", "y"]] + [["b", "c", "z"]] * 30
    a, b = (
        reading_of(
            labels=labels,
            metrics={"own-logit": Scores(values=values, unit="logit", quantity="own")},
        )
        for values in (rows, mirrored)
    )
    both = pair(a, b)
    panel = pair_panels.over_panels(both, "own-logit", FigureStyle())[0]
    assert panel.values.shape == (31, 7)
    np.testing.assert_array_equal(panel.values[2], [3, 6, 9, math.nan, -3, -6, -9])
    assert np.isnan(panel.values[30]).all()
    assert panel.headings == [Heading(30, 0, 3, "A: one"), Heading(30, 4, 3, "B: two")]
    assert (panel.colors.low, panel.colors.high) == (-90, 90)
    assert panel.gap == 3
    assert panel.input_labels[:3] == panel.input_labels[4:]
    assert panel.input_labels[3] == ""
    fig = heatmap.draw_panels([panel], FigureStyle(dpi=60))[0].figure
    assert fig.get_size_inches()[0] < 8
    stacked = pair_panels.over_panels(both, "own-logit", FigureStyle(split=3))[0]
    assert stacked.values.shape == (62, 3)
    for width, most in ((Width.single, 3), (Width.double, 7)):
        page = FigureStyle(width=width)
        fits = [pair_panels.fits_beside(31, columns, page) for columns in (most, most + 1)]
        assert fits == [True, False], width


def test_names_are_drawn_between_the_grids() -> None:
    both = Pair(
        reading_of(), reading_of("the dog sat"), "one", "a name that is much too long for it"
    )
    panel = pair_panels.over_panels(both, "kl-final", FigureStyle())[0]
    fig = heatmap.draw_panels([panel], FigureStyle(dpi=100))[0].figure
    written = [(t.get_position()[1], t.get_text()) for t in fig.axes[0].texts]
    assert written[1] == (7.5, "A: one")
    assert written[0][0] == 3.5
    assert written[0][1].startswith("B: a name")
    assert written[0][1].endswith("…")
    assert len(fig.axes) == 2  # one grid of cells, one colour bar
    assert cells(fig)[0.5, 0.5] == cells(fig)[0.5, 4.5] == "40"
    assert not [y for _, y in cells(fig) if y in (3.5, 7.5)]
    assert top_labels(fig) == ["cat|dog", "sat", ""]
    assert "A|B: the tokens differ in 1 column" in all_texts(fig)
