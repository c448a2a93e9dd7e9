"""Panel -> annotated seaborn heatmap.

A figure is made in two steps: where everything goes (``Layout``, in inches, measured from the texts
themselves), and the drawing (``paint``). Knows nothing of models, files or pyplot's global state.
"""

import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

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
from matplotlib.colors import Colormap, LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, NullLocator
from PIL import Image

from logitlens_cli.errors import UsageError
from logitlens_cli.fonts import Ruler, escaped, fallback
from logitlens_cli.metrics import Floats
from logitlens_cli.panels import TEXT_COLUMNS, Looks, Panel, panels
from logitlens_cli.reading import Reading

# Sizes in points (text) and inches (everything else).
TEXT, LABEL, TITLE, NOTE = 7.5, 8.0, 11.0, 7.5
LINE = 1.35 / 72  # height of a line of text, per point
CELL_HEIGHT = 0.215
CELL_WIDTH = (0.36, 1.05)
CELL_PADDING = 0.10
PLAIN_CELL = 0.15  # a cell without text
LABEL_LIMIT = 1.35
MARGIN = 0.15
BAR_WIDTH, BAR_GAP, BAR_TICKS, BAR_HEIGHT = 0.16, 0.22, 0.42, 1.3
LONGEST = 20_000  # characters of a text that are looked at; no figure is that wide
PIXELS = 2**16 - 1  # what the raster backend can do in one direction


# ---------------------------------------------------------------------------------------------
# Where it goes


@dataclass(frozen=True)
class Layout:
    """Sizes in inches, with the texts that fit into them."""

    cell: tuple[float, float]
    width: float
    height: float
    left: float
    bottom: float
    texts: list[list[str]]
    widths: dict[str, float]
    """of each text in a cell"""
    rise: float
    """from the middle of a line of text down to its baseline"""
    rows: list[str]
    below: list[str]
    above: list[str]
    head: float
    """height of title and notes"""
    header: list[str]
    """lines under the title"""
    title: list[str]
    bar: list[str]
    """lines of the colour bar's label"""
    tall: float
    """height of the colour bar"""
    families: list[str]

    def grid(self) -> tuple[float, float]:
        """Width and height of the heatmap."""
        return self.cell[0] * len(self.below), self.cell[1] * len(self.rows)


def lay_out(panel: Panel) -> tuple[Layout, frozenset[str]]:
    """Measure the texts and place everything; also the characters that no font has."""
    every = {text for row in panel.texts for text in row}
    every.update(panel.rows, panel.bottom, panel.top, panel.notes, [panel.title, panel.bar, "…"])
    families, missing = fallback(text[:LONGEST] for text in every)
    ruler = Ruler(families)

    def drawn(text: str) -> str:
        return escaped(text[:LONGEST], missing)

    def fit(text: str, size: float, limit: float) -> str:
        return ruler.shortened(drawn(text), size, limit)

    columns = len(panel.bottom)
    with_text = columns <= TEXT_COLUMNS
    room = CELL_WIDTH[1] - CELL_PADDING
    texts = [[fit(t, TEXT, room) if with_text else "" for t in row] for row in panel.texts]
    widths = {text: ruler.width(text, TEXT) for row in texts for text in row}
    cell = (
        (max(CELL_WIDTH[0], max(widths.values()) + CELL_PADDING), CELL_HEIGHT)
        if with_text
        else (PLAIN_CELL, PLAIN_CELL)
    )
    rows = [fit(text, LABEL, LABEL_LIMIT) for text in panel.rows]
    below = [fit(text, LABEL, LABEL_LIMIT) for text in panel.bottom]
    # The star is part of the label: shorten the token, not the star.
    above = [
        fit(text.removesuffix(" (*)"), LABEL, LABEL_LIMIT) + " (*)" * text.endswith(" (*)")
        for text in panel.top
    ]
    slope = math.sqrt(0.5)
    lean = [slope * (ruler.width(text, LABEL) + LABEL * LINE) for text in below]
    rise = [slope * (ruler.width(text, LABEL) + LABEL * LINE) if text else 0.0 for text in above]
    row_width = max(ruler.width(text, LABEL) for text in rows)
    # Labels below lean to the left of their column, labels above to its right.
    overhang_left = max(lean[i] - (i + 0.5) * cell[0] for i in range(columns))
    left = MARGIN + max(LABEL * LINE + 0.05 + row_width + 0.12, overhang_left)
    overhang_right = max(rise[i] - (columns - i - 0.5) * cell[0] for i in range(columns))
    tall = max(len(rows) * cell[1], BAR_HEIGHT)
    label = wrap_words(ruler, drawn(panel.bar), LABEL, tall)
    # A part is never broken, and the highest bar has room for the longest.
    label = ruler.wrapped([*label, *panel.clipping()], LABEL, tall, ", ")
    bar = BAR_GAP + BAR_WIDTH + BAR_TICKS + len(label) * LABEL * LINE
    width = left + columns * cell[0] + max(bar, overhang_right) + MARGIN
    room = width - 2 * MARGIN
    least = 3.4
    width, room = max(width, least), max(room, least - 2 * MARGIN)
    title = wrap_words(ruler, drawn(panel.title), TITLE, room, "bold")
    header = ruler.wrapped([drawn(n) for n in panel.notes], NOTE, room)
    axis = LABEL * LINE + 0.04
    bottom = MARGIN + axis + max(lean) + 0.06
    head = len(title) * TITLE * LINE + len(header) * NOTE * LINE + 0.12
    above_bottom = max(len(rows) * cell[1] + 0.06 + max(rise) + axis, tall + 0.15)
    height = bottom + above_bottom + head + MARGIN
    layout = Layout(
        cell=cell,
        width=width,
        height=height,
        left=left,
        bottom=bottom,
        texts=texts,
        widths=widths,
        rise=ruler.rise(TEXT),
        rows=rows,
        below=below,
        above=above,
        head=head,
        header=header,
        title=title,
        bar=label,
        tall=tall,
        families=families,
    )
    return layout, missing


def wrap_words(
    ruler: Ruler, text: str, size: float, limit: float, weight: str = "normal"
) -> list[str]:
    """Break a text between words into at most three lines of ``limit`` inches."""
    lines = [""]
    for word in text[: 3 * ruler.most(size, limit)].split():
        joined = f"{lines[-1]} {word}".strip()
        if len(lines) < 3 and lines[-1] and ruler.width(joined, size, weight) > limit:
            lines.append(word)
        else:
            lines[-1] = joined
    return [ruler.shortened(line, size, limit, weight) for line in lines]


# ---------------------------------------------------------------------------------------------
# The drawing


def require_cmap(name: str) -> None:
    """UsageError for a colour map that neither matplotlib nor seaborn knows."""
    if name not in colormaps:
        raise UsageError(f"--cmap {name!r} is unknown", "name a map of matplotlib or seaborn")


@contextmanager
def style(families: list[str]) -> Iterator[None]:
    """Text is never mathematics, SVG text stays text, and the same figure has the same bytes.
    Glyphs keep their shapes (no hinting), so that texts are as wide as they were measured."""
    with matplotlib.rc_context(
        {
            "font.family": families,
            "text.parse_math": False,
            "text.hinting": "none",
            "axes.unicode_minus": False,
            "svg.fonttype": "none",
            "svg.hashsalt": "logitlens",
            "pdf.fonttype": 42,
        }
    ):
        yield


@dataclass(frozen=True)
class Drawing:
    """A finished figure."""

    figure: Figure
    families: list[str]
    missing: frozenset[str]
    """characters that no installed font has; they are drawn as escapes"""

    def save(self, file: Any, form: str, dpi: int) -> None:
        """Write as "png", "svg" or "pdf"; no dates, so that the same figure has the same bytes."""
        with style(self.families):
            if form == "png":
                self.save_png(file, dpi)
            else:
                date = {"svg": "Date", "pdf": "CreationDate"}[form]
                self.figure.savefig(file, format=form, dpi=dpi, metadata={date: None})

    def save_png(self, file: Any, dpi: int) -> None:
        """Without the alpha channel, which nothing uses, and compressed by runs: this takes half
        the time, and figures are runs of one colour (both measured)."""
        canvas: Any = FigureCanvasAgg(self.figure)
        self.figure.set_dpi(dpi)
        canvas.draw()
        size = canvas.get_width_height()
        pixels = Image.frombuffer("RGBA", size, canvas.buffer_rgba(), "raw", "RGBA", 0, 1)
        runs: Any = zlib.Z_RLE
        pixels.convert("RGB").save(file, "PNG", dpi=(dpi, dpi), compress_type=runs)


def draw(reading: Reading, name: str, looks: Looks) -> list[Drawing]:
    """The figures of one metric, one for each piece of a split."""
    drawings = []
    for panel in panels(reading, name, looks):
        layout, missing = lay_out(panel)
        require_size(layout, looks.dpi)
        with style(layout.families):
            drawings.append(Drawing(paint(panel, layout), layout.families, missing))
    return drawings


def require_size(layout: Layout, dpi: int) -> None:
    if max(layout.width, layout.height) * dpi > PIXELS:
        raise UsageError(
            f"the figure would be {layout.width:.0f} x {layout.height:.0f} inches at {dpi} dpi",
            "use --split, --window, --every or a lower --dpi",
        )


def paint(panel: Panel, layout: Layout) -> Figure:
    """Draw a panel as laid out."""
    figure = Figure(figsize=(layout.width, layout.height), facecolor="white")
    width, height = layout.grid()
    w, h = layout.width, layout.height
    ax = figure.add_axes((layout.left / w, layout.bottom / h, width / w, height / h))
    mesh = heatmap(ax, panel)
    ticks(ax, panel, layout)
    annotate(ax, mesh, panel, layout)
    outline(ax, panel.outlined)
    left = layout.left + width + BAR_GAP
    bar = figure.add_axes((left / w, layout.bottom / h, BAR_WIDTH / w, layout.tall / h))
    color_bar(figure, bar, mesh, panel, layout)
    heading(figure, layout)
    return figure


def heatmap(ax: Axes, panel: Panel) -> QuadMesh:
    """The coloured cells, lowest layer at the bottom."""
    colors = panel.colors
    norm = (LogNorm if colors.kind == "log" else Normalize)(colors.low, colors.high)
    seaborn.heatmap(
        panel.values,
        ax=ax,
        norm=norm,
        vmin=colors.low,  # or it looks for them, and complains where there is no value at all
        vmax=colors.high,
        cmap=color_map(colors.cmap),
        cbar=False,
        annot=False,
        linewidths=0.4,
        linecolor="white",
        xticklabels=False,
        yticklabels=False,
    )
    ax.invert_yaxis()
    mesh = ax.collections[0]
    assert isinstance(mesh, QuadMesh)
    return mesh


def color_map(name: str) -> Colormap:
    """A named map whose clipped ends differ from its own: the ends of the map are cut off, and
    stand for what lies beyond."""
    if name not in colormaps:  # --cmap is checked before any work
        raise UsageError(f"the dump's colour map {name!r} is unknown", "name another with --cmap")
    whole = colormaps[name]
    inner = LinearSegmentedColormap.from_list(name, whole(np.linspace(0.04, 0.88, 256)))
    return inner.with_extremes(under=whole(0.0), over=whole(1.0), bad="0.85")


def ticks(ax: Axes, panel: Panel, layout: Layout) -> None:
    """Layers at the left, input tokens below, true next tokens above, both tilted."""
    columns = np.arange(len(layout.below)) + 0.5
    ax.set_yticks(np.arange(len(layout.rows)) + 0.5, layout.rows, fontsize=LABEL, rotation=0)
    tilt: dict[str, Any] = {"fontsize": LABEL, "rotation": 45, "rotation_mode": "anchor"}
    ax.set_xticks(columns, layout.below, ha="right", va="center", **tilt)
    top = ax.secondary_xaxis("top")
    top.set_xticks(columns, layout.above, ha="left", va="center", **tilt)
    for axis in (ax, top):
        axis.tick_params(length=0, pad=3)
        for spine in axis.spines.values():
            spine.set_visible(False)
    grid_width, grid_height = layout.grid()
    middle = layout.left + grid_width / 2
    figure = ax.figure
    words: dict[str, Any] = {"fontsize": LABEL, "color": "0.35"}
    figure.text(middle / layout.width, MARGIN / layout.height, panel.below,
                ha="center", va="bottom", **words)  # fmt: skip
    figure.text(middle / layout.width, 1 - (MARGIN + layout.head) / layout.height, panel.above,
                ha="center", va="top", **words)  # fmt: skip
    figure.text(MARGIN / layout.width, (layout.bottom + grid_height / 2) / layout.height, "layer",
                ha="left", va="center", rotation=90, **words)  # fmt: skip


class Cell(NamedTuple):
    """The text of a cell, at the middle of it in data coordinates."""

    x: float
    y: float
    text: str
    color: str
    width: float
    """of the text, in inches"""


class CellTexts(Artist):
    """The texts of all cells. Matplotlib's own ``Text`` would lay out each of them once more, which
    takes as long as to draw them; here their widths are known."""

    def __init__(self, cells: list[Cell], rise: float) -> None:
        super().__init__()
        self.cells = cells
        self.rise = rise
        """inches from the middle of a line down to its baseline"""
        self.set_zorder(Text.zorder)

    def draw(self, renderer: RendererBase) -> None:
        assert self.axes is not None
        inch: Any = renderer.points_to_pixels(72)
        height = float(renderer.get_canvas_width_height()[1])
        middles = self.axes.transData.transform([(cell.x, cell.y) for cell in self.cells])
        pen = Text(fontsize=TEXT, horizontalalignment="center")  # SVG anchors texts as it says
        font = pen.get_fontproperties()
        gc = renderer.new_gc()
        for (x, middle), cell in zip(middles, self.cells, strict=True):
            y = middle - self.rise * inch
            pen.set_position((x, y))
            gc.set_foreground(cell.color)
            left = x - cell.width * inch / 2
            below = height - y if renderer.flipy() else y
            renderer.draw_text(gc, left, below, cell.text, font, 0, mtext=pen)
        gc.restore()


def annotate(ax: Axes, mesh: QuadMesh, panel: Panel, layout: Layout) -> None:
    """The text of every cell, black or white, whichever stands out more."""
    colors = mesh.to_rgba(np.ma.masked_invalid(panel.values))
    inks = np.where(luminance(colors) < 0.179, "white", "black")
    cells = [
        Cell(j + 0.5, i + 0.5, text, inks[i, j], layout.widths[text])
        for i, row in enumerate(layout.texts)
        for j, text in enumerate(row)
        if text
    ]
    if cells:
        ax.add_artist(CellTexts(cells, layout.rise))


def luminance(rgba: Floats) -> Floats:
    """Relative luminance of sRGB colours (WCAG 2); black and white text tie at 0.179."""
    rgb = rgba[..., :3]
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    relative: Floats = linear @ np.array([0.2126, 0.7152, 0.0722])
    return relative


def outline(ax: Axes, outlined: npt.NDArray[np.bool_]) -> None:
    """A contour around the outlined cells, black on white, so that it shows on every colour."""
    segments = contour(outlined)
    if not segments:
        return
    for width, color in ((2.6, "white"), (1.3, "black")):
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


def color_bar(figure: Figure, ax: Axes, mesh: QuadMesh, panel: Panel, layout: Layout) -> None:
    """Quantity, unit and the number of clipped cells; an arrow where colours are clipped."""
    bar = figure.colorbar(
        mesh, cax=ax, extend=extend(*panel.clipped), extendfrac=0.12 / layout.tall
    )
    bar.outline.set_visible(False)
    low, high = panel.colors.low, panel.colors.high
    if panel.colors.kind == "log":
        steps = [m * 10.0**e for e in range(-3, 7) for m in (1, 3)]
        bar.set_ticks([low, *(s for s in steps if low < s < high), high])
        bar.ax.yaxis.set_minor_locator(NullLocator())
        bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    bar.ax.tick_params(labelsize=LABEL - 0.5, length=2, width=0.6, color="0.4")
    x = layout.left + layout.grid()[0] + BAR_GAP + BAR_WIDTH + BAR_TICKS
    figure.text(
        x / layout.width, (layout.bottom + layout.tall / 2) / layout.height, "\n".join(layout.bar),
        fontsize=LABEL, rotation=90, ha="left", va="center",
    )  # fmt: skip


def extend(below: int, above: int) -> str:
    """At which ends of a colour bar there is an arrow, by the numbers of clipped cells."""
    ends = {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}
    return ends[bool(below), bool(above)]


def heading(figure: Figure, layout: Layout) -> None:
    """Title and notes, flush left."""
    x, y = MARGIN / layout.width, layout.height - MARGIN
    for line in layout.title:
        figure.text(x, y / layout.height, line, fontsize=TITLE, fontweight="bold", va="top")
        y -= TITLE * LINE
    for line in layout.header:
        figure.text(x, y / layout.height, line, fontsize=NOTE, color="0.35", va="top")
        y -= NOTE * LINE
