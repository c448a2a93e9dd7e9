"""What to read, the same for every text; loads nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from logitlens_cli.errors import UsageError
from logitlens_cli.metrics.spec import MetricSpec

PLAIN = "plain"
"""the lens without maps"""


class Norm(StrEnum):
    """What becomes of the final norm before the head."""

    full = "full"
    no_affine = "no-affine"
    none = "none"


class Bos(StrEnum):
    """Is there a start token before the text?"""

    auto = "auto"
    add = "add"
    none = "none"


@dataclass(frozen=True)
class TextTarget:
    """A target that was given as a text."""

    text: str
    id: int
    neighbours: tuple[int, ...]
    """tokens that differ by a leading space or a capital only"""


@dataclass(frozen=True, kw_only=True)
class ReadSpec:
    """Which rows and columns, how they are decoded, and what is computed of them."""

    command: str = "all"
    """for the record: who asks"""
    metrics: Mapping[str, MetricSpec]
    """by their keys in the dump"""
    k: int = 1
    """guesses of each cell"""
    norm: Norm = Norm.full
    lens: str = PLAIN
    """what inner rows go through before they are decoded: "plain", "fitted", a file, a folder or a
    hub name"""
    lens_revision: str | None = None
    """branch, tag or commit of a lens on the hub"""
    every: int = 1
    """every so many blocks; the last is always there"""
    layers: str | None = None
    """these blocks only, as in 0,4,8-12"""
    input_row: bool | None = None
    """also what enters block 0, unless False"""
    subblocks: bool = False
    """also the rows between attention and MLP"""
    decoder_blocks: int = 0
    """the last so many blocks are part of the tail"""
    window: str | None = None
    """positions A:B, or words of the text; None is the whole text"""
    bos: Bos = Bos.auto
    chat: bool = False
    """render the text through the tokenizer's chat template"""
    follow: bool = False
    """also rank every token that was ever a top guess in the last column"""
    chosen: Sequence[str] = ()
    """targets that are ranked in the last column too"""
    text_targets: Sequence[TextTarget] = ()
    """targets that were given as texts"""
    next_ranks: bool = False
    """also rank the true next tokens in the model's output"""
    lock_in: bool = False
    """look at all blocks for the one from which the guess stays the model's, whatever the rows"""
    single: bool = False
    """is one column of the window all that is read?"""
    column: int | None = None
    """position of the single column; None is the window's last"""
    options: Mapping[str, Any] = field(default_factory=dict)
    """what the user asked for, for the record"""

    @property
    def reads_input_row(self) -> bool:
        return self.input_row is not False

    def blocks(self, count: int) -> tuple[int, ...]:
        """Numbers of the blocks asked for, of a model with ``count``, ascending; UsageError for one
        that it does not have."""
        if self.layers is None:
            return tuple(sorted({*range(0, count, self.every), count - 1}))
        numbers = layer_numbers(self.layers)
        if numbers[-1] >= count:
            raise UsageError(
                f"--layers {self.layers}: there is no block {numbers[-1]}",
                f"the model's blocks are 0 to {count - 1}",
            )
        return numbers


def layer_numbers(layers: str) -> tuple[int, ...]:
    """The numbers that "0,4,8-12" stands for, ascending."""
    ranges = []
    for part in layers.split(","):
        match = re.fullmatch(r"\s*(\d{1,6})(?:\s*-\s*(\d{1,6}))?\s*", part)
        if match is None:
            raise UsageError(f"--layers {layers}: {part!r} is not a block", "write 0,4,8-12")
        first, last = int(match[1]), int(match[2] or match[1])
        if first > last:
            raise UsageError(f"--layers {layers}: {part!r} runs backwards", f"write {last}-{first}")
        ranges.append((first, last))
    numbers: list[int] = []
    for first, last in sorted(ranges):  # every number once, however often it is named
        numbers += range(max(first, numbers[-1] + 1) if numbers else first, last + 1)
    return tuple(numbers)
