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


def feeds(before: ModuleCall, after: ModuleCall) -> bool:
    """Does the stream that leaves one module enter the other, up to a constant factor?"""
    leaving = before.returned[0]
    return any(
        equal_tensors(leaving, entering) or constant_factor(leaving, entering) is not None
        for entering in after.received
    )
