"""Panel -> words: the alt text of a figure, and its caption."""

import numpy as np

from logitlens_cli.figures.panel import Panel
from logitlens_cli.figures.words import OF_ROWS, count_of
from logitlens_cli.reading.marks import harmless

LONGEST_LABEL = 100
LONGEST_SENTENCE = 1000
"""characters, which is more than anybody has a use for"""


def one_line_title(panel: Panel) -> str:
    """One line: the figure's own title."""
    return harmless((panel.title or panel.about)[:LONGEST_SENTENCE])


def alt_text(panel: Panel) -> str:
    """What a figure shows and what is to be seen in it, for those who cannot see it."""
    labels = panel.input_labels
    columns = f"{labels[0][:LONGEST_LABEL]} to {labels[-1][:LONGEST_LABEL]}"
    sentences = [
        f"Heatmap: {about(panel)}",
        f"{count_of(len(panel.rows), 'row')}, layers {panel.rows[0]} to {panel.rows[-1]}, by "
        f"{count_of(len(labels), 'column')}, {columns}",
        colors(panel),
        finding(panel),
        sentence(panel.all_notes()),
    ]
    return harmless(" ".join(f"{part[:LONGEST_SENTENCE]}." for part in sentences if part))


def caption(panel: Panel) -> str:
    """What a reader of a paper must know: what, model, decode, window, colours and clipping."""
    labels = [f"columns: {panel.input_title}, written below"]
    labels += [f"{panel.next_title} above"] * bool(panel.next_title)
    cells = "each cell says the layer's top guess" if panel.guesses else ""
    sentences = [
        about(panel),
        sentence([f"Rows: layers {panel.rows[0]} to {panel.rows[-1]}, upwards", *labels, cells]),
        colors(panel),
        finding(panel),
        sentence(panel.all_notes()),
    ]
    return harmless(" ".join(f"{part[:LONGEST_SENTENCE]}." for part in sentences if part)) + "\n"


def about(panel: Panel) -> str:
    """What is shown and of which model, after the user's own title if there is one."""
    return ". ".join(dict.fromkeys(filter(None, (panel.title, panel.about))))


def sentence(notes: list[str]) -> str:
    """Notes joined, with a capital."""
    words = "; ".join(filter(None, notes))
    return words[:1].upper() + words[1:]


def colors(panel: Panel) -> str:
    """Quantity, unit, limits, and how many cells lie beyond them."""
    limits = f"{number(panel.colors.low)} to {number(panel.colors.high)}"
    kind = ", logarithmic" if panel.colors.kind == "log" else ""
    clipped = ", ".join(panel.clipping())
    return f"Colour: {panel.bar_label}, {limits}{kind}" + f"; clipped: {clipped}" * bool(clipped)


def finding(panel: Panel) -> str:
    """What is to be seen: from where on guesses are outlined, or how values change. Nothing of two
    grids over each other."""
    if panel.headings:
        return ""
    return settling(panel) if panel.guesses else medians(panel)


def settling(panel: Panel) -> str:
    """The lowest layer from which on half of the columns keep what is outlined."""
    kept = np.logical_and.accumulate(panel.outlined[::-1])[::-1].sum(axis=1)
    columns = len(panel.input_labels)
    half = np.flatnonzero(2 * kept >= columns)
    row = half[0] if len(half) else len(kept) - 1
    share = f"{kept[row]} of {count_of(columns, 'column')}"
    which = f", {OF_ROWS}" * panel.skips_blocks
    return f"In {share} {panel.outline_meaning} from {row_words(panel, int(row))} up{which}"


def medians(panel: Panel) -> str:
    """The median over columns at the lowest, middle and last layer."""
    rows = sorted({0, len(panel.rows) // 2, len(panel.rows) - 1})
    values = {row: panel.values[row] for row in rows}
    words = [
        f"{number(float(np.median(finite)))} at {row_words(panel, row)}"
        for row, cells in values.items()
        if len(finite := cells[np.isfinite(cells)])
    ]
    return f"Median {', '.join(words)}" if words else ""


def row_words(panel: Panel, row: int) -> str:
    label = panel.rows[row]
    return f"the {label} row" if panel.from_input and row == 0 else f"layer {label}"


def number(value: float) -> str:
    """Three figures that matter, and whole numbers in full."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
