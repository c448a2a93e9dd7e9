"""Tensors in what modules take and give."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from logitlens_cli.errors import ProofError

UNSUPPORTED = "this architecture is not supported"


# ---------------------------------------------------------------------------------------------
# Tensors in the arguments and results of modules


Slot = tuple[int | str, ...]
"""the way to a tensor in what a module receives or returns: indices and keys"""


def float_slots(value: Any, slot: Slot = ()) -> Iterator[tuple[Slot, Tensor]]:
    """The floating-point tensors with a position axis in a module's arguments or results, and where
    in them each is."""
    if isinstance(value, Tensor):
        if value.is_floating_point() and value.ndim >= 2:
            yield slot, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from float_slots(item, (*slot, key))
    elif isinstance(value, (tuple, list)):
        for index, item in enumerate(value):
            yield from float_slots(item, (*slot, index))


def float_tensors(value: Any) -> Iterator[Tensor]:
    """The tensors of ``float_slots``."""
    return (tensor for _, tensor in float_slots(value))


def tensor_at(value: Any, slot: Slot) -> Tensor:
    """The tensor in ``slot``; ProofError where there is none."""
    for key in slot:
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            value = None
            break
    if not isinstance(value, Tensor):
        raise ProofError("a block passes on no tensor where it did so on the probe", UNSUPPORTED)
    return value


def with_tensor(value: Any, slot: Slot, tensor: Tensor) -> Any:
    """A copy of ``value`` with another tensor in ``slot``; the given one stays as it is."""
    if not slot:
        return tensor
    key, rest = slot[0], slot[1:]
    if isinstance(value, dict):
        items = {k: with_tensor(v, rest, tensor) if k == key else v for k, v in value.items()}
        return items if type(value) is dict else type(value)(**items)
    listed = [with_tensor(v, rest, tensor) if n == key else v for n, v in enumerate(value)]
    return type(value)(*listed) if hasattr(value, "_fields") else type(value)(listed)


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
    slots: list[Slot]
    """where in ``[args, kwargs]`` each received tensor is"""
    number: int
    """how often the module had been called before"""


def feeds(before: ModuleCall, after: ModuleCall) -> bool:
    """Does a result of one module enter the other, up to a constant factor?

    What a module only hands on (values of the first block, a table) is not its own result.
    """
    results = [
        leaving
        for leaving in before.returned
        if not any(equal_tensors(leaving, entered) for entered in before.received)
    ]
    return any(
        equal_tensors(leaving, entering) or constant_factor(leaving, entering) is not None
        for leaving in results or before.returned
        for entering in after.received
    )
