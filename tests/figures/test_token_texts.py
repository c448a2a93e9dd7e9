"""How figures write tokens."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from logitlens_cli.figures.drawing import matplotlib_settings
from logitlens_cli.figures.fonts import BASE
from logitlens_cli.figures.token_texts import (
    LONGEST_TEXT,
    SIGNS,
    key_of,
    text_after,
    texts_in_order,
    token_text,
)

EAST = ["<0xE6>", "<0x9D>", "<0xB1>"]  # 東 in UTF-8


@pytest.mark.parametrize(
    ("label", "text"),
    [
        ("·the", "·the"),
        ("·", "␣"),
        ("···", "␣␣␣"),
        ("···def", "···def"),
        ("·.", "␣."),
        ("·(", "␣("),
        ("·=", "·="),
        ("·↵", "␣↵"),
        (".·", ".␣"),
        (".", "."),
        ("a·b", "a·b"),
        ("<0xE6>", "‹E6›"),
        ("<0xE6><0x9D>", "‹E6 9D›"),
        ("·<0xE6>", "␣‹E6›"),
        ("<U+200B>", "<U+200B>"),
        ("", ""),
    ],
)
def test_a_label_alone(label: str, text: str) -> None:
    assert token_text(label) == text


@pytest.mark.parametrize(
    ("labels", "texts"),
    [
        (["·a", *EAST, "."], ["·a", "東¹", "東²", "東³", "."]),
        (["<0xE6><0x9D>", "<0xB1>"], ["東¹", "東²"]),
        (["<0xE6>", "<0x9D><0xB1><0xE6>", "<0x9D>", "<0xB1>"], ["東¹", "東²東¹", "東²", "東³"]),
        (["<0xF0><0x9F>", "<0x98>", "<0x80>"], ["😀¹", "😀²", "😀³"]),
        (["<0xC3>", "<0xA9>t"], ["é¹", "é²t"]),
        (["京<0xE6>", "<0x9D>", "<0xB1>"], ["京東¹", "東²", "東³"]),
        # The window or the text ends within a character, begins within one, or there is none.
        (["<0xE6>", "<0x9D>"], ["‹E6›", "‹9D›"]),
        (["<0x9D>", "<0xB1>", *EAST], ["‹9D›", "‹B1›", "東¹", "東²", "東³"]),
        (["<0xE6>", "a", "<0x9D>", "<0xB1>"], ["‹E6›", "a", "‹9D›", "‹B1›"]),
        (["<0xFF>", "<0xC0><0xAF>"], ["‹FF›", "‹C0 AF›"]),
        (["<0xED>", "<0xA0>", "<0x80>"], ["‹ED›", "‹A0›", "‹80›"]),  # half of a surrogate pair
        (["·a", "·"], ["·a", "␣"]),
        ([], []),
    ],
)
def test_tokens_in_their_text(labels: list[str], texts: list[str]) -> None:
    assert texts_in_order(labels) == texts


@pytest.mark.parametrize(
    ("labels", "guess", "text"),
    [
        (["·a", "<0xE6>", "<0x9D>"], "<0xB1>", "東³"),
        (["·a", "<0xE6>", "<0x9D>"], "<0xB0>", "杰³"),
        (["·a", "<0xE6>"], "<0x9D>", "‹9D›"),  # many characters begin so
        (["·a", "<0xE6>"], "<0x9D><0xB1>", "東²"),
        (EAST, "<0xE6>", "‹E6›"),
        (EAST, "<0xB1>", "‹B1›"),
        (EAST, "·", "␣"),
    ],
)
def test_a_guess_after_a_text(labels: list[str], guess: str, text: str) -> None:
    assert text_after([*labels, "·later"], len(labels) - 1, guess) == text


def test_the_key_names_the_signs_that_are_used() -> None:
    assert key_of(["the", "."]) == ""
    assert key_of(["·the", "␣"]) == "signs: space · or ␣"
    assert key_of(["␣", "a↵", "⇥"]) == "signs: space ␣, line end ↵, tab ⇥"
    assert key_of(["m²", "¹", "‹ut›", "«"]) == ""  # of the text itself
    assert key_of(["東¹", "‹E6›"]) == (
        "signs: bytes of a character ‹E6 9D›, piece of a character ¹ ² ³"
    )


def test_the_key_looks_only_at_what_may_be_drawn() -> None:
    """A hostile dump may hold labels of forty million characters."""
    assert key_of(["x" * LONGEST_TEXT + "·"]) == ""
    assert key_of(["x" * (LONGEST_TEXT - 1) + "·"]) == "signs: space ·"


@pytest.mark.parametrize("rotation", [0, 45])
@pytest.mark.parametrize("size", [6, 7.5])
def test_no_sign_looks_like_another_or_like_punctuation(size: float, rotation: int) -> None:
    """Drawn at 300 dots per inch, of two signs a quarter of the ink or more differs, wherever one
    is laid over the other."""
    alone = [sign for sign in SIGNS if sign != "·"]  # which always has a word behind it
    images = {char: ink(char, size, rotation) for char in [*alone, *".,:;'`-_=|~*°•…\"!"]}
    for a, b in combinations(images, 2):
        if a in alone or b in alone:
            assert difference(images[a], images[b]) >= 0.25, (a, b)
    assert difference(ink("·.", size, rotation), ink("␣.", size, rotation)) >= 0.25


def ink(text: str, size: float, rotation: int) -> np.ndarray:
    """A text in black, from 0 to 1."""
    with matplotlib_settings([BASE]):
        figure = Figure(figsize=(0.4, 0.4), dpi=300)
        canvas = FigureCanvasAgg(figure)
        figure.text(0.5, 0.5, text, fontsize=size, rotation=rotation, ha="center", va="baseline")
        canvas.draw()  # type: ignore[no-untyped-call]
        return 1 - np.asarray(canvas.buffer_rgba())[:, :, 0] / 255  # type: ignore[no-untyped-call]


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """The least share of ink in which two images differ, over shifts of three dots."""
    shifts = [(x, y) for x in range(-3, 4) for y in range(-3, 4)]
    return min(
        float(np.abs(a - np.roll(b, shift, (0, 1))).sum() / (a.sum() + b.sum())) for shift in shifts
    )
