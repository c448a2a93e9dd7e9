"""Which value has which colour: limits, and what lies beyond them."""

from __future__ import annotations

import math

import numpy as np

from logitlens_cli.errors import UsageError
from logitlens_cli.figures.style import Colors, FigureStyle
from logitlens_cli.metrics.spec import Scale, short_exponent
from logitlens_cli.metrics.sums import Floats
from logitlens_cli.reading.record import Reading


def scale_columns(reading: Reading, style: FigureStyle) -> list[bool]:
    """Which columns the limits of the colours are taken from."""
    columns = [token.position >= style.skip_first for token in reading.tokens]
    if not any(columns):
        raise UsageError(
            f"--skip-first {style.skip_first} leaves no column",
            f"the last one is position {reading.tokens[-1].position}",
        )
    return columns


def crossed_limits(low: float, high: float, style: FigureStyle) -> UsageError:
    """Which limit of the user's lies on the wrong side of the other one."""
    if style.vmin is not None:
        return UsageError(
            f"--vmin {low:g} is above the upper colour limit {high:g}", "give --vmax too"
        )
    if style.vmax is not None:
        return UsageError(
            f"--vmax {high:g} is below the lower colour limit {low:g}", "give --vmin too"
        )
    return UsageError(
        f"the colour limits of the dump run backwards, from {low:g} to {high:g}",
        "give --vmin and --vmax too",
    )


def limits(scale: Scale, values: Floats | None, style: FigureStyle) -> Colors:
    """Both limits of the colours: the user's, else the metric's, else the data's (if there is any
    by now). Raises UsageError for limits that run backwards."""
    finite = np.empty(0) if values is None else values[np.isfinite(values)]
    low, high = scale.low, scale.high
    low = style.vmin if style.vmin is not None else low
    high = style.vmax if style.vmax is not None else high
    if scale.center is not None:
        # A side that is given is the other's mirror image.
        sides = [abs(v - scale.center) for v in (low, high) if v is not None]
        reach = max(sides or [float(np.abs(finite - scale.center).max(initial=-math.inf))])
        low = scale.center - reach if low is None else low
        high = scale.center + reach if high is None else high
    low = low if low is not None else float(finite.min(initial=math.inf))
    high = high if high is not None else float(finite.max(initial=-math.inf))
    if not math.isfinite(low) or not math.isfinite(high):
        low, high = 0.0, 1.0  # nothing to show
    if abs(high - low) <= 1e-12 * max(abs(low), abs(high), 1e-88):  # too narrow to compute with
        middle, half = (low + high) / 2, max(0.5, 1e-6 * abs(low))
        low, high = middle - half, middle + half
    if low > high:
        raise crossed_limits(low, high, style)
    if scale.kind == "log" and low <= 0:
        given = "--vmin" if style.vmin is not None else "a value of"
        raise UsageError(f"{given} {low:g} on a logarithmic scale", "give a limit above 0")
    return Colors(scale.kind, low, high, style.cmap or scale.cmap, scale.center is not None)


def log_ticks(colors: Colors) -> list[float]:
    """Numbers beside a logarithmic colour bar: both limits, and between them powers of ten, with
    their threefold where they are few."""
    low, high = colors.low, colors.high
    decades = math.log10(high / low)
    step = math.ceil(decades / 12)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1, step)
    steps = [m * 10.0**e for e in exponents for m in ((1, 3) if decades <= 5 else (1,))]
    return [low, *(s for s in steps if low < s < high and not math.isclose(s, low)), high]


def limit_text(value: float) -> str:
    """A limit of colours: 0.001, 30, 3e-6."""
    return short_exponent(f"{value:g}")
