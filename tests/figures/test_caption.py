"""Figures in words, by hand."""

from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
from readings import make, reading_of

from logitlens_cli.figures import caption, pair, pair_panels
from logitlens_cli.figures.pair import Pair
from logitlens_cli.figures.panel import Panel
from logitlens_cli.figures.reading_panels import panels
from logitlens_cli.figures.style import FigureStyle
from logitlens_cli.reading.record import Followed


def panel_of(name: str, **style: Any) -> Panel:
    return panels(make(), name, FigureStyle(**style))[0]


def test_alt_text_of_guesses() -> None:
    # Columns t0 and t1 have their last guess from the lowest drawn layer on, "last" has not.
    assert caption.alt_text(panel_of("topk")) == (
        "Heatmap: Top guess of every layer – hand-made. 2 rows, layers 0 to 1, by 3 columns, t0 to "
        "last. Colour: own logit [logit], 10 to 22. In 2 of 3 columns the layer's guess is the "
        "model's from layer 0 up. Decoded with the model's head, full norm; positions 4–6 of 20 "
        "tokens; outlined: the layer's guess is the model's; (*) the model's guess is right."
    )


def test_alt_text_of_numbers() -> None:
    assert caption.alt_text(panel_of("kl-final")) == (
        "Heatmap: KL(final || layer) – hand-made. 3 rows, layers input to 1, by 3 columns, t0 to "
        "last. Colour: KL(final || layer) [nats], 0 to 30; clipped: 3 cells > 30. Median 40 at "
        "the input row, 7.25 at layer 0, 0 at layer 1. Decoded with the model's head, full norm; "
        "positions 4–6 of 20 tokens; (*) the model's guess is right."
    )


def test_a_caption_says_what_a_paper_must_say() -> None:
    assert caption.caption(panel_of("rank", input_row=True, title="Ours")) == (
        "Ours. Rank of the final top guess – hand-made. Rows: layers input to 1, upwards; columns: "
        "input token, written below; true next token above. Colour: rank of the final top guess "
        "[1 is best], 1 to 100, logarithmic; clipped: 2 cells > 100. Median 50 at the input row, "
        "1 at layer 0, 1 at layer 1. Decoded with the model's head, full norm; positions 4–6 of "
        "20 tokens; (*) the model's guess is right.\n"
    )


def test_from_where_guesses_stay() -> None:
    def told(*outlined: list[int]) -> str:
        cells = np.array(outlined, bool)
        rows = [str(n) for n in range(len(cells))]
        labels = ["x"] * cells.shape[1]
        return caption.settling(
            replace(panel_of("topk"), outlined=cells, rows=rows, input_labels=labels)
        )

    said = "columns the layer's guess is the model's from layer"
    # A guess that is lost again does not stay: column 0 has it at rows 0 and 2 only.
    assert told([1, 0], [0, 0], [1, 1]) == f"In 2 of 2 {said} 2 up"
    assert told([0, 0], [1, 0], [1, 1]) == f"In 1 of 2 {said} 1 up"
    # Without the norm the last row need not be the output.
    assert told([1, 1, 1], [1, 0, 0]) == f"In 1 of 3 {said} 1 up"


def test_what_has_no_value_has_no_median() -> None:
    values = np.array([[np.nan] * 3, [1.0, 2.0, np.nan], [12345.6] * 3])
    panel = replace(panel_of("kl-final"), values=values)
    assert caption.medians(panel) == "Median 1.5 at layer 0, 12346 at layer 1"
    assert caption.medians(replace(panel, values=np.full((3, 3), np.nan))) == ""


def test_followed_tokens() -> None:
    followed = Followed(
        position=6, ids=[5, 3], labels=["yes", "no"], ranks=[[9, 9], [2, 1], [1, 3]]
    )
    reading = msgspec.structs.replace(make(), followed=followed)
    words = caption.caption(panels(reading, "followed", FigureStyle())[0])
    assert "columns: token, best rank first, written below. Colour" in words
    assert "Median 1.5 at layer 0, 2 at layer 1" in words


def test_words_hold_nothing_that_a_file_cannot() -> None:
    panel = replace(
        panel_of("topk"), title="a\x00b\n<script>]]>&", input_labels=["\x1b", "\ufffe", "\u202e"]
    )
    for words in (
        caption.one_line_title(panel),
        caption.alt_text(panel),
        caption.caption(panel)[:-1],
    ):
        assert "a<U+0000>b↵<script>]]>&" in words
        assert words.isprintable()
    assert "<U+001B> to <U+202E>" in caption.alt_text(panel)


def test_captions_of_comparisons_speak_of_both() -> None:
    both = Pair(reading_of(), reading_of(), "one", "two")
    made = pair.difference_of(both, "topk", FigureStyle())
    (panel,) = pair_panels.difference_panels(both, "topk", made, FigureStyle())
    assert "In 3 of 3 columns A and B have the same guess from layer 0 up." in caption.alt_text(
        panel
    )
    (stacked,) = pair_panels.over_panels(both, "topk", FigureStyle())
    assert caption.finding(stacked) == ""  # its rows are of two grids
