"""Panel -> words: the alt text of a figure, and its caption."""

import numpy as np

from logitlens_cli.panels import OUTLINED, Panel, count_of
from logitlens_cli.tokens import harmless

LABEL, LONGEST = 100, 1000
"""characters of a label and of a part, which is more than anybody has a use for"""


def title(panel: Panel) -> str:
    """One line: the figure's own title."""
    return harmless((panel.title or panel.about)[:LONGEST])


def alt(panel: Panel) -> str:
    """What a figure shows and what is to be seen in it, for those who cannot see it."""
    columns = f"{panel.bottom[0][:LABEL]} to {panel.bottom[-1][:LABEL]}"
    parts = [
        f"Heatmap: {about(panel)}",
        f"{count_of(len(panel.rows), 'row')}, layers {panel.rows[0]} to {panel.rows[-1]}, by "
        f"{count_of(len(panel.bottom), 'column')}, {columns}",
        colors(panel),
        finding(panel),
        sentence(panel.notes),
    ]
    return harmless(" ".join(f"{part[:LONGEST]}." for part in parts if part))


def caption(panel: Panel) -> str:
    """What a reader of a paper must know: what, model, decode, window, colours and clipping."""
    labels = [f"columns: {panel.below}, written below"]
    labels += [f"{panel.above} above"] * bool(panel.above)
    cells = "each cell says the layer's top guess" if panel.guesses else ""
    parts = [
        about(panel),
        sentence([f"Rows: layers {panel.rows[0]} to {panel.rows[-1]}, upwards", *labels, cells]),
        colors(panel),
        finding(panel),
        sentence(panel.notes),
    ]
    return harmless(" ".join(f"{part[:LONGEST]}." for part in parts if part)) + "\n"


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
    return f"Colour: {panel.bar}, {limits}{kind}" + f"; clipped: {clipped}" * bool(clipped)


def finding(panel: Panel) -> str:
    """What is to be seen: from where on guesses are outlined, or how values change. Nothing of two
    grids over each other."""
    if panel.headings:
        return ""
    return settling(panel) if panel.guesses else medians(panel)


def settling(panel: Panel) -> str:
    """The lowest layer from which on half of the columns keep what a note says is outlined."""
    what = next(n for n in panel.notes if n.startswith(OUTLINED)).removeprefix(OUTLINED)
    kept = np.logical_and.accumulate(panel.outlined[::-1])[::-1].sum(axis=1)
    columns = len(panel.bottom)
    half = np.flatnonzero(2 * kept >= columns)
    row = half[0] if len(half) else len(kept) - 1
    share = f"{kept[row]} of {count_of(columns, 'column')}"
    return f"In {share} {what} from {place(panel.rows[row])} up"


def medians(panel: Panel) -> str:
    """The median over columns at the lowest, middle and last layer."""
    rows = sorted({0, len(panel.rows) // 2, len(panel.rows) - 1})
    values = {row: panel.values[row] for row in rows}
    told = [
        f"{number(float(np.median(finite)))} at {place(panel.rows[row])}"
        for row, every in values.items()
        if len(finite := every[np.isfinite(every)])
    ]
    return f"Median {', '.join(told)}" if told else ""


def place(label: str) -> str:
    return f"layer {label}" if label[:1].isdigit() else f"the {label} row"


def number(value: float) -> str:
    """Three figures that matter, and whole numbers in full."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
