"""One scale for the same figure of several readings."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from logitlens_cli.errors import UsageError
from logitlens_cli.figures.reading_panels import panels
from logitlens_cli.figures.style import Colors, FigureStyle
from logitlens_cli.metrics.table import FOLLOWED, TRACE
from logitlens_cli.reading.record import Reading


def shared_colors(
    readings: Iterable[tuple[str, Reading, Sequence[str]]], style: FigureStyle
) -> Mapping[str, Colors]:
    """By figure, colours whose limits are the widest of any reading's; of each its name and its
    figures. Raises UsageError where the same figure shows different quantities."""
    widest: dict[str, tuple[str, str, Colors]] = {}
    for name, reading, figures in readings:
        for figure in figures:
            if figure in (FOLLOWED, TRACE):  # which have no grid of a text
                continue
            panel = panels(reading, figure, style)[0]
            first, bar, colors = widest.get(figure, (name, panel.bar_label, panel.colors))
            if bar != panel.bar_label:
                raise UsageError(
                    f"{figure} is {bar} in {first} and {panel.bar_label} in {name}",
                    "only one quantity can share a scale",
                )
            low, high = min(colors.low, panel.colors.low), max(colors.high, panel.colors.high)
            widest[figure] = first, bar, replace(colors, low=low, high=high)
    return {figure: colors for figure, (_, _, colors) in widest.items()}
