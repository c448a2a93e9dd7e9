"""Where things go: measured by the renderer, over sizes, pages and scripts."""

import itertools
from typing import Any

import matplotlib
import numpy as np
import pytest
from drawn import overlap, texts_of
from grids import SCRIPTS, grid_of, laid_out
from matplotlib.figure import Figure
from matplotlib.text import Text
from readings import make

from logitlens_cli.errors import UsageError
from logitlens_cli.figures import heatmap
from logitlens_cli.figures.drawing import matplotlib_settings
from logitlens_cli.figures.fitted_texts import GLYPH, LINE, SLOPE
from logitlens_cli.figures.layout import lay_out
from logitlens_cli.figures.page import PAGES
from logitlens_cli.figures.reading_panels import panels
from logitlens_cli.figures.style import FigureStyle, Width


def sizes_of(fig: Figure) -> list[float]:
    made: list[Any] = [text.get_fontsize() for text in fig.findobj(Text) if text.get_text()]
    return made + [cell.size for cell in texts_of(fig)]


@pytest.mark.parametrize("width", Width)
@pytest.mark.parametrize(
    ("name", "rows", "columns", "script"),
    [
        *[("topk", 7, 9, script) for script in SCRIPTS],
        *[("kl-final", rows, columns, "latin") for rows, columns in ((2, 1), (6, 4), (80, 20))],
        ("topk", 6, 128, "latin"),
    ],
)
def test_nothing_collides_or_leaves_the_page(
    name: str, rows: int, columns: int, script: str, width: Width
) -> None:
    reading = grid_of(rows, columns, script)
    drawing = heatmap.draw_heatmaps(reading, name, FigureStyle(width=width, lock_in=True, dpi=40))[
        0
    ]
    with matplotlib_settings(drawing.families):
        require_apart(drawing.figure)
    page = PAGES[width]
    assert min(sizes_of(drawing.figure)) >= 6
    size = drawing.figure.get_size_inches()
    assert page.width is None or size[0] == page.width
    assert page.height is None or size[1] == page.height


def labels_of(ax: Any) -> list[Text]:
    """Those that are drawn: a colour bar has ticks beyond its limits too."""
    axes = [axis for each in (ax, *ax.child_axes) for axis in (each.xaxis, each.yaxis)]
    labels = [label for axis in axes for tick in axis._update_ticks()
              for label in (tick.label1, tick.label2) if label.get_visible()]  # fmt: skip
    return [label for label in labels if label.get_text()]


def require_apart(fig: Figure) -> None:
    fig.draw_without_rendering()
    page = fig.bbox
    loose = [t for t in fig.texts if t.get_text()]
    ticks = [t for ax in fig.axes for t in labels_of(ax)]
    for text in loose + ticks:
        box = text.get_window_extent()
        assert box.x0 >= page.x0 - 1, text
        assert box.x1 <= page.x1 + 1, text
        assert box.y0 >= page.y0 - 1, text
        assert box.y1 <= page.y1 + 1, text
    straight = [t for t in ticks if t.get_rotation() == 0]
    for a, b in itertools.combinations([*loose, *straight], 2):
        if a in straight and b in straight and abs(straight.index(a) - straight.index(b)) > 1:
            continue
        assert not overlap(a.get_window_extent(), b.get_window_extent()), (a, b)
    for tilted in (t for t in ticks if t.get_rotation() == 45):
        for text in loose:
            assert not overlap(tilted.get_window_extent(), text.get_window_extent()), (tilted, text)


@pytest.mark.parametrize("width", Width)
@pytest.mark.parametrize("columns", [4, 20, 70, 128])
def test_tilted_labels_stand_a_line_apart(columns: int, width: Width) -> None:
    _, layout = laid_out(grid_of(5, columns, "latin"), "kl-final", width)
    for labels in (layout.input_labels, layout.next_labels):
        named = [i for i, label in enumerate(labels) if label]
        apart = np.diff(named) * layout.cell[0] * SLOPE
        assert (apart >= layout.page.label_size * GLYPH * 0.999).all()
    assert layout.input_labels[-1]  # the last column is always named


def test_a_long_title_is_broken_into_three_lines_at_most() -> None:
    with matplotlib.rc_context({"text.parse_math": False}):
        made = panels(make(), "topk", FigureStyle(title="word " * 300))[0]
        (layout,), _ = lay_out([made], FigureStyle(width=Width.single))
    assert len(layout.title) == 3
    assert layout.title[-1].endswith("…")


SPLIT = ["·the", "·internationalization", "a", "b", "·cat", "<0xE6>", "c", "·on"]


@pytest.mark.parametrize("width", [Width.auto, Width.double])
def test_all_pieces_of_a_split_have_one_size_of_cells_and_one_head(width: Width) -> None:
    reading = make([SPLIT] * 3)
    style = FigureStyle(width=width, split=3)
    layouts, _ = lay_out(panels(reading, "topk", style), style)
    assert [len(layout.input_labels) for layout in layouts] == [3, 3, 2]
    for trait in ("cell", "head", "left", "bottom", "height", "tall"):
        assert len({getattr(layout, trait) for layout in layouts}) == 1, trait
    assert len({layout.words.size for layout in layouts}) == 1
    alone = [lay_out([piece], style)[0][0] for piece in panels(reading, "topk", style)]
    assert layouts[0].cell[0] == (max if width == Width.auto else min)(x.cell[0] for x in alone)


@pytest.mark.parametrize("width", Width)
@pytest.mark.parametrize("height", [3.0, 9.0])
def test_a_figure_is_as_high_as_asked(width: Width, height: float) -> None:
    _, layout = laid_out(grid_of(9, 4, "latin"), "topk", width, height=height)
    assert layout.height == height
    used = layout.bottom + layout.grid()[1] + layout.head
    assert used < height
    assert used > 0.6 * height  # the rows take the room


def test_no_room_for_the_rows_is_told() -> None:
    with pytest.raises(UsageError, match="299 rows have no room on a page 1 inches high; give it"):
        laid_out(grid_of(300, 4, "latin"), "topk", Width.double, height=1.0)


def test_a_short_text_on_a_narrow_page_is_no_tower() -> None:
    _, layout = laid_out(grid_of(31, 5, "latin"), "topk", Width.single)
    assert layout.height < 1.7 * layout.width
    assert layout.words.size >= 6
    _, layout = laid_out(grid_of(90, 5, "latin"), "topk", Width.single)
    assert layout.words.size == 6  # legible comes first


@pytest.mark.parametrize("width", Width)
@pytest.mark.parametrize("points", [5.0, 10.0])
def test_texts_keep_their_proportions(width: Width, points: float) -> None:
    page = PAGES[width]
    _, layout = laid_out(grid_of(4, 3, "latin"), "topk", width, font_size=points)
    assert layout.page.label_size == points
    assert layout.page.title_size == pytest.approx(points * page.title_size / page.label_size)
    factor = points / page.label_size
    assert page.text[0] * factor - 1e-9 <= layout.words.size <= page.text[1] * factor + 1e-9


def test_a_bare_figure_has_no_head_and_an_empty_title_leaves_no_hole() -> None:
    reading = grid_of(4, 3, "latin")
    _, whole = laid_out(reading, "topk", Width.double)
    _, untitled = laid_out(reading, "topk", Width.double, title="")
    _, bare = laid_out(reading, "topk", Width.double, bare=True)
    assert (bare.title, bare.header, bare.head) == ([], [], 0)
    assert untitled.title == []
    assert untitled.header == whole.header
    line = whole.page.title_size * LINE
    assert untitled.head == pytest.approx(whole.head - line * len(whole.title))


def test_a_title_is_not_broken_within_a_formula() -> None:
    title = "Distance of every layer to the output KL(final || layer) – a model"
    for points in np.arange(5, 14, 0.5):
        _, layout = laid_out(grid_of(4, 3, "latin"), "topk", Width.single, title=title,
                             font_size=float(points))  # fmt: skip
        assert sum("KL(final || layer)" in line for line in layout.title) == 1, layout.title


def test_the_fonts_that_are_asked_for_come_first() -> None:
    _, layout = laid_out(
        grid_of(2, 2, "latin"), "topk", Width.auto, font="DejaVu Serif, DejaVu Sans Mono"
    )
    assert layout.families[:3] == ["DejaVu Serif", "DejaVu Sans Mono", "DejaVu Sans"]
    _, plain = laid_out(grid_of(2, 2, "latin"), "topk", Width.auto)
    assert plain.cell[0] != layout.cell[0]  # measured in them
