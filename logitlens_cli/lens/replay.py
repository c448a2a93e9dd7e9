"""The replay route: the model's own code after its last block, run on the stream."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from logitlens_cli.errors import UsageError
from logitlens_cli.lens.capture import Stream
from logitlens_cli.lens.decoder import BLOCK_FLOATS, Decoder, Route
from logitlens_cli.lens.direct import in_float32
from logitlens_cli.model.anatomy import passes
from logitlens_cli.model.anatomy.parts import ModelParts, is_norm

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
        self.parameters = tail_parameters(parts, norm, route.float32)

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
        if self.route.skips:
            return replay(self.model, self.parts, prepared, self.parameters).float()
        resid = prepared.new_zeros(len(prepared), len(self.ids), prepared.shape[-1])
        columns = slice(self.window.start, self.window.stop)
        resid[:, columns] = prepared
        ids = self.text(prepared)
        logits = passes.logits_after(self.model, self.parts, ids, resid, self.parameters)
        return logits[:, columns].float()

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

    def tile(self, prepared: Tensor, entries: slice, out: Tensor | None = None) -> Tensor:
        with blocks_skipped(self.parts, prepared, len(self.parts.blocks) - self.decoder_blocks):
            return passes.forward(self.model, self.text(prepared), self.parameters).float()

    def full(self) -> Replay:
        if self.norm == "full":
            return self
        return ReplayBlocks(self.model, self.parts, "full", self.ids, self.decoder_blocks)


def tail_parameters(parts: ModelParts, norm: str, float32: bool) -> dict[str, Tensor]:
    """Parameters that replace those of the tail, by qualified name: in float32 if so wanted, of
    norms without gain and bias if so wanted."""
    replaced: dict[str, Tensor] = {}
    for module in parts.after:
        prefix = f"{parts.names[module]}."
        replacements = module_parameters(module, norm, float32)
        replaced |= {prefix + name: value.detach() for name, value in replacements.items()}
    return replaced


def module_parameters(module: nn.Module, norm: str, float32: bool) -> dict[str, Tensor]:
    """Those of one module that change, by their names in it."""
    originals: dict[str, Tensor] = dict(module.named_parameters(recurse=False))
    if norm == "no-affine" and is_norm(module):
        neutral: dict[str, Tensor] = dict(in_float32(module, norm).named_parameters(recurse=False))
        if float32:
            return neutral
        return {name: value.to(originals[name].dtype) for name, value in neutral.items()}
    if not float32:
        return {}
    return {
        name: parameter.float()
        for name, parameter in originals.items()
        if parameter.is_floating_point() and parameter.dtype != torch.float32
    }


def replay(
    model: Any, parts: ModelParts, resid: Tensor, parameters: Mapping[str, Tensor]
) -> Tensor:
    """The logits of ``resid`` (row, position, width) by the model's tail, its blocks skipped."""
    # Which tokens they are does not matter: no block looks at them.
    token = passes.probe_ids(parts.weight.shape[0], passes.device_of(model))[0, 0]
    ids = token.expand(resid.shape[:2])
    with blocks_skipped(parts, resid):
        return passes.forward(model, ids, parameters)


@contextmanager
def blocks_skipped(parts: ModelParts, resid: Tensor, count: int | None = None) -> Iterator[None]:
    """Have the first ``count`` blocks, or all, return ``resid`` (row, position, width) at once,
    each in its own form."""
    blocks = parts.blocks[:count]
    overrides = [block.__dict__.get("forward") for block in blocks]
    try:
        for block, returned in zip(blocks, parts.returned, strict=False):
            output = parts.layout.write(returned, resid)
            # Other threads may run the model meanwhile.
            block.forward = passes.in_this_thread(
                lambda *_, _output=output, **__: _output, elsewhere=block.forward
            )
        yield
    finally:
        for block, forward in zip(blocks, overrides, strict=True):
            block.__dict__.pop("forward", None)
            if forward is not None:  # somebody's own, such as accelerate's
                block.__dict__["forward"] = forward
