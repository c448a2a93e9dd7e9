"""What a user may choose about a figure; loads nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Width(StrEnum):
    """The page that a figure must fit."""

    auto = "auto"
    single = "single"
    double = "double"
    slide = "slide"


@dataclass(frozen=True)
class Colors:
    """How values become colours, with both limits."""

    kind: str
    """"linear" or "log" """
    low: float
    high: float
    cmap: str
    centered: bool = False
    """has the map two sides, whose middle must stay in the middle?"""


@dataclass(frozen=True, kw_only=True)
class FigureStyle:
    """What a user may choose about a figure; None is the metric's own habit."""

    input_row: bool | None = None
    split: int | None = None
    vmin: float | None = None
    vmax: float | None = None
    cmap: str | None = None
    log: bool = False
    """logarithmic colours for probabilities"""
    title: str | None = None
    model_label: str | None = None
    """what the model is called, instead of its name"""
    changes_only: bool = False
    color: str | None = None
    dpi: int = 300
    skip_first: int = 0
    width: Width = Width.auto
    height: float | None = None
    """of the whole figure, in inches"""
    font: str | None = None
    """families, with commas, before those that come with the program"""
    font_size: float | None = None
    """of labels, in points; other texts keep their proportions to them"""
    bare: bool = False
    """without title and notes"""
    lock_in: bool = False
    """footer rows of the layers from which a guess is the model's"""
    probs: bool = False
    """the guess's probability as a second line"""
    next_ranks: bool = False
    """a footer row of the ranks of the true next tokens"""
    delta: bool = False
    """differences to the layer below instead of values"""
    shared_colors: Mapping[str, Colors] = field(default_factory=dict)
    """by figure, the colours that several readings share"""

    @property
    def families(self) -> tuple[str, ...]:
        """The families of ``font``, each once, in order."""
        named = (name.strip() for name in (self.font or "").split(","))
        return tuple(dict.fromkeys(name for name in named if name))
