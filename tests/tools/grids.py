"""Grids of many shapes and scripts, laid out."""

from typing import Any

from readings import make

from logitlens_cli.figures.layout import PanelLayout, lay_out
from logitlens_cli.figures.panel import Panel
from logitlens_cli.figures.reading_panels import panels
from logitlens_cli.figures.style import FigureStyle, Width
from logitlens_cli.metrics.spec import Scale
from logitlens_cli.reading.record import Reading, Scores

SCRIPTS = {
    "latin": ["a", "·some", "<|endoftext|>", "·internationalization", "WWWWWWWWWW", "."],
    "arabic": ["السلام", "·عليكم", "م", "ي", "·الإسلامية"],
    "cyrillic": ["·Достоевский", "и", "преступление", "."],
    "marks": ["e\u0301\u0302te\u0301", "Z\u0335\u0336a\u0334", "o\u0308" * 12],
    "bytes": ["<0xE6>", "<0xBC>", "<0xA2>", "��"],
}


def grid_of(rows: int, columns: int, script: str) -> Reading:
    words = SCRIPTS[script]
    labels = [[words[(r * 7 + c) % len(words)] for c in range(columns)] for r in range(rows)]
    values: list[list[float | None]] = [[float(r * c) for c in range(columns)] for r in range(rows)]
    scale = Scale("linear", 0, 30, "mako_r")
    return make(
        labels,
        **{
            "own-logit": Scores(values=values, unit="logit", quantity="own logit"),
            "kl-final": Scores(
                values=values, unit="nats", quantity="KL(final || layer)", scale=scale
            ),
        },
    )


def laid_out(reading: Reading, name: str, width: Width, **style: Any) -> tuple[Panel, PanelLayout]:
    chosen = FigureStyle(width=width, **style)
    made = panels(reading, name, chosen)[0]
    return made, lay_out([made], chosen)[0][0]
