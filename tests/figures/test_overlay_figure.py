"""What an overlay draws, tested on the artists."""

import io
from typing import Any

import numpy as np
import pytest
from conftest import tiny_llama
from drawn import overlap

import logitlens_cli
from logitlens_cli.errors import UsageError
from logitlens_cli.figures.overlay_figure import draw_overlay
from logitlens_cli.figures.style import FigureStyle
from logitlens_cli.reading.summary import Summary, add_reading, empty_summary, summary_numbers


@pytest.fixture(scope="module")
def two(tokenizer: Any) -> list[tuple[str, Summary]]:
    made = []
    for name, norm in (("a", "full"), ("b", "none")):
        reading = logitlens_cli.read(tiny_llama(), tokenizer, "the cat sat on the mat", norm=norm)
        made.append(
            (name, add_reading(empty_summary(reading, ["rank", "kl-final"], name), reading))
        )
    return made


def test_every_summary_is_a_line_of_its_own_look(two: list[tuple[str, Summary]]) -> None:
    made = draw_overlay(two, "kl-final", [], False, FigureStyle())
    (ax,) = made.figure.axes
    lines = [line for line in ax.lines if np.size(line.get_xdata()) == 5]
    for line, (_, summary) in zip(lines, two, strict=True):
        np.testing.assert_array_equal(line.get_ydata(), summary_numbers(summary)["kl-final"]["p50"])
    for trait in ("color", "marker", "linestyle"):
        assert len({str(getattr(line, f"get_{trait}")()) for line in lines}) == 2, trait
    assert {text.get_text() for text in ax.texts} == {"full norm", "none norm"}
    assert len(ax.collections) == 2  # bands
    assert "full norm" in made.alt


def test_names_do_not_meet_and_stay_inside(two: list[tuple[str, Summary]]) -> None:
    many = [(f"n{n}", two[0][1]) for n in range(8)]
    made = draw_overlay(
        many, None, [f"a rather long label {n}" for n in range(8)], True, FigureStyle()
    )
    fig = made.figure
    made.save(io.BytesIO(), "png", 60)
    for ax in fig.axes:
        boxes = [text.get_window_extent() for text in ax.texts]
        assert len(boxes) == 8
        for n, box in enumerate(boxes):
            assert box.x0 > ax.get_window_extent().x1
            assert box.x1 <= fig.bbox.x1
            assert not any(overlap(box, other) for other in boxes[n + 1 :])


@pytest.mark.parametrize("form", ["png", "svg", "pdf"])
def test_the_same_overlay_has_the_same_bytes(two: list[tuple[str, Summary]], form: str) -> None:
    files = []
    for _ in range(2):
        draw_overlay(two, None, [], False, FigureStyle()).save(file := io.BytesIO(), form, 60)
        files.append(file.getvalue())
    assert files[0] == files[1]


def test_limits_titles_and_bare_figures(two: list[tuple[str, Summary]]) -> None:
    style = FigureStyle(vmin=1, vmax=7)
    assert draw_overlay(two, "rank", [], False, style).figure.axes[0].get_ylim() == (1, 7)
    with pytest.raises(UsageError, match=r"the axis of rank .* would run from 0 to"):
        draw_overlay(two, "rank", [], False, FigureStyle(vmin=0))
    whole, untitled, bare = (
        draw_overlay(two, "rank", [], False, style).figure
        for style in (FigureStyle(), FigureStyle(title=""), FigureStyle(bare=True))
    )
    assert [len(figure.texts) for figure in (whole, untitled, bare)] == [2, 1, 0]
    assert whole.get_size_inches()[1] > untitled.get_size_inches()[1] > bare.get_size_inches()[1]
