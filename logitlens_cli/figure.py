"""Panel -> annotated seaborn heatmap, painted where its layout says.

Knows nothing of models, files or pyplot's global state.
"""

import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

import matplotlib
import numpy as np
import numpy.typing as npt
import seaborn
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backend_bases import RendererBase
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.colors import Colormap, LinearSegmentedColormap, LogNorm, Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, NullLocator
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from seaborn.utils import relative_luminance

from logitlens_cli.caption import alt_text, one_line_title
from logitlens_cli.errors import UsageError
from logitlens_cli.layout import LINE, SECOND, PanelLayout, lay_out
from logitlens_cli.metrics import Floats
from logitlens_cli.pages import require_drawable, require_size
from logitlens_cli.panels import Colors, FigureStyle, Panel, panels
from logitlens_cli.reading import Reading


def require_cmap(name: str) -> None:
    """UsageError for a colour map that neither matplotlib nor seaborn knows."""
    if name not in colormaps:
        raise UsageError(f"--cmap {name!r} is unknown", "name a map of matplotlib or seaborn")


@contextmanager
def matplotlib_settings(families: list[str]) -> Iterator[None]:
    """Text is never mathematics, SVG text stays text, and the same figure has the same bytes:
    a matplotlibrc of the user or of the folder has no say. Glyphs keep their shapes (no hinting),
    so that texts are as wide as they were measured."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "font.family": families,
                "text.parse_math": False,
                "text.hinting": "none",
                "axes.unicode_minus": False,
                "svg.fonttype": "none",
                "svg.hashsalt": "logitlens",
                "pdf.fonttype": 42,
            }
        )
        yield


@dataclass(frozen=True)
class Drawing:
    """A finished figure."""

    figure: Figure
    families: list[str]
    missing: frozenset[str]
    """characters that no installed font has; they are drawn as escapes"""
    about: str = ""
    """what the file says of itself: its title"""
    alt: str = ""
    """the figure in words, for those who cannot see it"""

    def save(self, file: Any, form: str, dpi: int) -> None:
        """Write as "png", "svg" or "pdf"; no dates, so that the same figure has the same bytes."""
        about: dict[str, Any] = {"Title": self.about}
        with matplotlib_settings(self.families):
            if form == "png":
                self.save_png(file, dpi)
            elif form == "pdf":
                about |= {"Subject": self.alt, "CreationDate": None}
                self.figure.savefig(file, format="pdf", dpi=dpi, metadata=about)
            else:
                about |= {"Description": self.alt, "Date": None}
                self.figure.savefig(svg := io.BytesIO(), format="svg", dpi=dpi, metadata=about)
                # Screen readers look for <desc>; what matplotlib writes is for catalogues.
                words = f"</title>\n <desc>{escape(self.alt)}</desc>".encode()
                file.write(svg.getvalue().replace(b"</title>", words, 1))

    def save_png(self, file: Any, dpi: int) -> None:
        """Without the alpha channel, which nothing uses, and compressed by runs: this takes half
        the time, and figures are runs of one colour (both measured)."""
        canvas: Any = FigureCanvasAgg(self.figure)
        self.figure.set_dpi(dpi)
        canvas.draw()
        size = canvas.get_width_height()
        pixels = Image.frombuffer("RGBA", size, canvas.buffer_rgba(), "raw", "RGBA", 0, 1)
        runs: Any = zlib.Z_RLE
        words = PngInfo()
        words.add_itxt("Title", self.about)
        words.add_itxt("Description", self.alt)
        pixels.convert("RGB").save(file, "PNG", dpi=(dpi, dpi), compress_type=runs, pnginfo=words)


def draw_heatmaps(reading: Reading, name: str, style: FigureStyle) -> list[Drawing]:
    """The figures of one metric, one for each piece of a split."""
    return [draw_panel(panel, style) for panel in panels(reading, name, style)]


def draw_panel(panel: Panel, style: FigureStyle) -> Drawing:
    """Lay a panel out and paint it; UsageError where it gets too large for its resolution."""
    rows, columns = panel.values.shape
    require_drawable(rows, columns, style.width, style.dpi)
    layout, missing = lay_out(panel, style.width)
    texts = rows * columns if layout.words.size else 0
    require_size(layout.width, layout.height, style.dpi, columns, texts)
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
    paint_headings(ax, layout)
    gap, bar_width, _ = layout.page.bar
    bar = axes_at(figure, layout, layout.left + width + gap, layout.bottom, bar_width, layout.tall)
    paint_color_bar(figure, bar, mesh, panel, layout)
    paint_header(figure, layout)
    return figure


def axes_at(
    figure: Figure, layout: PanelLayout, left: float, bottom: float, width: float, height: float
) -> Axes:
    """Axes so many inches from the left and from the bottom."""
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
    mesh = ax.collections[0]
    assert isinstance(mesh, QuadMesh)
    return mesh


def norm_of(colors: Colors) -> Normalize:
    return (LogNorm if colors.kind == "log" else Normalize)(colors.low, colors.high)


MAP_ENDS = (0.04, 0.88)


def map_ends(colors: Colors) -> tuple[float, float]:
    """The part of a colour map that is used: cut alike at both ends, and for the nearer limit as
    much nearer to the middle, where the middle is 0."""
    if not colors.centered:
        return MAP_ENDS
    reach = 0.44 / max(abs(colors.low), abs(colors.high))
    return 0.5 + reach * colors.low, 0.5 + reach * colors.high


def color_map(name: str, ends: tuple[float, float] = MAP_ENDS) -> Colormap:
    """A named map whose clipped ends differ from its own: the ends of the map are cut off, and
    stand for what lies beyond."""
    if name not in colormaps:  # --cmap is checked before any work
        raise UsageError(f"the dump's colour map {name!r} is unknown", "name another with --cmap")
    whole = colormaps[name]
    inner = LinearSegmentedColormap.from_list(name, whole(np.linspace(*ends, 256)))
    return inner.with_extremes(under=whole(0.0), over=whole(1.0), bad="0.85")


def paint_footer(figure: Figure, layout: PanelLayout) -> Axes | None:
    """Rows below the grid, one text a column, without colours."""
    if not layout.footer_labels:
        return None
    count, words = len(layout.footer_labels), layout.words
    height = count * layout.footer_height
    bottom = layout.bottom - height - 0.06 * layout.page.scale
    ax = axes_at(figure, layout, layout.left, bottom, layout.grid()[0], height)
    ax.set_facecolor("0.94")
    ax.set_xlim(0, len(layout.input_labels))
    ax.set_ylim(count, 0)
    size = words.size
    cells = [
        Cell(j + 0.5, i + 0.5, text, "black", words.widths[text, size], size, -words.rise[size])
        for i, row in enumerate(words.footer_rows)
        for j, text in enumerate(row)
        if text
    ]
    ax.add_artist(CellTexts(cells))
    middles = [i + 0.5 for i in range(count)]
    ax.set_yticks(middles, layout.footer_labels, fontsize=layout.page.label, rotation=0)
    bare(ax)
    return ax


def bare(axis: Any) -> None:
    """Labels stand close, without ticks or frame."""
    axis.tick_params(length=0, pad=3)
    for spine in axis.spines.values():
        spine.set_visible(False)


def paint_labels(ax: Axes, lowest: Axes, panel: Panel, layout: PanelLayout) -> None:
    """Layers at the left, input tokens below all, true next tokens above, both tilted."""
    size = layout.page.label
    columns = np.arange(len(layout.input_labels)) + 0.5
    ax.set_yticks(np.arange(len(layout.rows)) + 0.5, layout.rows, fontsize=size, rotation=0)
    tilt: dict[str, Any] = {"fontsize": size, "rotation": 45, "rotation_mode": "anchor"}
    if lowest is not ax:
        ax.set_xticks([])
    lowest.set_xticks(columns, layout.input_labels, ha="right", va="center", **tilt)
    top = ax.secondary_xaxis("top")
    top.set_xticks(columns, layout.next_labels, ha="left", va="center", **tilt)
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


class Cell(NamedTuple):
    """A line of text in a cell."""

    x: float
    y: float
    """of the middle of the cell, in data coordinates"""
    text: str
    color: str
    width: float
    """of the text, in inches"""
    size: float
    """in points"""
    baseline: float
    """inches above the middle of the cell"""


class CellTexts(Artist):
    """The texts of all cells. Matplotlib's own ``Text`` would lay out each of them once more, which
    takes as long as to draw them; here their widths are known."""

    def __init__(self, cells: list[Cell]) -> None:
        super().__init__()
        self.cells = cells
        self.set_zorder(Text.zorder)

    def draw(self, renderer: RendererBase) -> None:
        assert self.axes is not None
        inch: Any = renderer.points_to_pixels(72)
        height = float(renderer.get_canvas_width_height()[1])
        middles = self.axes.transData.transform([(cell.x, cell.y) for cell in self.cells])
        pens = {  # SVG anchors texts as it says
            size: Text(fontsize=size, horizontalalignment="center")
            for size in {cell.size for cell in self.cells}
        }
        gc = renderer.new_gc()
        for (x, middle), cell in zip(middles, self.cells, strict=True):
            pen, y = pens[cell.size], middle + cell.baseline * inch
            pen.set_position((x, y))
            gc.set_foreground(cell.color)
            left = x - cell.width * inch / 2
            below = height - y if renderer.flipy() else y
            font = pen.get_fontproperties()
            renderer.draw_text(gc, left, below, cell.text, font, 0, mtext=pen)
        gc.restore()


def paint_texts(ax: Axes, mesh: QuadMesh, panel: Panel, layout: PanelLayout) -> None:
    """The texts of every cell, black or white, whichever stands out more."""
    text_colors = text_colors_on(mesh.to_rgba(np.ma.masked_invalid(panel.values)))
    words = layout.words
    lines = [(words.texts, words.size, 0.0)]
    if words.second_lines:  # both lines together stand in the middle
        small = words.size * SECOND
        lines = [(words.texts, words.size, small * LINE / 2)]
        lines.append((words.second_lines, small, -words.size * LINE / 2))
    cells = [
        Cell(j + 0.5, i + 0.5, text, text_colors[i, j], words.widths[text, size], size,
             up - words.rise[size])
        for texts, size, up in lines
        for i, row in enumerate(texts)
        for j, text in enumerate(row)
        if text
    ]  # fmt: skip
    if cells:
        ax.add_artist(CellTexts(cells))


def text_colors_on(rgba: Floats) -> npt.NDArray[np.str_]:
    """ "white" or "black" for text on each of the colours."""
    return np.where(luminance(rgba) < 0.179, "white", "black")


def luminance(rgba: Floats) -> Floats:
    """Relative luminance of sRGB colours (WCAG 2); black and white text tie at 0.179."""
    *cells, channels = rgba.shape
    return np.reshape(relative_luminance(rgba.reshape(-1, channels)), cells)


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


def paint_headings(ax: Axes, layout: PanelLayout) -> None:
    """Rows of the page's colour that name the grid below them."""
    for row, text in layout.headings.items():
        ax.axhspan(row, row + 1, color="white", lw=0, zorder=1.5)  # under the outlines
        ax.text(0, row + 0.5, text, fontsize=layout.page.label, va="center")


def paint_color_bar(
    figure: Figure, ax: Axes, mesh: QuadMesh, panel: Panel, layout: PanelLayout
) -> None:
    """Quantity, unit and the number of clipped cells; an arrow where colours are clipped."""
    page = layout.page
    arrow = 0.12 * page.scale / layout.tall
    bar = figure.colorbar(mesh, cax=ax, extend=extend(*panel.clipped), extendfrac=arrow)
    bar.outline.set_visible(False)
    low, high = panel.colors.low, panel.colors.high
    if panel.colors.kind == "log":
        steps = [m * 10.0**e for e in range(-3, 7) for m in (1, 3)]
        bar.set_ticks([low, *(s for s in steps if low < s < high), high])
        bar.ax.yaxis.set_minor_locator(NullLocator())
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    bar.ax.tick_params(labelsize=max(6, page.label - 0.5), length=2, width=0.6, color="0.4")
    x = layout.left + layout.grid()[0] + sum(page.bar)
    figure.text(
        x / layout.width, (layout.bottom + layout.tall / 2) / layout.height, "\n".join(layout.bar),
        fontsize=page.label, rotation=90, ha="left", va="center",
    )  # fmt: skip


def extend(below: int, above: int) -> str:
    """At which ends of a colour bar there is an arrow, by the numbers of clipped cells."""
    ends = {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}
    return ends[bool(below), bool(above)]


def paint_header(figure: Figure, layout: PanelLayout) -> None:
    """Title and notes, flush left."""
    page = layout.page
    x, y = page.margin / layout.width, layout.height - page.margin
    for line in layout.title:
        figure.text(x, y / layout.height, line, fontsize=page.title, fontweight="bold", va="top")
        y -= page.title * LINE
    for line in layout.header:
        figure.text(x, y / layout.height, line, fontsize=page.note, color="0.35", va="top")
        y -= page.note * LINE


# ---------------------------------------------------------------------------------------------
# Colours for others


class CellColor(NamedTuple):
    """Of a cell and its text."""

    background: str
    """as in "#1b4b72" """
    text_color: str


@dataclass(frozen=True)
class CellColors:
    """The colours of a figure as plain data, for a terminal."""

    cells: list[list[CellColor]]
    """(row, column)"""
    bar: list[CellColor]
    """evenly spread over the colour bar, from low to high"""


def cell_colors(panel: Panel, steps: int = 24) -> CellColors:
    """What ``paint_cells`` and ``paint_texts`` would colour the cells with."""
    norm = norm_of(panel.colors)
    cmap = color_map(panel.colors.cmap, map_ends(panel.colors))

    def of(shares: Any) -> list[list[CellColor]]:
        colors = np.asarray(cmap(shares))
        return [
            [CellColor(to_hex(color), str(text)) for color, text in zip(*row, strict=True)]
            for row in zip(colors, text_colors_on(colors), strict=True)
        ]

    return CellColors(
        of(norm(np.ma.masked_invalid(panel.values))),
        of(np.linspace([0.0], [1.0], steps, axis=1))[0],
    )
