"""What a trace shows, as numbers and words: tokens at one position, a metric over all."""

from typing import Any

import msgspec
import numpy as np
import pytest
from readings import (
    FOLLOWED,
    column,
    make,
    traced,
)

from logitlens_cli.errors import UsageError
from logitlens_cli.figures.line_data import Band, Lines, line_panel
from logitlens_cli.figures.style import FigureStyle
from logitlens_cli.reading.record import Followed, Reading


def lines(reading: Reading, **style: Any) -> Lines:
    drawn = line_panel(reading, FigureStyle(**style)).drawn
    assert isinstance(drawn, Lines)
    return drawn


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("prob", {"maybe": [0.01, 0.1], "·yes": [0.2, 0.75], "no": [0.6, 0.05]}),
        ("rank", {"maybe": [7, 2], "·yes": [2, 1], "no": [1, 3]}),
        ("logit", {"maybe": [-3, 7], "·yes": [4, 9], "no": [5, 6]}),
    ],
)
def test_a_line_a_token_over_the_blocks(metric: str, expected: dict[str, list[float]]) -> None:
    made = lines(traced(metric))
    # What was asked for comes first, the others by their highest probability.
    assert {line.label: line.values.tolist() for line in made.lines} == expected
    assert [line.label for line in made.lines] == ["maybe", "·yes", "no"]
    assert [layer.label for layer in made.layers] == ["0", "1"]
    assert made.best_low == (metric == "rank")


def test_axes_of_tokens() -> None:
    assert lines(traced("prob")).axis == "probability"
    assert lines(traced("rank")).axis == "rank [1 is best]"
    for metric, log, kind, low, high in (
        ("prob", False, "linear", 0, 1),
        ("prob", True, "log", 0.01, 1),
        ("rank", False, "log", 1, 7),
        ("logit", False, "linear", -3, 9),
    ):
        limits = lines(traced(metric, log=log)).limits
        assert (limits.kind, limits.low, limits.high) == (kind, low, high)
    limits = lines(traced("prob"), vmin=0.1, vmax=0.3).limits
    assert (limits.low, limits.high) == (0.1, 0.3)
    with pytest.raises(UsageError, match="logarithmic"):
        lines(traced("rank"), vmin=0)


def test_a_probability_of_nothing_has_no_place_on_a_logarithmic_axis() -> None:
    """A line would leave the axis by its lower end."""
    probs = [[0.001, 0.0001, 0.9], [0.0, 1e-300, 0.01], [0.75, 0.05, 0.1]]
    made = line_panel(
        traced("prob", followed=msgspec.structs.replace(FOLLOWED, probs=probs), log=True),
        FigureStyle(),
    )
    assert isinstance(made.drawn, Lines)
    assert (made.drawn.limits.low, made.drawn.limits.high) == (1e-300, 1)
    of_yes = next(line.values for line in made.drawn.lines if line.label == "·yes")
    np.testing.assert_array_equal(of_yes, [np.nan, 0.75])
    assert made.notes[-2] == "where a line is missing, the probability is below 1e-323"


def test_the_input_row_on_demand() -> None:
    made = lines(traced("rank"), input_row=True)
    assert [layer.label for layer in made.layers] == ["input", "0", "1"]
    assert made.lines[0].values.tolist() == [3, 7, 2]


def test_more_tokens_than_can_be_told_apart() -> None:
    ids = list(range(11))
    best = [0.01 * (n + 1) for n in ids]
    many = Followed(
        position=6,
        ids=ids,
        labels=[f"t{n}" for n in ids],
        ranks=[[1] * 11] * 3,
        logits=[[0.0] * 11] * 3,
        probs=[[0.9] * 11, [0.0] * 11, best],
        chosen=[0],
    )
    made = line_panel(traced("rank", followed=many), FigureStyle())
    assert isinstance(made.drawn, Lines)
    shown = [line.label for line in made.drawn.lines]
    assert shown == ["t0", "t10", "t9", "t8", "t7", "t6", "t5", "t4"]
    left_out = "without 3 more tokens that some layer guessed, of probability 0.04 at most"
    assert left_out in made.notes


def test_words_say_where_it_is() -> None:
    made = line_panel(traced("prob"), FigureStyle())
    assert made.title == "Probability after “text” – hand-made"
    assert "position 6 of 20 tokens: last" in made.notes
    long = msgspec.structs.replace(traced("rank"), text="word\n" + "abcd " * 20 + "$x$\tend")
    # 40 characters, from a whole word on
    assert (
        line_panel(long, FigureStyle()).title == f"Rank after “…{'abcd ' * 6}$x$⇥end” – hand-made"
    )
    within = msgspec.structs.replace(
        column(make(), 0),
        options={"metric": "prob"},
        followed=msgspec.structs.replace(FOLLOWED, position=4),
    )
    assert line_panel(within, FigureStyle()).title == "Probability after t0 – hand-made"
    assert line_panel(within, FigureStyle(title="mine")).title == "mine"


def test_a_metric_at_one_position_is_scaled_by_the_blocks() -> None:
    reading = msgspec.structs.replace(column(make(), 0), options={"metric": "kl-final"})
    made = line_panel(reading, FigureStyle())
    assert isinstance(made.drawn, Lines)
    (line,) = made.drawn.lines
    assert (line.label, line.values.tolist()) == ("", [40, 7.25, 0])
    assert (made.drawn.limits.low, made.drawn.limits.high) == (0, 7.25)
    assert made.notes[-1] == "input row: 40"
    assert made.title == "KL(final || layer) after t0 – hand-made"


def test_a_metric_over_positions() -> None:
    reading = msgspec.structs.replace(make(), options={"metric": "kl-final"})
    made = line_panel(reading, FigureStyle())
    band = made.drawn
    assert isinstance(band, Band)
    # 40 50 2; 7.25 0 31; 0 0 0
    np.testing.assert_allclose(band.mean, [92 / 3, 38.25 / 3, 0])
    np.testing.assert_allclose(band.quantiles[2], [40, 7.25, 0])
    np.testing.assert_allclose(band.quantiles[1], [21, 3.625, 0])  # half-way to the median
    np.testing.assert_allclose(band.quantiles[4], [49, 28.625, 0])  # nine tenths from there
    assert (band.unit, band.log, band.limits) == ("nats", False, (None, None))
    assert "positions 4–6 of 20 tokens" in made.notes
    with pytest.raises(UsageError, match="--vmin 1000 is above the upper colour limit"):
        line_panel(reading, FigureStyle(vmin=1000))


def test_positions_without_a_value_do_not_count() -> None:
    reading = make()
    rank = reading.metrics["rank"]
    values = [[*row[:2], None] for row in rank.values]
    reading = msgspec.structs.replace(
        reading,
        metrics={"rank": msgspec.structs.replace(rank, values=values)},
        options={"metric": "rank"},
    )
    made = line_panel(reading, FigureStyle())
    assert isinstance(made.drawn, Band)
    assert made.drawn.log
    assert made.drawn.mean.tolist() == [1, 1]  # of 1 1, 1 1
    assert "positions 4–5 of 20 tokens" in made.notes
    with pytest.raises(UsageError, match="there is no rank of the final top guess here; take a"):
        line_panel(column(reading, 2), FigureStyle())


@pytest.mark.parametrize(("metric", "followed"), [("prob", FOLLOWED), ("kl-final", None)])
def test_nothing_but_an_input_row(metric: str, followed: Followed | None) -> None:
    reading = traced(metric, followed=followed)
    cut = msgspec.structs.replace(
        reading,
        layers=reading.layers[:1],
        guesses=msgspec.structs.replace(
            reading.guesses,
            **{
                n: getattr(reading.guesses, n)[:1]
                for n in ("ids", "labels", "logits", "probs", "log_probs")
            },
        ),
        metrics={
            name: msgspec.structs.replace(scores, values=scores.values[:1])
            for name, scores in reading.metrics.items()
        },
        followed=followed
        and msgspec.structs.replace(
            followed, **{n: getattr(followed, n)[:1] for n in ("ranks", "logits", "probs")}
        ),
    )
    with pytest.raises(UsageError, match="no row but the input row is left; give --input-row"):
        line_panel(cut, FigureStyle(input_row=False))
    assert len(lines(cut, input_row=True).layers) == 1
