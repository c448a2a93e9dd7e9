"""Several summaries as lines: numbers, labels, refusals."""

from typing import Any

import msgspec
import numpy as np
import pytest
from conftest import tiny_llama

import logitlens_cli
from logitlens_cli.errors import UsageError
from logitlens_cli.figures.overlay_data import labels_of, overlay_notes, overlay_panels
from logitlens_cli.reading.summary import Summary, add_reading, empty_summary, shares

METRICS = ["rank", "kl-final"]
TEXTS = ("the cat sat on the mat", "the dog", "and so on")


def summary_of(tokenizer: Any, texts: tuple[str, ...], metrics: list[str], **read: Any) -> Summary:
    readings = [logitlens_cli.read(tiny_llama(), tokenizer, text, **read) for text in texts]
    summary = empty_summary(readings[0], metrics, "x")
    for reading in readings:
        summary = add_reading(summary, reading)
    return summary


@pytest.fixture(scope="module")
def two(tokenizer: Any) -> list[tuple[str, Summary]]:
    return [
        ("a", summary_of(tokenizer, TEXTS, METRICS)),
        ("b", summary_of(tokenizer, TEXTS[1:], METRICS, norm="no-affine")),
    ]


def test_lines_are_the_quantiles_of_all_positions(
    two: list[tuple[str, Summary]], tokenizer: Any
) -> None:
    """Against numpy's quantiles of the readings themselves, as finely as a summary keeps them."""
    panels = overlay_panels(two, None, relative=False)
    assert [panel.quantity for panel in panels] == [
        "rank of the final top guess",
        "KL(final || layer)",
        "positions whose guess is the model's",
    ]
    assert [panel.kind for panel in panels] == ["log", "linear", "share"]
    values = np.hstack(
        [logitlens_cli.read(tiny_llama(), tokenizer, t).values("kl-final") for t in TEXTS]
    )
    line = panels[1].lines[0]
    np.testing.assert_array_equal(line.x, [-1, 0, 1, 2, 3])
    for made, q in ((line.low, 0.25), (line.middle, 0.5), (line.high, 0.75)):
        assert made is not None
        below = np.quantile(values, q, axis=1, method="lower")
        above = np.quantile(values, q, axis=1, method="higher")
        assert (made >= below * 0.98 - 1e-3).all()
        assert (made <= above * 1.02 + 1e-3).all()
    np.testing.assert_array_equal(panels[2].lines[1].middle, shares(two[1][1], "agrees"))
    assert panels[2].lines[0].low is None


def test_depths_and_the_input_row(two: list[tuple[str, Summary]]) -> None:
    (panel,) = overlay_panels(two, "kl-final", relative=True)
    np.testing.assert_allclose(panel.lines[0].x, [0, 0.25, 0.5, 0.75, 1])
    (panel,) = overlay_panels(two, "agrees", relative=True, input_row=False)
    np.testing.assert_allclose(panel.lines[0].x, [0.25, 0.5, 0.75, 1])
    assert len(panel.lines[0].middle) == 4


def test_labels_say_what_tells_lines_apart(two: list[tuple[str, Summary]]) -> None:
    assert labels_of(two, []) == ["full norm", "no-affine norm"]
    assert labels_of(two, ["one", "other"]) == ["one", "other"]
    assert labels_of([two[0], ("c", two[0][1])], []) == ["a", "c"]  # nothing but their files
    big = msgspec.structs.replace(two[0][1].model, name="big")
    other = ("d", msgspec.structs.replace(two[0][1], model=big))
    assert labels_of([two[0], other], []) == [two[0][1].model.name, "big"]
    with pytest.raises(UsageError, match="--label names 1 of 2 files; give one --label for each"):
        labels_of(two, ["one"])


def test_notes_say_of_how_much_each_line_is(two: list[tuple[str, Summary]]) -> None:
    name = two[0][1].model.name
    notes = overlay_notes(two, ["one", "other"])
    assert notes[0] == name
    assert notes[1] == f"one: 3 prompts, {two[0][1].positions} positions"
    assert notes[2] == f"other: 2 prompts, {two[1][1].positions} positions"
    assert overlay_notes([two[0], two[0]], ["one", "other"], "step 7")[:2] == [
        "step 7",
        f"3 prompts, {two[0][1].positions} positions each",
    ]


def test_refusals(two: list[tuple[str, Summary]], tokenizer: Any) -> None:
    ranks = ("c", summary_of(tokenizer, TEXTS, ["rank"]))
    with pytest.raises(
        UsageError, match="'kl-final' is not in all of these summaries; they share rank, agrees"
    ):
        overlay_panels([*two, ranks], "kl-final", relative=False)
    with pytest.raises(UsageError, match="9 summaries are more than the 8 lines"):
        overlay_panels([two[0]] * 9, None, relative=False)
