"""The unembedding product, which is most of what a grid costs, by the library that is fastest."""

import math
import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

Multiply: TypeAlias = Callable[[Tensor, Tensor, Tensor | None], Tensor]

# Products with fewer rows or columns than this take another routine, which sums in another order
# (measured on CPU: with MKL 16 and more agree to the last bit and 3 do not, with oneDNN 2 do and 1
# does not).
SAME_ROUTINE = 16
# With parts of this width oneDNN's sums are as exact as MKL's (measured; whole is a sixth faster).
WIDTH = 192
# Larger pieces are returned to the system after each product, and fetched again, which doubles the
# time; smaller ones are slower by themselves.
ROWS = 256


@dataclass(frozen=True)
class WeightParts:
    """A weight in parts of ``WIDTH`` columns, as oneDNN's product takes it."""

    shape: tuple[int, int]
    parts: list[Tensor]


def in_parts(weight: Tensor) -> Tensor | WeightParts:
    """A weight that is multiplied with many times, as the product takes it without a copy; as it is
    where that makes no difference."""
    entries, width = weight.shape
    is_cut = weight.device.type == "cpu" and onednn() is not None and width > WIDTH
    if not is_cut or entries < SAME_ROUTINE:
        return weight
    return WeightParts((entries, width), column_parts(weight))


def column_parts(weight: Tensor) -> list[Tensor]:
    starts = range(0, weight.shape[1], WIDTH)
    return [weight[:, start : start + WIDTH].contiguous() for start in starts]


def product(rows: Tensor, weight: Tensor | WeightParts, out: Tensor | None = None) -> Tensor:
    """``rows @ weight.T`` in float32: (row, width) and (entry, width) -> (row, entry).

    One pair of vectors gives the same bits in every product. May be written into ``out``.
    """
    m, n = len(rows), weight.shape[0]
    if isinstance(weight, WeightParts):
        if m >= SAME_ROUTINE:
            return onednn_product(rows, weight, out)
        rows = nn.functional.pad(rows, (0, 0, 0, SAME_ROUTINE - m))
        return onednn_product(rows, weight)[:m].contiguous()
    if m < SAME_ROUTINE or n < SAME_ROUTINE:
        rows = nn.functional.pad(rows, (0, 0, 0, max(0, SAME_ROUTINE - m)))
        weight = nn.functional.pad(weight, (0, 0, 0, max(0, SAME_ROUTINE - n)))
        return product(rows, weight)[:m, :n].contiguous()
    multiply = onednn() if rows.device.type == "cpu" else None
    return torch.mm(rows, weight.T, out=out) if multiply is None else multiply(rows, weight, out)


@cache
def onednn() -> Multiply | None:
    """oneDNN's product where torch has it, and would take MKL's, which on AMD's processors does not
    use all of their vector units: half the time, measured with AVX-512 (``make bench``)."""
    wanted = torch_has_both() and processor_vendor() == "AuthenticAMD"
    return onednn_product if wanted and hasattr(torch.ops.mkldnn, "_linear_pointwise") else None


def torch_has_both() -> bool:
    """Is torch built with oneDNN, and with MKL?"""
    backends: Any = torch.backends
    return bool(backends.mkldnn.is_available() and backends.mkl.is_available())


def onednn_product(rows: Tensor, weight: Tensor | WeightParts, out: Tensor | None = None) -> Tensor:
    """``rows @ weight.T``, in pieces that are small enough for their memory to be used again, and a
    part of the width at a time: oneDNN adds one number after the other, and over a large width
    would lose twice as much to rounding as MKL does.

    The operator is the one that compiled models call; ``linear`` on tensors in oneDNN's own layout,
    the only public way, copies all of them twice.
    """
    if out is None:
        out = rows.new_empty(len(rows), weight.shape[0])
    starts = range(0, rows.shape[-1], WIDTH)
    weights = weight.parts if isinstance(weight, WeightParts) else column_parts(weight)
    pieces = math.ceil(len(rows) / ROWS)
    for piece, to in zip(rows.tensor_split(pieces), out.tensor_split(pieces), strict=True):
        for start, part in zip(starts, weights, strict=True):
            inputs = piece[:, start : start + WIDTH].contiguous()
            added = torch.ops.mkldnn._linear_pointwise(inputs, part, None, "none", [], "")
            to.add_(added) if start else to.copy_(added)
    return out


def processor_vendor() -> str:
    """As the processor names itself, such as "AuthenticAMD"; empty where that cannot be known."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not Linux
        return platform.processor().rpartition(" ")[2]
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id"))
    return next(names, "")
