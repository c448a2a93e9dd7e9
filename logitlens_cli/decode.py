"""Residual stream -> logits, by one of two routes, in float32 whatever the model's dtype.

Direct: copies of the modules between the last block and the head, the head's weight in tiles, the
elementwise tail. Replay: the model's own forward pass with its blocks replaced by ones that return
a chosen stream, so that whatever the model does after them is done by its own code. Direct is
faster, replay always right; ``prove`` decides, by holding both against the model itself on inner
rows.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from logitlens_cli import anatomy
from logitlens_cli.anatomy import ModelParts, is_norm
from logitlens_cli.capture import Stream
from logitlens_cli.errors import ProofError, UsageError

TILE_ROWS = 1024
TILE_ENTRIES = 1024
# A block of positions holds the logits and the probabilities of two references: 50 MB.
BLOCK_FLOATS = 64 * 49152

# Largest difference that rounding may make, relative to the largest logit. float32: only the order
# of summation differs, which came to 4e-7 at most. In half precision the model itself rounds the
# normed stream and the logits (to 8 or 11 bits), and the lens does not: 3e-3 and 4e-4 were seen.
TOLERANCE = {
    torch.float32: 1e-5,
    torch.float64: 1e-5,
    torch.float16: 2e-3,
    torch.bfloat16: 1.5e-2,
}


@dataclass(frozen=True)
class Route:
    """How the streams of a model are decoded, as ``prove`` found."""

    direct: bool
    skips: bool = True
    """a replay can skip the blocks; else it runs them all"""
    float32: bool = True
    """a replay can run in float32; else its code insists on the model's own dtype"""

    @property
    def name(self) -> str:
        return "direct" if self.direct else "replay"


class Decoder(Protocol):
    """A map from the residual stream to logits. ``resid`` is (layer, position, width)."""

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


def make_decoder(
    model: Any,
    parts: ModelParts,
    route: Route,
    norm: str,
    ids: Sequence[int],
    window: range,
    decoder_blocks: int = 0,
) -> Decoder:
    """The decoder of a text by a proven route; the last ``decoder_blocks`` blocks are a part of it.

    Raises UsageError where the route cannot leave out the norm.
    """
    if decoder_blocks:
        return ReplayBlocks(model, parts, norm, ids, decoder_blocks)
    if route.direct:
        return Direct(parts, norm)
    return Replay(model, parts, route, norm, ids, window)


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
    x = torch.linspace(-1, 2, width, device=parameters[0].device).square()
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
                f"--norm none cannot be had of {type(model).__name__}: its own code decodes the "
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
        logits = anatomy.logits_after(self.model, self.parts, ids, resid, self.parameters)
        return logits[:, columns].float()

    def text(self, prepared: Tensor) -> Tensor:
        """The ids of the whole text, once for every row of ``prepared``."""
        return torch.tensor([self.ids], device=anatomy.device_of(self.model)).expand(
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
            return anatomy.forward(self.model, self.text(prepared), self.parameters).float()

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
    token = anatomy.probe_ids(parts.weight.shape[0], anatomy.device_of(model))[0, 0]
    ids = token.expand(resid.shape[:2])
    with blocks_skipped(parts, resid):
        return anatomy.forward(model, ids, parameters)


@contextmanager
def blocks_skipped(parts: ModelParts, resid: Tensor, count: int | None = None) -> Iterator[None]:
    """Have the first ``count`` blocks, or all, return ``resid`` (row, position, width) at once,
    each in its own form."""
    blocks = parts.blocks[:count]
    overrides = [block.__dict__.get("forward") for block in blocks]
    try:
        for block, returned in zip(blocks, parts.returned, strict=False):
            output = parts.layout.write(returned, resid)
            block.forward = lambda *_, _output=output, **__: _output
        yield
    finally:
        for block, forward in zip(blocks, overrides, strict=True):
            block.__dict__.pop("forward", None)
            if forward is not None:  # somebody's own, such as accelerate's
                block.__dict__["forward"] = forward


# ---------------------------------------------------------------------------------------------
# The proof


@torch.inference_mode()
def prove(model: Any, parts: ModelParts) -> Route:
    """The fastest route that decodes inner rows as the model itself would.

    Two inner streams of the probe are put in the place of the last block's, in a whole pass of the
    model: its logits are the truth, whatever the family does after its blocks.
    Raises ProofError where the last block's stream makes no difference to the logits.
    """
    truth = inner_truth(model, parts)
    if truth.isnan().any():  # the grid will name the place
        return Route(direct=parts.traceable)
    if parts.traceable and route_agrees(model, parts, Route(direct=True), truth):
        return Route(direct=True)
    ids = anatomy.probe_ids(parts.weight.shape[0], anatomy.device_of(model))
    if torch.equal(truth, anatomy.forward(model, ids)):
        raise ProofError(
            f"what leaves {parts.names[parts.blocks[-1]]} makes no difference to the logits",
            anatomy.UNSUPPORTED,
        )
    for skips in (True, False):
        for float32 in (True, False):
            route = Route(direct=False, skips=skips, float32=float32)
            if route_agrees(model, parts, route, truth):
                return route
    raise ProofError(
        f"the tail of {type(model).__name__} gives other logits each time it runs",
        anatomy.UNSUPPORTED,
    )


def inner_truth(model: Any, parts: ModelParts) -> Tensor:
    """The model's own logits where its last block leaves the inner streams of the probe."""
    ids = anatomy.probe_ids(parts.weight.shape[0], anatomy.device_of(model))
    return anatomy.logits_after(model, parts, ids, parts.inner.to(parts.dtype))


def inner_logits(model: Any, parts: ModelParts, route: Route) -> Tensor:
    """The logits of the inner streams of the probe by a route, (2, position, vocabulary)."""
    if route.direct:
        return direct_logits(Direct(parts), parts.inner)
    resid = parts.inner if route.float32 else parts.inner.to(parts.dtype)
    parameters = tail_parameters(parts, "full", route.float32)
    if route.skips:
        # Blocks must be skipped for any number of rows: also for three, as the probe had not.
        return replay(model, parts, resid[[0, 1, 0]], parameters)[:2]
    ids = anatomy.probe_ids(parts.weight.shape[0], anatomy.device_of(model))
    return anatomy.logits_after(model, parts, ids, resid, parameters)


@torch.inference_mode()
def inner_difference(model: Any, parts: ModelParts, route: Route) -> tuple[float, float]:
    """How far a route is from the model itself on inner streams, and what rounding allows."""
    return logit_difference(inner_logits(model, parts, route), inner_truth(model, parts))


def direct_logits(direct: Direct, resid: Tensor) -> Tensor:
    """(layer, position, width) -> (layer, position, vocabulary)."""
    prepared = direct.prepare(resid)
    return direct.logits(prepared.flatten(0, 1)).view(*resid.shape[:2], -1)


def logit_difference(decoded: Tensor, output: Tensor) -> tuple[float, float]:
    """Largest difference of decoded logits from the model's output, and what rounding in the
    model's dtype allows."""
    tolerance = TOLERANCE[output.dtype]
    a, b = decoded.float(), output.float()
    # Logits of minus infinity (entries the model forbids) are equal, not an error of NaN.
    error = float(torch.where(a == b, 0.0, a - b).abs().max())
    finite = b[b.isfinite() & (b > torch.finfo(output.dtype).min / 2)]
    largest = float(finite.abs().max()) if len(finite) else 0.0
    return error, tolerance * max(1.0, largest)


def route_agrees(model: Any, parts: ModelParts, route: Route, truth: Tensor) -> bool:
    """Does a route give the model's own logits? One that does not fit the model may fail."""
    try:
        decoded = inner_logits(model, parts, route)
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError):
        return False
    if decoded.shape != truth.shape:
        return False
    error, allowed = logit_difference(decoded, truth)
    return error <= allowed
