"""Where a causal LM keeps its blocks, final norm and head, found by following the data.

Knows no module names and no family. One probe pass (two rows of a few tokens) records what every
module receives and returns; a module feeds another when the very same tensor leaves the one and
enters the other. The elementwise tail behind the head (scale, soft-cap) is found by putting known
numbers in place of the head's output and reading what the model makes of them. Where the way from
the last block to the logits cannot be traced, the chain stays empty and ``decode`` replays it.
"""

import inspect
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from logitlens_cli.errors import ProofError, UsageError

# A number that no width, count of heads or of streams is likely to have.
PROBE_TOKENS = 7
# Raw logits put through the tail of the model: wide enough that a soft-cap of 50 bites.
PROBE_LOGITS = 300.0


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

    def read(self, value: Any, positions: int) -> Tensor:
        """The canonical stream (batch, position, width) in what a block receives or returns."""
        parallel = [
            self.canonical(stream, positions) for stream in stream_tensors(value, self.count)
        ]
        return parallel[0] if len(parallel) == 1 else torch.cat(parallel, -1)

    def canonical(self, resid: Tensor, positions: int) -> Tensor:
        """(batch, position, width) of one tensor."""
        if self.batch is None:
            return resid.reshape(-1, positions, math.prod(self.rest))
        moved = resid.movedim((self.batch, self.position), (0, 1))
        return moved.reshape(*moved.shape[:2], -1)

    def write(self, returned: Any, canonical: Tensor) -> Any:
        """What a block returned, with its stream replaced by a canonical one."""
        restored = [self.restored(chunk) for chunk in canonical.chunk(self.count, -1)]
        return replace_streams(returned, iter(restored), stream_tensors(returned)[0].shape)

    def restored(self, canonical: Tensor) -> Tensor:
        """The family's own layout of one canonical tensor."""
        batch, positions = canonical.shape[:2]
        if self.batch is None:
            return canonical.reshape(batch * positions, *self.rest)
        split = canonical.reshape(batch, positions, *self.rest)
        return split.movedim((0, 1), (self.batch, self.position)).contiguous()


@dataclass(frozen=True)
class ModelParts:
    """The parts of a model that the lens needs, in the order in which data flows."""

    blocks: tuple[nn.Module, ...]
    """the decoder blocks, lowest first"""
    entry: nn.Module
    """receives the stream that the blocks work on: the first block, but where blocks are rows of
    parallel lists (XLM)"""
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
    returned: tuple[Any, ...] = field(repr=False)
    """what each block returned in the probe: the form of its results"""
    inner: Tensor = field(repr=False)
    """(2, position, width) float32, two inner streams of the probe, for the proof"""
    mids: tuple["MidSite | None", ...] = field(repr=False)
    """by block: where the stream after its attention half is seen; None where there is none;
    empty if they were not looked for"""
    samples_columns: bool
    """does the head take (batch, position, width), so that it can run on some columns only?"""

    @property
    def dtype(self) -> torch.dtype:
        """Of the residual stream."""
        return stream_tensors(self.returned[-1])[0].dtype

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
    tensor_index: int
    """which of the tensors that it receives is the stream"""


def is_norm(module: nn.Module) -> bool:
    """A module without children whose parameters are vectors, or that has none at all."""
    return not any(module.children()) and all(p.ndim == 1 for p in module.parameters())


UNSUPPORTED = "this architecture is not supported"


# ---------------------------------------------------------------------------------------------
# Tensors in the arguments and results of modules


def float_tensors(value: Any) -> Iterator[Tensor]:
    """The floating-point tensors with a position axis in a module's arguments or results."""
    if isinstance(value, Tensor):
        if value.is_floating_point() and value.ndim >= 2:
            yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from float_tensors(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from float_tensors(item)


def stream_tensors(value: Any, count: int | None = None) -> list[Tensor]:
    """The residual stream in what a block receives or returns: its first tensor, with those of the
    same shape that are returned beside it (Reformer has two); ``count`` of them if given."""
    found = list(float_tensors(value))
    if not found:
        raise ProofError("a block passes on no tensor", UNSUPPORTED)
    alike = [tensor for tensor in found if tensor.shape == found[0].shape]
    return alike[:count]


def replace_streams(value: Any, streams: Iterator[Tensor], shape: torch.Size) -> Any:
    """What a block returned, with its streams (tensors of ``shape``) replaced by ``streams``."""
    if isinstance(value, Tensor):
        return next(streams) if value.shape == shape and value.is_floating_point() else value
    if isinstance(value, dict):
        return type(value)(**{k: replace_streams(v, streams, shape) for k, v in value.items()})
    if isinstance(value, (tuple, list)):
        items = [replace_streams(item, streams, shape) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def equal_tensors(a: Tensor, b: Tensor) -> bool:
    """Do two names hold the same numbers: one storage, or equal copies?"""
    if a.numel() != b.numel() or a.shape[-1] != b.shape[-1]:
        return False
    return a.data_ptr() == b.data_ptr() or (
        a.device == b.device and torch.equal(a.reshape(-1), b.reshape(-1))
    )


def constant_factor(a: Tensor, b: Tensor) -> float | None:
    """The constant c with ``b == c * a``, or None."""
    if a.numel() != b.numel() or a.shape[-1] != b.shape[-1] or a.device != b.device:
        return None
    x, y = a.detach().double().reshape(-1), b.detach().double().reshape(-1)
    square = float(x @ x)
    if not square:
        return None
    c = float(x @ y) / square
    slack = 4 * torch.finfo(b.dtype).eps * float(y.abs().max())
    return c if c and bool((y - c * x).abs().max() <= slack) else None


# ---------------------------------------------------------------------------------------------
# The probe


@dataclass(frozen=True)
class ModuleCall:
    """One module called once during the probe."""

    module: nn.Module
    received: list[Tensor]
    returned: list[Tensor]
    output: Any
    """as it was returned, with all that is not a tensor"""


@contextmanager
def hooked(handles: Iterable[Any]) -> Iterator[None]:
    """Remove every hook at the end, also after an exception."""
    with ExitStack() as stack:
        for handle in handles:
            stack.callback(handle.remove)
        yield


def forward(model: Any, ids: Tensor, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
    """The model's own logits, (batch, position, vocabulary); no cache is kept.

    ``parameters`` stand in for the model's own, by qualified name, during this call.
    """
    declared = inspect.signature(type(model).forward).parameters
    # A keyword that is not declared may be passed on to a layer that does not want it.
    keywords: dict[str, Any] = {"use_cache": False} if "use_cache" in declared else {}
    keywords |= {"input_ids": ids, "return_dict": True}
    if parameters:
        logits = torch.func.functional_call(
            model, dict(parameters), (), keywords, tie_weights=False
        ).logits
    else:
        logits = model(**keywords).logits
    assert isinstance(logits, Tensor)
    return logits


def device_of(model: nn.Module) -> torch.device:
    """Where ids go: where the first parameter lies that is not offloaded."""
    devices = (p.device for p in model.parameters() if not p.is_meta)
    return next(devices, torch.device("cpu"))


def probe_ids(vocabulary: int, device: torch.device) -> Tensor:
    """(2, positions) ids spread over the vocabulary; the rows differ in the last one only."""
    steps = torch.arange(1, PROBE_TOKENS + 1, device=device)
    ids = (vocabulary * steps // (PROBE_TOKENS + 2)).clamp(max=vocabulary - 1)
    other = ids.clone()
    other[-1] = (ids[-1] + 1) % vocabulary
    return torch.stack([ids, other])


@dataclass(frozen=True)
class Probe:
    """What one pass over two short texts shows."""

    calls: list[ModuleCall]
    """of every module, in the order in which they returned"""
    injected: list[Tensor]
    """(position, rows of the head), the known logits that stood in for the head's in the second
    text, each time that it ran"""
    logits: Tensor
    """(2, position, vocabulary)"""


def run_probe(model: Any, head: nn.Module, ids: Tensor) -> Probe:
    """One forward pass over ``ids`` (2, position), with what every module received and returned."""
    calls: list[ModuleCall] = []
    injected: list[Tensor] = []

    def record(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        received, returned = list(float_tensors([args, kwargs])), list(float_tensors(output))
        calls.append(ModuleCall(module, received, returned, output))

    def inject(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        if output.ndim != 3 or len(output) != 2:
            return output
        grid = torch.linspace(
            -PROBE_LOGITS, PROBE_LOGITS, output[1].numel(), dtype=output.dtype, device=output.device
        )
        injected.append(grid.reshape(output[1].shape))
        return torch.stack([output[0], injected[-1]])

    handles = [m.register_forward_hook(record, with_kwargs=True) for m in model.modules()]
    handles.append(head.register_forward_hook(inject))
    with hooked(handles):
        logits = forward(model, ids)
    return Probe(calls, injected, logits)


@torch.inference_mode()
def find_parts(model: Any, *, subblocks: bool = False) -> ModelParts:
    """Probe ``model`` and return its parts; ``subblocks``: also where its blocks have a middle.

    Raises UsageError where the model is no causal LM, ProofError where its parts cannot be found.
    """
    head: Any = getattr(model, "get_output_embeddings", lambda: None)()
    weight = getattr(head, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        raise ProofError(
            f"{type(model).__name__} has no linear head that maps the residual stream to logits",
            "use a causal language model",
        )
    ids = probe_ids(weight.shape[0], device_of(model))
    probe = run_probe(model, head, ids)
    require_causal(model, head, probe)
    for candidate in block_candidates(model, probe.calls):
        parts = assemble(model, head, probe, candidate, subblocks)
        if candidate.chained or settles_logits(model, parts, ids):
            return parts
    raise ProofError(
        f"the blocks of {type(model).__name__} could not be found: no list of modules hands one "
        "residual stream from each to the next",
        UNSUPPORTED,
    )


def assemble(
    model: nn.Module, head: nn.Module, probe: Probe, candidate: "BlockList", subblocks: bool
) -> ModelParts:
    """The parts that follow from a choice of blocks."""
    blocks, calls = candidate.blocks, probe.calls
    block_calls = {call.module: call for call in calls if call.module in set(blocks)}
    last_block = max(i for i, call in enumerate(calls) if call.module is blocks[-1])
    after_blocks = tail_calls(calls[last_block + 1 :], blocks)
    head_calls = [call for call in calls if call.module is head]
    leaving = block_calls[blocks[-1]].returned
    try:
        chain = find_chain(after_blocks, leaving[0], head_calls)
        tail = find_tail(model, probe.injected, probe.logits[1])
        traceable = True
    except UntraceableTail:
        chain, tail, traceable = (), (), False
    with_parameters = (
        call.module
        for call in after_blocks
        if any(True for _ in call.module.parameters(recurse=False))
    )
    layout = find_layout(stream_tensors(leaving))
    return ModelParts(
        blocks=blocks,
        entry=candidate.entry,
        layout=layout,
        after=tuple(dict.fromkeys(with_parameters)),
        chain=chain,
        head=head,
        tail=tail,
        traceable=traceable,
        vocabulary=probe.logits.shape[-1],
        names={module: name for name, module in model.named_modules()},
        returned=tuple(block_calls[block].output for block in blocks),
        inner=inner_streams(layout, blocks, block_calls),
        mids=tuple(find_mid(block, calls) for block in blocks) if subblocks else (),
        samples_columns=len(probe.injected) == 1
        and head_calls[0].received[0].shape[:2] == (2, PROBE_TOKENS),
    )


def inner_streams(
    layout: StreamLayout, blocks: Sequence[nn.Module], calls: Mapping[nn.Module, ModuleCall]
) -> Tensor:
    """(2, position, width) float32: what the first block left of the first text, and a block half
    way up of the second."""
    device = calls[blocks[-1]].returned[0].device
    low, middle = (
        layout.read(calls[block].output, PROBE_TOKENS).to(device)
        for block in (blocks[0], blocks[len(blocks) // 2])
    )
    # With a single block there is no inner stream, so its own is taken at half its size.
    return torch.stack([low[0] * (0.5 if len(blocks) == 1 else 1), middle[1]]).float()


class UntraceableTail(Exception):
    """The way from the last block to the logits cannot be traced."""


def find_layout(leaving: list[Tensor]) -> StreamLayout:
    """Which axes of a block's output are batch and position, from the probe's sizes."""
    sizes = list(leaving[0].shape)
    if sizes[0] == 2 * PROBE_TOKENS:
        return StreamLayout(None, 0, tuple(sizes[1:]), len(leaving))
    if 2 not in sizes or PROBE_TOKENS not in sizes:
        raise ProofError(
            f"a residual stream of shape {tuple(sizes)} has no axis of positions", UNSUPPORTED
        )
    batch, position = sizes.index(2), sizes.index(PROBE_TOKENS)
    rest = tuple(size for axis, size in enumerate(sizes) if axis not in (batch, position))
    return StreamLayout(batch, position, rest, len(leaving))


def logits_after(
    model: Any,
    parts: ModelParts,
    ids: Tensor,
    resid: Tensor,
    parameters: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """The model's logits where its last block leaves ``resid`` (batch, position, width), after a
    whole pass over ``ids`` (batch, position)."""

    def replaced(block: Any, args: Any, output: Any) -> Any:
        return parts.layout.write(output, resid)

    with hooked([parts.blocks[-1].register_forward_hook(replaced)]):
        return forward(model, ids, parameters)


def settles_logits(model: nn.Module, parts: ModelParts, ids: Tensor) -> bool:
    """Does what the last block leaves settle the logits, whatever the text was?"""
    resid = parts.inner.to(parts.dtype)
    one = logits_after(model, parts, ids, resid)
    other = logits_after(model, parts, ids.flip(1), resid)
    return torch.equal(one, other)


def require_causal(model: nn.Module, head: nn.Module, probe: Probe) -> None:
    """Refuse a model in which a later token changes what an earlier position predicts."""
    received = [c.received[0] for c in probe.calls if c.module is head and c.received]
    # The second row's logits are made up, so what the head received is compared.
    whole_rows = received and received[0].numel() % (2 * PROBE_TOKENS) == 0
    seen = received[0] if whole_rows else probe.logits
    a, b = seen.reshape(2, PROBE_TOKENS, -1)[:, :-1].float()
    # Batched kernels round the two rows differently; measured far below this in every dtype.
    slack = max(1e-3, 4 * torch.finfo(seen.dtype).eps) * float(a.abs().max())
    if float((a - b).abs().max()) > slack:
        raise UsageError(
            f"{type(model).__name__} is not a causal language model: a later token changes "
            "what earlier positions predict",
            "use a decoder-only model that predicts the next token",
        )


@dataclass(frozen=True)
class BlockList:
    """A list of modules that may be the blocks."""

    blocks: tuple[nn.Module, ...]
    entry: nn.Module
    chained: bool
    """does each hand its stream to the next?"""
    end: int
    """when the last of them returned, as an index of the calls"""


def block_candidates(model: nn.Module, calls: list[ModuleCall]) -> list[BlockList]:
    """Lists of modules that may be the blocks, those that return last in time first.

    Children that did not run (cross-attention on a text without pictures) are left out; of a block
    that runs several times the last run counts. A block has children, unlike the members of a tail
    that is written as a list. If no such list will do, rows of parallel lists of plain
    modules are tried (XLM).
    """
    last_call = {call.module: i for i, call in enumerate(calls) if call.received and call.returned}
    composite: list[BlockList] = []
    plain: list[BlockList] = []
    entered: list[tuple[int, nn.Module]] = []
    for parent in model.modules():
        if not isinstance(parent, (nn.ModuleList, nn.Sequential)):
            continue
        children = tuple(child for child in parent.children() if child in last_call)
        if not children:
            continue
        ends = [last_call[child] for child in children]
        shapes = {calls[end].returned[0].shape for end in ends}
        if ends != sorted(ends) or len(shapes) > 1:
            continue
        entered.append((ends[0], children[0]))
        chained = all(feeds(calls[a], calls[b]) for a, b in itertools.pairwise(ends))
        found = BlockList(children, children[0], chained, ends[-1])
        if all(any(True for _ in child.children()) for child in children):
            composite.append(found)
        elif len(children) > 1 and len({type(child) for child in children}) == 1:
            plain.append(replace(found, chained=False))
    composite.sort(key=lambda found: -found.end)
    plain.sort(key=lambda found: -found.end)
    first = min(entered, key=lambda pair: pair[0])[1] if entered else None
    return composite + [replace(found, entry=first) for found in plain if first is not None]


def feeds(before: ModuleCall, after: ModuleCall) -> bool:
    """Does the stream that leaves one module enter the other, up to a constant factor?"""
    leaving = before.returned[0]
    return any(
        equal_tensors(leaving, entering) or constant_factor(leaving, entering) is not None
        for entering in after.received
    )


def tail_calls(calls: list[ModuleCall], blocks: tuple[nn.Module, ...]) -> list[ModuleCall]:
    """The calls that belong to the tail, of all that ended after the last block: not those of the
    modules that hold the blocks."""
    held = set(blocks)
    return [
        call
        for call in calls
        if call.received and call.returned and not held.intersection(call.module.modules())
    ]


def find_chain(
    later: list[ModuleCall], leaving: Tensor, head_calls: list[ModuleCall]
) -> tuple[nn.Module | float, ...]:
    """Walk back from what the head received to what the last block returned."""
    if len(head_calls) != 1 or not head_calls[0].received:
        raise UntraceableTail
    chain: list[nn.Module | float] = []
    wanted = head_calls[0].received[0]
    while not equal_tensors(leaving, wanted):
        # The outermost module comes last among those that return the same tensor.
        for call in reversed(later):
            if equal_tensors(call.returned[0], wanted) and not equal_tensors(
                call.received[0], wanted
            ):
                chain.append(call.module)
                wanted = call.received[0]
                break
        else:
            sources = [call.returned[0] for call in reversed(later)] + [leaving]
            pairs = ((constant_factor(source, wanted), source) for source in sources)
            factor, source = next((pair for pair in pairs if pair[0] is not None), (None, leaving))
            if factor is None or factor == 1.0:
                raise UntraceableTail
            chain.append(factor)
            wanted = source
    return tuple(reversed(chain))


def find_mid(block: nn.Module, calls: list[ModuleCall]) -> MidSite | None:
    """Where the stream after the attention half of ``block`` can be seen, if there is one.

    It is the input of the norm before the MLP, or of the MLP where there is none: the first tensor
    between the block's children that none of them returned (an addition made it), and to which a
    later child's result is added to give what leaves the block. In a parallel block nothing is
    between;
    in a block whose norms come after the additions nothing is added to it.
    """
    end = max((i for i, call in enumerate(calls) if call.module is block), default=-1)
    inside = set(block.children())
    # Lists of a block's children return nothing themselves, so their members count as children.
    children = [call for call in calls[:end] if call.module in inside and call.returned]
    if end < 0 or not calls[end].returned:
        return None
    entering, leaving = calls[end].received, calls[end].returned[0]
    seen: list[Tensor] = list(entering)
    for n, child in enumerate(children):
        for index, tensor in enumerate(child.received):
            is_new = not any(equal_tensors(tensor, other) for other in seen)
            # Bloom hands the stream into the attention, which adds to it and returns it.
            is_sum = is_new or (n > 0 and adds_inside(children[n - 1], entering, tensor))
            fits = tensor.numel() == leaving.numel() and is_sum
            if fits and is_added_to(tensor, children[n:], leaving):
                return MidSite(child.module, index)
        seen += child.returned
    return None


def adds_inside(child: ModuleCall, entering: list[Tensor], returned: Tensor) -> bool:
    """Does a child receive the block's stream beside another tensor, and return ``returned``?"""
    alike = [tensor for tensor in child.received if tensor.numel() == returned.numel()]
    return (
        len(alike) > 1
        and any(equal_tensors(tensor, entering[0]) for tensor in alike[1:])
        and equal_tensors(child.returned[0], returned)
    )


def is_added_to(tensor: Tensor, later: list[ModuleCall], leaving: Tensor) -> bool:
    """Is what leaves the block this tensor plus results of later children, with constant
    factors?"""
    for child in later:  # a child may do the adding itself, and its result leaves the block
        receives = any(equal_tensors(tensor, received) for received in child.received)
        if len(child.received) > 1 and receives and equal_tensors(child.returned[0], leaving):
            return True
    results = [
        result
        for child in later
        for result in child.returned
        if result.numel() == leaving.numel() and not equal_tensors(result, leaving)
    ]
    columns = torch.stack([t.double().reshape(-1).cpu() for t in (tensor, *results)], 1)
    y = leaving.double().reshape(-1).cpu()
    weights = torch.linalg.lstsq(columns, y, driver="gelsd").solution
    slack = 32 * torch.finfo(leaving.dtype).eps * float(columns.abs().max())
    exact = float((columns @ weights - y).abs().max()) <= slack
    return exact and abs(float(weights[0])) > 1e-3 and bool((weights[1:].abs() > 1e-3).any())


def find_tail(model: nn.Module, injected: list[Tensor], logits: Tensor) -> tuple[Elementwise, ...]:
    """The elementwise steps that turn what was injected into ``logits``: none, scale, soft-cap, or
    both.

    The constants are those of the model's configuration, so they are exact; which one it is and
    what is done with it follows from the numbers.
    """
    if len(injected) != 1:
        raise UntraceableTail
    raw = injected[0][..., : logits.shape[-1]]
    slack = max(2e-6, 2 * torch.finfo(logits.dtype).eps)
    stride = max(1, raw.numel() // 999)
    sample, wanted = (t.double().reshape(-1)[::stride] for t in (raw, logits))

    def misfit(steps: tuple[Elementwise, ...]) -> float:
        logits = sample.clone()
        for step in steps:
            logits = step.apply_(logits)
        return float(((logits - wanted).abs() / (1 + wanted.abs())).max())

    constants = sorted(config_numbers(model))
    scales = [Elementwise("scale", c) for value in constants for c in (value, 1 / value)]
    caps = [Elementwise("soft-cap", value) for value in constants if value > 1]
    singles = [(), *((scale,) for scale in scales), *((cap,) for cap in caps)]
    for candidates in (singles, itertools.product(scales, caps)):
        best = min(candidates, key=misfit, default=())
        if misfit(best) <= slack:
            return best
    raise UntraceableTail


def config_numbers(model: nn.Module) -> set[float]:
    """Every number other than 0 and 1 in the configuration of the (text) model."""
    config: Any = model.config
    numbers: set[float] = set()
    for section in (config, config.get_text_config()):
        for value in section.to_dict().values():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                number = float(value)
                if math.isfinite(number) and number > 0 and number != 1:
                    numbers.add(number)
    return numbers
