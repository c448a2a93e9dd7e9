"""Forward passes over a probe text, with hooks."""

import inspect
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor, nn

from logitlens_cli.model.anatomy.parts import ModelParts
from logitlens_cli.model.anatomy.state import kept
from logitlens_cli.model.anatomy.tail import PROBE_LOGITS
from logitlens_cli.model.anatomy.tensors import ModuleCall, float_slots, float_tensors

# A number that no width, count of heads or of streams is likely to have.
PROBE_TOKENS = 7


@contextmanager
def hooked(handles: Iterable[Any]) -> Iterator[None]:
    """Remove every hook at the end, also after an exception."""
    with ExitStack() as stack:
        for handle in handles:
            stack.callback(handle.remove)
        yield


def forward(model: Any, ids: Tensor, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
    """The model's own logits, (batch, position, vocabulary); no cache is kept, and what the model
    remembers is put back.

    ``parameters`` stand in for the model's own, by qualified name, during this call.
    """
    with kept(model):
        return call(model, ids, parameters)


def call(model: Any, ids: Tensor, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
    """The same, but for what the model remembers."""
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
    remembers: tuple[str, ...]
    """what the pass changed of the model; it is put back"""


def run_probe(model: Any, head: nn.Module, ids: Tensor) -> Probe:
    """One forward pass over ``ids`` (2, position), with what every module received and returned."""
    calls: list[ModuleCall] = []
    injected: list[Tensor] = []
    times: Counter[nn.Module] = Counter()

    def record(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        received = list(float_slots([args, kwargs]))
        slots, tensors = [slot for slot, _ in received], [tensor for _, tensor in received]
        returned = list(float_tensors(output))
        calls.append(ModuleCall(module, tensors, returned, output, slots, times[module]))
        times[module] += 1

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
    with kept(model) as changed, hooked(handles):
        logits = call(model, ids)
    return Probe(calls, injected, logits, tuple(changed))


def logits_after(
    model: Any,
    parts: ModelParts,
    ids: Tensor,
    resid: Tensor,
    parameters: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """The model's logits where its last block leaves ``resid`` (batch, position, width) when it
    runs for the last time, after a whole pass over ``ids`` (batch, position)."""
    last, runs = parts.runs[-1], count()

    def replaced(block: Any, args: Any, output: Any) -> Any:
        if next(runs) != last.number:
            return output
        return parts.layout.write(output, last.slots, resid)

    with hooked([last.block.register_forward_hook(replaced)]):
        return forward(model, ids, parameters)
