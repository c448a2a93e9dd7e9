"""Tables are read back by other people's parsers."""

import csv
import io
from dataclasses import replace

import numpy as np
from markdown_it import MarkdownIt
from readings import make

from logitlens_cli.figures.panel import Panel
from logitlens_cli.figures.reading_panels import panels
from logitlens_cli.figures.style import FigureStyle
from logitlens_cli.figures.tables import panel_to_csv, panel_to_markdown

HOSTILE = [
    "|", "\\|", "\\", "`a`", "**b**", "_c_", "<script>x</script>", "&amp;", "[l](u)", "a\nb",
    "~~d~~", ",", '"', "'", ";", "=1+1", "![i](j)", "-", "\x1b[31m",
]  # fmt: skip
SEEN = [text.replace("\n", "↵").replace("\x1b", "<U+001B>") for text in HOSTILE]


def panel_of(name: str) -> Panel:
    return panels(make(), name, FigureStyle())[0]


def hostile() -> Panel:
    columns = len(HOSTILE)
    labels = [[f"g{n}" for n in range(columns)]] * 3
    panel = panels(make(labels), "topk", FigureStyle())[0]
    return replace(panel, texts=[HOSTILE, HOSTILE[::-1]], input_labels=HOSTILE, rows=["0", "a|b"])


def test_markdown() -> None:
    assert panel_to_markdown(panel_of("topk")) == (
        "| layer | t0 | t1 | last |\n| --- | --- | --- | --- |\n"
        "| 1 | b | c | a |\n| 0 | b | c | z |\n"
    )


def test_csv_has_the_numbers_in_full() -> None:
    assert panel_to_csv(panel_of("topk")) == "layer,t0,t1,last\n1,b,c,a\n0,b,c,z\n"
    assert panel_to_csv(panel_of("rank")) == "layer,t0,t1,last\n1,1,1,1\n0,1,1,101\n"
    panel = panel_of("kl-final")
    values = np.array([[1e-5, 0.0312345, np.nan], [7.25, 0, 31], [123456, 1.5e7, -2]])
    assert panel_to_csv(replace(panel, values=values)) == (
        "layer,t0,t1,last\n1,123456,1.5e+07,-2\n0,7.25,0,31\ninput,1e-05,0.0312345,\n"
    )


def test_csv_is_read_back() -> None:
    rows = list(csv.reader(io.StringIO(panel_to_csv(hostile()), newline=""), strict=True))
    assert rows == [["layer", *SEEN], ["a|b", *SEEN[::-1]], ["0", *SEEN]]


def test_markdown_is_read_back() -> None:
    """Nothing is emphasis, code, a link or a cell's end."""
    rows: list[list[str]] = []
    for token in (
        MarkdownIt("commonmark")
        .enable(["table", "strikethrough"])
        .parse(panel_to_markdown(hostile()))
    ):
        if token.type == "tr_open":
            rows.append([])
        if token.type == "inline":
            assert {child.type for child in token.children or []} <= {"text"}
            rows[-1].append("".join(child.content for child in token.children or []))
    assert rows == [["layer", *SEEN], ["a|b", *SEEN[::-1]], ["0", *SEEN]]
