"""Differences of readings made by hand, refusals, and the command from end to end."""

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from conftest import Ran, Shell
from matplotlib import colormaps
from matplotlib.colors import Normalize
from test_heatmap import all_texts, cells, make, mesh_of, top_labels

from logitlens_cli.errors import UsageError
from logitlens_cli.figures import heatmap, pair_panels
from logitlens_cli.figures.pair import Pair, difference_of
from logitlens_cli.figures.panel import Panel
from logitlens_cli.figures.style import FigureStyle
from logitlens_cli.metrics.spec import Scale
from logitlens_cli.reading import difference
from logitlens_cli.reading.record import LensRecord, Reading, Scores, Token

IDS = {"the": 50, "cat": 51, "sat": 52, "dog": 53, "ran": 54}
TEXT = "the cat sat"


def hand(words: str = TEXT, labels: list[list[str]] | None = None, **changes: Any) -> Reading:
    """A reading of a text whose tokens are its words, from position 4 on."""
    reading, row = make(labels), words.split()
    tokens = [
        Token(position=4 + n, id=IDS[word], label=word, next_id=IDS.get(following),
              next_label=following)
        for n, (word, following) in enumerate(itertools.zip_longest(row, row[1:]))
    ]  # fmt: skip
    known = {"text": words, "tokens": tokens, "text_ids": [token.id for token in tokens]}
    return msgspec.structs.replace(reading, **(known | changes))


def scored(**metrics: Scores) -> Reading:
    reading = hand()
    made = {name.replace("_", "-"): scores for name, scores in metrics.items()}
    return msgspec.structs.replace(reading, metrics=reading.metrics | made)


def kl(*values: list[float | None], **changes: Any) -> Scores:
    usual = hand().metrics["kl-final"]
    return msgspec.structs.replace(usual, values=list(values), **changes)


def pair(a: Reading, b: Reading) -> Pair:
    return Pair(a, b, "one", "two")


def compared(
    a: Reading, b: Reading, name: str, **style: Any
) -> tuple[difference.Difference, Panel]:
    both, chosen = pair(a, b), FigureStyle(**style)
    made = difference_of(both, name, chosen)
    return made, pair_panels.difference_panels(both, name, made, chosen)[0]


# ---- B minus A


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


OTHER = kl([30.0, 50.0, None], [7.0, 2.5, 1.0], [0.0, 0.04, 0.0])


def test_difference_by_hand() -> None:
    # A is [[40, 50, 2], [7.25, 0, 31], [0, 0, 0]]
    made, panel = compared(hand(), scored(kl_final=OTHER), "kl-final")
    assert made.values == [[-10, 0, None], [-0.25, 2.5, -30], [0, 0.04, 0]]
    assert [layer.label for layer in made.layers] == panel.rows == ["input", "0", "1"]
    assert panel.texts == [["-10", "0.0", ""], ["-0.2", "+2.5", "-30"], ["0.0", "0.0", "0.0"]]
    assert (made.metric, made.unit) == ("kl-final", "nats")
    assert panel.bar == "KL(final || layer), B minus A [nats]"
    assert panel.title == "KL(final || layer), B minus A – hand-made"
    assert not panel.outlined.any()
    assert panel.all_notes()[:2] == ["A: one", "B: two"]


def test_ranks_are_divided() -> None:
    rank = hand().metrics["rank"]  # [[1, 50, 500], [1, 1, 101], [1, 1, 1]], the input row hidden
    ranks = msgspec.structs.replace(rank, values=[[9, 9, 9], [100, 1, 10.1], [1, 2, 1000]])
    made, panel = compared(hand(), scored(rank=ranks), "rank")
    by_hand = np.array([[2, 0, -1], [0, 0.30103, 3]])
    np.testing.assert_allclose(np.array(made.values, float), by_hand, rtol=1e-6)
    assert panel.texts == [["+2.0", "0.0", "-1.0"], ["0.0", "+0.3", "+3.0"]]
    assert panel.bar == "rank of the final top guess, log10(B / A) [powers of ten]"
    assert "below 0: better in B" in panel.all_notes()
    assert (panel.colors.low, panel.colors.high) == (-3, 3)  # a difference, with no scale of ranks


def test_top_guesses_are_outlined_where_they_agree() -> None:
    a = hand()  # b c z, then b c a
    b = hand(labels=[["in", "x", "y"], ["b", "c", "z"], ["b", "z", "c"]])
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
    assert panel.texts[1] == ["0.00", "-0.25", "+0.50"]


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
    _, panel = compared(hand(), scored(kl_final=OTHER), "kl-final", **style)
    assert (panel.colors.low, panel.colors.high) == limits


def test_the_input_row_and_the_first_tokens_leave_the_colours_to_the_others() -> None:
    b = kl([4000.0, 0.0, 0.0], [8.25, 0.0, 31.123], [0.0, 0.0, 0.0])
    _, panel = compared(hand(), scored(kl_final=b), "kl-final")
    assert (panel.colors.low, panel.colors.high) == (-1, 1)
    assert panel.clipping() == ["2 cells < -1", "1 cell > 1"]
    _, panel = compared(hand(), scored(kl_final=b), "kl-final", skip_first=5)
    assert panel.colors.high == 0.13  # 0.123, as the colour bar can say it
    assert "colour limits leave out the first 5 tokens" in panel.all_notes()


def test_two_that_are_the_same() -> None:
    made, panel = compared(hand(), hand(), "kl-final")
    assert made.values == [[0, 0, 0]] * 3
    assert (panel.colors.low, panel.colors.high) == (-0.5, 0.5)


def test_nothing_is_the_middle_of_the_colour_map() -> None:
    both, style = pair(hand(), scored(kl_final=OTHER)), FigureStyle(vmin=-10, vmax=40)
    made = difference_of(both, "kl-final", style)
    panel = pair_panels.difference_panels(both, "kl-final", made, style)[0]
    mesh = mesh_of(heatmap.draw_panel(panel, FigureStyle(dpi=100)).figure)
    assert type(mesh.norm) is Normalize  # equal steps on both sides
    middle = colormaps["vlag"](0.5)
    np.testing.assert_allclose(mesh.to_rgba(np.array([0.0]))[0], middle, atol=0.02)
    blue, red = mesh.to_rgba(np.array([-10.0, 10.0]))[:, [0, 2]]
    assert blue[1] > blue[0]
    assert red[0] > red[1]


def test_changes_only_and_a_title() -> None:
    same = kl([40.0, 51.0, 2.0], [8.25, 1.0, 31.0], [1.0, 1.0, 0.0])
    _, panel = compared(hand(), scored(kl_final=same), "kl-final", changes_only=True, title="T")
    assert panel.texts == [["0.0", "+1.0", "0.0"], ["+1.0", "", ""], ["", "", ""]]
    assert panel.title == "T"


# ---- labels and notes


def test_two_prompts_of_one_length() -> None:
    a, b = hand(), hand("the dog sat", labels=[["in", "x", "y"], ["b", "c", "z"], ["b", "z", "c"]])
    a = msgspec.structs.replace(a, final_ids=[51, 52, 5])
    b = msgspec.structs.replace(b, final_ids=[53, 7, 4])
    _, panel = compared(a, b, "kl-final")
    assert panel.input_labels == ["the", "cat|dog", "sat"]
    assert panel.next_labels == ["cat|dog", "sat", ""]
    assert panel.next_is_guess == [True, False, False]  # where both are right
    assert "A|B: the tokens differ in 1 column" in panel.all_notes()


def test_a_target_that_is_not_the_same_token_is_told() -> None:
    a, b = hand(), hand(labels=[["in", "x", "y"], ["b", "c", "z"], ["b", "z", "c"]])
    metrics = {"rank": msgspec.structs.replace(a.metrics["rank"], target="final")}
    a, b = (msgspec.structs.replace(reading, metrics=metrics) for reading in (a, b))
    _, panel = compared(a, b, "rank")
    assert "the final guess of A is not that of B in 2 columns" in panel.all_notes()


def test_what_is_not_the_same_is_told_of_each() -> None:
    a, b = hand(), hand()
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


def changed(record: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(record, **changes)


def test_positions_are_told_of_each_where_they_are_not_the_same() -> None:
    _, panel = compared(hand(), moved(hand(lens=lens(text_tokens=21)), 1), "rank")
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
    both, style = pair(hand(), hand()), FigureStyle(split=2)
    made = difference_of(both, "topk", style)
    first, second = pair_panels.difference_panels(both, "topk", made, style)
    assert (first.input_labels, second.input_labels) == (["the", "cat"], ["sat"])
    assert second.texts == [["z"], ["a"]]
    assert (second.values.shape, second.outlined.shape) == ((2, 1), (2, 1))
    assert "positions 4–5 of 20 tokens" in first.all_notes()
    assert "position 6 of 20 tokens" in second.all_notes()
    assert [part.colors for part in pair_panels.stacked_panels(both, "topk", style)] == [
        pair_panels.stacked_panels(both, "topk", FigureStyle())[0].colors
    ] * 2


# ---- A over B


def test_a_lies_over_b_on_one_scale() -> None:
    b = Scores(values=[[-9, 0, 0], [1, 2, 3], [4, 5, 60]], unit="logit", quantity="own logit")
    panel = pair_panels.stacked_panels(
        pair(hand(), scored(own_logit=b)), "own-logit", FigureStyle()
    )[0]
    # From the bottom: B, its name, A, its name; the input rows are hidden.
    assert panel.rows == ["0", "1", "", "0", "1", ""]
    assert panel.headings == {2: "B: two", 5: "A: one"}
    nan = [math.nan] * 3
    np.testing.assert_array_equal(
        panel.values, [[1, 2, 3], [4, 5, 60], nan, [10, 11, 12], [20, 21, 22], nan]
    )
    assert (panel.colors.kind, panel.colors.low, panel.colors.high) == ("linear", 1, 60)
    assert panel.texts[1] == ["4.0", "5.0", "60.0"]
    assert panel.bar == "own logit [logit]"


def test_top_guesses_over_one_another_keep_their_outlines() -> None:
    b = hand(labels=[["in", "x", "y"], ["b", "z", "z"], ["b", "c", "z"]])
    with pytest.raises(UsageError, match="token 4 is"):
        pair(hand(), b)
    b = hand(labels=[["in", "x", "y"], ["b", "c", "z"], ["c", "b", "z"]])
    panel = pair_panels.stacked_panels(pair(hand(), b), "topk", FigureStyle())[0]
    off, on = [False] * 3, [True] * 3
    assert panel.outlined.tolist() == [[False, False, True], on, off, [True, True, False], on, off]
    assert panel.texts[1] == ["c", "b", "z"]
    assert panel.texts[4] == ["b", "c", "a"]


def test_a_logarithmic_scale_stays_one() -> None:
    panel = pair_panels.stacked_panels(pair(hand(), hand()), "rank", FigureStyle(vmax=50))[0]
    assert (panel.colors.kind, panel.colors.low, panel.colors.high) == ("log", 1, 50)
    assert panel.clipping() == ["2 cells > 50"]


def test_names_are_drawn_between_the_grids() -> None:
    both = Pair(hand(), hand("the dog sat"), "one", "a name that is much too long for it")
    panel = pair_panels.stacked_panels(both, "kl-final", FigureStyle())[0]
    fig = heatmap.draw_panel(panel, FigureStyle(dpi=100)).figure
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


# ---- refusals


def cut(reading: Reading, count: int) -> Reading:
    return json_like(reading, lambda made: narrowed(made, count))


def json_like(reading: Reading, change: Callable[[Any], None]) -> Reading:
    made = json.loads(msgspec.json.encode(reading))
    change(made)
    return msgspec.json.decode(json.dumps(made), type=Reading)


def narrowed(made: Any, count: int) -> None:
    made["tokens"], made["final_ids"] = made["tokens"][:count], made["final_ids"][:count]
    for grid in (*made["guesses"].values(), *(s["values"] for s in made["metrics"].values())):
        grid[:] = [row[:count] for row in grid]


def without_input(made: Any) -> None:
    del made["layers"][0]
    for grid in (*made["guesses"].values(), *(s["values"] for s in made["metrics"].values())):
        del grid[0]


def moved(reading: Reading, by: int) -> Reading:
    tokens = [changed(token, position=token.position + by) for token in reading.tokens]
    return msgspec.structs.replace(reading, tokens=tokens)


def lens(**changes: Any) -> LensRecord:
    made: LensRecord = changed(hand().lens, **changes)
    return made


@pytest.mark.parametrize(
    ("b", "words"),
    [
        (
            cut(hand(), 2),
            "one has 3 columns and two 2; column 2 is sat at position 6 in one and missing in two; "
            "choose as many with --window, or compare prompts of one length",
        ),
        (
            cut(hand("the dog sat"), 2),
            "one has 3 columns and two 2; column 1 is cat at position 5 in one and dog at "
            "position 5 in two; choose as many with --window, or compare prompts of one length",
        ),
        (
            hand("the dog ran", lens=lens(text_tokens=7)),
            "column 1 is cat at position 5 in one and dog at position 5 in two, and the texts have "
            "20 and 7 tokens; compare one text, or two prompts of one length",
        ),
        (
            moved(hand("the dog sat"), 1),
            "column 1 is cat at position 5 in one and dog at position 6 in two; choose the same "
            "positions with --window",
        ),
        (
            hand("the dog sat", text=TEXT),
            "the text is the same and column 1 is cat at position 5 in one and dog at position 5 "
            "in two; compare models of one tokenizer",
        ),
        (
            hand("the dog sat", model=changed(hand().model, vocabulary=120)),
            "the vocabulary has 100 entries in one and 120 in two; compare models of one "
            "tokenizer, or one text",
        ),
        (
            hand(labels=[["in", "x", "Y"], ["b", "c", "z"], ["b", "c", "a"]]),
            "token 2 is y in one and Y in two; compare models of one tokenizer",
        ),
    ],
    ids=["fewer", "fewer-and-other", "length", "position", "text", "vocabulary", "label"],
)
def test_columns_that_do_not_fit(b: Reading, words: str) -> None:
    with pytest.raises(UsageError) as refusal:
        pair(hand(), b)
    assert str(refusal.value) == words


def test_columns_that_fit() -> None:
    pair(hand(), moved(hand(), 1))  # the same tokens, after a start token
    pair(hand(), hand(model=changed(hand().model, vocabulary=120)))  # a padded head, the same text
    pair(hand(), hand("the dog ran"))


@pytest.mark.parametrize(
    ("b", "name", "words"),
    [
        (
            scored(kl_final=kl([0.0] * 3, [0.0] * 3, [0.0] * 3, direction="reverse")),
            "kl-final",
            "the direction of kl-final is none in one and reverse in two; read both with the same "
            "options",
        ),
        (
            scored(kl_final=kl([0.0] * 3, [0.0] * 3, [0.0] * 3, reference="input token")),
            "kl-final",
            "the reference of kl-final is none in one and input token in two; read both with the "
            "same options",
        ),
        (
            scored(rank=changed(hand().metrics["rank"], target="id:5")),
            "rank",
            "the target of rank is none in one and id:5 in two; read both with the same options",
        ),
        (
            scored(own_logit=changed(hand().metrics["own-logit"], unit="bits")),
            "topk",
            "the unit of own-logit is logit in one and bits in two; read both with the same "
            "options",
        ),
        (
            scored(rank=changed(hand().metrics["rank"], scale=Scale())),
            "rank",
            "the scale of rank is log in one and linear in two; read both with the same options",
        ),
        (
            hand(metrics={"rank": hand().metrics["rank"]}),
            "kl-final",
            "two holds no 'kl-final'; both hold rank",
        ),
        (
            hand(metrics={"prob": hand().metrics["own-logit"]}),
            "topk",
            "two holds no 'own-logit'; choose --color of both: none",
        ),
        (
            json_like(hand(), without_input),
            "kl-final",
            "row 0 is layer input in one and layer 0 in two; read both with the same --layers, "
            "--every, --subblocks and --input-row",
        ),
        (
            hand(layers=[*hand().layers[:2], changed(hand().layers[2], label="5", block=5)]),
            "rank",
            "row 1 is layer 1 in one and layer 5 in two; read both with the same --layers, "
            "--every, --subblocks and --input-row",
        ),
    ],
    ids=["direction", "reference", "target", "unit", "scale", "metric", "color", "input", "layer"],
)
@pytest.mark.parametrize("draw", [difference_of, pair_panels.stacked_panels])
def test_figures_that_do_not_fit(
    draw: Callable[..., object], b: Reading, name: str, words: str
) -> None:
    with pytest.raises(UsageError) as refusal:
        draw(pair(hand(), b), name, FigureStyle())
    assert str(refusal.value) == words


def test_rows_that_are_not_drawn_need_not_fit() -> None:
    b = json_like(hand(), without_input)
    made, _ = compared(hand(), b, "rank")
    assert [layer.label for layer in made.layers] == ["0", "1"]
    made, _ = compared(hand(), b, "kl-final", input_row=False)
    assert made.values == [[0, 0, 0]] * 2


# ---- from end to end


FIGURES = ("topk", "rank", "kl-final", "kl-input")


@pytest.fixture
def dumps(read: Shell, out: Path) -> dict[str, Path]:
    for name, arguments in {
        "cat": ["-t", "the cat sat"],
        "ran": ["-t", "the cat ran"],
        "plain": ["-t", "the cat sat", "--norm", "no-affine"],
        "long": ["-t", "the cat sat on"],
        "every": ["-t", "the cat sat", "--every", "2"],
    }.items():
        assert read("all", *arguments, "--name", name, "--format", "none").code == 0
    return {path.name.partition(".")[0]: path for path in out.iterdir()}


def test_files_numbers_and_names(logitlens: Shell, dumps: dict[str, Path], tmp_path: Path) -> None:
    line = ["diff", dumps["cat"], dumps["plain"], "-o", tmp_path / "d", "--dpi", "40"]
    names = [f"cat-vs-plain.diff-{figure}.{form}" for figure in FIGURES
             for form in ("json", "png", "svg")]  # fmt: skip
    paths = [str(tmp_path / "d" / name) for name in names]
    assert logitlens(*line, "--dry-run") == Ran(0, paths, [])
    assert not (tmp_path / "d").exists()
    assert logitlens(*line) == Ran(0, paths, [])
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == sorted(names)
    made = json.loads((tmp_path / "d" / "cat-vs-plain.diff-kl-final.json").read_text())
    a, b = (json.loads(dumps[name].read_text()) for name in ("cat", "plain"))
    assert made["schema"] == "logitlens-diff/1"
    assert (made["a"]["name"], made["b"]["lens"]["norm"]) == ("cat", "no-affine")
    by_hand = np.subtract(*(d["metrics"]["kl-final"]["values"] for d in (b, a)))
    np.testing.assert_allclose(made["values"], by_hand, rtol=1e-6)
    assert np.abs(by_hand).max() > 1
    rank = json.loads((tmp_path / "d" / "cat-vs-plain.diff-rank.json").read_text())["values"]
    ratio = np.divide(*(d["metrics"]["rank"]["values"] for d in (b, a)))[1:]
    np.testing.assert_allclose(10 ** np.array(rank), ratio, rtol=1e-5)


def test_the_same_command_gives_the_same_bytes(
    logitlens: Shell, dumps: dict[str, Path], tmp_path: Path
) -> None:
    for out in ("one", "two"):
        for more in ([], ["--over"]):
            line = ["diff", dumps["cat"], dumps["ran"], "topk", *more, "--dpi", "40"]
            assert logitlens(*line, "-o", tmp_path / out, "--format", "png,svg,pdf").code == 0
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / out).iterdir()}
                for out in ("one", "two"))  # fmt: skip
    assert one == two
    assert len(one) == 7


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["rank"], ["cat-vs-ran.diff-rank.json", "cat-vs-ran.diff-rank.svg"]),
        (["prob", "--no-json"], ["cat-vs-ran.diff-prob.svg"]),
        (["rank", "--format", "none"], ["cat-vs-ran.diff-rank.json"]),
        (["rank", "--over"], ["cat-vs-ran.over-rank.svg"]),
        (["--over", "topk", "--split", "5"], [f"cat-vs-ran.over-topk.{n}.svg" for n in (1, 2)]),
        (["kl-input", "--name", "a/b", "--no-json"], ["a/b.diff-kl-input.svg"]),
    ],
)
def test_files_of_one_figure(
    logitlens: Shell,
    dumps: dict[str, Path],
    tmp_path: Path,
    arguments: list[str],
    names: list[str],
) -> None:
    form = [] if "--format" in arguments else ["--format", "svg"]
    out = tmp_path / "d"
    ran = logitlens("diff", dumps["cat"], dumps["ran"], *arguments, *form, "-o", out)
    assert ran == Ran(0, [str(out / name) for name in names], [])
    assert all((out / name).stat().st_size > 1000 for name in names)


def test_dumps_of_one_name_are_told_apart_by_their_folders(
    logitlens: Shell, dumps: dict[str, Path], tmp_path: Path
) -> None:
    for folder, name in (("one", "cat"), ("two", "ran")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.all.json").write_bytes(dumps[name].read_bytes())
    line = ["diff", tmp_path / "one/x.all.json", tmp_path / "two/x.all.json", "rank", "-o"]
    ran = logitlens(*line, tmp_path / "d", "--format", "none")
    assert ran.out == [str(tmp_path / "d" / "one-x-vs-two-x.diff-rank.json")]
    assert json.loads(Path(ran.out[0]).read_text())["b"]["name"] == "two/x"


def test_what_is_there_is_skipped(logitlens: Shell, dumps: dict[str, Path], tmp_path: Path) -> None:
    line = ["diff", dumps["cat"], dumps["ran"], "-o", tmp_path / "d", "--format", "svg", "-q"]
    assert logitlens(*line, "rank", "--name", "x").code == 0
    (tmp_path / "d" / "x.diff-rank.svg").write_text("old")
    ran = logitlens(*line, "--name", "x", "--skip-existing", "--no-json")
    names = [f"x.diff-{figure}.svg" for figure in FIGURES if figure != "rank"]
    assert ran == Ran(0, [str(tmp_path / "d" / name) for name in names], [])
    assert (tmp_path / "d" / "x.diff-rank.svg").read_text() == "old"


@pytest.mark.parametrize(
    ("other", "arguments", "words"),
    [
        ("long", [], "cat has 8 columns and long 11; column 8 is missing in cat and "),
        ("every", ["rank"], "row 1 is layer 1 in cat and layer 2 in every; read both with the "),
        ("ran", ["nosuch"], "'nosuch' is not a grid of both "),
        ("ran", ["--cmap", "nosuch"], "--cmap 'nosuch' is unknown; name a map of "),
        (
            "ran",
            ["--format", "parquet"],
            "--format 'parquet' is unknown; choose from png, svg, pdf, or none",
        ),
        ("ran", ["--format", "none", "--over"], "--format none leaves nothing to write; "),
        ("ran", ["--format", "none", "--no-json"], "--format none leaves nothing to write; "),
        ("ran", ["--skip-first", "9"], "--skip-first 9 leaves no column; "),
        ("ran", ["rank", "--vmax", "-9"], "--vmax makes the colours run backwards, from "),
        ("ran", ["rank", "--over", "--vmin", "0"], "--vmin 0 on a logarithmic scale; "),
    ],
)
def test_refusals_write_nothing(
    logitlens: Shell,
    dumps: dict[str, Path],
    tmp_path: Path,
    other: str,
    arguments: list[str],
    words: str,
) -> None:
    line = ["diff", dumps["cat"], dumps[other], *arguments, "-o", tmp_path / "d"]
    assert logitlens(*line).refusal(2).startswith(words)
    assert logitlens(*line, "--dry-run").refusal(2).startswith(words)
    assert not (tmp_path / "d").exists()


def test_a_dump_that_is_none(logitlens: Shell, dumps: dict[str, Path], tmp_path: Path) -> None:
    line = ["diff", dumps["cat"], "none.json", "rank", "-o", tmp_path / "d"]
    words = "none.json: No such file or directory; name a JSON dump of logitlens"
    assert logitlens(*line).refusal(2) == words
    assert "Missing argument 'B.json'" in logitlens("diff", dumps["cat"]).refusal(2)


def test_followed_tokens_are_no_columns(
    read: Shell, logitlens: Shell, out: Path, tmp_path: Path
) -> None:
    read("rank", "-t", "the cat", "--name", "x", "--target", "auto", "--format", "none")
    path = out / "x.rank.json"
    words = logitlens("diff", path, path, "followed", "-o", tmp_path / "d").refusal(2)
    assert words == f"'followed' is not a grid of both {path} and {path}; they share none"
    words = logitlens("diff", path, path, "-o", tmp_path / "d").refusal(2)
    assert words == f"{path} and {path} share no grid; read both with logitlens all"
