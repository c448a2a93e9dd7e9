"""What a model consists of, as far as the lens cares."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from logitlens_cli.model.anatomy.tensors import Slot, tensor_at, with_tensor


@dataclass(frozen=True)
class Elementwise:
    """What the model does to each raw logit after the head.

    ``kind`` is "scale" (``value * z``) or "soft-cap" (``value * tanh(z / value)``).
    """

    kind: str
    value: float

    def apply_(self, logits: Tensor) -> Tensor:
        """Apply in place; returns ``logits``."""
        if self.kind == "scale":
            return logits.mul_(self.value)
        return logits.div_(self.value).tanh_().mul_(self.value)

    def __str__(self) -> str:
        return f"{self.kind} {self.value:g}"


@dataclass(frozen=True)
class StreamLayout:
    """How a family lays out its residual stream: most (batch, position, width), some otherwise.

    The lens works on the canonical (batch, position, width); several streams of one position, as
    Gemma-3n has, lie behind each other in the width.
    """

    batch: int | None
    """axis; None where batch and position are one axis"""
    position: int
    """axis"""
    rest: tuple[int, ...]
    """sizes of the other axes, in their order"""
    count: int
    """tensors that make up the stream; they lie behind each other too"""

    @property
    def width(self) -> int:
        return self.count * math.prod(self.rest)

    def read(self, value: Any, slots: Sequence[Slot], positions: int) -> Tensor:
        """The canonical stream (batch, position, width) in what a block receives or returns."""
        parallel = [self.canonical(tensor_at(value, slot), positions) for slot in slots]
        return parallel[0] if len(parallel) == 1 else torch.cat(parallel, -1)

    def canonical(self, resid: Tensor, positions: int) -> Tensor:
        """(batch, position, width) of one tensor."""
        if self.batch is None:
            return resid.reshape(-1, positions, math.prod(self.rest))
        moved = resid.movedim((self.batch, self.position), (0, 1))
        return moved.reshape(*moved.shape[:2], -1)

    def write(self, returned: Any, slots: Sequence[Slot], canonical: Tensor) -> Any:
        """What a block returned, with its stream replaced by a canonical one."""
        for slot, chunk in zip(slots, canonical.chunk(self.count, -1), strict=True):
            returned = with_tensor(returned, slot, self.restored(chunk))
        return returned

    def restored(self, canonical: Tensor) -> Tensor:
        """The family's own layout of one canonical tensor."""
        batch, positions = canonical.shape[:2]
        if self.batch is None:
            return canonical.reshape(batch * positions, *self.rest)
        split = canonical.reshape(batch, positions, *self.rest)
        return split.movedim((0, 1), (self.batch, self.position)).contiguous()


@dataclass(frozen=True)
class BlockRun:
    """A block at one of the times that it runs in a pass: once in most models, more often where
    weights are shared."""

    block: nn.Module
    number: int
    """of its calls in a pass, from 0"""
    slots: tuple[Slot, ...]
    """where the stream is in what it returns"""
    returned: Any = field(repr=False)
    """what it returned in the probe: the form of its results"""


@dataclass(frozen=True)
class ModelParts:
    """The parts of a model that the lens needs, in the order in which data flows."""

    runs: tuple[BlockRun, ...]
    """the decoder blocks in the order in which they run"""
    entry: nn.Module
    """receives the stream that the blocks work on: the first block, but where blocks are rows of
    parallel lists (XLM)"""
    entry_slots: tuple[Slot, ...]
    """where the stream is in its ``[args, kwargs]``"""
    layout: StreamLayout
    after: tuple[nn.Module, ...]
    """every module that holds parameters itself and runs after the last block"""
    chain: tuple[nn.Module | float, ...]
    """between the last block and the head: modules (final norm, projection) and constant factors"""
    head: nn.Module
    """maps (..., width) to (..., vocabulary), linear"""
    tail: tuple[Elementwise, ...]
    """elementwise steps after the head"""
    traceable: bool
    """could the way from the last block to the logits be traced? else chain and tail are empty"""
    vocabulary: int
    """number of logits; may be less than the head's rows"""
    names: dict[nn.Module, str] = field(repr=False)
    """qualified name of each part, for provenance"""
    inner: Tensor = field(repr=False)
    """(2, position, width) float32, two inner streams of the probe, for the proof"""
    mids: tuple["MidSite | None", ...] = field(repr=False)
    """by run: where the stream after its attention half is seen; None where there is none;
    empty if they were not looked for"""
    samples_columns: bool
    """does the head take (batch, position, width), so that it can run on some columns only?"""
    idle: tuple[nn.Module, ...] = field(repr=False)
    """modules outside of the blocks that did not run in the probe, without those within others"""
    remembers: tuple[str, ...]
    """buffers and attributes that a pass changes; they are put back after each"""

    @property
    def can_be_direct(self) -> bool:
        """May copies of the tail's modules decode? They need what the head received."""
        return self.traceable and self.samples_columns

    @property
    def blocks(self) -> tuple[nn.Module, ...]:
        """The block of each run, lowest first: one that runs twice is there twice."""
        return tuple(run.block for run in self.runs)

    @property
    def labels(self) -> list[str]:
        """Of the runs: the block's number, in the order in which they first run; ``3.2`` is the
        second run of block 3, where it runs more than once."""
        numbers = {block: n for n, block in enumerate(dict.fromkeys(self.blocks))}
        times = Counter(self.blocks)
        return [
            f"{numbers[run.block]}.{run.number + 1}"
            if times[run.block] > 1
            else str(numbers[run.block])
            for run in self.runs
        ]

    def written(self, run: int, canonical: Tensor) -> Any:
        """What a run returned in the probe, with its stream replaced by a canonical one."""
        return self.layout.write(self.runs[run].returned, self.runs[run].slots, canonical)

    @property
    def dtype(self) -> torch.dtype:
        """Of the residual stream."""
        return tensor_at(self.runs[-1].returned, self.runs[-1].slots[0]).dtype

    @property
    def weight(self) -> Tensor:
        """(rows of the head, width) in the model's dtype"""
        weight = self.head.weight
        assert isinstance(weight, Tensor)
        return weight

    @property
    def bias(self) -> Tensor | None:
        """(rows of the head,)"""
        bias = getattr(self.head, "bias", None)
        return bias if isinstance(bias, Tensor) else None

    def describe(self, direct: bool) -> list[str]:
        """The decode chain, a line a step, from the last block to the logits; by the direct route
        or as the model's own code goes."""

        def name(module: nn.Module) -> str:
            return f"{self.names[module]} ({type(module).__name__})"

        steps = [f"{name(self.blocks[-1])} output"]
        if not direct:
            return [*steps, *map(name, self.after), "logits, by the model's own code"]
        steps += [name(s) if isinstance(s, nn.Module) else f"scale {s:g}" for s in self.chain]
        steps.append(name(self.head) + (" with bias" if self.bias is not None else ""))
        return steps + [str(step) for step in self.tail]


@dataclass(frozen=True)
class MidSite:
    """The module that receives the stream between the two halves of a block."""

    module: nn.Module
    slot: Slot
    """where the stream is in its ``[args, kwargs]``"""
    number: int
    """of its calls in a pass, from 0"""
