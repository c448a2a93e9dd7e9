"""Maps in memory, and what becomes of a stream by them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from logitlens_cli.lens.product import product
from logitlens_cli.reading.record import MapsRecord

INPUT_ROW = -1
"""the row of what enters block 0, as a number among those of blocks"""


@dataclass(frozen=True)
class LensMaps:
    """An affine map ``A h + b`` for each row of the stream that has one."""

    record: MapsRecord
    weights: Mapping[int, Tensor]
    """A, (width, width) in float32, by the block whose output is mapped; -1 is the input row"""
    biases: Mapping[int, Tensor]
    """b, (width,); rows that have none are mapped by A alone"""
    unembedding: str | None = None
    """hash of the head that they were fitted to"""
    blocks: int | None = None
    """of the model that they were fitted to, where it is known"""

    @property
    def width(self) -> int:
        return next(iter(self.weights.values())).shape[0]

    def to(self, device: Any) -> "LensMaps":
        """The same on a device; nothing is copied where they are there already."""
        weights, biases = (
            {row: tensor.to(device) for row, tensor in tensors.items()}
            for tensors in (self.weights, self.biases)
        )
        return replace(self, weights=weights, biases=biases)

    def apply(self, resid: Tensor, rows: Sequence[int | None]) -> Tensor:
        """Map rows (row, position, width) of a stream: in float32, whatever the model's dtype.

        ``rows`` the number of each, None for one that is never mapped. What has no map stays as it
        is. One vector gives the same bits however many are mapped with it.
        """
        if not any(row in self.weights for row in rows):
            return resid
        mapped = resid.to(torch.float32, copy=True)
        for n, row in enumerate(rows):
            if row in self.weights:
                assert row is not None
                mapped[n] = product(mapped[n], self.weights[row].to(mapped.device))
                if row in self.biases:
                    mapped[n] += self.biases[row].to(mapped.device)
        return mapped
