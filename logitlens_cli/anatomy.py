"""Where a causal LM keeps its blocks, final norm and head, found by following the data.

Knows no module names and no family. One probe pass (two rows of a few tokens) records what every
module receives and returns; a module feeds another when the very same tensor leaves the one and
enters the other. The elementwise tail behind the head (scale, soft-cap) is found by putting known
numbers in place of the head's output and reading what the model makes of them. Where the way from
the last block to the logits cannot be followed, the chain stays empty and ``decode`` replays it.
"""

import inspect
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
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
class Layout:
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
        made = [self.canonical(tensor, positions) for tensor in streams(value, self.count)]
        return made[0] if len(made) == 1 else torch.cat(made, -1)

    def canonical(self, resid: Tensor, positions: int) -> Tensor:
        """(batch, position, width) of one tensor."""
        if self.batch is None:
            return resid.reshape(-1, positions, math.prod(self.rest))
        moved = resid.movedim((self.batch, self.position), (0, 1))
        return moved.reshape(*moved.shape[:2], -1)

    def write(self, returned: Any, canonical: Tensor) -> Any:
        """What a block returned, with a canonical stream in the place of its own."""
        made = [self.restored(part) for part in canonical.chunk(self.count, -1)]
        return with_streams(returned, iter(made), streams(returned)[0].shape)

    def restored(self, canonical: Tensor) -> Tensor:
        """The family's own layout of one canonical tensor."""
        batch, positions = canonical.shape[:2]
        if self.batch is None:
            return canonical.reshape(batch * positions, *self.rest)
        whole = canonical.reshape(batch, positions, *self.rest)
        return whole.movedim((0, 1), (self.batch, self.position)).contiguous()


@dataclass(frozen=True)
class Anatomy:
    """The parts of a model that the lens needs, in the order in which data flows."""

    blocks: tuple[nn.Module, ...]
    """the decoder blocks, lowest first"""
    entry: nn.Module
    """receives the stream that the blocks work on: the first block, but where blocks are rows of
    parallel lists (XLM)"""
    layout: Layout
    after: tuple[nn.Module, ...]
    """every module with parameters of its own that runs after the last block"""
    chain: tuple[nn.Module | float, ...]
    """between the last block and the head: modules (final norm, projection) and constant factors"""
    head: nn.Module
    """maps (..., width) to (..., vocabulary), linear"""
    tail: tuple[Elementwise, ...]
    """elementwise steps after the head"""
    followed: bool
    """could the way from the last block to the logits be followed? else chain and tail are empty"""
    vocabulary: int
    """number of logits; may be less than the head's rows"""
    names: dict[nn.Module, str] = field(repr=False)
    """qualified name of each part, for provenance"""
    returned: tuple[Any, ...] = field(repr=False)
    """what each block returned in the probe: the form of its results"""
    inner: Tensor = field(repr=False)
    """(2, position, width) float32, two inner streams of the probe, for the proof"""
    mids: tuple["Mid | None", ...] = field(repr=False)
    """by block: where the stream after its attention half is seen; None where there is none;
    empty if they were not looked for"""
    samples: bool
    """does the head take (batch, position, width), so that it can run on some columns only?"""

    @property
    def dtype(self) -> torch.dtype:
        """Of the residual stream."""
        return streams(self.returned[-1])[0].dtype

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
class Mid:
    """The module that receives the stream between the two halves of a block, and as which of the
    tensors that it receives."""

    module: nn.Module
    place: int


def is_norm(module: nn.Module) -> bool:
    """A module without children whose parameters are vectors, or that has none at all."""
    return not any(module.children()) and all(p.ndim == 1 for p in module.parameters())


UNSUPPORTED = "this architecture is not supported"


# ---------------------------------------------------------------------------------------------
# Tensors in the arguments and results of modules


def tensors(value: Any) -> Iterator[Tensor]:
    """The floating-point tensors with a position axis in a module's arguments or results."""
    if isinstance(value, Tensor):
        if value.is_floating_point() and value.ndim >= 2:
            yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors(item)


def streams(value: Any, count: int | None = None) -> list[Tensor]:
    """The residual stream in what a block receives or returns: its first tensor, with those of the
    same shape that are returned beside it (Reformer has two); ``count`` of them if given."""
    found = list(tensors(value))
    if not found:
        raise ProofError("a block passes on no tensor", UNSUPPORTED)
    alike = [tensor for tensor in found if tensor.shape == found[0].shape]
    return alike[:count]


def with_streams(value: Any, made: Iterator[Tensor], shape: torch.Size) -> Any:
    """What a block returned, with other tensors in the place of its streams."""
    if isinstance(value, Tensor):
        return next(made) if value.shape == shape and value.is_floating_point() else value
    if isinstance(value, dict):
        return type(value)(**{k: with_streams(v, made, shape) for k, v in value.items()})
    if isinstance(value, (tuple, list)):
        items = [with_streams(item, made, shape) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def same(a: Tensor, b: Tensor) -> bool:
    """Do two names hold the same numbers: one storage, or equal copies?"""
    if a.numel() != b.numel() or a.shape[-1] != b.shape[-1]:
        return False
    return a.data_ptr() == b.data_ptr() or (
        a.device == b.device and torch.equal(a.reshape(-1), b.reshape(-1))
    )


def factor(a: Tensor, b: Tensor) -> float | None:
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
class Call:
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


@torch.inference_mode()
def find(model: Any, *, subblocks: bool = False) -> Anatomy:
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
    calls: list[Call] = []
    injected: list[Tensor] = []

    def record(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        calls.append(Call(module, list(tensors([args, kwargs])), list(tensors(output)), output))

    def inject(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        if output.ndim != 3 or len(output) != 2:
            return output
        grid = torch.linspace(
            -PROBE_LOGITS, PROBE_LOGITS, output[1].numel(), dtype=output.dtype, device=output.device
        )
        injected.append(grid.reshape(output[1].shape))
        return torch.stack([output[0], injected[-1]])

    ids = probe_ids(weight.shape[0], device_of(model))
    handles = [m.register_forward_hook(record, with_kwargs=True) for m in model.modules()]
    handles.append(head.register_forward_hook(inject))
    with hooked(handles):
        logits = forward(model, ids)
    require_causal(model, logits, calls, head)
    for found in candidates(model, calls):
        parts = assemble(model, calls, found, head, injected, logits, subblocks)
        if found.chained or is_state(model, parts, ids):
            return parts
    raise ProofError(
        f"the blocks of {type(model).__name__} could not be found: no list of modules hands one "
        "residual stream from each to the next",
        UNSUPPORTED,
    )


def assemble(
    model: nn.Module,
    calls: list[Call],
    found: "Found",
    head: nn.Module,
    injected: list[Tensor],
    logits: Tensor,
    subblocks: bool,
) -> Anatomy:
    """The anatomy that follows from a choice of blocks."""
    blocks = found.blocks
    runs = {call.module: call for call in calls if call.module in set(blocks)}
    end = max(i for i, call in enumerate(calls) if call.module is blocks[-1])
    later = tail_calls(calls[end + 1 :], blocks)
    heard = [call for call in calls if call.module is head]
    leaving = runs[blocks[-1]].returned
    try:
        chain = find_chain(later, leaving[0], heard)
        tail = find_tail(model, injected, logits[1])
        followed = True
    except Unfollowed:
        chain, tail, followed = (), (), False
    after = dict.fromkeys(
        call.module for call in later if any(True for _ in call.module.parameters(recurse=False))
    )
    layout = find_layout(streams(leaving))
    inner = [
        layout.read(runs[block].output, PROBE_TOKENS).to(leaving[0].device)
        for block in (blocks[0], blocks[len(blocks) // 2])
    ]
    return Anatomy(
        blocks=blocks,
        entry=found.entry,
        layout=layout,
        after=tuple(after),
        chain=chain,
        head=head,
        tail=tail,
        followed=followed,
        vocabulary=logits.shape[-1],
        names={module: name for name, module in model.named_modules()},
        returned=tuple(runs[block].output for block in blocks),
        # With a single block there is no inner stream, so its own is taken at half its size.
        inner=torch.stack([inner[0][0] * (0.5 if len(blocks) == 1 else 1), inner[1][1]]).float(),
        mids=tuple(find_mid(block, calls) for block in blocks) if subblocks else (),
        samples=len(injected) == 1 and heard[0].received[0].shape[:2] == (2, PROBE_TOKENS),
    )


class Unfollowed(Exception):
    """The way from the last block to the logits is not one that can be followed."""


def find_layout(leaving: list[Tensor]) -> Layout:
    """Which axes of a block's output are batch and position, from the probe's sizes."""
    sizes = list(leaving[0].shape)
    if sizes[0] == 2 * PROBE_TOKENS:
        return Layout(None, 0, tuple(sizes[1:]), len(leaving))
    if 2 not in sizes or PROBE_TOKENS not in sizes:
        raise ProofError(
            f"a residual stream of shape {tuple(sizes)} has no axis of positions", UNSUPPORTED
        )
    batch, position = sizes.index(2), sizes.index(PROBE_TOKENS)
    rest = tuple(size for axis, size in enumerate(sizes) if axis not in (batch, position))
    return Layout(batch, position, rest, len(leaving))


def leave(
    model: Any,
    parts: Anatomy,
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


def is_state(model: nn.Module, parts: Anatomy, ids: Tensor) -> bool:
    """Does what the last block leaves settle the logits, whatever the text was?"""
    resid = parts.inner.to(parts.dtype)
    one = leave(model, parts, ids, resid)
    other = leave(model, parts, ids.flip(1), resid)
    return torch.equal(one, other)


def require_causal(model: nn.Module, logits: Tensor, calls: list[Call], head: nn.Module) -> None:
    """Refuse a model in which a later token changes what an earlier position predicts."""
    received = [call.received[0] for call in calls if call.module is head and call.received]
    # The second row's logits are made up, so what the head received is compared.
    seen = received[0] if received and received[0].numel() % (2 * PROBE_TOKENS) == 0 else logits
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
class Found:
    """A list of modules that may be the blocks."""

    blocks: tuple[nn.Module, ...]
    entry: nn.Module
    chained: bool
    """does each hand its stream to the next?"""
    end: int
    """when the last of them returned, as an index of the calls"""


def candidates(model: nn.Module, calls: list[Call]) -> list[Found]:
    """Lists of modules that may be the blocks, those that return last in time first.

    Children that did not run (cross-attention on a text without pictures) are left out; of a block
    that runs several times the last run counts. A block has parts of its own, unlike the members of
    a tail that is written as a list. If no such list will do, rows of parallel lists of plain
    modules are tried (XLM).
    """
    last = {call.module: i for i, call in enumerate(calls) if call.received and call.returned}
    composite: list[Found] = []
    plain: list[Found] = []
    entered: list[tuple[int, nn.Module]] = []
    for parent in model.modules():
        if not isinstance(parent, (nn.ModuleList, nn.Sequential)):
            continue
        children = tuple(child for child in parent.children() if child in last)
        if not children:
            continue
        ends = [last[child] for child in children]
        shapes = {calls[end].returned[0].shape for end in ends}
        if ends != sorted(ends) or len(shapes) > 1:
            continue
        entered.append((ends[0], children[0]))
        chained = all(feeds(calls[a], calls[b]) for a, b in itertools.pairwise(ends))
        found = Found(children, children[0], chained, ends[-1])
        if all(any(True for _ in child.children()) for child in children):
            composite.append(found)
        elif len(children) > 1 and len({type(child) for child in children}) == 1:
            plain.append(replace(found, chained=False))
    composite.sort(key=lambda found: -found.end)
    plain.sort(key=lambda found: -found.end)
    first = min(entered, key=lambda pair: pair[0])[1] if entered else None
    return composite + [replace(found, entry=first) for found in plain if first is not None]


def feeds(before: Call, after: Call) -> bool:
    """Does the stream that leaves one module enter the other, up to a constant factor?"""
    leaving = before.returned[0]
    return any(
        same(leaving, entering) or factor(leaving, entering) is not None
        for entering in after.received
    )


def tail_calls(calls: list[Call], blocks: tuple[nn.Module, ...]) -> list[Call]:
    """The calls that belong to the tail, of all that ended after the last block: not those of the
    modules that hold the blocks."""
    held = set(blocks)
    return [
        call
        for call in calls
        if call.received and call.returned and not held.intersection(call.module.modules())
    ]


def find_chain(
    later: list[Call], leaving: Tensor, head_calls: list[Call]
) -> tuple[nn.Module | float, ...]:
    """Walk back from what the head received to what the last block returned."""
    if len(head_calls) != 1 or not head_calls[0].received:
        raise Unfollowed
    chain: list[nn.Module | float] = []
    wanted = head_calls[0].received[0]
    while not same(leaving, wanted):
        # The outermost module comes last among those that return the same tensor.
        for call in reversed(later):
            if same(call.returned[0], wanted) and not same(call.received[0], wanted):
                chain.append(call.module)
                wanted = call.received[0]
                break
        else:
            made = [call.returned[0] for call in reversed(later)] + [leaving]
            scaled = [(c, tensor) for tensor in made if (c := factor(tensor, wanted)) is not None]
            if not scaled or scaled[0][0] == 1.0:
                raise Unfollowed
            chain.append(scaled[0][0])
            wanted = scaled[0][1]
    return tuple(reversed(chain))


def find_mid(block: nn.Module, calls: list[Call]) -> Mid | None:
    """Where the stream after the attention half of ``block`` can be seen, if there is one.

    It is the input of the norm before the MLP, or of the MLP where there is none: the first tensor
    between the block's parts that none of them returned (an addition made it), and to which a later
    part's result is added to give what leaves the block. In a parallel block nothing is between;
    in a block whose norms come after the additions nothing is added to it.
    """
    end = max((i for i, call in enumerate(calls) if call.module is block), default=-1)
    inside = set(block.children())
    # Containers of a block's parts return nothing of their own, so their members count as parts.
    parts = [call for call in calls[:end] if call.module in inside and call.returned]
    if end < 0 or not calls[end].returned:
        return None
    entering, leaving = calls[end].received, calls[end].returned[0]
    seen: list[Tensor] = list(entering)
    for n, part in enumerate(parts):
        for place, tensor in enumerate(part.received):
            made = any(same(tensor, other) for other in seen)
            # Bloom hands the stream into the attention, which adds to it and returns it.
            taken = n > 0 and adds_inside(parts[n - 1], entering, tensor)
            fits = tensor.numel() == leaving.numel() and (not made or taken)
            if fits and is_added_to(tensor, parts[n:], leaving):
                return Mid(part.module, place)
        seen += part.returned
    return None


def adds_inside(part: Call, entering: list[Tensor], returned: Tensor) -> bool:
    """Does a part receive the block's stream beside another tensor, and return ``returned``?"""
    alike = [tensor for tensor in part.received if tensor.numel() == returned.numel()]
    return (
        len(alike) > 1
        and any(same(tensor, entering[0]) for tensor in alike[1:])
        and same(part.returned[0], returned)
    )


def is_added_to(tensor: Tensor, parts: list[Call], leaving: Tensor) -> bool:
    """Is what leaves the block this tensor plus results of later parts, with constant factors?"""
    for part in parts:  # a part may do the adding itself, and its result leaves the block
        takes = any(same(tensor, received) for received in part.received)
        if len(part.received) > 1 and takes and same(part.returned[0], leaving):
            return True
    results = [
        result
        for part in parts
        for result in part.returned
        if result.numel() == leaving.numel() and not same(result, leaving)
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
        raise Unfollowed
    raw = injected[0][..., : logits.shape[-1]]
    slack = max(2e-6, 2 * torch.finfo(logits.dtype).eps)
    stride = max(1, raw.numel() // 999)
    sample, wanted = (t.double().reshape(-1)[::stride] for t in (raw, logits))

    def misfit(steps: tuple[Elementwise, ...]) -> float:
        made = sample.clone()
        for step in steps:
            made = step.apply_(made)
        return float(((made - wanted).abs() / (1 + wanted.abs())).max())

    constants = sorted(config_numbers(model))
    scales = [Elementwise("scale", c) for value in constants for c in (value, 1 / value)]
    caps = [Elementwise("soft-cap", value) for value in constants if value > 1]
    singles = [(), *((scale,) for scale in scales), *((cap,) for cap in caps)]
    for candidates in (singles, itertools.product(scales, caps)):
        best = min(candidates, key=misfit, default=())
        if misfit(best) <= slack:
            return best
    raise Unfollowed


def config_numbers(model: nn.Module) -> set[float]:
    """Every number other than 0 and 1 in the configuration of the (text) model."""
    config: Any = model.config
    numbers: set[float] = set()
    for part in (config, config.get_text_config()):
        for value in part.to_dict().values():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                number = float(value)
                if math.isfinite(number) and number > 0 and number != 1:
                    numbers.add(number)
    return numbers
