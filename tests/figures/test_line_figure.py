"""How a trace is drawn, tested on the artists."""

import io
from typing import Any

import matplotlib
import msgspec
import numpy as np
import pytest
from drawn import all_texts, overlap
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from readings import FOLLOWED, column, make, traced

from logitlens_cli.figures import line_figure
from logitlens_cli.figures.drawing import Drawing
from logitlens_cli.figures.line_figure import LINE_COLORS, MARKERS, spread
from logitlens_cli.figures.style import FigureStyle
from logitlens_cli.metrics.table import MOST_LINES
from logitlens_cli.reading.record import Followed, Reading


def drawing(reading: Reading, **style: Any) -> Drawing:
    return line_figure.draw_lines(reading, "trace", FigureStyle(**style))[0]


def drawn(reading: Reading, **style: Any) -> tuple[Figure, Axes]:
    fig = drawing(reading, **style).figure
    return fig, fig.axes[0]


def over_layers(ax: Axes) -> list[list[float]]:
    """The y values of lines in data coordinates; those beside the axes lead to names."""
    return [list(line.get_ydata()) for line in ax.lines if line.get_transform() == ax.transData]  # type: ignore[arg-type]


def followed(labels: list[str], ends: list[float]) -> Followed:
    count = len(labels)
    return Followed(
        position=6,
        ids=list(range(count)),
        labels=labels,
        ranks=[[1] * count] * 3,
        logits=[[0.0] * count] * 3,
        probs=[[0.1] * count, [0.1] * count, ends],
        chosen=list(range(count)),
    )


def test_the_lines_are_the_numbers() -> None:
    _, ax = drawn(traced("prob"))
    assert over_layers(ax) == [[0.01, 0.1], [0.2, 0.75], [0.6, 0.05]]
    low, high = ax.get_ylim()
    assert low < 0
    assert high > 1
    assert ax.get_ylabel() == "probability"
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["0", "1"]


def test_rank_one_is_at_the_top() -> None:
    _, ax = drawn(traced("rank"))
    assert over_layers(ax) == [[7, 2], [2, 1], [1, 3]]
    bottom, top = ax.get_ylim()
    assert bottom > 7
    assert 0 < top < 1
    assert ax.get_yscale() == "log"
    shown = [ax.yaxis.get_major_formatter()(n, 0) for n in (1, 100000, 0.001, 1e-5)]
    assert shown == ["1", "100000", "0.001", "1e-5"]


def test_eight_lines_differ_in_colour_and_in_shape() -> None:
    assert len(set(LINE_COLORS)) == len(set(MARKERS)) == MOST_LINES
    _, ax = drawn(traced("prob", followed=followed(list("abcdefgh"), [0.1] * 8)))
    shapes = [line.get_marker() for line in ax.lines[:8]]
    assert shapes == list(MARKERS)
    # The end that a name stands at has the colour and marker of its line.
    for line, text in zip(ax.lines[8:], ax.texts, strict=True):
        n = "abcdefgh".index(text.get_text())
        assert (line.get_color(), line.get_marker()) == (LINE_COLORS[n], MARKERS[n])


def test_names_stand_apart_and_inside_the_figure() -> None:
    labels = ["·the", "漢字", "سلام", "$a$", "%", "·internationalizationization", "<0xE6>", "·"]
    made = drawing(traced("prob", followed=followed(labels, [0.0, 0.001, 0.0, 0, 0.02, 0, 0, 0])))
    fig = made.figure
    made.save(io.BytesIO(), "png", 100)
    boxes = [text.get_window_extent() for text in fig.axes[0].texts]
    assert len(boxes) == 8
    for n, a in enumerate(boxes):
        assert a.x0 > fig.axes[0].get_window_extent().x1
        assert a.x1 <= fig.bbox.x1
        assert a.y0 >= 0
        assert not any(overlap(a, b) for b in boxes[n + 1 :])
    names = {text.get_text() for text in fig.axes[0].texts}
    assert {"$a$", "%", "·the", "‹E6›", "␣"} <= names
    assert not any(text.get_parse_math() for text in fig.findobj(matplotlib.text.Text))
    assert any(name.endswith("…") for name in names)
    missing = "漢" in "".join(made.missing)
    assert ("<U+6F22><U+5B57>" in names) == missing
    assert ("漢字" in names) == (not missing)


def test_names_come_in_the_order_of_the_ends() -> None:
    _, ax = drawn(traced("prob"))
    names = sorted(ax.texts, key=lambda text: text.get_position()[1])
    assert [text.get_text() for text in names] == ["no", "maybe", "·yes"]


def test_a_metric_has_one_plain_line() -> None:
    reading = msgspec.structs.replace(column(make(), 0), options={"metric": "kl-final"})
    fig, ax = drawn(reading)
    assert over_layers(ax) == [[40, 7.25, 0]]
    assert not ax.texts
    assert "input row: 40" in all_texts(fig)


def test_a_band_is_drawn_as_in_a_summary() -> None:
    reading = msgspec.structs.replace(make(), options={"metric": "kl-final"})
    _, ax = drawn(reading)
    by_name: dict[str, Any] = {str(line.get_label()): line.get_ydata() for line in ax.lines}
    np.testing.assert_allclose(by_name["median"], [40, 7.25, 0])
    np.testing.assert_allclose(by_name["mean"], [92 / 3, 38.25 / 3, 0])
    assert [str(band.get_label()) for band in ax.collections] == ["5–95 %", "25–75 %"]
    _, ax = drawn(reading, vmax=9)
    assert ax.get_ylim() == (0, 9)


@pytest.mark.parametrize("form", ["png", "svg", "pdf"])
@pytest.mark.parametrize("metric", ["prob", "kl-final"])
def test_the_same_reading_has_the_same_bytes(metric: str, form: str) -> None:
    token = metric == "prob"
    reading = traced(metric, followed=FOLLOWED if token else None)
    files = []
    for _ in range(2):
        drawing(reading).save(file := io.BytesIO(), form, 60)
        files.append(file.getvalue())
    assert files[0] == files[1]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ([], []),
        ([1, 5, 9], [1, 5, 9]),
        ([5, 5], [4.5, 5.5]),
        ([0, 0, 0], [0, 1, 2]),
        ([10, 10], [9, 10]),
        ([0.9, 1, 1.9], [0.267, 1.267, 2.267]),  # about the mean of all three, 3.8 / 3
        ([3, 3.5, 9], [2.75, 3.75, 9]),
    ],
)
def test_spreading(wanted: list[float], expected: list[float]) -> None:
    assert spread(wanted, 1, 10) == pytest.approx(expected, abs=1e-3)


@given(st.lists(st.floats(0, 10), max_size=8))
def test_spreading_keeps_the_distance(wanted: list[float]) -> None:
    places = spread(sorted(wanted), 1, 10)
    assert len(places) == len(wanted)
    assert all(np.diff(places) >= 1 - 1e-9)
    assert all(-1e-9 <= place <= 10 + 1e-9 for place in places)


def test_a_bare_figure_is_lower_and_says_itself_in_words() -> None:
    reading = traced("prob", followed=followed(["a", "b", "c"], [0.5, 0.25, 0.125]))
    whole, untitled, bare = (
        line_figure.draw_lines(reading, "trace", style)[0]
        for style in (FigureStyle(), FigureStyle(title=""), FigureStyle(bare=True))
    )
    assert len(untitled.figure.texts) == len(whole.figure.texts) - 1
    assert not bare.figure.texts
    heights = [one.figure.get_size_inches()[1] for one in (whole, untitled, bare)]
    assert heights == sorted(heights, reverse=True)
    assert line_figure.line_words(reading, FigureStyle(bare=True)) == whole.alt
