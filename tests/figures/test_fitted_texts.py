"""The texts of cells, in whatever room there is."""

import itertools

import pytest
from grids import grid_of, laid_out

from logitlens_cli.figures.page import PAGES
from logitlens_cli.figures.style import Width


@pytest.mark.parametrize("width", Width)
@pytest.mark.parametrize("columns", [4, 20, 40])
@pytest.mark.parametrize("name", ["topk", "kl-final"])
def test_texts_fit_their_cells_and_numbers_are_whole(name: str, columns: int, width: Width) -> None:
    made, layout = laid_out(grid_of(25, columns, "latin"), name, width, probs=True)
    words = layout.words
    assert all(wide <= layout.cell[0] for wide in words.widths.values())
    assert words.size == 0 or words.size * words.lines / 72 <= layout.cell[1]
    if words.size and name == "kl-final":
        assert words.texts == made.texts
    if not words.size:
        assert any("no text in the cells" in line for line in layout.header)
        assert not any(itertools.chain(*words.texts))


def test_narrow_pages_have_smaller_texts_before_they_have_none() -> None:
    sizes = [
        laid_out(grid_of(7, columns, "latin"), "kl-final", Width.double)[1].words.size
        for columns in (8, 22, 24, 60)
    ]
    assert sizes[0] == 7.5
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == 0


@pytest.mark.parametrize("width", [Width.single, Width.double, Width.slide])
@pytest.mark.parametrize("columns", [2, 4, 6, 9, 12])
def test_second_lines_are_legible_too(columns: int, width: Width) -> None:
    _, layout = laid_out(grid_of(7, columns, "latin"), "topk", width, probs=True)
    assert all(size >= PAGES[width].text[0] for _, size in layout.words.widths)
