"""A finished figure, and how it is saved."""

import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from PIL.PngImagePlugin import PngInfo


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
        """Write as PNG without the alpha channel, which nothing uses, and compressed by runs: this
        takes half the time, and figures are runs of one colour (both measured)."""
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
