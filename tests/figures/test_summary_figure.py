"""What the figures of a summary show, tested on the artists."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import tiny_llama
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure

import logitlens_cli
from logitlens_cli.errors import UsageError
from logitlens_cli.figures import summary_figure
from logitlens_cli.figures.style import FigureStyle
from logitlens_cli.reading import sketch
from logitlens_cli.reading import summary as summary_module
from logitlens_cli.reading.summary import (
    AGREES,
    SHARES,
    Summary,
    add_reading,
    empty_summary,
    load_summary,
    summary_numbers,
    summary_to_json,
)

METRICS = ["rank", "kl-final", "kl-input"]


@pytest.fixture(scope="module")
def made(tokenizer: Any) -> Summary:
    readings = [
        logitlens_cli.read(tiny_llama(), tokenizer, text)
        for text in ("the cat sat on the mat", "the dog", "and so on and so on and so on")
    ]
    summary = empty_summary(readings[0], METRICS, "x")
    for reading in readings:
        summary = add_reading(summary, reading)
    return summary


def test_files_say_in_words_what_they_show(made: Summary) -> None:
    drawing = summary_figure.draw_summary(made, "stats", FigureStyle())
    assert drawing.about == f"{made.model.name}, layer by layer"
    assert drawing.alt.startswith(
        "Lines over layers input to 3: mean, median and quantiles of rank, kl-final, kl-input; and "
        f"the share of positions whose guess is the model's. {made.model.name}; 3 prompts, "
    )
    drawing = summary_figure.draw_summary(made, "positions", FigureStyle())
    assert "Heatmaps of layers input to 3" in drawing.alt


def words(fig: Figure) -> str:
    return "\n".join(text.get_text() for text in fig.texts)


def test_a_panel_a_metric_with_its_own_numbers(made: Summary) -> None:
    fig = summary_figure.draw_summary(made, "stats", FigureStyle(title="漢 $x$")).figure
    numbers = summary_numbers(made)
    panels = {ax.get_title(loc="left"): ax for ax in fig.axes if ax.get_visible()}
    names = ["rank of the final top guess", "KL(final || layer)", "KL(input || layer)"]
    assert list(panels) == [*names, "positions"]
    for metric, name in zip(METRICS, names, strict=True):
        lines = {str(line.get_label()): line.get_ydata() for line in panels[name].lines}
        np.testing.assert_array_equal(lines["median"], numbers[metric]["p50"])
        np.testing.assert_array_equal(lines["mean"], numbers[metric]["mean"])
        labels = [str(band.get_label()) for band in panels[name].collections]
        assert labels == ["5–95 %", "25–75 %"]
    assert panels[names[0]].get_yscale() == "log"
    assert panels[names[1]].get_ylabel() == "nats"
    shares = [line.get_ydata() for line in panels["positions"].lines]
    np.testing.assert_array_equal(shares[0], summary_module.shares(made, AGREES))
    np.testing.assert_array_equal(shares[1], summary_module.shares(made, "locked-in"))
    ticks = [label.get_text() for label in fig.axes[0].get_xticklabels()]
    assert ticks == ["input", "0", "1", "2", "3"]
    assert f"3 prompts, {made.positions} positions" in words(fig)
    assert "$x$" in words(fig)


def test_places_in_the_text(made: Summary) -> None:
    fig = summary_figure.draw_summary(made, "positions", FigureStyle()).figure
    titles = ["mean KL(final || layer) [nats]", SHARES[AGREES]]
    assert [ax.get_title(loc="left") for ax in fig.axes if ax.get_title(loc="left")] == titles
    for ax, name in zip(fig.axes[::2], ("kl-final", AGREES), strict=True):
        mesh = next(c for c in ax.collections if isinstance(c, QuadMesh))
        shown: Any = np.ma.filled(np.ma.asarray(mesh.get_array()), np.nan).reshape(5, sketch.BINS)
        np.testing.assert_array_equal(shown, made.tallies[name].means())
        assert ax.get_ylim() == (0, 5)  # the lowest layer below
    with pytest.raises(UsageError, match="--vmin 99 is not below --vmax 30"):
        summary_figure.draw_summary(made, "positions", FigureStyle(vmin=99))


@pytest.mark.parametrize("form", ["png", "svg", "pdf"])
@pytest.mark.parametrize("name", ["stats", "positions"])
def test_the_same_summary_has_the_same_bytes(made: Summary, name: str, form: str) -> None:
    files = []
    for _ in range(2):
        summary_figure.draw_summary(made, name, FigureStyle()).save(file := io.BytesIO(), form, 60)
        files.append(file.getvalue())
    assert files[0] == files[1]


def test_an_input_row_beyond_the_scale_is_told(made: Summary, tmp_path: Path) -> None:
    """Where the input row is far away, the panel is scaled by the blocks."""
    far = sketch.Sketch()
    far.add(np.full(20, 1000.0))
    path = tmp_path / "a.json"
    path.write_bytes(summary_to_json(made))
    summary = load_summary(path)
    summary.sketches["kl-final"][0] = far
    ax = summary_figure.draw_summary(summary, "stats", FigureStyle()).figure.axes[1]
    assert ax.get_ylim()[1] < 1000
    assert [text.get_text() for text in ax.texts] == ["input: median 1000"]


@pytest.mark.parametrize("name", ["stats", "positions"])
def test_a_bare_summary_has_neither_title_nor_notes(made: Summary, name: str) -> None:
    whole, untitled, bare = (
        summary_figure.draw_summary(made, name, style).figure
        for style in (FigureStyle(), FigureStyle(title=""), FigureStyle(bare=True))
    )
    assert len(whole.texts) == 2
    assert len(untitled.texts) == 1
    assert not bare.texts
    heights = [figure.get_size_inches()[1] for figure in (whole, untitled, bare)]
    assert heights[0] - heights[1] == pytest.approx(0.24)
    assert heights[1] > heights[2]


def test_short_texts_leave_no_gaps(made: Summary) -> None:
    """Three columns of positions 4 to 6 of 20 tokens: a quarter of the text holds all."""
    fig = summary_figure.draw_summary(made, "positions", FigureStyle()).figure
    bins = made.tallies["kl-final"].filled()
    mesh = next(c for c in fig.axes[0].collections if isinstance(c, QuadMesh))
    assert np.asarray(mesh.get_array()).size == 5 * bins
    assert f"mean of every {100 // bins} % of the text" in words(fig)


def test_a_model_may_be_called_otherwise(made: Summary) -> None:
    fig = summary_figure.draw_summary(made, "stats", FigureStyle(model_label="step 512")).figure
    assert "step 512, layer by layer" in words(fig)
