"""Panel -> annotated seaborn heatmap, painted where its layout says.

Knows nothing of models, files or pyplot's global state.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import seaborn
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from logitlens_cli.figures.caption import alt_text, one_line_title
from logitlens_cli.figures.cell_texts import CellText, CellTexts, paint_texts
from logitlens_cli.figures.colors import color_map, extend, map_ends, norm_of
from logitlens_cli.figures.drawing import Drawing, matplotlib_settings
from logitlens_cli.figures.fitted_texts import LINE
from logitlens_cli.figures.layout import PanelLayout, lay_out
from logitlens_cli.figures.page import require_drawable, require_size
from logitlens_cli.figures.panel import Panel
from logitlens_cli.figures.reading_panels import panels
from logitlens_cli.figures.scale import limit_text, log_ticks
from logitlens_cli.figures.style import FigureStyle
from logitlens_cli.reading.record import Reading


def draw_heatmaps(reading: Reading, name: str, style: FigureStyle) -> list[Drawing]:
    """The figures of one metric, one for each piece of a split."""
    return draw_panels(panels(reading, name, style), style)


def draw_panels(pieces: Sequence[Panel], style: FigureStyle) -> list[Drawing]:
    """Lay the pieces of a figure out alike and paint them; UsageError where one gets too large for
    its resolution."""
    for panel in pieces:
        require_drawable(*shape_of(panel), style)
    layouts, missing = lay_out(pieces, style)
    for panel, layout in zip(pieces, layouts, strict=True):
        rows, columns = shape_of(panel)
        texts = rows * columns if layout.words.size else 0
        require_size(layout.width, layout.height, style.dpi, columns, texts)
    return [
        draw_panel(panel, layout, missing) for panel, layout in zip(pieces, layouts, strict=True)
    ]


def shape_of(panel: Panel) -> tuple[int, int]:
    return len(panel.rows), len(panel.input_labels)


def draw_panel(panel: Panel, layout: PanelLayout, missing: frozenset[str]) -> Drawing:
    with matplotlib_settings(layout.families):
        figure = paint_panel(panel, layout)
    return Drawing(figure, layout.families, missing, one_line_title(panel), alt_text(panel))


def paint_panel(panel: Panel, layout: PanelLayout) -> Figure:
    """Draw a panel as laid out."""
    figure = Figure(figsize=(layout.width, layout.height), facecolor="white")
    width, height = layout.grid()
    ax = axes_at(figure, layout, layout.left, layout.bottom, width, height)
    mesh = paint_cells(ax, panel, layout)
    lowest = paint_footer(figure, layout) or ax
    paint_labels(ax, lowest, panel, layout)
    paint_texts(ax, mesh, panel, layout)
    paint_outline(ax, panel.outlined, layout)
    paint_headings(ax, panel, layout)
    gap, bar_width, _ = layout.page.bar_widths
    bar = axes_at(figure, layout, layout.left + width + gap, layout.bottom, bar_width, layout.tall)
    paint_color_bar(figure, bar, mesh, panel, layout)
    paint_header(figure, layout)
    return figure


def axes_at(
    figure: Figure, layout: PanelLayout, left: float, bottom: float, width: float, height: float
) -> Axes:
    """Axes ``left`` inches from the left and ``bottom`` inches from the bottom."""
    w, h = layout.width, layout.height
    return figure.add_axes((left / w, bottom / h, width / w, height / h))


def paint_cells(ax: Axes, panel: Panel, layout: PanelLayout) -> QuadMesh:
    """The coloured cells, lowest layer at the bottom."""
    seaborn.heatmap(
        panel.values,
        ax=ax,
        norm=norm_of(panel.colors),
        vmin=panel.colors.low,  # or it looks for them, and complains where there is no value at all
        vmax=panel.colors.high,
        cmap=color_map(panel.colors.cmap, map_ends(panel.colors)),
        cbar=False,
        annot=False,
        linewidths=0.4 if layout.words.size else 0,  # lines would cover half of a small cell
        linecolor="white",
        xticklabels=False,
        yticklabels=False,
    )
    ax.invert_yaxis()
    stretch_columns(ax, layout)
    mesh = ax.collections[0]
    assert isinstance(mesh, QuadMesh)
    return mesh


def stretch_columns(ax: Axes, layout: PanelLayout) -> None:
    """Draw columns as wide as laid out; whatever is drawn still counts in columns."""
    if layout.even:
        return
    counts, edges = np.arange(len(layout.columns) + 1), np.array(layout.edges)
    ax.set_xscale(
        "function",
        functions=(lambda x: np.interp(x, counts, edges), lambda x: np.interp(x, edges, counts)),
    )
    ax.set_xlim(0, len(layout.columns))


def paint_footer(figure: Figure, layout: PanelLayout) -> Axes | None:
    """Rows below the grid, one text per column, without colours."""
    if not layout.footer_labels:
        return None
    count, words = len(layout.footer_labels), layout.words
    height = count * layout.footer_height
    bottom = layout.bottom - height - 0.06 * layout.page.scale
    ax = axes_at(figure, layout, layout.left, bottom, layout.grid()[0], height)
    ax.set_facecolor("0.94")
    ax.set_xlim(0, len(layout.input_labels))
    ax.set_ylim(count, 0)
    stretch_columns(ax, layout)
    size = words.size
    cells = [
        CellText(j + 0.5, i + 0.5, text, "black", words.widths[text, size], size, -words.rise[size])
        for i, row in enumerate(words.footer_rows)
        for j, text in enumerate(row)
        if text
    ]
    ax.add_artist(CellTexts(cells))
    middles = [i + 0.5 for i in range(count)]
    ax.set_yticks(middles, layout.footer_labels, fontsize=layout.page.label_size, rotation=0)
    bare(ax)
    return ax


def bare(axis: Any) -> None:
    """Labels stand close, without ticks or frame."""
    axis.tick_params(length=0, pad=3)
    for spine in axis.spines.values():
        spine.set_visible(False)


def paint_labels(ax: Axes, lowest: Axes, panel: Panel, layout: PanelLayout) -> None:
    """Layers at the left, input tokens below all, true next tokens above, both tilted."""
    size = layout.page.label_size
    columns = np.arange(len(layout.input_labels)) + 0.5
    ax.set_yticks(np.arange(len(layout.rows)) + 0.5, layout.rows, fontsize=size, rotation=0)
    tilt: dict[str, Any] = {"fontsize": size, "rotation": 45, "rotation_mode": "anchor"}
    if lowest is not ax:
        ax.set_xticks([])
    lowest.set_xticks(columns, layout.input_labels, ha="right", va="center", **tilt)
    top = ax.secondary_xaxis("top")  # which counts evenly
    middles = np.diff(layout.edges) / 2 + layout.edges[:-1]
    above = len(columns) * middles / layout.edges[-1]
    top.set_xticks(above, layout.next_labels, ha="left", va="center", **tilt)
    for axis in (ax, lowest, top):
        bare(axis)
    grid_width, grid_height = layout.grid()
    middle = layout.left + grid_width / 2
    margin, figure = layout.page.margin, ax.figure
    words: dict[str, Any] = {"fontsize": size, "color": "0.35"}
    figure.text(middle / layout.width, margin / layout.height, panel.input_title,
                ha="center", va="bottom", **words)  # fmt: skip
    figure.text(middle / layout.width, 1 - (margin + layout.head) / layout.height, panel.next_title,
                ha="center", va="top", **words)  # fmt: skip
    figure.text(margin / layout.width, (layout.bottom + grid_height / 2) / layout.height, "layer",
                ha="left", va="center", rotation=90, **words)  # fmt: skip


def paint_outline(ax: Axes, outlined: npt.NDArray[np.bool_], layout: PanelLayout) -> None:
    """A contour around the outlined cells, black on white, so that it shows on every colour."""
    segments = contour(outlined)
    if not segments:
        return
    scale = min(layout.page.scale, 8 * min(layout.cell))  # thin on small cells
    for width, color in ((2.6 * scale, "white"), (1.3 * scale, "black")):
        ax.add_collection(
            LineCollection(
                segments, colors=color, linewidths=width, capstyle="projecting", clip_on=False
            ),
            autolim=False,
        )


def contour(cells: npt.NDArray[np.bool_]) -> list[list[tuple[float, float]]]:
    """The edges between cells that are outlined and cells that are not, as line segments."""
    framed = np.pad(cells, 1)
    segments: list[list[tuple[float, float]]] = []
    for y, x in zip(*np.nonzero(framed[1:, 1:-1] != framed[:-1, 1:-1]), strict=True):
        segments.append([(float(x), float(y)), (float(x + 1), float(y))])
    for y, x in zip(*np.nonzero(framed[1:-1, 1:] != framed[1:-1, :-1]), strict=True):
        segments.append([(float(x), float(y)), (float(x), float(y + 1))])
    return segments


def paint_headings(ax: Axes, panel: Panel, layout: PanelLayout) -> None:
    """Rows of the page's colour that name the grid below them, and what parts two grids."""
    white: dict[str, Any] = {"color": "white", "lw": 0, "zorder": 1.5}  # under the outlines
    for heading in layout.headings:
        ax.axhspan(heading.row, heading.row + 1, **white)
        ax.text(heading.column, heading.row + 0.5, heading.text,
                fontsize=layout.page.label_size, va="center")  # fmt: skip
    if panel.gap is not None:
        ax.axvspan(panel.gap, panel.gap + 1, **white)


def paint_color_bar(
    figure: Figure, ax: Axes, mesh: QuadMesh, panel: Panel, layout: PanelLayout
) -> None:
    """Quantity, unit and the number of clipped cells; an arrow where colours are clipped."""
    page = layout.page
    arrow = 0.12 * page.scale / layout.tall
    bar = figure.colorbar(mesh, cax=ax, extend=extend(*panel.clipped), extendfrac=arrow)
    bar.outline.set_visible(False)
    if panel.colors.kind == "log":
        bar.set_ticks(log_ticks(panel.colors))
        bar.ax.yaxis.set_minor_locator(NullLocator())
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: limit_text(value)))
    bar.ax.tick_params(labelsize=page.tick_size, length=2, width=0.6, color="0.4")
    x = layout.left + layout.grid()[0] + layout.bar_room
    figure.text(
        x / layout.width, (layout.bottom + layout.tall / 2) / layout.height, "\n".join(layout.bar),
        fontsize=page.label_size, rotation=90, ha="left", va="center",
    )  # fmt: skip


def paint_header(figure: Figure, layout: PanelLayout) -> None:
    """Title and notes, flush left."""
    page = layout.page
    x, y = page.margin / layout.width, layout.height - page.margin
    for line in layout.title:
        figure.text(
            x, y / layout.height, line, fontsize=page.title_size, fontweight="bold", va="top"
        )
        y -= page.title_size * LINE
    for line in layout.header:
        figure.text(x, y / layout.height, line, fontsize=page.note_size, color="0.35", va="top")
        y -= page.note_size * LINE
