"""What is drawn is tested on the artists: data, labels, outlines, stars, colours, layout."""

import io
import itertools
import xml.etree.ElementTree as ET
from typing import Any

import matplotlib
import msgspec
import numpy as np
import pytest
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.figure import Figure
from PIL import Image

from logitlens_cli.errors import UsageError
from logitlens_cli.figures import caption, cell_texts, heatmap, reading_panels
from logitlens_cli.figures.colors import color_map, luminance, map_ends
from logitlens_cli.figures.style import Colors, FigureStyle
from logitlens_cli.metrics.spec import Scale
from logitlens_cli.reading.record import (
    DUMP_SCHEMA,
    CheckRecord,
    Followed,
    Guesses,
    Layer,
    LensRecord,
    ModelRecord,
    Reading,
    Scores,
    Token,
)


def make(labels: list[list[str]] | None = None, **metrics: Any) -> Reading:
    """A reading by hand: input row and blocks; ids number the labels as they appear."""
    labels = labels or [["in", "x", "y"], ["b", "c", "z"], ["b", "c", "a"]]
    ids = {label: n for n, label in enumerate(dict.fromkeys(itertools.chain(*labels)))}
    layers = [Layer(label="input", kind="input", block=None)] + [
        Layer(label=str(n), kind="block", block=n) for n in range(len(labels) - 1)
    ]
    columns = len(labels[0])
    tokens = [
        Token(position=i + 4, id=i, label=f"t{i}", next_id=ids[labels[-1][i]] if i < 2 else 77,
              next_label=f"t{i + 1}")
        for i in range(columns - 1)
    ]  # fmt: skip
    tokens.append(Token(position=columns + 3, id=9, label="last", next_id=None, next_label=None))
    values: list[list[float | None]] = [
        [float(10 * r + c) for c in range(columns)] for r in range(len(labels))
    ]
    return Reading(
        schema=DUMP_SCHEMA, command="all", name="hand",
        text="text", text_sha256="0" * 64, text_ids=[],
        tokens=tokens, layers=layers,
        guesses=Guesses(
            ids=[[[ids[t]] for t in row] for row in labels],
            labels=[[[t] for t in row] for row in labels],
            logits=[[[float(10 * r + c)] for c in range(columns)] for r in range(len(labels))],
            probs=[[[0.5] for _ in row] for row in values],
        ),
        metrics=metrics or {"own-logit": Scores(values=values, unit="logit", quantity="own logit")}
        if columns != 3 or len(labels) != 3 else {
            "own-logit": Scores(values=values, unit="logit", quantity="own logit"),
            "rank": Scores(values=[[1, 50, 500], [1, 1, 101], [1, 1, 1]], unit="1 is best",
                           quantity="rank of the final top guess",
                           scale=Scale("log", 1, 100, "mako_r")),
            "kl-final": Scores(values=[[40.0, 50.0, 2.0], [7.25, 0.0, 31.0], [0.0, 0.0, 0.0]],
                               unit="nats", quantity="KL(final || layer)",
                               scale=Scale("linear", 0, 30, "mako_r")),
        },
        final_ids=[ids[t] for t in labels[-1]],
        check=CheckRecord(max_abs_logit_error=0.0, passed=True, route="direct", columns=1,
                          tolerance=1.0, max_kl=0.0, top1_agreement=1.0),
        model=ModelRecord(name="hand-made", revision=None, dtype="float32", device="cpu",
                          blocks=len(labels) - 1, width=4, vocabulary=100, tied=True,
                          class_="None"),
        lens=LensRecord(norm="full", chain=[], window=(4, 4 + columns), text_tokens=20, bos=False),
        options={}, versions={},
    )  # fmt: skip


def drawn(reading: Reading, name: str, **style: Any) -> Figure:
    return heatmap.draw_heatmaps(reading, name, FigureStyle(**style))[0].figure


def mesh_of(fig: Figure) -> QuadMesh:
    return next(c for c in fig.axes[0].collections if isinstance(c, QuadMesh))


def cells(fig: Figure) -> dict[tuple[float, float], str]:
    """Cell texts by (column, row)."""
    return {(cell.x, cell.y): cell.text for cell in texts_of(fig)}


def texts_of(fig: Figure) -> list[cell_texts.Cell]:
    artists = fig.axes[0].get_children()
    return [cell for a in artists if isinstance(a, cell_texts.CellTexts) for cell in a.cells]


def top_labels(fig: Figure) -> list[str]:
    return [t.get_text() for t in fig.axes[0].child_axes[0].get_xticklabels()]


def all_texts(fig: Figure) -> str:
    return "\n".join(t.get_text() for t in fig.findobj(matplotlib.text.Text))


def test_layer_zero_is_at_the_bottom_and_values_are_in_their_cells() -> None:
    fig = drawn(make(), "kl-final")
    ax = fig.axes[0]
    low, high = ax.get_ylim()
    assert low < high  # upwards
    assert [t.get_text() for t in ax.get_yticklabels()] == ["input", "0", "1"]
    data = np.asarray(mesh_of(fig).get_array()).reshape(3, 3)
    np.testing.assert_array_equal(data, [[40, 50, 2], [7.25, 0, 31], [0, 0, 0]])
    assert cells(fig)[0.5, 0.5] == "40"
    assert cells(fig)[0.5, 1.5] == "7.2"
    assert cells(fig)[2.5, 2.5] == "0.0"


def test_input_row_is_shown_for_divergences_only_but_can_be_switched() -> None:
    def rows(name: str, **style: Any) -> list[str]:
        return [t.get_text() for t in drawn(make(), name, **style).axes[0].get_yticklabels()]

    assert rows("topk") == rows("rank") == ["0", "1"]
    assert rows("kl-final") == ["input", "0", "1"]
    assert rows("rank", input_row=True) == ["input", "0", "1"]
    assert rows("kl-final", input_row=False) == ["0", "1"]
    js = Scores(values=[[0.1], [0.2]], unit="nats", quantity="JS")
    labels = drawn(make([["a"], ["b"]], js=js), "js").axes[0].get_yticklabels()
    assert [t.get_text() for t in labels] == ["input", "0"]


def test_token_labels_are_tilted_below_and_starred_above() -> None:
    fig = drawn(make(), "topk")
    below = fig.axes[0].get_xticklabels()
    assert [t.get_text() for t in below] == ["t0", "t1", "last"]
    assert {t.get_rotation() for t in below} == {45}
    # Columns 0 and 1: the model's top guess is the next token, by id. The last has no next token.
    assert top_labels(fig) == ["t1 (*)", "t2 (*)", ""]


def test_star_compares_ids_not_texts() -> None:
    reading = make([["same"] * 3, ["same"] * 3])
    tokens = list(reading.tokens)
    tokens[0] = Token(position=4, id=1, label="same", next_id=55, next_label="same")
    fig = drawn(msgspec.structs.replace(reading, tokens=tokens), "topk")
    assert top_labels(fig)[0] == "same"  # prints alike, is another id


def test_topk_prints_guesses_and_outlines_those_that_are_final() -> None:
    fig = drawn(make(), "topk")
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
    assert not [c for c in drawn(make(), "rank").axes[0].collections
                if isinstance(c, LineCollection)]  # fmt: skip


def test_rank_is_logarithmic_and_clipping_is_visible() -> None:
    fig = drawn(make(), "rank", input_row=True)
    norm = mesh_of(fig).norm
    assert isinstance(norm, matplotlib.colors.LogNorm)
    assert (norm.vmin, norm.vmax) == (1, 100)
    assert "2 cells > 100" in all_texts(fig)
    colors = mesh_of(fig).to_rgba(np.array([100.0, 101.0]))
    assert not np.allclose(colors[0], colors[1])  # what is clipped has a colour of its own


def test_limits_and_map_are_the_users_if_given() -> None:
    fig = drawn(make(), "kl-final", vmin=1, vmax=45, cmap="rocket")
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
        norm = mesh_of(drawn(reading, "logit-diff", input_row=True, **style)).norm
        assert (norm.vmin, norm.vmax) == limits
    fig = drawn(reading, "logit-diff")
    middle = matplotlib.colormaps["vlag"](np.array([0.5]))
    np.testing.assert_allclose(mesh_of(fig).to_rgba(np.zeros(1)), middle, atol=0.01)


def test_split_cuts_into_pieces_on_one_scale() -> None:
    drawings = heatmap.draw_heatmaps(make(), "topk", FigureStyle(split=2))
    assert [len(d.figure.axes[0].get_xticklabels()) for d in drawings] == [2, 1]
    assert {(mesh_of(d.figure).norm.vmin, mesh_of(d.figure).norm.vmax) for d in drawings} == {
        (10.0, 22.0)
    }
    assert "positions 4–5 of 20" in all_texts(drawings[0].figure)
    assert "position 6 of 20 tokens" in all_texts(drawings[1].figure)


def test_changes_only_blanks_repetitions() -> None:
    assert cells(drawn(make(), "topk", changes_only=True)) == {
        (0.5, 0.5): "b", (1.5, 0.5): "c", (2.5, 0.5): "z", (2.5, 1.5): "a",
    }  # fmt: skip


def test_decode_variant_and_unit_are_named() -> None:
    words = all_texts(drawn(make(), "kl-final")).replace("\n", " ")
    assert "full norm" in words
    assert "KL(final || layer) [nats]" in words
    assert "hand-made" in words


def test_text_stands_out_on_every_colour() -> None:
    for name in ("viridis", "mako_r", "rocket", "coolwarm", "gray"):
        colors = color_map(name)(np.linspace(0, 1, 101))
        for color in colors:
            background = float(luminance(color))
            ink = 1.0 if background < 0.179 else 0.0
            light, dark = max(background, ink), min(background, ink)
            assert (light + 0.05) / (dark + 0.05) >= 4.5


HOSTILE = ["$a$ $b", "%d%", "\\frac{1}{2}", "<b>&amp;", "_^{}", "😀", "漢字", "ي", "#", "a" * 300]


@pytest.mark.parametrize("form", ["png", "svg", "pdf"])
def test_any_token_is_drawn_as_it_is(form: str) -> None:
    reading = make([HOSTILE, HOSTILE[::-1]])
    for drawing in heatmap.draw_heatmaps(reading, "topk", FigureStyle()):
        file = io.BytesIO()
        drawing.save(file, form, 100)
        data = file.getvalue()
        if form == "png":
            Image.open(io.BytesIO(data)).verify()
        elif form == "svg":
            texts = ["".join(e.itertext()) for e in ET.fromstring(data).iter()
                     if e.tag.endswith("}text")]  # fmt: skip
            assert {"$a$ $b", "%d%", "\\frac{1}{2}", "<b>&amp;"} <= set(texts)  # text stays text
        else:
            assert data.startswith(b"%PDF")


def test_files_say_in_words_what_they_show() -> None:
    title = 'Of <script>alert("&")</script> ]]> \\ (漢)'
    style = FigureStyle(title=title + "\x1b\n\ufffe")
    (drawing,) = heatmap.draw_heatmaps(make(), "kl-final", style)
    shown = title + "<U+001B>↵<U+FFFE>"
    words = caption.alt_text(reading_panels.panels(make(), "kl-final", style)[0])
    assert words.startswith(f"Heatmap: {shown}. KL(final || layer) – hand-made. 3 rows, ")

    def saved(form: str) -> bytes:
        drawing.save(file := io.BytesIO(), form, 80)
        return file.getvalue()

    with Image.open(io.BytesIO(saved("png"))) as image:
        assert image.info["Title"] == shown
        assert image.info["Description"] == words
    root = ET.fromstring(saved("svg"))
    svg, dc = "{http://www.w3.org/2000/svg}", "{http://purl.org/dc/elements/1.1/}"
    assert [child.tag for child in root][:2] == [f"{svg}title", f"{svg}desc"]
    assert [child.text for child in root][:2] == [shown, words]
    assert {e.text for e in root.iter(f"{dc}description")} == {words}
    assert not list(root.iter("script"))
    pdf = saved("pdf")
    assert b"/Subject" in pdf
    assert b"/Title" in pdf


def test_same_reading_same_bytes() -> None:
    def bytes_of(form: str) -> bytes:
        file = io.BytesIO()
        heatmap.draw_heatmaps(make(), "topk", FigureStyle())[0].save(file, form, 80)
        return file.getvalue()

    for form in ("png", "svg", "pdf"):
        assert bytes_of(form) == bytes_of(form)


def overlap(a: Any, b: Any) -> bool:
    return bool(min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1)


def test_cell_texts_stay_in_the_middle_of_their_cells() -> None:
    """As the pixels are, in black on white cells."""
    reading = make([["·internationalization", "WWWWWWWWWWWWWWWW", "HH"]] * 3)
    drawing = heatmap.draw_heatmaps(reading, "topk", FigureStyle(vmin=0, vmax=1e9, cmap="Greys"))[0]
    drawing.save(made := io.BytesIO(), "png", 200)
    with Image.open(made) as image:
        pixels = np.asarray(image)[..., 0]
    ax = drawing.figure.axes[0]
    corners = ax.transData.transform([(0, 0), (1, 1)])
    for cell in texts_of(drawing.figure):
        (left, top), (right, bottom) = (
            corners[0] + (corners[1] - corners[0]) * (np.floor((cell.x, cell.y)) + shift)
            for shift in (0, 1)
        )
        top, bottom = sorted(np.array([len(pixels) - top, len(pixels) - bottom]).tolist())
        inside = pixels[int(top) + 3 : int(bottom) - 2, int(left) + 3 : int(right) - 2] < 100
        ink = np.argwhere(inside)
        (first_y, first_x), (last_y, last_x) = ink.min(0), ink.max(0)
        assert first_x > 0
        assert last_x < inside.shape[1] - 1
        assert abs(first_x + last_x - inside.shape[1]) <= 6  # within three pixels of the middle
        assert abs(first_y + last_y - inside.shape[0]) <= 8 or cell.text.startswith("·")


def test_refusals() -> None:
    with pytest.raises(UsageError, match="topk, rank, kl-final"):
        heatmap.draw_heatmaps(make(), "kl-input", FigureStyle())
    with pytest.raises(UsageError, match="'nonsense' is unknown"):
        heatmap.draw_heatmaps(make(), "rank", FigureStyle(cmap="nonsense"))
    with pytest.raises(UsageError, match="logarithmic"):
        heatmap.draw_heatmaps(make(), "rank", FigureStyle(vmin=0))
    with pytest.raises(UsageError, match=r"--vmin makes the colours run backwards.*give --vmax"):
        heatmap.draw_heatmaps(make(), "kl-final", FigureStyle(vmin=99))
    with pytest.raises(UsageError, match="--skip-first 7 leaves no column"):
        heatmap.draw_heatmaps(make(), "topk", FigureStyle(skip_first=7))
    with pytest.raises(UsageError, match="entropy is not in this dump; it holds own-logit"):
        heatmap.draw_heatmaps(make(), "topk", FigureStyle(color="entropy"))
    wide = make([["a"] * 4000] * 2)
    with pytest.raises(UsageError, match=r"inches, at 300 dpi \d+ x \d+ pixels; use --split"):
        heatmap.draw_heatmaps(wide, "topk", FigureStyle())


def test_followed_tokens_are_drawn_by_layers() -> None:
    followed = Followed(
        position=6, ids=[5, 3], labels=["yes", "no"], ranks=[[9, 9], [2, 1], [1, 3]]
    )
    fig = drawn(msgspec.structs.replace(make(), followed=followed), "followed")
    assert [t.get_text() for t in fig.axes[0].get_xticklabels()] == ["yes", "no"]
    assert cells(fig) == {(0.5, 0.5): "2", (1.5, 0.5): "1", (0.5, 1.5): "1", (1.5, 1.5): "3"}
    words = all_texts(fig)
    assert "token, best rank first" in words
    assert "true next token" not in words


def test_colour_limits_can_leave_out_the_first_tokens() -> None:
    # Columns 0, 1, 2 are positions 4, 5, 6 of the text.
    assert mesh_of(drawn(make(), "topk")).norm.vmin == 10
    fig = drawn(make(), "topk", skip_first=5)
    assert mesh_of(fig).norm.vmin == 11
    assert "colour limits leave out the first 5 tokens" in all_texts(fig).replace("\n", " ")
    assert "1 cell < 11" in all_texts(fig)  # left out, yet seen to be


def test_several_targets_have_a_figure_each() -> None:
    reading = make()
    rank = reading.metrics["rank"]
    reading = msgspec.structs.replace(reading, metrics={"rank-next": rank, "rank-input": rank})
    assert reading_panels.figures_of(reading) == ["rank-next", "rank-input"]
    assert cells(drawn(reading, "rank-next"))[0.5, 1.5] == "1"  # as a rank, not as 1.0


def test_what_colours_guesses_is_a_figure_where_there_are_none() -> None:
    scores = Scores(values=[[1.0], [2.0]], unit="nats", quantity="some")
    labels = [["a"], ["b"]]
    alone = make(labels, entropy=scores)
    assert reading_panels.figures_of(alone) == ["entropy"]
    coloured = make(labels, **{"own-logit": scores, "entropy": scores, "kl-final": scores})
    assert reading_panels.figures_of(coloured) == ["topk", "kl-final"]


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
