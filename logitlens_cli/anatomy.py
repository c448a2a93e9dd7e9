"""Where a causal LM keeps its blocks, final norm and head, found by following the data.

Knows no module names and no family. One probe pass (two rows of a few tokens) records what every
module receives and returns; a module feeds another when the very same tensor leaves the one and
enters the other. The elementwise tail behind the head (scale, soft-cap) is found by putting known
numbers in place of the head's output and reading what the model makes of them.
"""

import itertools
import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from logitlens_cli.errors import ProofError, UsageError

PROBE_TOKENS = 6
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
class Anatomy:
    """The parts of a model that the lens needs, in the order in which data flows."""

    blocks: tuple[nn.Module, ...]
    """the decoder blocks, lowest first"""
    chain: tuple[nn.Module | float, ...]
    """between the last block and the head: modules (final norm, projection) and constant factors"""
    head: nn.Module
    """maps (..., width) to (..., vocabulary), linear"""
    tail: tuple[Elementwise, ...]
    """elementwise steps after the head"""
    vocabulary: int
    """rows of the head that become logits"""
    names: dict[nn.Module, str] = field(repr=False)
    """qualified name of each part, for provenance"""

    @property
    def width(self) -> int:
        return int(self.weight.shape[1])

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

    def norms(self) -> list[nn.Module]:
        """The modules of the chain whose parameters are all one-dimensional: norms."""
        return [step for step in self.chain if isinstance(step, nn.Module) and is_norm(step)]

    def describe(self) -> list[str]:
        """The decode chain, a line a step, from the last block to the logits."""

        def name(module: nn.Module) -> str:
            return f"{self.names[module]} ({type(module).__name__})"

        steps = [f"{name(self.blocks[-1])} output"]
        steps += [name(s) if isinstance(s, nn.Module) else f"scale {s:g}" for s in self.chain]
        steps.append(name(self.head) + (" with bias" if self.bias is not None else ""))
        return steps + [str(step) for step in self.tail]


def is_norm(module: nn.Module) -> bool:
    """A module without children whose parameters are vectors, or that has none at all."""
    return not any(module.children()) and all(p.ndim == 1 for p in module.parameters())


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


def stream(value: Any) -> Tensor:
    """The residual stream in what a block receives or returns: its first tensor."""
    for tensor in tensors(value):
        return tensor
    raise ProofError("a block passes on no tensor", "this architecture is not supported")


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


@contextmanager
def hooked(handles: Iterable[Any]) -> Iterator[None]:
    """Remove every hook at the end, also after an exception."""
    with ExitStack() as stack:
        for handle in handles:
            stack.callback(handle.remove)
        yield


def forward(model: nn.Module, ids: Tensor) -> Tensor:
    """The model's own logits, (batch, position, vocabulary); no cache is kept."""
    logits = model(input_ids=ids, use_cache=False).logits
    assert isinstance(logits, Tensor)
    return logits


def probe_ids(vocabulary: int, device: torch.device) -> Tensor:
    """(2, positions) ids from the middle of the vocabulary; the rows differ in the last one only."""
    steps = torch.arange(1, PROBE_TOKENS + 1, device=device)
    ids = (vocabulary * steps // (PROBE_TOKENS + 2)).clamp(max=vocabulary - 1)
    other = ids.clone()
    other[-1] = (ids[-1] + 1) % vocabulary
    return torch.stack([ids, other])


@torch.inference_mode()
def find(model: nn.Module) -> Anatomy:
    """Probe ``model`` and return its parts.

    Raises UsageError where the model is no causal LM, ProofError where its parts cannot be found.
    """
    head = getattr(model, "get_output_embeddings", lambda: None)()
    weight = getattr(head, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        raise ProofError(
            f"{type(model).__name__} has no linear head that maps the residual stream to logits",
            "use a causal language model",
        )
    calls: list[Call] = []
    injected: list[Tensor] = []

    def record(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        calls.append(Call(module, list(tensors([args, kwargs])), list(tensors(output))))

    def inject(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        grid = torch.linspace(
            -PROBE_LOGITS, PROBE_LOGITS, output[1].numel(), dtype=output.dtype, device=output.device
        )
        injected.append(grid.reshape(output[1].shape))
        return torch.stack([output[0], injected[-1]])

    ids = probe_ids(weight.shape[0], weight.device)
    handles = [m.register_forward_hook(record, with_kwargs=True) for m in model.modules()]
    handles.append(head.register_forward_hook(inject))
    with hooked(handles):
        logits = forward(model, ids)
    head_calls = [call for call in calls if call.module is head]
    if len(head_calls) != 1 or not head_calls[0].received or len(injected) != 1:
        raise ProofError(
            f"the head of {type(model).__name__} is called {len(head_calls)} times in one pass",
            "this architecture is not supported",
        )
    received = head_calls[0].received[0]
    require_causal(model, received)
    blocks = find_blocks(model, calls)
    chain = find_chain(calls, blocks, received)
    vocabulary = logits.shape[-1]
    tail = find_tail(model, injected[0][..., :vocabulary], logits[1])
    names = {module: name for name, module in model.named_modules()}
    return Anatomy(blocks, chain, head, tail, vocabulary, names)


def require_causal(model: nn.Module, received: Tensor) -> None:
    """Refuse a model in which a later token changes what an earlier position predicts."""
    a, b = received.reshape(2, PROBE_TOKENS, -1)[:, :-1].float()
    # Batched kernels round the two rows differently; measured far below this in every dtype.
    slack = max(1e-3, 4 * torch.finfo(received.dtype).eps) * float(a.abs().max())
    if float((a - b).abs().max()) > slack:
        raise UsageError(
            f"{type(model).__name__} is not a causal language model: a later token changes "
            "what earlier positions predict",
            "use a decoder-only model that predicts the next token",
        )


def find_blocks(model: nn.Module, calls: list[Call]) -> tuple[nn.Module, ...]:
    """The longest list of modules that hand one stream from each to the next."""
    by_module: dict[nn.Module, list[Call]] = {}
    for call in calls:
        by_module.setdefault(call.module, []).append(call)
    best: tuple[nn.Module, ...] = ()
    for parent in model.modules():
        children = tuple(parent.children())
        if not isinstance(parent, (nn.ModuleList, nn.Sequential)) or len(children) <= len(best):
            continue
        runs = [by_module.get(child, []) for child in children]
        if all(len(run) == 1 and run[0].returned and run[0].received for run in runs) and all(
            any(same(before[0].returned[0], entering) for entering in after[0].received)
            for before, after in zip(runs, runs[1:], strict=False)
        ):
            best = children
    if not best:
        raise ProofError(
            f"the blocks of {type(model).__name__} could not be found: no list of modules hands "
            "one residual stream from each to the next",
            "this architecture is not supported",
        )
    return best


def find_chain(
    calls: list[Call], blocks: tuple[nn.Module, ...], received: Tensor
) -> tuple[nn.Module | float, ...]:
    """Walk back from what the head received to what the last block returned."""
    end = max(i for i, call in enumerate(calls) if call.module is blocks[-1])
    leaving = calls[end].returned[0]
    holders = {id(m) for m in blocks}
    later = [
        call
        for call in calls[end + 1 :]
        if call.received
        and call.returned
        and not any(id(child) in holders for child in call.module.modules())
    ]
    chain: list[nn.Module | float] = []
    wanted = received
    while not same(leaving, wanted):
        # The outermost module comes last among those that return the same tensor.
        for call in reversed(later):
            if same(call.returned[0], wanted) and not same(call.received[0], wanted):
                chain.append(call.module)
                wanted = call.received[0]
                break
        else:
            scaled = [
                (c, tensor)
                for tensor in [call.returned[0] for call in reversed(later)] + [leaving]
                if (c := factor(tensor, wanted)) is not None and c != 1.0
            ]
            if not scaled:
                raise ProofError(
                    "the way from the last block to the head could not be followed",
                    "this architecture is not supported",
                )
            chain.append(scaled[0][0])
            wanted = scaled[0][1]
    return tuple(reversed(chain))


def find_tail(model: nn.Module, raw: Tensor, logits: Tensor) -> tuple[Elementwise, ...]:
    """The elementwise steps that turn ``raw`` into ``logits``: none, scale, soft-cap, or both.

    The constants are those of the model's configuration, so they are exact; which one it is and
    what is done with it follows from the numbers.
    """
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
    raise ProofError(
        f"{type(model).__name__} changes its logits after the head in a way that is neither a "
        "scale nor a soft-cap",
        "this architecture is not supported",
    )


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
