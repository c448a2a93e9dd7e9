"""The direct route: the model's own norm and head, applied to the stream."""

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from logitlens_cli.lens.capture import Stream
from logitlens_cli.lens.decoder import BLOCK_FLOATS, TILE_ENTRIES, TILE_ROWS, Decoder
from logitlens_cli.model.anatomy.parts import ModelParts, is_norm

# ---------------------------------------------------------------------------------------------
# Direct


class Direct:
    """The modules of the chain, the head's weight in tiles, the elementwise tail.

    ``norm``: "full" as the model does it; "no-affine" without the norm's gain and bias (the post);
    "none" without the norm.
    """

    whole_vocabulary = False
    per_position = True

    def __init__(self, parts: ModelParts, norm: str = "full") -> None:
        self.parts = parts
        self.thread_safe = parts.weight.device.type == "cpu"
        self.steps = [
            step if isinstance(step, float) else in_float32(step, norm).to(parts.weight.device)
            for step in parts.chain
            if norm != "none" or isinstance(step, float) or not is_norm(step)
        ]

    def tile_shape(self, positions: int) -> tuple[int, int]:
        size = min(positions, max(1, BLOCK_FLOATS // self.parts.vocabulary))
        return size, max(1, TILE_ROWS // size)

    def prepare(self, resid: Tensor) -> Tensor:
        value = resid.to(self.parts.weight.device, torch.float32)
        for step in self.steps:
            value = step * value if isinstance(step, float) else step(value)
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


# Products with fewer rows or columns than this take another routine, which sums in another order
# (measured on CPU: 16 and more agree to the last bit, 3 do not).
SAME_ROUTINE = 16


def product(rows: Tensor, weight: Tensor, out: Tensor | None = None) -> Tensor:
    """``rows @ weight.T``, such that one pair of vectors gives the same bits in every product."""
    m, n = len(rows), len(weight)
    if m >= SAME_ROUTINE and n >= SAME_ROUTINE:
        return torch.mm(rows, weight.T, out=out)
    rows = nn.functional.pad(rows, (0, 0, 0, max(0, SAME_ROUTINE - m)))
    weight = nn.functional.pad(weight, (0, 0, 0, max(0, SAME_ROUTINE - n)))
    return torch.mm(rows, weight.T)[:m, :n].contiguous()


def in_float32(module: nn.Module, norm: str) -> nn.Module:
    """A float32 copy of ``module``, without gain and bias if it is a norm and they are unwanted."""
    module = copy.deepcopy(module).float()
    if norm == "no-affine" and is_norm(module):
        with torch.no_grad():
            remove_affine(module)
    return module


def remove_affine(norm: nn.Module) -> None:
    """Set a norm's parameters to the values that change nothing, found by trying.

    A bias is what is returned alone when everything is zero but it. A gain multiplies: with gain
    zero nothing is left, so its neutral value is one; where something is left the module adds one
    itself (Gemma), and the neutral value is zero.
    """
    parameters = list(norm.parameters())
    if not parameters:
        return
    width = parameters[0].shape[0]
    x = torch.linspace(-1, 2, width, dtype=torch.float32, device=parameters[0].device).square()
    for parameter in parameters:
        parameter.zero_()
    if norm(x).abs().max() > 0:
        return
    gains = []
    for parameter in parameters:
        parameter.fill_(1)
        normed = norm(x)
        if not torch.equal(normed, torch.ones_like(normed)):
            gains.append(parameter)
        parameter.zero_()
    for gain in gains:
        gain.fill_(1)
