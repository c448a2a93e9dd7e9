"""The direct route: the model's own norm and head, applied to the stream."""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from logitlens_cli.lens import norms
from logitlens_cli.lens.capture import Stream
from logitlens_cli.lens.decoder import BLOCK_FLOATS, TILE_ENTRIES, TILE_ROWS, Decoder
from logitlens_cli.lens.product import product
from logitlens_cli.model.anatomy.parts import ModelParts
from logitlens_cli.model.anatomy.state import kept

# ---------------------------------------------------------------------------------------------
# Direct


class Direct:
    """The modules of the chain, the head's weight in tiles, the elementwise tail.

    ``norm``: "full" as the model does it; "no-affine" without the norm's gain and bias (the post);
    "none" without the norm. ``norm_names``: those that were changed so.
    """

    whole_vocabulary = False
    per_position = True

    def __init__(self, parts: ModelParts, norm: str = "full") -> None:
        self.parts = parts
        self.thread_safe = parts.weight.device.type == "cpu"
        self.steps, self.norm_names = decoding_steps(parts, norm)

    def tile_shape(self, positions: int) -> tuple[int, int]:
        size = min(positions, max(1, BLOCK_FLOATS // self.parts.vocabulary))
        return size, max(1, TILE_ROWS // size)

    def prepare(self, resid: Tensor) -> Tensor:
        # A copy, since a step may work in place.
        value = resid.to(self.parts.weight.device, torch.float32, copy=True)
        for step in self.steps:
            if isinstance(step, float):
                value = step * value
            else:
                with kept(step):
                    value = step(value)
        return value

    def entries(self) -> Iterator[slice]:
        for start in range(0, self.parts.vocabulary, TILE_ENTRIES):
            yield slice(start, min(start + TILE_ENTRIES, self.parts.vocabulary))

    def tile(self, prepared: Tensor, entries: slice | Tensor, out: Tensor | None = None) -> Tensor:
        weight = self.parts.weight[entries].float()
        rows = prepared.reshape(-1, prepared.shape[-1])
        if out is not None:
            out = out[: len(rows) * len(weight)].view(len(rows), len(weight))
        logits = product(rows, weight, out)
        if self.parts.bias is not None:
            logits += self.parts.bias[entries].float()
        for step in self.parts.tail:
            logits = step.apply_(logits)
        return logits.view(*prepared.shape[:2], -1)

    def target_logits(self, prepared: Tensor, ids: Tensor) -> Tensor:
        # More is multiplied than is used, since the tiles' own routine must be used for equal
        # logits to come out equal.
        return self.tile(prepared, ids).diagonal(dim1=1, dim2=2).clone()

    def model_output(self, stream: Stream, columns: slice) -> tuple[Decoder, Tensor]:
        assert stream.final is not None
        return self, stream.final[columns].float().unsqueeze(0)

    def last_layer(self, stream: Stream) -> Tensor:
        return self.logits(self.prepare(stream.resid[-1:, stream.checked])[0])

    def logits(self, prepared: Tensor) -> Tensor:
        """All logits of a few prepared rows: (row, width) -> (row, vocabulary)."""
        logits = prepared.new_empty(len(prepared), self.parts.vocabulary)
        for entries in self.entries():
            logits[:, entries] = self.tile(prepared.unsqueeze(0), entries)[0]
        return logits


def decoding_steps(parts: ModelParts, norm: str) -> tuple[list[nn.Module | float], list[str]]:
    """Float32 copies of the chain with the norms in it as wanted, and the names of those norms.

    Raises UsageError where there is no norm, or one that cannot be had so.
    """
    steps: list[nn.Module | float] = []
    names: list[str] = []
    value = parts.inner.to(parts.weight.device)
    for step in parts.chain:
        if isinstance(step, float):
            steps.append(step)
            value = step * value
            continue
        module = copy.deepcopy(step).float().to(parts.weight.device)
        if norm != "full":
            following = module(value.clone())
            inner = change_norms(module, norm, value)
            names += [f"{parts.names[step]}.{path}".rstrip(".") for path in inner]
            value = following
        steps.append(module)
    return steps, names


def change_norms(module: nn.Module, norm: str, value: Tensor) -> list[str]:
    """Change the norms in a module that is given ``value``; their names in it."""
    paths = {inner: path for path, inner in module.named_modules()}
    found = norms.norms_in(module, value)
    for inner, like in found:
        norms.change_norm(inner, norm, like)
    return [paths[inner] for inner, _ in found]
