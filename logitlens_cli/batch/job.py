"""What a session is asked to do; it travels to the workers of a cluster as it is."""

from __future__ import annotations

from dataclasses import dataclass

from logitlens_cli.figures.style import FigureStyle
from logitlens_cli.lens.spec import ReadSpec
from logitlens_cli.model.source import ModelSource


@dataclass(frozen=True, kw_only=True)
class ReadJob:
    """A model, and what to read with it."""

    source: ModelSource
    spec: ReadSpec
    """targets are as the user wrote them"""
    batch_tokens: int | None = None
    """most tokens of a pass; None: what memory allows"""
    drawn: FigureStyle | None = None
    """how cells will be drawn, so that texts too long for that are refused before they are read;
    None where they will not be"""
