"""What a user may choose about a figure, tested on the artists."""

from typing import Any

from drawn import all_texts, cells, heatmap_of, mesh_of
from readings import make

from logitlens_cli.figures import heatmap
from logitlens_cli.figures.page import PAGES
from logitlens_cli.figures.style import FigureStyle, Width
from logitlens_cli.reading.record import Scores


def test_input_row_is_shown_for_divergences_only_but_can_be_switched() -> None:
    def rows(name: str, **style: Any) -> list[str]:
        return [t.get_text() for t in heatmap_of(make(), name, **style).axes[0].get_yticklabels()]

    assert rows("topk") == rows("rank") == ["0", "1"]
    assert rows("kl-final") == ["input", "0", "1"]
    assert rows("rank", input_row=True) == ["input", "0", "1"]
    assert rows("kl-final", input_row=False) == ["0", "1"]
    js = Scores(values=[[0.1], [0.2]], unit="nats", quantity="JS")
    labels = heatmap_of(make([["a"], ["b"]], js=js), "js").axes[0].get_yticklabels()
    assert [t.get_text() for t in labels] == ["input", "0"]


def test_split_cuts_into_pieces_on_one_scale() -> None:
    drawings = heatmap.draw_heatmaps(make(), "topk", FigureStyle(split=2))
    assert [len(d.figure.axes[0].get_xticklabels()) for d in drawings] == [2, 1]
    assert {(mesh_of(d.figure).norm.vmin, mesh_of(d.figure).norm.vmax) for d in drawings} == {
        (10.0, 22.0)
    }
    assert "positions 4–5 of 20" in all_texts(drawings[0].figure)
    assert "position 6 of 20 tokens" in all_texts(drawings[1].figure)


def test_changes_only_blanks_repetitions() -> None:
    assert cells(heatmap_of(make(), "topk", changes_only=True)) == {
        (0.5, 0.5): "b", (1.5, 0.5): "c", (2.5, 0.5): "z", (2.5, 1.5): "a",
    }  # fmt: skip


def test_every_page_can_be_asked_for() -> None:
    assert [width.value for width in Width] == list(PAGES)
