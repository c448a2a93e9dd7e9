"""Panel -> the grid as Markdown or CSV, last layer first, as in the figure.

A column is headed by its input token, a row by its layer.
"""

import csv
import io
import math
import re

from logitlens_cli.figures.panel import Panel
from logitlens_cli.reading.marks import harmless

ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def panel_to_markdown(panel: Panel) -> str:
    """Cells as they stand in the figure; no text is taken for markup."""
    lines = [["layer", *panel.input_labels], ["---"] * (1 + len(panel.input_labels))]
    lines[0] = [escape_markdown(text) for text in lines[0]]
    rows = [*reversed(list(zip(panel.rows, panel.texts, strict=True)))]
    rows += [(row.label, row.texts) for row in panel.footer_rows]
    lines += [[escape_markdown(text) for text in (label, *texts)] for label, texts in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def escape_markdown(text: str) -> str:
    """``text`` for a cell of a Markdown table, where ``|`` ends a cell and ``*`` is emphasis."""
    signs = re.sub(r"([\\`*_{}\[\]()#!|~$:])", r"\\\1", harmless(text))
    return "".join(ENTITIES.get(char, char) for char in signs)


def panel_to_csv(panel: Panel) -> str:
    """Guesses as they stand in the figure, numbers in full (seven figures); empty where there is
    none."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["layer", *map(harmless, panel.input_labels)])
    for row in reversed(range(len(panel.rows))):
        numbers = ["" if math.isnan(v) else f"{v:.7g}" for v in panel.values[row].tolist()]
        cells = panel.texts[row] if panel.guesses else numbers
        table.writerow([harmless(panel.rows[row]), *map(harmless, cells)])
    for footer in panel.footer_rows:
        table.writerow([footer.label, *footer.texts])
    return text.getvalue()
