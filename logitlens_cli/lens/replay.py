"""The replay route: the model's own code after its last block, run on the stream."""

import copy
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from logitlens_cli.errors import UsageError
from logitlens_cli.lens import norms
from logitlens_cli.lens.capture import Stream
from logitlens_cli.lens.decoder import BLOCK_FLOATS, Decoder, Route
from logitlens_cli.model.anatomy import passes
from logitlens_cli.model.anatomy.parts import ModelParts

# ---------------------------------------------------------------------------------------------
# Replay


class Replay:
    """The model's own tail, run on chosen streams, a layer as an item of the batch.

    A tail that reads more than the last block's stream cannot do with the blocks skipped; it gets a
    whole forward pass over the text for every layer.
    """

    whole_vocabulary = True
    thread_safe = False

    def __init__(
        self,
        model: Any,
        parts: ModelParts,
        route: Route,
        norm: str,
        ids: Sequence[int],
        window: range,
    ) -> None:
        if norm == "none":
            raise UsageError(
                f"--norm none is not possible for {type(model).__name__}: its own code decodes the "
                "stream, norm included",
                "use --norm full or no-affine",
            )
        self.model, self.parts, self.route, self.norm = model, parts, route, norm
        self.ids, self.window = ids, window
        self.per_position = route.skips
        self.parameters = tail_parameters(parts, route.float32)
        self.bare = {} if norm == "full" else bare_norms(model, parts, route)

    def tile_shape(self, positions: int) -> tuple[int, int]:
        if not self.route.skips:
            return positions, 1
        size = min(positions, max(1, BLOCK_FLOATS // self.parts.vocabulary))
        return size, max(1, BLOCK_FLOATS // (size * self.parts.vocabulary))

    def prepare(self, resid: Tensor) -> Tensor:
        return resid.float() if self.route.float32 else resid

    def entries(self) -> Iterator[slice]:
        yield slice(0, self.parts.vocabulary)

    def tile(self, prepared: Tensor, entries: slice, out: Tensor | None = None) -> Tensor:
        with passes.hooked(bare_hooks(self.model, self.parts, self.bare)):
            return self.decoded(prepared)

    def decoded(self, prepared: Tensor) -> Tensor:
        """The logits of prepared rows, with the norms as the model has them."""
        if self.route.skips:
            return replay(self.model, self.parts, prepared, self.parameters).float()
        resid = prepared.new_zeros(len(prepared), len(self.ids), prepared.shape[-1])
        columns = slice(self.window.start, self.window.stop)
        resid[:, columns] = prepared
        # One by one: whoever looks at other positions may look at other texts of a batch too.
        logits = [
            tail_logits(self.model, self.parts, self.text(row), row, self.parameters)
            for row in torch.split(resid, 1)
        ]
        return torch.cat(logits)[:, columns].float()

    def text(self, prepared: Tensor) -> Tensor:
        """The ids of the whole text, once for every row of ``prepared``."""
        return torch.tensor([self.ids], device=passes.device_of(self.model)).expand(
            len(prepared), -1
        )

    def target_logits(self, prepared: Tensor, ids: Tensor) -> None:
        return None

    def full(self) -> "Replay":
        """The same with the whole norm."""
        if self.norm == "full":
            return self
        return Replay(self.model, self.parts, self.route, "full", self.ids, self.window)

    def model_output(self, stream: Stream, columns: slice) -> tuple[Decoder, Tensor]:
        full = self.full()
        return full, full.prepare(stream.resid[-1:, columns])

    def last_layer(self, stream: Stream) -> Tensor:
        if self.per_position:
            return self.tile(self.prepare(stream.resid[-1:, stream.checked]), slice(None))[0]
        full, prepared = self.model_output(stream, slice(None))
        return full.tile(prepared, slice(None))[0, stream.checked]


class ReplayBlocks(Replay):
    """The last blocks and the model's own tail, run on streams of a whole text.

    Its streams are those of every position, since the blocks attend to them. The blocks run in the
    model's own dtype, and so does the tail.
    """

    def __init__(
        self, model: Any, parts: ModelParts, norm: str, ids: Sequence[int], decoder_blocks: int
    ) -> None:
        route = Route(direct=False, skips=False, float32=False)
        super().__init__(model, parts, route, norm, ids, range(len(ids)))
        self.decoder_blocks = decoder_blocks

    def decoded(self, prepared: Tensor) -> Tensor:
        skipped = len(self.parts.blocks) - self.decoder_blocks
        with blocks_skipped(self.parts, prepared, skipped):
            return passes.forward(self.model, self.text(prepared), self.parameters).float()

    def full(self) -> Replay:
        if self.norm == "full":
            return self
        return ReplayBlocks(self.model, self.parts, "full", self.ids, self.decoder_blocks)


def tail_parameters(parts: ModelParts, float32: bool) -> dict[str, Tensor]:
    """Parameters that replace those of the tail, by qualified name: in float32 if so wanted."""
    if not float32:
        return {}
    return {
        f"{parts.names[module]}.{name}": parameter.detach().float()
        for module in parts.after
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.is_floating_point() and parameter.dtype != torch.float32
    }


def bare_norms(model: Any, parts: ModelParts, route: Route) -> dict[nn.Module, nn.Module]:
    """The norms of the tail, and float32 copies of them without gain and bias.

    Raises UsageError where there is no norm, or one whose gain and bias cannot be told.
    """
    received: dict[nn.Module, Tensor] = {}

    def keep(module: nn.Module, args: Any) -> None:
        received.pop(module, None)  # the last time that it runs is in the tail
        if args and isinstance(args[0], Tensor):
            received[module] = args[0]

    with passes.hooked([module.register_forward_pre_hook(keep) for module in parts.after]):
        inner_replay(model, parts, route, parts.inner, tail_parameters(parts, route.float32))
    found = norms.outermost_norms(parts.after, received)
    if not found:
        raise norms.no_norm_error(type(model).__name__, "no-affine")
    bare = {norm: copy.deepcopy(norm).float() for norm in found}
    for norm, twin in bare.items():
        norms.change_norm(twin, "no-affine", received[norm].float())
    return bare


def bare_hooks(
    model: nn.Module, parts: ModelParts, bare: Mapping[nn.Module, nn.Module]
) -> list[Any]:
    """Hooks that have bare norms stand in for the model's own after its last block, and there only:
    it may use them before too."""
    if not bare:
        return []
    last = parts.runs[-1]
    finished: list[None] = []
    """one for each time that the last block has run in a pass"""

    def leave(*_: Any) -> None:
        finished.append(None)

    def enter(*_: Any) -> None:
        finished.clear()

    def stand_in(norm: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        if len(finished) <= last.number:
            return None
        given = [a.float() if isinstance(a, Tensor) and a.is_floating_point() else a for a in args]
        return bare[norm](*given, **kwargs).to(output.dtype)

    handles = [norm.register_forward_hook(stand_in, with_kwargs=True) for norm in bare]
    return [
        *handles,
        model.register_forward_pre_hook(enter),
        last.block.register_forward_hook(leave),
    ]


def inner_replay(
    model: Any, parts: ModelParts, route: Route, resid: Tensor, parameters: Mapping[str, Tensor]
) -> Tensor:
    """The logits of the inner streams of the probe (2, position, width) by a replay; one after the
    other in one text, so that nothing stands beside it in the batch."""
    resid = resid if route.float32 else resid.to(parts.dtype)
    if route.skips:
        return replay(model, parts, resid, parameters)
    ids = passes.probe_ids(parts.weight.shape[0], passes.device_of(model))
    logits = tail_logits(
        model, parts, ids.reshape(1, -1), resid.reshape(1, -1, resid.shape[-1]), parameters
    )
    return logits.reshape(*resid.shape[:2], -1)


def replay(
    model: Any, parts: ModelParts, resid: Tensor, parameters: Mapping[str, Tensor]
) -> Tensor:
    """The logits of ``resid`` (row, position, width) by the model's tail, its blocks skipped."""
    # Which tokens they are does not matter: no block looks at them.
    token = passes.probe_ids(parts.weight.shape[0], passes.device_of(model))[0, 0]
    ids = token.expand(resid.shape[:2])
    with blocks_skipped(parts, resid):
        return passes.forward(model, ids, parameters)


def tail_logits(
    model: Any, parts: ModelParts, ids: Tensor, resid: Tensor, parameters: Mapping[str, Tensor]
) -> Tensor:
    """The model's own logits where its last block leaves ``resid`` after a whole pass over
    ``ids``, on a copy, since a tail may work in place."""
    return passes.logits_after(model, parts, ids, resid.clone(), parameters)


@contextmanager
def blocks_skipped(parts: ModelParts, resid: Tensor, count: int | None = None) -> Iterator[None]:
    """Have the first ``count`` runs of blocks, or all, return ``resid`` (row, position, width) at
    once, each in its own form."""
    last = len(parts.runs) if count is None else count
    skipped = {run.block for run in parts.runs[:last]}
    overrides = {block: block.__dict__.get("forward") for block in skipped}

    def stand_in(block: nn.Module) -> Callable[..., Any]:
        usual, times, turns = block.forward, itertools.count(), parts.blocks.count(block)
        outputs = {run.number: n for n, run in enumerate(parts.runs[:last]) if run.block is block}

        def forward(*args: Any, **keywords: Any) -> Any:
            number = next(times) % turns
            if number not in outputs:
                return usual(*args, **keywords)
            # A copy each time, since what follows may work in place.
            return parts.written(outputs[number], resid.clone())

        return forward

    try:
        for block in skipped:
            block.forward = stand_in(block)
        yield
    finally:
        for block, forward in overrides.items():
            block.__dict__.pop("forward", None)
            if forward is not None:  # somebody's own, such as accelerate's
                block.__dict__["forward"] = forward
