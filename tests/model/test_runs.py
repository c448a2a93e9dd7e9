"""Blocks that run more than once, several stacks, several tensors: each row is what the model
itself wrote down, or the model is refused in a sentence."""

from typing import Any

import pytest
import torch
import toys
from torch import Tensor, nn
from toys import IDS, Block, Mean, Norm, Toy, blocks, mlp

from logitlens_cli.errors import LogitLensError, ProofError
from logitlens_cli.lens import capture, decoders, output_check, proof
from logitlens_cli.lens.capture import INPUT, PromptSlice, resid_mid, resid_post
from logitlens_cli.lens.replay import blocks_skipped
from logitlens_cli.model.anatomy import find, passes
from logitlens_cli.model.anatomy.parts import ModelParts


def require_right(model: Toy, *labels: str) -> ModelParts:
    """Every row and its logits are those of the definition, by the route that was proven."""
    parts = find.find_parts(model)
    route = proof.prove(model, parts)
    sites = (INPUT, *(resid_post(n) for n in range(len(parts.runs))))
    window = range(len(IDS))
    stream = capture.capture(model, parts, [PromptSlice(IDS, window, window)], sites)
    rows, logits = model.truth()
    assert stream.resid.shape[:2] == rows.shape[:2]
    torch.testing.assert_close(stream.resid.double(), rows.flatten(2), atol=2e-5, rtol=1e-5)
    decoder = decoders.make_decoder(model, parts, route, "full", IDS, window)
    assert output_check.check_output(decoder, route.name, stream).passed
    with torch.inference_mode():
        prepared = decoder.prepare(stream.resid)
        mine = torch.cat([decoder.tile(prepared, entries) for entries in decoder.entries()], -1)
    torch.testing.assert_close(mine.double(), logits, atol=1e-4, rtol=1e-4)
    assert parts.labels == list(labels)
    return parts


def require_refused(model: Toy, said: str) -> None:
    with pytest.raises(LogitLensError, match=said):
        proof.prove(model, find.find_parts(model))


# ---- blocks that run more than once


class Looped(Toy):
    """The order in which blocks run, by ``order``."""

    order: tuple[int, ...] = (0, 1, 2, 0, 1, 2)

    def parts(self) -> None:
        self.layers = blocks(3)

    def body(self, h: Tensor) -> Tensor:
        self.keep(h)
        for n in self.order:
            h = self.keep(self.layers[n](h))
        return h


class Doubled(Looped):
    order = (0, 0, 1, 1, 2, 2)


class Mirrored(Looped):
    order = (0, 1, 2, 1, 0)


class Injected(Looped):
    """The embedding is added before each turn."""

    def body(self, h: Tensor) -> Tensor:
        entered, h = h, 0 * h
        for n in self.order:
            h = h + entered if n == 0 else h
            if not self.rows:
                self.keep(h)
            h = self.keep(self.layers[n](h))
        return h


def test_each_run_of_a_block_is_a_row() -> None:
    require_right(Looped(), "0.1", "1.1", "2.1", "0.2", "1.2", "2.2")
    require_right(Doubled(), "0.1", "0.2", "1.1", "1.2", "2.1", "2.2")
    require_right(Mirrored(), "0.1", "1.1", "2", "1.2", "0.2")
    require_right(Injected(), "0.1", "1.1", "2.1", "0.2", "1.2", "2.2")


def test_runs_can_be_skipped_up_to_any_of_them() -> None:
    model = Looped()
    parts = find.find_parts(model)
    ids = torch.tensor([IDS])
    resid = torch.randn(1, len(IDS), toys.WIDTH, generator=torch.Generator().manual_seed(1))
    with blocks_skipped(parts, resid, 4):
        mine = passes.forward(model, ids)
    truth = model.tail(model.layers[2](model.layers[1](resid)))
    torch.testing.assert_close(mine, truth)
    assert "forward" not in model.layers[0].__dict__


def test_each_run_has_a_middle() -> None:
    model = Looped()
    parts = find.find_parts(model, subblocks=True)
    sites = [resid_post(2), resid_mid(3), resid_post(5)]
    stream = capture.capture(model, parts, [PromptSlice(IDS, range(9), [0])], sites)
    block: Any = model.layers[0]
    before = stream.resid[0]
    torch.testing.assert_close(stream.resid[1], before + block.attention(block.norm1(before)))


class EarlyExit(Looped):
    """Text that starts with another token than the probe's skips the last block."""

    order: tuple[int, ...] = (0, 1, 2)

    def forward(self, input_ids: Tensor, return_dict: bool = True) -> Any:
        first = toys.WORDS // (passes.PROBE_TOKENS + 2)
        self.order = (0, 1, 2) if input_ids[0, 0] == first else (0, 1)
        return super().forward(input_ids)


class AsManyTurnsAsNeeded(Looped):
    def forward(self, input_ids: Tensor, return_dict: bool = True) -> Any:
        self.order = (0, 1, 2) * (1 + (input_ids.shape[1] > passes.PROBE_TOKENS))
        return super().forward(input_ids)


@pytest.mark.parametrize("kind", [EarlyExit, AsManyTurnsAsNeeded])
def test_runs_that_depend_on_the_text_are_refused(kind: type[Toy]) -> None:
    model = kind()
    parts = find.find_parts(model)
    with pytest.raises(ProofError, match="did not run as often on this text as on the probe"):
        capture.capture(model, parts, [PromptSlice(IDS, range(9), [0])], [INPUT, resid_post(2)])


# ---- several stacks


class Stacks(Toy):
    """Prelude, core in two turns, coda."""

    def parts(self) -> None:
        self.prelude, self.core, self.coda = blocks(2), blocks(2), blocks(1)

    def body(self, h: Tensor) -> Tensor:
        self.keep(h)
        for block in (*self.prelude, *self.core, *self.core, *self.coda):
            h = self.keep(block(h))
        return h


class NormBetween(Stacks):
    """A norm leads from one to the next."""

    def parts(self) -> None:
        super().parts()
        self.between = Norm()

    def body(self, h: Tensor) -> Tensor:
        self.keep(h)
        for block in self.prelude:
            h = self.keep(block(h))
        h = self.between(h)
        for block in self.coda:
            h = self.keep(block(h))
        return h


class Other(Block):
    """A block of another class."""


class Alone(Toy):
    """Blocks before and after the list that are in none."""

    first: nn.Module
    last: nn.Module

    def parts(self) -> None:
        self.first: nn.Module = Other()
        self.layers = blocks(2)
        self.last: nn.Module = Block()

    def body(self, h: Tensor) -> Tensor:
        self.keep(h)
        for block in (self.first, *self.layers, self.last):
            h = self.keep(block(h))
        return h


class AloneOther(Alone):
    """The last one is of another class than the list."""

    def parts(self) -> None:
        self.first, self.layers, self.last = Block(), blocks(2), Other()


class Plain(nn.Module):
    """A block without children."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(toys.WIDTH, toys.WIDTH) / 4)

    def forward(self, h: Tensor) -> Tensor:
        return h + (h.cumsum(-2) @ self.weight).tanh()


class PlainStacks(Stacks):
    def parts(self) -> None:
        self.prelude, self.core, self.coda = (
            nn.ModuleList(Plain() for _ in range(count)) for count in (2, 2, 1)
        )


class InPlace(Block):
    def forward(self, h: Tensor) -> Tensor:
        h += self.attention(self.norm1(h))
        h += self.mlp(self.norm2(h))
        return h


class InPlaceStacks(Stacks):
    def parts(self) -> None:
        self.prelude, self.core, self.coda = (
            nn.ModuleList(InPlace() for _ in range(count)) for count in (2, 2, 1)
        )


class Again(Toy):
    """The first block runs again at the end, from a list of its own."""

    def parts(self) -> None:
        self.again = blocks(1)
        self.layers = nn.ModuleList([*self.again, *blocks(2)])

    def body(self, h: Tensor) -> Tensor:
        self.keep(h)
        for block in (*self.layers, *self.again):
            h = self.keep(block(h))
        return h


class Turns(Toy):
    """Two lists whose members take turns, each adding to the stream."""

    def parts(self) -> None:
        self.odd, self.even = blocks(3), blocks(3)

    def body(self, h: Tensor) -> Tensor:
        self.keep(h)
        for a, b in zip(self.odd, self.even, strict=True):
            h = self.keep(a(h))
            h = self.keep(b(h))
        return h


def test_all_stacks_are_read() -> None:
    require_right(Stacks(), "0", "1", "2.1", "3.1", "2.2", "3.2", "4")
    require_right(NormBetween(), "0", "1", "2")
    require_right(Alone(), "0", "1", "2", "3")
    require_right(AloneOther(), "0", "1", "2", "3")
    require_right(Turns(), "0", "1", "2", "3", "4", "5")
    require_right(PlainStacks(), "0", "1", "2.1", "3.1", "2.2", "3.2", "4")
    require_right(InPlaceStacks(), "0", "1", "2.1", "3.1", "2.2", "3.2", "4")
    require_right(Again(), "0.1", "1", "2", "0.2")


class Adapter(Stacks):
    """The prelude's result goes through a matrix into each turn of the core."""

    def parts(self) -> None:
        super().parts()
        self.adapter = nn.Linear(2 * toys.WIDTH, toys.WIDTH)

    def body(self, h: Tensor) -> Tensor:
        for block in self.prelude:
            h = block(h)
        entered, h = h, 0 * h
        for _ in range(2):
            h = self.adapter(torch.cat([entered, h], -1))
            for block in self.core:
                h = block(h)
        return h


class Towers(Stacks):
    """Two stacks side by side."""

    def body(self, h: Tensor) -> Tensor:
        a = b = h
        for one, other in zip(self.prelude, self.core, strict=True):
            a, b = one(a), other(b)
        return a + b


class Memory(Stacks):
    """A stack whose result is a condition of the blocks, not a summand."""

    def body(self, h: Tensor) -> Tensor:
        memory = h
        for block in self.prelude:
            memory = block(memory)
        for block in self.core:
            h = block(h * (1 + memory.sigmoid()))
        return h


@pytest.mark.parametrize("kind", [Adapter, Towers, Memory])
def test_stacks_without_one_stream_through_them_are_refused(kind: type[Toy]) -> None:
    require_refused(kind(), "no residual stream runs through all blocks|could not be found")


class Wrapped(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, h: Tensor) -> Tensor:
        out: Tensor = self.inner(h)
        return out


class TailList(Toy):
    """A final norm and a transform, each in a module of its own, in a list of their own."""

    def parts(self) -> None:
        self.layers = blocks(3)
        self.last = nn.ModuleList([Wrapped(Norm()), Wrapped(mlp())])

    def body(self, h: Tensor) -> Tensor:
        self.keep(h)
        for block in self.layers:
            h = self.keep(block(h))
        return h

    def tail(self, h: Tensor) -> Tensor:
        for module in self.last:
            h = module(h)
        return super().tail(h)


class NormList(TailList):
    def parts(self) -> None:
        self.layers, self.last = blocks(3), nn.ModuleList([Wrapped(Norm())])


class NormInList(TailList):
    """The final norm is the last member of the blocks' list."""

    def parts(self) -> None:
        self.layers = nn.ModuleList([*blocks(3), Wrapped(Norm())])
        self.last = nn.ModuleList()

    def body(self, h: Tensor) -> Tensor:
        self.keep(h)
        for block in self.layers[:3]:
            h = self.keep(block(h))
        return h

    def tail(self, h: Tensor) -> Tensor:
        return super().tail(self.layers[3](h))


@pytest.mark.parametrize("kind", [TailList, NormList, NormInList])
def test_parts_of_a_tail_are_no_blocks(kind: type[Toy]) -> None:
    require_right(kind(), "0", "1", "2")


# ---- several tensors


class Beside(nn.Module):
    """A block that receives something else of the stream's shape, or of another, first."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.other = Block(), Wrapped(nn.Linear(toys.WIDTH, toys.WIDTH))

    def forward(self, other: Tensor, h: Tensor) -> Tensor:
        if other.shape == h.shape:
            h = h + self.other(torch.tanh(other))
        return self.block(h)  # type: ignore[no-any-return]


class PositionFirst(Toy):
    count = 3

    def parts(self) -> None:
        self.layers = nn.ModuleList(Beside() for _ in range(self.count))
        self.places = nn.Embedding(64, toys.WIDTH)

    def other(self, n: int, h: Tensor) -> Tensor:
        return self.places(torch.arange(h.shape[1])).expand_as(h)  # type: ignore[no-any-return]

    def body(self, h: Tensor) -> Tensor:
        self.keep(h)
        for n, block in enumerate(self.layers):
            h = self.keep(block(self.other(n, h), h))
        return h


class OneBlock(PositionFirst):
    count = 1


class LayerInputFirst(PositionFirst):
    def other(self, n: int, h: Tensor) -> Tensor:
        return self.rows[0].to(h) * (n + 2) + 1


class MaskFirst(PositionFirst):
    def other(self, n: int, h: Tensor) -> Tensor:
        return torch.zeros(h.shape[0], 1, h.shape[1], h.shape[1], dtype=h.dtype)


@pytest.mark.parametrize("kind", [PositionFirst, LayerInputFirst, MaskFirst])
def test_the_stream_is_what_blocks_add_to(kind: type[Toy]) -> None:
    require_right(kind(), "0", "1", "2")


def test_the_stream_of_a_single_block_is_what_it_adds_to() -> None:
    require_right(OneBlock(), "0")


class ValueBlock(Block):
    """The first block's values are added in all others."""

    def forward(self, h: Tensor, value: Tensor | None = None) -> Any:
        own = self.attention(self.norm1(h))
        value = own if value is None else value
        h = h + own + 0.3 * value
        return h + self.mlp(self.norm2(h)), value


class ValueResidual(Toy):
    kind: type[Block] = ValueBlock
    stream = 0

    def parts(self) -> None:
        self.layers = nn.ModuleList(self.kind() for _ in range(3))

    def body(self, h: Tensor) -> Tensor:
        self.keep(h)
        value = None
        for block in self.layers:
            left = block(h, value)
            h, value = self.keep(left[self.stream]), left[1 - self.stream]
        return h


class AttentionBlock(Block):
    def forward(self, h: Tensor, value: Tensor | None = None) -> Any:
        own = self.attention(self.norm1(h))
        return own, h + own + self.mlp(self.norm2(h + own))


class AttentionFirst(ValueResidual):
    """The attention's result, which nobody needs, comes before the stream."""

    kind = AttentionBlock
    stream = 1


class OwnValueBlock(Block):
    """A value block whose results are the other way."""

    def forward(self, h: Tensor, value: Tensor | None = None) -> Any:
        left = ValueBlock.forward(self, h, value)  # type: ignore[arg-type]
        return left[1], left[0]


class ValueFirst(ValueResidual):
    kind = OwnValueBlock
    stream = 1


@pytest.mark.parametrize("kind", [ValueResidual, AttentionFirst, ValueFirst])
def test_what_is_returned_beside_the_stream_is_not_taken_for_it(kind: type[Toy]) -> None:
    require_right(kind(), "0", "1", "2")


class Parallel(Toy):
    """Streams side by side on the first axis: (stream, batch, position, width)."""

    streams = 2

    def parts(self) -> None:
        self.layers = blocks(3)

    def body(self, h: Tensor) -> Tensor:
        many = torch.stack([h * (n + 1) + 0.1 * n for n in range(self.streams)])
        self.keep(many.movedim(0, 2))
        for block in self.layers:
            many = block(many)
            self.keep(many.movedim(0, 2))
        return many.movedim(0, 2)

    def tail(self, h: Tensor) -> Tensor:
        return super().tail(h.sum(-2))


class SevenParallel(Parallel):
    streams = 7


@pytest.mark.parametrize("kind", [Parallel, SevenParallel])
def test_streams_side_by_side_are_told_from_texts_and_positions(kind: type[Toy]) -> None:
    require_right(kind(), "0", "1", "2")


# ---- middles


class Parted(Block):
    """A block of three parts."""

    order = "mam"

    def __init__(self) -> None:
        super().__init__()
        self.norm3, self.mlp3, self.attention3 = Norm(), mlp(), Mean()

    def forward(self, h: Tensor) -> Tensor:
        norms = (self.norm1, self.norm2, self.norm3)
        used = {"a": iter([self.attention, self.attention3]), "m": iter([self.mlp, self.mlp3])}
        for norm, part in zip(norms, self.order, strict=True):
            h = h + next(used[part])(norm(h))
        return h


class AttentionThenTwo(Parted):
    order = "amm"


class TwoAttentions(Parted):
    order = "ama"


class Middles(Toy):
    def __init__(self, kind: type[Block]) -> None:
        self.kind = kind
        super().__init__()

    def parts(self) -> None:
        self.layers = nn.ModuleList(self.kind() for _ in range(2))

    def body(self, h: Tensor) -> Tensor:
        for block in self.layers:
            h = block(h)
        return h


def middle(model: Middles) -> tuple[Tensor, Tensor, Any]:
    """What enters block 1, its middle, the block."""
    parts = find.find_parts(model, subblocks=True)
    sites = [resid_post(0), resid_mid(1), resid_post(1)]
    stream = capture.capture(model, parts, [PromptSlice(IDS, range(9), [0])], sites)
    return stream.resid[0], stream.resid[1], model.layers[1]


def test_the_middle_comes_after_the_only_attention() -> None:
    before, found, block = middle(Middles(Parted))
    h = before + block.mlp(block.norm1(before))
    torch.testing.assert_close(found, h + block.attention(block.norm2(h)))
    before, found, block = middle(Middles(AttentionThenTwo))
    torch.testing.assert_close(found, before + block.attention(block.norm1(before)))


def test_blocks_of_two_attentions_have_no_middle() -> None:
    assert find.find_parts(Middles(TwoAttentions), subblocks=True).mids == (None, None)
