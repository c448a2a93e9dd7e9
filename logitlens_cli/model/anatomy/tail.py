"""What happens after the last block: norm, head, and whatever stands between and behind."""

import itertools
import math
from typing import Any

import torch
from torch import Tensor, nn

from logitlens_cli.model.anatomy.parts import Elementwise
from logitlens_cli.model.anatomy.tensors import ModuleCall, constant_factor, equal_tensors

# Raw logits put through the tail of the model: wide enough that a soft-cap of 50 bites.
PROBE_LOGITS = 300.0


class UntraceableTailError(Exception):
    """The way from the last block to the logits cannot be traced."""


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
        raise UntraceableTailError
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
                raise UntraceableTailError
            chain.append(factor)
            wanted = source
    return tuple(reversed(chain))


def find_tail(model: nn.Module, injected: list[Tensor], logits: Tensor) -> tuple[Elementwise, ...]:
    """The elementwise steps that turn what was injected into ``logits``: none, scale, soft-cap, or
    both.

    The constants are those of the model's configuration, so they are exact; which one it is and
    what is done with it follows from the numbers.
    """
    if len(injected) != 1:
        raise UntraceableTailError
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
    raise UntraceableTailError


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
