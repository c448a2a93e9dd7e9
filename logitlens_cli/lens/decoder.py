"""Residual stream -> logits, by one of two routes, in float32 whatever the model's dtype.

Direct: copies of the modules between the last block and the head, the head's weight in tiles, the
elementwise tail. Replay: the model's own forward pass with its blocks replaced by ones that return
a chosen stream, so that whatever the model does after them is done by its own code. Direct is
faster, replay always right; ``prove`` decides, by holding both against the model itself on inner
rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from logitlens_cli.lens.capture import Stream
from logitlens_cli.model.anatomy.parts import ModelParts

TILE_ROWS = 1024
TILE_ENTRIES = 1024
# A block of positions holds the logits and the probabilities of two references: 50 MB.
BLOCK_FLOATS = 64 * 49152


@dataclass(frozen=True)
class Route:
    """How the streams of a model are decoded, as ``prove`` found."""

    direct: bool
    skips: bool = True
    """a replay can skip the blocks; else it runs them all"""
    float32: bool = True
    """a replay can run in float32; else its code insists on the model's own dtype"""
    exact: bool = field(default=True, compare=False)
    """was it proven in float32? else in the model's own dtype, whose rounding hides small errors"""

    @property
    def name(self) -> str:
        return "direct" if self.direct else "replay"


class Decoder(Protocol):
    """A map from the residual stream to logits. ``resid`` is (layer, position, width)."""

    parts: ModelParts
    whole_vocabulary: bool
    """does a tile hold the whole vocabulary?"""
    per_position: bool
    """is each position decoded without looking at the others?"""
    thread_safe: bool
    """may threads decode tiles at the same time?"""

    def tile_shape(self, positions: int) -> tuple[int, int]:
        """(positions, layers) of a tile that keep memory in bounds."""

    def prepare(self, resid: Tensor) -> Tensor:
        """What comes before the head, for all tiles at once."""

    def entries(self) -> Iterator[slice]:
        """The vocabulary in tiles."""

    def tile(self, prepared: Tensor, entries: slice, out: Tensor | None = None) -> Tensor:
        """Logits (layer, position, entry) of a tile; may be written into ``out``, a flat buffer."""

    def target_logits(self, prepared: Tensor, ids: Tensor) -> Tensor | None:
        """The logit of one token per position, (layer, position); None where only a tile of the
        whole vocabulary holds it."""

    def model_output(self, stream: Stream, columns: slice) -> tuple["Decoder", Tensor]:
        """What gives the model's output in float32: a decoder, and its prepared input (1, position,
        width)."""

    def last_layer(self, stream: Stream) -> Tensor:
        """The logits of the last row at the checked columns, (checked, vocabulary)."""
