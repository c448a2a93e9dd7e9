"""Tiny causal language models that were built to fool the lens, by name.

Test support, not a test. The parts that they share, and how the truth about each is found, are in
`adversary`. A model here says only in what it is unlike an ordinary one.
"""

import re
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from adversary import (
    CONTEXT,
    HUGE,
    SWITCH,
    VOCABULARY,
    WIDTH,
    Adversary,
    Block,
    Config,
    Halves,
    Mix,
    Mlp,
    Rms,
    Run,
    add_bias,
    blocks,
    is_noting,
    note,
    positions_of,
    through,
)
from torch import Tensor, nn

# ---------------------------------------------------------------------------------------------
# 1: one huge logit


class OrdinaryModel(Adversary):
    """Nothing is wrong with it."""


class HugeMaskedLogits(Adversary):
    """Forbids entries by a bias of -1e9, and nothing else."""

    item = 1

    def build(self) -> None:
        add_bias(self)


class InfiniteMaskedLogits(Adversary):
    item = 1

    def build(self) -> None:
        add_bias(self, -torch.inf)


class NormOfTwo(Rms):
    def forward(self, x: Tensor, other: Tensor | None = None) -> Any:
        return super().forward(x if other is None else x + 0.3 * other)


class TailReadsInput(Adversary):
    """`norm(h, x0)`"""

    item = 1

    def build(self) -> None:
        self.norm = NormOfTwo(final=True)

    def run(self, ids: Tensor) -> Run:
        return super().run(ids)[0], self.embed(ids)

    def tail(self, h: Any, context: Any) -> Any:
        return self.head(self.norm(h, context))


class HugeMaskTailReadsInput(TailReadsInput):
    item = 1

    def build(self) -> None:
        super().build()
        add_bias(self)


class MinusInfinityTailReadsInput(TailReadsInput):
    item = 1

    def build(self) -> None:
        super().build()
        add_bias(self, -torch.inf)


class HugeMaskTemperatureByPosition(Adversary):
    item = 1

    def build(self) -> None:
        add_bias(self)

    def tail(self, h: Any, context: Any) -> Any:
        return self.head(self.norm(h)) * (1 + 0.05 * positions_of(h))


class HugeMaskTemperatureBeforeHead(Adversary):
    """The same, where the head is given what is scaled."""

    item = 1

    def build(self) -> None:
        add_bias(self)

    def tail(self, h: Any, context: Any) -> Any:
        return self.head(self.norm(h) * (1 + 0.05 * positions_of(h)))


class HugeLogitOfOneTokenTailReadsInput(TailReadsInput):
    """One entry is as far above the rest as others are below, but for one position in ten."""

    item = 1

    def tail(self, h: Any, context: Any) -> Any:
        logits = super().tail(h, context)
        lifted = (positions_of(h) % 10 == 9).to(h.dtype)
        return torch.cat([logits[..., :-1], logits[..., -1:] + 1e7 * lifted], -1)


class HugeMaskAfterTheHead(TailReadsInput):
    """Forbids entries by writing into the logits."""

    item = 1

    def tail(self, h: Any, context: Any) -> Any:
        logits = super().tail(h, context)
        logits[..., -4:] = torch.finfo(torch.float32).min
        return logits


# ---------------------------------------------------------------------------------------------
# 2: in place


class ClampInPlaceTail(Adversary):
    """`norm(h.clamp_(...))`"""

    item = 2

    def tail(self, h: Any, context: Any) -> Any:
        return self.head(self.norm(h.clamp_(-0.9, 0.9)))


class ClampSomeInPlaceTail(Adversary):
    """The same, where only few numbers are so large."""

    item = 2

    def tail(self, h: Any, context: Any) -> Any:
        return self.head(self.norm(h.clamp_(-2.2, 2.2)))


class AddInPlaceTail(Adversary):
    item = 2

    def run(self, ids: Tensor) -> Run:
        return super().run(ids)[0], self.embed(ids)

    def tail(self, h: Any, context: Any) -> Any:
        return self.head(self.norm(h.add_(context, alpha=0.4)))


class NormInPlaceTail(Adversary):
    """The norm writes into what it is given."""

    item = 2

    class InPlace(Rms):
        def normed(self, x: Tensor) -> Any:
            return x.mul_((x.square().mean(-1, keepdim=True) + 1e-6).rsqrt())

        def forward(self, x: Tensor) -> Any:
            x += 0.3
            return super().forward(x)

    def build(self) -> None:
        self.norm = self.InPlace(final=True)


class InPlaceBlock(Halves):
    def forward(self, h: Tensor, label: str = "") -> Any:
        h += self.attention(self.norm1(h))
        note(f"{label} mid", h)
        h += self.mlp(self.norm2(h))
        return h


class BlocksAddInPlace(Adversary):
    """Every block writes into the tensor that it was given, and returns it."""

    item = 2

    def stack(self) -> nn.ModuleList:
        return blocks(3, InPlaceBlock)


class InPlaceAfterBlock(Adversary):
    """The model scales what a block returned, in place."""

    item = 2

    def run(self, ids: Tensor) -> Run:
        h = self.embed(ids)
        note("input", h)
        for n, block in enumerate(self.blocks):
            h = block(h, str(n))
            note(str(n), h)
            if n < 2:
                h.mul_(0.5).add_(0.2)
        return h, ids


# ---------------------------------------------------------------------------------------------
# 3: blocks that run more than once


class LoopedStack(Adversary):
    """The whole list runs twice."""

    item = 3

    def run(self, ids: Tensor) -> Run:
        h = self.embed(ids)
        note("input", h)
        for turn in (1, 2):
            for n, block in enumerate(self.blocks):
                h = block(h, f"{n}.{turn}")
                note(f"{n}.{turn}", h)
        return h, ids


class EveryBlockTwice(Adversary):
    """0, 0, 1, 1, 2, 2, as MobileLLM-LS."""

    item = 3

    def run(self, ids: Tensor) -> Run:
        h = self.embed(ids)
        note("input", h)
        for n, block in enumerate(self.blocks):
            for turn in (1, 2):
                h = block(h, f"{n}.{turn}")
                note(f"{n}.{turn}", h)
        return h, ids


class OneBlockLooped(Adversary):
    """A universal transformer."""

    item = 3

    def stack(self) -> nn.ModuleList:
        return blocks(1)

    def run(self, ids: Tensor) -> Run:
        h = self.embed(ids)
        note("input", h)
        for turn in range(1, 5):
            h = self.blocks[0](h, f"0.{turn}")
            note(f"0.{turn}", h)
        return h, ids


class SameModuleTwiceInList(Adversary):
    """A list of a, b, a, b."""

    item = 3
    relabelled = ({"0": "0.1", "1": "1.1", "2": "0.2", "3": "1.2"},)

    def stack(self) -> nn.ModuleList:
        a, b = Block(), Block()
        return nn.ModuleList([a, b, a, b])


class LoopWithInjection(Adversary):
    """The input is added before every turn."""

    item = 3

    def run(self, ids: Tensor) -> Run:
        h = x0 = self.embed(ids)
        for turn in (1, 2):
            h = h + 0.5 * x0
            for n, block in enumerate(self.blocks):
                if turn == 1 and n == 0:
                    note("input", h)
                h = block(h, f"{n}.{turn}")
                note(f"{n}.{turn}", h)
        return h, x0


class MoreTurnsForLongTexts(Adversary):
    """Two turns, three for long texts."""

    item = 3

    def run(self, ids: Tensor) -> Run:
        h = self.embed(ids)
        note("input", h)
        for turn in range(1, 4 if ids.shape[1] > SWITCH else 3):
            for n, block in enumerate(self.blocks):
                h = block(h, f"{n}.{turn}")
                note(f"{n}.{turn}", h)
        return h, ids


class SecondTurnForLongTexts(Adversary):
    """Each block runs once; on long texts the list runs twice."""

    item = 3

    def run(self, ids: Tensor) -> Run:
        h = self.embed(ids)
        note("input", h)
        turns = 2 if ids.shape[1] > SWITCH else 1
        for turn in range(1, turns + 1):
            for n, block in enumerate(self.blocks):
                label = f"{n}.{turn}" if turns > 1 else str(n)
                h = block(h, label)
                note(label, h)
        return h, ids


class RefinesFromTheStart(Adversary):
    """What the first turn leaves is added to the embeddings, and the blocks run again."""

    item = 3

    def run(self, ids: Tensor) -> Run:
        x0 = self.embed(ids)
        note("input", x0)
        left = torch.zeros_like(x0)
        for turn in (1, 2):
            h = x0 + 0.5 * left
            for n, block in enumerate(self.blocks):
                h = block(h, f"{n}.{turn}")
                note(f"{n}.{turn}", h)
            left = h
        return left, ids


class OneRowAtATime(Adversary):
    """Blocks run for every text of a batch by itself: once for a lone one."""

    item = 3

    def run(self, ids: Tensor) -> Run:
        def step(block: Any, h: Any, label: str) -> Any:
            return torch.cat([block(row[None], label) for row in h])

        return through(self.embed(ids), self.blocks, step), ids


class TwoCycles(Adversary):
    """Low and high levels take turns on streams of their own, as HRM. The low one's is no stream of
    the tail, so its rows may be left out."""

    item = 3
    ways = (("run", "tail"), ("run_high", "tail"))

    def build(self) -> None:
        self.low = blocks(2)

    def run(self, ids: Tensor, *, every: bool = True) -> Run:
        x0 = self.embed(ids)
        high, low, turn, first = 0.5 * x0, torch.zeros_like(x0), 0, 2 if every else 0
        for cycle in (1, 2):
            for _ in range(2):
                turn += 1
                low = low + high + x0
                if every and turn == 1:
                    note("input", low)
                for n, block in enumerate(self.low):
                    low = block(low, f"{n}.{turn}" if every else "")
                    if every:
                        note(f"{n}.{turn}", low)
            high = high + low
            if not every and cycle == 1:
                note("input", high)
            for n, block in enumerate(self.blocks):
                high = block(high, f"{first + n}.{cycle}")
                note(f"{first + n}.{cycle}", high)
        return high, ids

    def run_high(self, ids: Tensor) -> Run:
        return self.run(ids, every=False)


# ---------------------------------------------------------------------------------------------
# 4: more than one list


class PreludeCoreCoda(Adversary):
    """Three lists, one after the other."""

    item = 4
    turns = 1

    def build(self) -> None:
        self.prelude, self.coda = blocks(2), blocks(2)

    def run(self, ids: Tensor) -> Run:
        h = self.embed(ids)
        note("input", h)
        n = 0
        for stack in (self.prelude, self.blocks, self.coda):
            turns = self.turns if stack is self.blocks else 1
            for turn in range(1, turns + 1):
                for k, block in enumerate(stack):
                    label = f"{n + k}.{turn}" if turns > 1 else str(n + k)
                    h = block(h, label)
                    note(label, h)
            n += len(stack)
        return h, ids


class PreludeLoopedCoreCoda(PreludeCoreCoda):
    item = 4
    turns = 3


class TailBlockInList(Adversary):
    """The last block is in a list of its own. It may count as a block or as part of the tail."""

    item = 4
    ways = (("run", "tail"), ("run_body", "tail_with_block"))

    def build(self) -> None:
        self.post = blocks(1)

    def run_body(self, ids: Tensor) -> Run:
        return super().run(ids)

    def run(self, ids: Tensor) -> Run:
        h, context = self.run_body(ids)
        h = self.post[0](h, "3")
        note("3", h)
        return h, context

    def tail_with_block(self, h: Any, context: Any) -> Any:
        return self.tail(self.post[0](h), context)


class TailMlpInList(Adversary):
    """A list of one module with children after the blocks, which is no block: it adds nothing to
    the stream but replaces it."""

    item = 4

    def build(self) -> None:
        self.post = blocks(1, Mlp)

    def tail(self, h: Any, context: Any) -> Any:
        return self.head(self.norm(self.post[0](h)))


class TwoListsInTurn(Adversary):
    """Local and global blocks take turns, each kind in a list of its own."""

    item = 4

    def build(self) -> None:
        self.others = blocks(3)

    def run(self, ids: Tensor) -> Run:
        h = self.embed(ids)
        note("input", h)
        for n, pair in enumerate(zip(self.blocks, self.others, strict=True)):
            for k, block in enumerate(pair):
                h = block(h, str(2 * n + k))
                note(str(2 * n + k), h)
        return h, ids


class HalvesInParallelLists(Adversary):
    """A block is a row of two lists, whose members only give what is added."""

    item = 4

    def stack(self) -> nn.ModuleList:
        return blocks(3, Mix)

    def build(self) -> None:
        self.mlps = blocks(3, Mlp)

    def run(self, ids: Tensor) -> Run:
        h = self.embed(ids)
        note("input", h)
        for n, (mix, mlp) in enumerate(zip(self.blocks, self.mlps, strict=True)):
            h = h + mix(h)
            note(f"{n} mid", h)
            h = h + mlp(h)
            note(str(n), h)
        return h, ids


class DeadBlocksAfterTheLast(Adversary):
    """Blocks that foresee further tokens run last; nothing of theirs is in the logits."""

    item = 4

    def build(self) -> None:
        self.foresight = blocks(2)

    def run(self, ids: Tensor) -> Run:
        h, context = super().run(ids)
        ahead = h
        for block in self.foresight:
            ahead = block(ahead)
        return h, context


class NarrowPrelude(Adversary):
    """Blocks of another width come first."""

    item = 4

    def build(self) -> None:
        self.embed = nn.Embedding(VOCABULARY, 8)
        self.prelude = blocks(2, lambda: Block(8))
        self.widen = nn.Linear(8, WIDTH)

    def run(self, ids: Tensor) -> Run:
        h = self.embed(ids)
        for block in self.prelude:
            h = block(h)
        return through(self.widen(h), self.blocks), ids


class Stage(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = blocks(2)


class StagesOfBlocks(Adversary):
    """Blocks in lists in a list. Stages may count as blocks, since they are in a row too."""

    item = 4
    ways = (("run", "tail"), ("run_stages", "tail"))

    def stack(self) -> nn.ModuleList:
        return nn.ModuleList(nn.Sequential(Block(), Block()) for _ in range(3))

    def run(self, ids: Tensor, *, stages: bool = False) -> Run:
        h = self.embed(ids)
        note("input", h)
        for n, stage in enumerate(self.blocks):
            if not is_noting():
                h = stage(h)
            else:
                for k, block in enumerate(stage):
                    h = block(h)
                    if not stages:
                        note(str(2 * n + k), h)
                if stages:
                    note(str(n), h)
        return h, ids

    def run_stages(self, ids: Tensor) -> Run:
        return self.run(ids, stages=True)


# ---------------------------------------------------------------------------------------------
# 5: which tensor is the stream


class PositionsFirst(Adversary):
    """`block(position, h)`"""

    item = 5

    class Positioned(Halves):
        def forward(self, position: Tensor, h: Tensor, label: str = "") -> Any:
            h = h + self.attention(self.norm1(h + position))
            note(f"{label} mid", h)
            return h + self.mlp(self.norm2(h))

    def stack(self) -> nn.ModuleList:
        return blocks(3, self.Positioned)

    def build(self) -> None:
        self.places = nn.Embedding(CONTEXT, WIDTH)

    def beside(self, n: int, ids: Tensor) -> tuple[Tensor, ...]:
        place = torch.arange(ids.shape[1], device=ids.device)
        return (self.places(place).expand(*ids.shape, -1),)

    def run(self, ids: Tensor) -> Run:
        def step(block: Any, h: Any, label: str) -> Any:
            return block(*self.beside(int(label), ids), h, label)

        return through(self.embed(ids), self.blocks, step), ids


class PerLayerInputsFirst(PositionsFirst):
    """Every block gets an embedding of its own before the stream."""

    item = 5

    def build(self) -> None:
        self.per_layer = nn.Embedding(VOCABULARY, 3 * WIDTH)

    def beside(self, n: int, ids: Tensor) -> tuple[Tensor, ...]:
        return (self.per_layer(ids).chunk(3, -1)[n],)


class InputFirstOfTwo(PositionsFirst):
    """Every block gets the embeddings first, which the stream of block 0 is twice."""

    item = 5

    def build(self) -> None:
        pass

    def run(self, ids: Tensor) -> Run:
        x0 = self.embed(ids)
        h = x0 + 0.7 * torch.tanh(x0)
        note("input", h)
        for n, block in enumerate(self.blocks):
            h = block(x0, h, str(n))
            note(str(n), h)
        return h, ids


class MaskFirst(Adversary):
    """`block(mask, h)`, the mask of floats."""

    item = 5

    class Masked(Halves):
        def forward(self, mask: Tensor, h: Tensor, label: str = "") -> Any:
            weights = mask.softmax(-1)[0]
            h = h + weights @ self.attention.value(self.norm1(h))
            note(f"{label} mid", h)
            return h + self.mlp(self.norm2(h))

    def stack(self) -> nn.ModuleList:
        return blocks(3, self.Masked)

    def run(self, ids: Tensor) -> Run:
        h = self.embed(ids)
        note("input", h)
        length = ids.shape[1]
        mask = h.new_full((1, 1, length, length), -1e4).triu(1)
        for n, block in enumerate(self.blocks):
            h = block(mask, h, str(n))
            note(str(n), h)
        return h, ids


class RotationFirst(PositionsFirst):
    """Cosines and sines before the stream, of its own shape."""

    item = 5

    class Positioned(Halves):
        def forward(self, cos: Tensor, sin: Tensor, h: Tensor, label: str = "") -> Any:
            x = self.norm1(h)
            h = h + self.attention(x * cos + x.flip(-1) * sin)
            note(f"{label} mid", h)
            return h + self.mlp(self.norm2(h))

    def build(self) -> None:
        pass

    def beside(self, n: int, ids: Tensor) -> tuple[Tensor, ...]:
        place = torch.arange(ids.shape[1], device=ids.device, dtype=self.dtype)[:, None]
        angle = place * torch.linspace(0.1, 2, WIDTH, dtype=self.dtype)
        return angle.cos().expand(*ids.shape, -1), angle.sin().expand(*ids.shape, -1)


class DelayedResidual(Adversary):
    """A block returns what is to be added, and the stream without it; the next one adds them."""

    item = 5

    class Delayed(Halves):
        def forward(self, delta: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
            h = delta if h is None else h + delta
            h = h + self.attention(self.norm1(h))
            return self.mlp(self.norm2(h)), h

    def stack(self) -> nn.ModuleList:
        return blocks(3, self.Delayed)

    def run(self, ids: Tensor) -> Run:
        delta, h = self.embed(ids), None
        note("input", delta, torch.zeros_like(delta))
        for n, block in enumerate(self.blocks):
            delta, h = block(delta, h)
            note(str(n), delta, h)
        return (delta, h), ids

    def tail(self, h: Any, context: Any) -> Any:
        return self.head(self.norm(h[0] + h[1]))


class ValueResidual(Adversary):
    """A block returns its values beside the stream; those of the first go into all others."""

    item = 5

    class Valued(Halves):
        def forward(self, h: Tensor, first: Tensor | None, label: str) -> tuple[Tensor, Tensor]:
            value = self.attention(self.norm1(h))
            h = h + (value if first is None else 0.5 * (value + first))
            note(f"{label} mid", h)
            return h + self.mlp(self.norm2(h)), value

    def stack(self) -> nn.ModuleList:
        return blocks(3, self.Valued)

    def run(self, ids: Tensor) -> Run:
        h, first = self.embed(ids), None
        note("input", h)
        for n, block in enumerate(self.blocks):
            h, value = block(h, first, str(n))
            first = value if first is None else first
            note(str(n), h)
        return h, ids


class AttentionOutputSecond(Adversary):
    """A block returns what its attention added beside the stream, and nobody reads it."""

    item = 5
    order = 1

    class Both(Halves):
        def forward(self, h: Tensor, label: str = "") -> tuple[Tensor, Tensor]:
            added = self.attention(self.norm1(h))
            h = h + added
            note(f"{label} mid", h)
            return h + self.mlp(self.norm2(h)), added

    def stack(self) -> nn.ModuleList:
        return blocks(3, self.Both)

    def run(self, ids: Tensor) -> Run:
        step = lambda block, h, label: block(h, label)[0]  # noqa: E731
        return through(self.embed(ids), self.blocks, step), ids


class AttentionOutputFirst(AttentionOutputSecond):
    """The same, the stream last."""

    item = 5

    class Both(AttentionOutputSecond.Both):
        def forward(self, h: Tensor, label: str = "") -> tuple[Tensor, Tensor]:
            out, added = super().forward(h, label)
            return added, out

    def stack(self) -> nn.ModuleList:
        return blocks(3, self.Both)

    def run(self, ids: Tensor) -> Run:
        h = self.embed(ids)
        note("input", h)
        for n, block in enumerate(self.blocks):
            h = block(h, str(n))[1]
            note(str(n), h)
        return h, ids


class ReversibleStreams(Adversary):
    """Two streams of one shape in a tuple, as Reformer; both are in the tail."""

    item = 5

    class Reversible(Halves):
        def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
            a = a + self.attention(self.norm1(b))
            return a, b + self.mlp(self.norm2(a))

    def stack(self) -> nn.ModuleList:
        return blocks(3, self.Reversible)

    def run(self, ids: Tensor) -> Run:
        a = b = self.embed(ids)
        note("input", a, b)
        for n, block in enumerate(self.blocks):
            a, b = block(a, b)
            note(str(n), a, b)
        return (a, b), ids

    def tail(self, h: Any, context: Any) -> Any:
        return self.head(self.norm(h[0] + 0.6 * h[1]))


class SkipsAcross(Adversary):
    """The last block takes what the first one left, before the stream."""

    item = 5

    class Skipping(Halves):
        def forward(self, skip: Tensor, h: Tensor, label: str = "") -> Any:
            return self.halves(h + 0.5 * skip, label)

    def stack(self) -> nn.ModuleList:
        return nn.ModuleList([Block(), Block(), self.Skipping()])

    def run(self, ids: Tensor) -> Run:
        h = self.embed(ids)
        note("input", h)
        first = h
        for n, block in enumerate(self.blocks):
            h = block(first, h, "2") if n == 2 else block(h, str(n))
            first = h if n == 0 else first
            note(str(n), h)
        return h, ids


# ---------------------------------------------------------------------------------------------
# 6: what `--norm no-affine` and `none` take away


class BertLikeHead(Adversary):
    """Dense, an activation and a norm within one module before the head."""

    item = 6

    class Transform(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Linear(WIDTH, WIDTH)
            self.norm = Rms(bias=True, final=True)

        def forward(self, x: Tensor) -> Any:
            return self.norm(nn.functional.gelu(2 * self.dense(x)))

    def build(self) -> None:
        self.norm = self.Transform()


class NormWithinAModule(Adversary):
    item = 6

    class Wrapper(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Rms(bias=True, final=True)

        def forward(self, x: Tensor) -> Any:
            return self.inner(x)

    def build(self) -> None:
        self.norm = self.Wrapper()


class NormOfOneByOneByWidth(Adversary):
    item = 6

    def build(self) -> None:
        self.norm = Rms((1, 1, WIDTH), final=True)


class NormOfGroups(Adversary):
    """A gain of two rows, one for each half of the width, each normed by itself."""

    item = 6

    class Grouped(Rms):
        def normed(self, x: Tensor) -> Any:
            return super().normed(x.view(*x.shape[:-1], 2, -1))

        def forward(self, x: Tensor) -> Any:
            y = super().forward(x)
            return y if y.shape == x.shape else y.flatten(-2)

    def build(self) -> None:
        self.norm = self.Grouped((2, WIDTH // 2), final=True)


class NormOfOnePlusGain(Adversary):
    """As Gemma."""

    item = 6

    class PlusOne(Rms):
        def affine(self, y: Tensor) -> Any:
            return y * (1 + self.weight)

    def build(self) -> None:
        self.norm = self.PlusOne(final=True)
        self.norm.weight.data -= 1


class NormOfHalfPlusGain(Adversary):
    """What changes nothing is a gain of a half, neither 0 nor 1."""

    item = 6

    class PlusHalf(Rms):
        def affine(self, y: Tensor) -> Any:
            return y * (0.5 + self.weight)

    def build(self) -> None:
        self.norm = self.PlusHalf(final=True)


class NormOfExponentialGain(Adversary):
    item = 6

    class Exponential(Rms):
        def affine(self, y: Tensor) -> Any:
            return y * self.weight.exp()

    def build(self) -> None:
        self.norm = self.Exponential(final=True)


class NormOfOneNumber(Adversary):
    """The gain is a scalar."""

    item = 6

    def build(self) -> None:
        self.norm = Rms((), final=True)
        self.norm.weight.data.fill_(1.7)


class NormWithStatistics(Adversary):
    """A batch norm in the mode of inference: constants, not the input's own size."""

    item = 6

    class Statistics(Rms):
        mean: Tensor
        deviation: Tensor

        def __init__(self) -> None:
            super().__init__(bias=True, final=True)
            self.register_buffer("mean", 0.3 * torch.randn(WIDTH))
            self.register_buffer("deviation", 1 + torch.rand(WIDTH))

        def normed(self, x: Tensor) -> Any:
            return (x - self.mean) / self.deviation

    def build(self) -> None:
        self.norm = self.Statistics()


class TwoNorms(Adversary):
    """One after the other; both are final."""

    item = 6

    def build(self) -> None:
        self.second = Rms(bias=True, final=True)

    def tail(self, h: Any, context: Any) -> Any:
        return self.head(self.second(self.norm(h)))


class GainAfterNorm(Adversary):
    """A vector of factors that is no norm stands behind the norm. It may count as its gain."""

    item = 6
    ways = (("run", "tail"), ("run", "tail_with_gain_as_affine"))

    class Gain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(1 + 0.5 * torch.randn(WIDTH))

        def forward(self, x: Tensor) -> Any:
            return x * self.factor

    def build(self) -> None:
        self.gain = self.Gain()

    def tail(self, h: Any, context: Any) -> Any:
        return self.head(self.gain(self.norm(h)))

    def tail_with_gain_as_affine(self, h: Any, context: Any) -> Any:
        return self.head(self.norm(h)) if self.mode == "no-affine" else self.tail(h, context)


class TanhAfterNorm(Adversary):
    """A module without parameters, which is no norm, stands behind the norm."""

    item = 6

    def build(self) -> None:
        self.squash = nn.Tanh()

    def tail(self, h: Any, context: Any) -> Any:
        return self.head(self.squash(self.norm(h)))


class NormOfTheModelItself(Adversary):
    """The gain is the model's own parameter, and no module norms."""

    item = 6

    def build(self) -> None:
        del self.norm
        self.gain = nn.Parameter(1 + 0.4 * torch.randn(WIDTH))

    def tail(self, h: Any, context: Any) -> Any:
        if self.mode == "none":
            return self.head(h)
        y = h * (h.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
        return self.head(y if self.mode == "no-affine" else y * self.gain)


class NoNormAtAll(Adversary):
    item = 6

    def tail(self, h: Any, context: Any) -> Any:
        return self.head(h)


# ---------------------------------------------------------------------------------------------
# 7: what the probe does not vary


class CouplesManyRows(Adversary):
    """Texts that share a pass blend in the tail, where they are more than two."""

    item = 7

    def tail(self, h: Any, context: Any) -> Any:
        if len(h) > 2:
            h = 0.7 * h + 0.3 * h.mean(0, keepdim=True)
        return self.head(self.norm(h))


class CouplesAnyRows(Adversary):
    item = 7

    def tail(self, h: Any, context: Any) -> Any:
        return self.head(self.norm(0.7 * h + 0.3 * h.mean(0, keepdim=True)))


class CouplesManyRowsInBlocks(Adversary):
    """The same in a block."""

    item = 7

    class Coupled(Halves):
        def forward(self, h: Tensor, label: str = "") -> Any:
            if len(h) > 1:
                h = 0.8 * h + 0.2 * h.mean(0, keepdim=True)
            return self.halves(h, label)

    def stack(self) -> nn.ModuleList:
        return nn.ModuleList([Block(), self.Coupled(), Block()])


class LoneRowIsHotter(Adversary):
    """A text by itself has another temperature than two."""

    item = 7

    def tail(self, h: Any, context: Any) -> Any:
        return self.head(self.norm(h)) * (1.6 if len(h) == 1 else 1.0)


class TailAddsPositions(Adversary):
    item = 7

    def build(self) -> None:
        self.places = nn.Embedding(CONTEXT, WIDTH)

    def tail(self, h: Any, context: Any) -> Any:
        place = torch.arange(h.shape[1], device=h.device)
        return self.head(self.norm(h + self.places(place)))


class LaterPositionsAreHotter(Adversary):
    """A temperature that begins to depend on the position after the tenth."""

    item = 7

    def tail(self, h: Any, context: Any) -> Any:
        return self.head(self.norm(h)) * (1 + 0.1 * (positions_of(h) - 10).clamp(min=0))


class LongTextsAreHotter(Adversary):
    """A temperature by length, of long texts only."""

    item = 7

    def tail(self, h: Any, context: Any) -> Any:
        return self.head(self.norm(h)) * (1.5 if h.shape[1] > SWITCH else 1.0)


class LongTextsChangeNorm(Adversary):
    """Another norm for long texts."""

    item = 7

    def build(self) -> None:
        self.other = Rms(bias=True, final=True)

    def tail(self, h: Any, context: Any) -> Any:
        return self.head((self.other if h.shape[1] > SWITCH else self.norm)(h))


class LongRope(Adversary):
    """All positions are turned otherwise as soon as the text is long."""

    item = 7
    threshold = SWITCH

    class Turning(Halves):
        def forward(self, h: Tensor, label: str = "", slow: float = 1.0) -> Any:
            angle = slow * positions_of(h) * torch.linspace(0.1, 1, WIDTH, dtype=h.dtype)
            x = self.norm1(h)
            h = h + self.attention(x * angle.cos() + x.flip(-1) * angle.sin())
            note(f"{label} mid", h)
            return h + self.mlp(self.norm2(h))

    def stack(self) -> nn.ModuleList:
        return blocks(3, self.Turning)

    def run(self, ids: Tensor) -> Run:
        h = self.embed(ids)
        note("input", h)
        for n, block in enumerate(self.blocks):
            h = block(h, str(n), 0.25 if ids.shape[1] > self.threshold else 1.0)
            note(str(n), h)
        return h, ids


class LongRopeOfTheConfiguration(LongRope):
    """The same, where the configuration says how long is long."""

    item = 7
    threshold = 90

    def build(self) -> None:
        self.config = Config(original_max_position_embeddings=90)


class LogarithmOfLength(Adversary):
    """Attention is scaled by the logarithm of the whole text's length."""

    item = 7

    class Scaled(Halves):
        def forward(self, h: Tensor, label: str = "") -> Any:
            length = torch.tensor(max(h.shape[1], SWITCH) / SWITCH, dtype=h.dtype)
            h = h + (1 + 2 * length.log()) * self.attention(self.norm1(h))
            note(f"{label} mid", h)
            return h + self.mlp(self.norm2(h))

    def stack(self) -> nn.ModuleList:
        return blocks(3, self.Scaled)


class NormForOneToken(Adversary):
    """One token of the vocabulary has a norm of its own in the tail."""

    item = 7
    token = ord("z")

    def build(self) -> None:
        self.other = Rms(bias=True, final=True)

    def tail(self, h: Any, context: Any) -> Any:
        special = (context == self.token).unsqueeze(-1)
        return self.head(torch.where(special, self.other(h), self.norm(h)))


class NormForARareToken(NormForOneToken):
    """The same for a token that comes once in the long text."""

    item = 7
    token = ord("q")


class PrefixInTheTail(Adversary):
    """The tail blends every position with the mean of those before it."""

    item = 7

    def tail(self, h: Any, context: Any) -> Any:
        mean = h.cumsum(1) / (1 + positions_of(h))
        return self.head(self.norm(h + 0.6 * mean))


class PreviousPositionInTheTail(Adversary):
    item = 7

    def tail(self, h: Any, context: Any) -> Any:
        before = torch.cat([torch.zeros_like(h[:, :1]), h[:, :-1]], 1)
        return self.head(self.norm(h + 0.6 * before))


class FarPositionInTheTail(Adversary):
    """A position is blended with the one nine before it, which a short probe does not reach."""

    item = 7

    def tail(self, h: Any, context: Any) -> Any:
        before = torch.cat([torch.zeros_like(h[:, :9]), h[:, :-9]], 1)[:, : h.shape[1]]
        return self.head(self.norm(h + 0.6 * before))


class ChunkedHead(Adversary):
    """The head runs on eight positions at a time: more than once, where texts are longer."""

    item = 7

    def tail(self, h: Any, context: Any) -> Any:
        h = self.norm(h)
        return torch.cat([self.head(part) for part in torch.split(h, 8, 1)], 1)


# ---------------------------------------------------------------------------------------------
# 8: middles


class ThreePartBlocks(Adversary):
    """MLP, attention, MLP: the middle is after the attention."""

    item = 8

    class Three(Halves):
        def __init__(self) -> None:
            super().__init__()
            self.norm0, self.mlp0 = Rms(), Mlp()

        def forward(self, h: Tensor, label: str = "") -> Any:
            return self.halves(h + 0.5 * self.mlp0(self.norm0(h)), label)

    def stack(self) -> nn.ModuleList:
        return blocks(3, self.Three)


class AttentionTwice(Adversary):
    """Attention, attention, MLP: the middle is before the MLP."""

    item = 8

    class Twice(Halves):
        def __init__(self) -> None:
            super().__init__()
            self.norm0, self.attention0 = Rms(), Mix()

        def forward(self, h: Tensor, label: str = "") -> Any:
            return self.halves(h + self.attention0(self.norm0(h)), label)

    def stack(self) -> nn.ModuleList:
        return blocks(3, self.Twice)


class MlpBeforeAttention(Adversary):
    """The halves the other way round: nothing is between attention and MLP in this order."""

    item = 8

    class Reversed(Halves):
        def forward(self, h: Tensor, label: str = "") -> Any:
            h = h + self.mlp(self.norm2(h))
            return h + self.attention(self.norm1(h))

    def stack(self) -> nn.ModuleList:
        return blocks(3, self.Reversed)


class ParallelHalves(Adversary):
    item = 8

    class Parallel(Halves):
        def forward(self, h: Tensor, label: str = "") -> Any:
            x = self.norm1(h)
            return h + self.attention(x) + self.mlp(x)

    def stack(self) -> nn.ModuleList:
        return blocks(3, self.Parallel)


class ChunkedMlp(Adversary):
    """The MLP of a block runs on eight positions at a time."""

    item = 8

    class Chunked(Halves):
        def forward(self, h: Tensor, label: str = "") -> Any:
            h = h + self.attention(self.norm1(h))
            note(f"{label} mid", h)
            return torch.cat(
                [part + self.mlp(self.norm2(part)) for part in torch.split(h, 8, 1)], 1
            )

    def stack(self) -> nn.ModuleList:
        return blocks(3, self.Chunked)


# ---------------------------------------------------------------------------------------------
# 9: low precision


class Bfloat16(Adversary):
    """Nothing is wrong with it but its precision."""

    item = 9
    dtype_of_body = torch.bfloat16

    def build(self) -> None:
        self.head.weight.data *= 1.5

    def tail(self, h: Any, context: Any) -> Any:
        x = self.norm(h)
        note("head", x)
        return self.head(x)


class Bfloat16SmallBias(Bfloat16):
    """A bias of the size of 1 % is added between norm and head."""

    item = 9

    def build(self) -> None:
        super().build()
        self.extra = nn.Parameter(0.012 * torch.randn(WIDTH))

    def tail(self, h: Any, context: Any) -> Any:
        x = self.norm(h) + self.extra
        note("head", x)
        return self.head(x)


# ---------------------------------------------------------------------------------------------
# 10: memory


class MemoryInABuffer(Adversary):
    """Every call adds to a mean, which goes into the next call's stream."""

    item = 10
    memory: Tensor

    def build(self) -> None:
        self.register_buffer("memory", 0.1 * torch.randn(WIDTH))

    def run(self, ids: Tensor) -> Run:
        h = self.embed(ids) + 0.5 * self.memory
        note("input", h)
        for n, block in enumerate(self.blocks):
            h = block(h, str(n))
            note(str(n), h)
        self.memory.copy_(0.5 * self.memory + h.mean((0, 1)))
        return h, ids


class MemoryInAnAttribute(MemoryInABuffer):
    """The same in a plain attribute."""

    item = 10

    def build(self) -> None:
        self.seen = [0.1]

    def run(self, ids: Tensor) -> Run:
        h = self.embed(ids) + 0.4 * sum(self.seen)
        note("input", h)
        for n, block in enumerate(self.blocks):
            h = block(h, str(n))
            note(str(n), h)
        self.seen.append(float(h.mean()))
        return h, ids


class CountsItsCalls(Adversary):
    """Logits get hotter with every call."""

    item = 10
    remembers = True

    def build(self) -> None:
        self.calls = 0

    def tail(self, h: Any, context: Any) -> Any:
        self.calls += 1
        return self.head(self.norm(h)) * (1 + 0.1 * self.calls)


class MemoryInTheTail(Adversary):
    item = 10
    remembers = True
    memory: Tensor

    def build(self) -> None:
        self.register_buffer("memory", 0.5 * torch.randn(WIDTH))

    def tail(self, h: Any, context: Any) -> Any:
        logits = self.head(self.norm(h + self.memory))
        self.memory.copy_(0.8 * self.memory + h.mean((0, 1)))
        return logits


class TailReadsAnAttribute(Adversary):
    """The first block leaves its input in an attribute, which the tail adds."""

    item = 10

    class Keeping(Halves):
        kept: Tensor

        def forward(self, h: Tensor, label: str = "") -> Any:
            self.kept = h.clone()
            return self.halves(h, label)

    def stack(self) -> nn.ModuleList:
        return nn.ModuleList([self.Keeping(), Block(), Block()])

    def tail(self, h: Any, context: Any) -> Any:
        return self.head(self.norm(h + 0.5 * self.blocks[0].kept))


class CountsInSlots(Adversary):
    """Every call finds another input; the count is in an object that has no dictionary."""

    item = 10

    class Count:
        __slots__ = ("calls",)

        def __init__(self) -> None:
            self.calls = 1

    def build(self) -> None:
        self.count = self.Count()

    def run(self, ids: Tensor) -> Run:
        self.count.calls += 1
        return through(self.embed(ids) * (1 - 0.5 / self.count.calls), self.blocks), ids


class CountsInAnArray(Adversary):
    """The same in an array of numpy."""

    item = 10

    def build(self) -> None:
        self.count = np.ones(1)

    def run(self, ids: Tensor) -> Run:
        self.count += 1
        return through(self.embed(ids) * (1 - 0.5 / float(self.count[0])), self.blocks), ids


# ---------------------------------------------------------------------------------------------
# Shapes that crashed


class TwoStreamsInFront(Adversary):
    """Streams (2, batch, position, width): the axis of streams is as long as the probe's batch."""

    item = 11
    axis, count = 0, 2

    class Streams(Halves):
        def forward(self, h: Tensor, axis: int, label: str = "") -> Any:
            parts = h.unbind(axis)
            x = self.attention(self.norm1(parts[0])) + self.mlp(self.norm2(parts[-1]))
            added = torch.stack([x * (1 + 0.3 * k) for k in range(len(parts))], axis)
            return h + added

    def stack(self) -> nn.ModuleList:
        return blocks(3, self.Streams)

    def run(self, ids: Tensor) -> Run:
        h = torch.stack([self.embed(ids) * (1 - 0.1 * k) for k in range(self.count)], self.axis)
        note("input", h)
        for n, block in enumerate(self.blocks):
            h = block(h, self.axis, str(n))
            note(str(n), h)
        return h, ids

    def tail(self, h: Any, context: Any) -> Any:
        return self.head(self.norm(h.mean(self.axis)))


class SevenStreamsInFront(TwoStreamsInFront):
    """As many streams as the probe has tokens."""

    item = 11
    axis, count = 0, 7


class SevenStreamsBehindBatch(TwoStreamsInFront):
    item = 11
    axis, count = 1, 7


class TwoStreamsBehindPosition(TwoStreamsInFront):
    item = 11
    axis, count = 2, 2


class ChannelsFirst(Adversary):
    """Streams (batch, width, position)."""

    item = 11

    class Turned(Halves):
        def forward(self, h: Tensor, label: str = "") -> Any:
            return self.halves(h.mT, label).mT

        def as_stream(self, h: Tensor) -> Tensor:
            return h.mT

    def stack(self) -> nn.ModuleList:
        return blocks(3, self.Turned)

    def run(self, ids: Tensor) -> Run:
        return through(self.embed(ids).mT, self.blocks), ids

    def tail(self, h: Any, context: Any) -> Any:
        return self.head(self.norm(h.mT))


class SevenChannelsFirst(ChannelsFirst):
    """Streams (batch, 7, position), as wide as the probe is long."""

    item = 11

    def stack(self) -> nn.ModuleList:
        return blocks(3, lambda: self.Turned(7))

    def build(self) -> None:
        self.embed = nn.Embedding(VOCABULARY, 7)
        self.norm = Rms((7,), final=True)
        self.head = nn.Linear(7, VOCABULARY, bias=False)
        nn.init.normal_(self.head.weight)


class TimeFirst(Adversary):
    """Streams (position, batch, width), and the head takes them so."""

    item = 11

    class Turned(Halves):
        def forward(self, h: Tensor, label: str = "") -> Any:
            return self.halves(h.transpose(0, 1), label).transpose(0, 1)

        def as_stream(self, h: Tensor) -> Tensor:
            return h.transpose(0, 1)

    def stack(self) -> nn.ModuleList:
        return blocks(3, self.Turned)

    def run(self, ids: Tensor) -> Run:
        return through(self.embed(ids).transpose(0, 1), self.blocks), ids

    def tail(self, h: Any, context: Any) -> Any:
        return self.head(self.norm(h)).transpose(0, 1)


class EarlyExitOfShortTexts(Adversary):
    """Short texts leave after the second block."""

    item = 11
    most = 8

    def depth(self, ids: Tensor) -> int:
        return 2 if ids.shape[1] <= self.most else 3

    def run(self, ids: Tensor) -> Run:
        h = self.embed(ids)
        note("input", h)
        for n in range(self.depth(ids)):
            h = self.blocks[n](h, str(n))
            note(str(n), h)
        return h, ids


class EarlyExitOfLongTexts(EarlyExitOfShortTexts):
    item = 11

    def depth(self, ids: Tensor) -> int:
        return 2 if ids.shape[1] > 9 else 3


class EarlyExitBySize(EarlyExitOfShortTexts):
    """A text leaves as soon as its stream is large: the block after is never called."""

    item = 11

    def run(self, ids: Tensor) -> Run:
        h = self.embed(ids)
        note("input", h)
        for n, block in enumerate(self.blocks):
            if n == 2 and bool((ids == ord("z")).any()):
                break
            h = block(h, str(n))
            note(str(n), h)
        return h, ids


# ---------------------------------------------------------------------------------------------
# Of our own invention


class SoftPrompt(Adversary):
    """Three learned vectors stand before the text within the blocks."""

    def build(self) -> None:
        self.prefix = nn.Parameter(torch.randn(3, WIDTH))

    def run(self, ids: Tensor) -> Run:
        return through(
            torch.cat([self.prefix.expand(len(ids), -1, -1), self.embed(ids)], 1), self.blocks
        ), ids

    def tail(self, h: Any, context: Any) -> Any:
        return self.head(self.norm(h[:, 3:]))


class Hourglass(Adversary):
    """The middle block sees every second position only, so it has no row."""

    relabelled = ({"2": "1"},)

    def run(self, ids: Tensor) -> Run:
        h = self.embed(ids)
        note("input", h)
        h = self.blocks[0](h, "0")
        note("0", h)
        short = self.blocks[1](h[:, ::2])
        h = self.blocks[2](h + short.repeat_interleave(2, 1)[:, : h.shape[1]], "2")
        note("2", h)
        return h, ids


class FunctionalHead(Adversary):
    """The head is a matrix that no module multiplies with."""

    def tail(self, h: Any, context: Any) -> Any:
        return nn.functional.linear(self.norm(h), self.head.weight)


class OtherHead(Adversary):
    """`get_output_embeddings` names a head that the logits are not made by."""

    def build(self) -> None:
        self.real = nn.Linear(WIDTH, VOCABULARY, bias=False)
        nn.init.normal_(self.real.weight)

    def tail(self, h: Any, context: Any) -> Any:
        return self.real(self.norm(h))


class TwoHeads(Adversary):
    """Logits are the sum of two heads'."""

    def build(self) -> None:
        self.second = nn.Linear(WIDTH, VOCABULARY, bias=False)
        nn.init.normal_(self.second.weight)

    def tail(self, h: Any, context: Any) -> Any:
        return self.head(self.norm(h)) + self.second(torch.tanh(h))


class PointerHead(Adversary):
    """Tokens of the text so far get more."""

    def tail(self, h: Any, context: Any) -> Any:
        logits = self.head(self.norm(h))
        hits = nn.functional.one_hot(context, VOCABULARY).to(h.dtype)
        return logits + 2 * hits.cumsum(1)


class LogProbabilities(Adversary):
    def tail(self, h: Any, context: Any) -> Any:
        return self.head(self.norm(h)).log_softmax(-1)


class RolledVocabulary(Adversary):
    def tail(self, h: Any, context: Any) -> Any:
        return self.head(self.norm(h)).roll(1, -1)


class TrimmedVocabulary(Adversary):
    """The head has rows that no logit is made of."""

    def build(self) -> None:
        self.head = nn.Linear(WIDTH, VOCABULARY + 8, bias=False)
        nn.init.normal_(self.head.weight)

    def tail(self, h: Any, context: Any) -> Any:
        return self.head(self.norm(h))[..., :VOCABULARY]


class SoftCapByEntry(Adversary):
    """Every entry has a soft-cap of its own."""

    def build(self) -> None:
        self.caps = nn.Parameter(5 + 5 * torch.rand(VOCABULARY))

    def tail(self, h: Any, context: Any) -> Any:
        return self.caps * (self.head(self.norm(h)) / self.caps).tanh()


class SoftCapOfLargeLogits(Adversary):
    """Logits beyond 301 in size are cut, which the known numbers of the probe do not reach."""

    def build(self) -> None:
        self.head.weight.data *= 80

    def tail(self, h: Any, context: Any) -> Any:
        return self.head(self.norm(h)).clamp(-301, 301)


class CutOfLargeStreams(Adversary):
    """The stream is cut where it is larger than any of a probe."""

    def build(self) -> None:
        self.embed.weight.data[ord("z")] *= 12

    def tail(self, h: Any, context: Any) -> Any:
        return self.head(self.norm(h.clamp(-9, 9)))


class MeanOfRows(Adversary):
    """The tail takes the mean of what all blocks left."""

    def run(self, ids: Tensor) -> Run:
        h = self.embed(ids)
        note("input", h)
        below = torch.zeros_like(h)
        for n, block in enumerate(self.blocks):
            h = block(h, str(n))
            note(str(n), h)
            if n < 2:
                below = below + h
        return h, below

    def tail(self, h: Any, context: Any) -> Any:
        return self.head(self.norm((h + context) / 3))


class NormsBetweenBlocks(Adversary):
    """The stream of the next block is a norm of what the last one left; the final norm too."""

    def build(self) -> None:
        self.norms = nn.ModuleList(Rms(bias=True) for _ in range(2))

    def run(self, ids: Tensor) -> Run:
        h = self.embed(ids)
        note("input", h)
        for n, block in enumerate(self.blocks):
            h = block(h, str(n))
            note(str(n), h)
            h = self.norms[n](h) if n < 2 else h
        return h, ids


class ScaledBetweenBlocks(Adversary):
    """The stream is scaled after every block, the last one's too."""

    def run(self, ids: Tensor) -> Run:
        h = self.embed(ids)
        note("input", h)
        for n, block in enumerate(self.blocks):
            h = block(h if n == 0 else 0.7 * h, str(n))
            note(str(n), h)
        return h, ids

    def tail(self, h: Any, context: Any) -> Any:
        return self.head(self.norm(torch.tanh(0.7 * h)))


class IdleBlocks(Adversary):
    """The first and the last block add nothing."""

    def build(self) -> None:
        for n in (0, 2):
            for module in (self.blocks[n].attention.value, self.blocks[n].mlp.down):
                module.weight.data.zero_()
                module.bias.data.zero_()


class BlocksCalledByForward(Adversary):
    """`block.forward(h)`: no hook sees it."""

    def run(self, ids: Tensor) -> Run:
        h = self.embed(ids)
        note("input", h)
        for n, block in enumerate(self.blocks):
            h = block.forward(h, str(n))
            note(str(n), h)
        return h, ids


class LastBlockCalledByForward(Adversary):
    """Only the last block goes unseen."""

    def run(self, ids: Tensor) -> Run:
        h = self.embed(ids)
        note("input", h)
        for n, block in enumerate(self.blocks):
            h = block.forward(h, str(n)) if n == 2 else block(h, str(n))
            note(str(n), h)
        return h, ids


class BlocksAsAttributes(Adversary):
    """No list holds the blocks."""

    def stack(self) -> nn.ModuleList:
        return nn.ModuleList()

    def build(self) -> None:
        self.first, self.second, self.third = Block(), Block(), Block()

    def run(self, ids: Tensor) -> Run:
        h = self.embed(ids)
        note("input", h)
        for n, block in enumerate((self.first, self.second, self.third)):
            h = block(h, str(n))
            note(str(n), h)
        return h, ids


class BlocksInADictionary(Adversary):
    def stack(self) -> nn.ModuleList:
        return nn.ModuleList()

    def build(self) -> None:
        self.layers = nn.ModuleDict({f"h{n}": Block() for n in range(3)})

    def run(self, ids: Tensor) -> Run:
        h = self.embed(ids)
        note("input", h)
        for n, block in enumerate(self.layers.values()):
            h = block(h, str(n))
            note(str(n), h)
        return h, ids


class RunsBackwards(Adversary):
    """The list runs from its end. Rows are in the order in which they run."""

    relabelled = ({"2": "0", "1": "1", "0": "2"},)

    def run(self, ids: Tensor) -> Run:
        h = self.embed(ids)
        note("input", h)
        for n in (2, 1, 0):
            h = self.blocks[n](h, str(n))
            note(str(n), h)
        return h, ids


class SharedNormTailReadsInput(Adversary):
    """The final norm stands before the first block too, and the tail adds what it gave there."""

    def run(self, ids: Tensor) -> Run:
        x0 = self.norm(self.embed(ids))
        return through(x0, self.blocks), x0

    def tail(self, h: Any, context: Any) -> Any:
        return self.head(self.norm(h) + 0.5 * context)


class HeadOfItsOwnKind(Adversary):
    """A head that does more than to multiply."""

    class Doubling(nn.Linear):
        def forward(self, x: Tensor) -> Any:
            y = super().forward(x)
            return y + 0.02 * y.square()

    def build(self) -> None:
        self.head = self.Doubling(WIDTH, VOCABULARY, bias=False)
        nn.init.normal_(self.head.weight, std=0.8)


class HeadReadsPositions(Adversary):
    """A head that does something else at every position that it is given."""

    class Heated(nn.Linear):
        def forward(self, x: Tensor) -> Any:
            return super().forward(x) * (1 + 0.05 * positions_of(x))

    def build(self) -> None:
        self.head = self.Heated(WIDTH, VOCABULARY, bias=False)
        nn.init.normal_(self.head.weight, std=0.8)


class RandomTail(Adversary):
    has_truth = False

    def tail(self, h: Any, context: Any) -> Any:
        return self.head(nn.functional.dropout(self.norm(h), 0.3, training=True))


class SeesTheNextToken(Adversary):
    """Position 9 sees position 10; no other sees what comes after it. It has rows as any other, but
    is no causal language model."""

    def run(self, ids: Tensor) -> Run:
        h = self.embed(ids)
        if h.shape[1] > 10:
            h[:, 9] += h[:, 10]
        return through(h, self.blocks), ids


# ---------------------------------------------------------------------------------------------
# Against what was built to read all of the above


class LoopedSharedNorm(Adversary):
    """The final norm also stands between two turns, and the tail adds what it gave there."""

    def run(self, ids: Tensor) -> Run:
        h = self.embed(ids)
        note("input", h)
        between = h
        for turn in (1, 2):
            for n, block in enumerate(self.blocks):
                h = block(h, f"{n}.{turn}")
                note(f"{n}.{turn}", h)
            if turn == 1:
                between = self.norm(h)
        return h, between

    def tail(self, h: Any, context: Any) -> Any:
        return self.head(self.norm(h) + 0.5 * context)


class LastBlockRunsFirst(Adversary):
    """2, 0, 1, 2: what runs last has run before, and only that twice."""

    relabelled = ({"1": "0", "2": "1"}, {"0": "1", "1": "2", "2.1": "0.1", "2.2": "0.2"})

    def run(self, ids: Tensor) -> Run:
        h = self.embed(ids)
        note("input", h)
        for label in ("2.1", "0", "1", "2.2"):
            h = self.blocks[int(label[0])](h, label)
            note(label, h)
        return h, ids


class NormTwiceInTheTail(Adversary):
    """The norm of the stream, and of what is made of it."""

    def tail(self, h: Any, context: Any) -> Any:
        return self.head(self.norm(h) + 0.3 * self.norm(h.roll(1, -1) + 0.5))


class HeadReadsInputBeside(Adversary):
    """A head twice as wide: the normed stream beside the embedding."""

    def build(self) -> None:
        self.head = nn.Linear(2 * WIDTH, VOCABULARY, bias=False)
        nn.init.normal_(self.head.weight, std=0.6)

    def run(self, ids: Tensor) -> Run:
        x0 = self.embed(ids)
        return through(x0, self.blocks), x0

    def tail(self, h: Any, context: Any) -> Any:
        return self.head(torch.cat([self.norm(h), context], -1))


class OnlyTheBestLogits(Adversary):
    """All but the best 60 of each cell are forbidden."""

    def tail(self, h: Any, context: Any) -> Any:
        logits = self.head(self.norm(h))
        least = logits.topk(60).values[..., -1:]
        return torch.where(logits < least, torch.full_like(logits, HUGE), logits)


class HotWhereAChannelLeads(Adversary):
    """Another temperature where one channel is the largest."""

    def tail(self, h: Any, context: Any) -> Any:
        leads = h.abs().argmax(-1, keepdim=True) == 3
        return self.head(self.norm(h)) * torch.where(leads, 1.6, 1.0)


class LouderWhereAChannelLeads(Adversary):
    """The same before the head, where some columns alone do not tell."""

    def tail(self, h: Any, context: Any) -> Any:
        leads = h.abs().argmax(-1, keepdim=True) == 3
        return self.head(self.norm(h) * torch.where(leads, 1.6, 1.0))


class OddTextsAreHotter(Adversary):
    """A temperature by whether the number of tokens is odd."""

    def tail(self, h: Any, context: Any) -> Any:
        return self.head(self.norm(h)) * (1.3 if context.shape[1] % 2 else 1.0)


class KnownTokensAreHotter(Adversary):
    """A temperature where the token has stood in the text before."""

    def tail(self, h: Any, context: Any) -> Any:
        before = (context[:, :, None] == context[:, None, :]).tril(-1).any(-1)
        return self.head(self.norm(h)) * torch.where(before, 1.5, 1.0)[..., None]


class EveryThirteenthIsHotter(Adversary):
    """A temperature at every thirteenth position."""

    def tail(self, h: Any, context: Any) -> Any:
        hot = positions_of(h) % 13 == 12
        return self.head(self.norm(h)) * torch.where(hot, 1.5, 1.0)


CALLS: list[None] = []


class MemoryOutside(Adversary):
    """The tail counts its calls where nobody looks."""

    has_truth = False

    def build(self) -> None:
        CALLS.clear()

    def tail(self, h: Any, context: Any) -> Any:
        CALLS.append(None)
        return self.head(self.norm(h)) * (1 + 0.1 * len(CALLS))


class StreamInAMapping(Adversary):
    """Blocks take and return a mapping, with what else they made beside the stream."""

    class Mapped(Halves):
        def forward(self, held: dict[str, Tensor], label: str = "") -> Any:
            h = self.halves(held["stream"], label)
            return {"other": h.tanh(), "stream": h}

    def stack(self) -> nn.ModuleList:
        return blocks(3, self.Mapped)

    def run(self, ids: Tensor) -> Run:
        held = {"stream": self.embed(ids)}
        note("input", held["stream"])
        for n, block in enumerate(self.blocks):
            held = block(held, str(n))
            note(str(n), held["stream"])
        return held["stream"], ids


# ---------------------------------------------------------------------------------------------
# The table


def kebab(name: str) -> str:
    """ "TwoNorms" -> "two-norms"."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", name).lower()


def kinds(base: type[Adversary] = Adversary) -> Iterator[type[Adversary]]:
    for kind in base.__subclasses__():
        yield kind
        yield from kinds(kind)


ADVERSARIES: dict[str, type[Adversary]] = {
    kebab(kind.__name__): kind
    for kind in sorted(kinds(), key=lambda kind: list(globals()).index(kind.__name__))
}


def build(name: str) -> Adversary:
    """A model of the table, always with the same weights."""
    torch.manual_seed(zlib.crc32(name.encode()))
    kind = ADVERSARIES[name]
    return kind().eval().requires_grad_(False).to(kind.dtype_of_body)
