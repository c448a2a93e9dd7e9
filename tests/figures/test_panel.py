"""What is drawn, as plain data, against numbers by hand."""

import math

import msgspec
import numpy as np
import pytest
from drawn import cells, heatmap_of
from readings import (
    make,
)

from logitlens_cli.errors import UsageError
from logitlens_cli.figures.panel import Panel
from logitlens_cli.figures.reading_panels import figures_of, panels
from logitlens_cli.figures.style import FigureStyle
from logitlens_cli.reading.record import Reading, Scores, lock_in


def panel(name: str, reading: Reading | None = None, **style: bool) -> Panel:
    return panels(reading or make(), name, FigureStyle(**style))[0]  # type: ignore[arg-type]


# Rows of `make`, the input left out: "b c z", then "b c a", which is the model's.
def test_lock_in_is_told_below_the_grid() -> None:
    made = panel("rank", lock_in=True)
    assert [(row.label, row.texts) for row in made.footer_rows] == [
        ("stays from", ["0", "0", "1"]),
        ("first at", ["0", "0", "1"]),
    ]
    assert (
        "the guess stays the model's from layer 0.3 on, first is at 0.3 (means)" in made.all_notes()
    )


def test_lock_in_of_blocks_that_run_twice_has_the_labels_of_the_rows() -> None:
    reading = make()
    labels = ["input", "0.1", "0.2"]
    layers = [
        msgspec.structs.replace(layer, label=label)
        for layer, label in zip(reading.layers, labels, strict=True)
    ]
    drawn = panel("rank", msgspec.structs.replace(reading, layers=layers), lock_in=True)
    assert [row.texts for row in drawn.footer_rows] == [["0.1", "0.1", "0.2"]] * 2
    assert "the guess stays the model's from run 0.3 on, first is at 0.3 (means)" in (
        drawn.all_notes()
    )


def test_lock_in_by_hand() -> None:
    """One column: the guess is the model's at blocks 1 and 3, 4, then another's at 2."""
    rows = [["in"], ["x"], ["a"], ["x"], ["a"], ["a"]]
    reading = make(rows)
    made = lock_in(reading.layers, reading.top(), reading.final_ids)
    assert (made.first, made.since, made.mean_first, made.mean_since) == ([1], [3], 1.0, 3.0)
    never = lock_in(reading.layers, reading.top(), [99])
    assert (never.first, never.since, never.mean_first, never.mean_since) == ([None],) * 2 + (
        None,
        None,
    )


def test_ranks_of_the_true_next_tokens_are_told_below_the_grid() -> None:
    reading = msgspec.structs.replace(make(), next_ranks=[1, 14946, None])
    made = panel("topk", reading, next_ranks=True, lock_in=True)
    assert made.footer_rows[-1].label == "true rank"
    assert made.footer_rows[-1].texts == ["1", "14946", "–"]
    with pytest.raises(UsageError, match="holds no ranks of the true next tokens; make it again"):
        panel("topk", next_ranks=True)


@pytest.mark.parametrize(
    ("prob", "text"),
    [(0.31, ".31"), (0.0049, "<.01"), (0.005, ".01"), (0.994, ".99"), (0.996, "1.0"), (1, "1.0")],
)
def test_probabilities_are_a_second_line(prob: float, text: str) -> None:
    reading = make()
    probs = [[[prob] for _ in row] for row in reading.guesses.probs]
    reading = msgspec.structs.replace(
        reading, guesses=msgspec.structs.replace(reading.guesses, probs=probs)
    )
    assert panel("topk", reading, probs=True).second_lines == [[text] * 3] * 2
    assert panel("rank", reading, probs=True).second_lines == []


def test_differences_to_the_layer_below() -> None:
    """KL rows of `make` are 40 50 2, 7.25 0 31 and zeros."""
    made = panel("kl-final", delta=True)
    np.testing.assert_array_equal(made.values[1:], [[-32.75, -50, 29], [-7.25, 0, -31]])
    assert np.isnan(made.values[0]).all()
    assert made.texts == [["", "", ""], ["-33", "-50", "+29"], ["-7.2", "0.0", "-31"]]
    assert (made.colors.low, made.colors.high, made.colors.cmap) == (-50, 50, "vlag")
    assert made.bar_label == "KL(final || layer), minus the layer below's [nats]"


def test_differences_of_ranks_are_ratios() -> None:
    """Ranks of `make` are 1 50 500 (input), 1 1 101 and 1 1 1."""
    made = panel("rank", delta=True)
    assert made.values[1].tolist() == [0, 0, pytest.approx(-math.log10(101))]
    assert made.texts[1] == ["0.0", "0.0", "-2.0"]
    assert made.bar_label == "rank of the final top guess, to the layer below [log10 of the ratio]"


def test_guesses_stay_words_where_their_colours_are_differences() -> None:
    made = panel("topk", delta=True)
    assert made.texts == [["b", "c", "z"], ["b", "c", "a"]]
    assert made.values[1].tolist() == [10, 10, 10]


def test_footer_rows_and_second_lines_are_split_with_the_columns() -> None:
    made = panels(make(), "topk", FigureStyle(split=2, lock_in=True, probs=True))
    assert [p.footer_rows[0].texts for p in made] == [["0", "0"], ["1"]]
    assert [len(p.second_lines[0]) for p in made] == [2, 1]


def test_lock_in_of_no_block() -> None:
    made = lock_in(make().layers[:1], make().top()[:1], [1, 2, 3])
    assert (made.first, made.mean_first) == ([None] * 3, None)


def test_several_targets_have_a_figure_each() -> None:
    reading = make()
    rank = reading.metrics["rank"]
    reading = msgspec.structs.replace(reading, metrics={"rank-next": rank, "rank-input": rank})
    assert figures_of(reading) == ["rank-next", "rank-input"]
    assert cells(heatmap_of(reading, "rank-next"))[0.5, 1.5] == "1"  # as a rank, not as 1.0


def test_what_colours_guesses_is_a_figure_where_there_are_none() -> None:
    scores = Scores(values=[[1.0], [2.0]], unit="nats", quantity="some")
    labels = [["a"], ["b"]]
    alone = make(labels, entropy=scores)
    assert figures_of(alone) == ["entropy"]
    coloured = make(labels, **{"own-logit": scores, "entropy": scores, "kl-final": scores})
    assert figures_of(coloured) == ["topk", "kl-final"]
