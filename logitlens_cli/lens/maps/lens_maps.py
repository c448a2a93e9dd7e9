"""Maps in memory, and what becomes of a stream by them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from logitlens_cli.lens.product import WeightParts, in_parts, product
from logitlens_cli.reading.record import MapsRecord

Share: TypeAlias = Callable[[Callable[[int], None], Iterable[int]], None]


def one_by_one(work: Callable[[int], None], items: Iterable[int]) -> None:
    """Do ``work`` on every item, in this thread."""
    for item in items:
        work(item)


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

    def on(self, device: Any) -> "LoadedMaps":
        """The maps on a device, ready to be applied many times."""
        return LoadedMaps(
            self.record,
            {row: in_parts(weight.to(device)) for row, weight in self.weights.items()},
            {row: bias.to(device) for row, bias in self.biases.items()},
        )


@dataclass(frozen=True)
class LoadedMaps:
    """Maps as they are applied: once in memory, shared by all threads."""

    record: MapsRecord
    weights: Mapping[int, Tensor | WeightParts]
    """as the product of this machine takes them"""
    biases: Mapping[int, Tensor]

    def apply(self, resid: Tensor, rows: Sequence[int | None], share: Share = one_by_one) -> Tensor:
        """Map rows (row, position, width) of a stream: in float32, whatever the model's dtype.

        ``rows`` the number of each, None for one that is never mapped. What has no map stays as it
        is. One vector gives the same bits however many are mapped with it. ``share`` gives rows to
        threads.
        """
        if not any(row in self.weights for row in rows):
            return resid
        mapped = torch.empty(resid.shape, dtype=torch.float32, device=resid.device)

        def map_row(n: int) -> None:
            row, out = rows[n], mapped[n]
            if row is None or row not in self.weights:
                out.copy_(resid[n])
                return
            weight = self.weights[row]
            if isinstance(weight, Tensor):  # a stream may lie on several devices
                weight = weight.to(resid.device)
            written = product(resid[n].float(), weight, out)
            if written is not out:
                out.copy_(written)
            if row in self.biases:
                out += self.biases[row].to(resid.device)

        share(map_row, range(len(rows)))
        return mapped
