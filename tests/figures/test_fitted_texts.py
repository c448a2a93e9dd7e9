"""The texts of cells, in whatever room there is."""

import itertools

import pytest
from grids import grid_of, laid_out
from readings import make

from logitlens_cli.figures.fitted_texts import GLYPH, SLOPE, level
from logitlens_cli.figures.page import PAGES
from logitlens_cli.figures.style import Width


@pytest.mark.parametrize("width", Width)
@pytest.mark.parametrize("columns", [4, 20, 40])
@pytest.mark.parametrize("name", ["topk", "kl-final"])
def test_texts_fit_their_cells_and_numbers_are_whole(name: str, columns: int, width: Width) -> None:
    made, layout = laid_out(grid_of(25, columns, "latin"), name, width, probs=True)
    words = layout.words
    for row in words.texts:
        for text, room in zip(row, layout.columns, strict=True):
            assert not text or words.widths[text, words.size] <= room
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


NEED = [["a", "·internationalization", "b", "c", "·some", "·cat", "·a", "e"]] * 5


def test_columns_are_as_wide_as_they_need_before_a_word_is_cut() -> None:
    _, layout = laid_out(make(NEED), "topk", Width.single)
    assert layout.words.texts[0] == NEED[0]  # whole, though not in equal columns
    assert not layout.even
    assert sum(layout.columns) == pytest.approx(layout.grid()[0])
    assert layout.edges[-1] == pytest.approx(layout.grid()[0])
    assert layout.columns[1] == max(layout.columns)
    least = layout.page.label_size * GLYPH / SLOPE
    assert min(layout.columns) >= least * 0.999  # tilted labels do not meet
    _, wide = laid_out(make([["a", "·the", "b"]] * 5), "topk", Width.double)
    assert wide.even  # where equal columns have room, they are equal


def test_the_widest_give_way_first() -> None:
    words = [["·internationalization"] * 4 + ["a"] * 6] * 5
    _, layout = laid_out(make(words), "topk", Width.single)
    assert layout.words.texts[0][4:] == ["a"] * 6
    assert all(text.endswith("…") for text in layout.words.texts[0][:4])
    assert len({round(wide, 9) for wide in layout.columns[:4]}) == 1


@pytest.mark.parametrize(
    ("needs", "total", "height"),
    [([1, 2, 9], 9, 6), ([5, 5], 4, 2), ([1, 1, 1, 10], 8, 5), ([3, 4, 5], 11.5, 4.5)],
)
def test_needs_are_cut_at_one_height(needs: list[float], total: float, height: float) -> None:
    assert level(needs, total) == height
    assert sum(min(need, height) for need in needs) == total
