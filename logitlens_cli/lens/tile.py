"""One tile of logits, step by step (``tiles_numba.reduce_rows`` does the same in one go)."""

import math
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor

# As float32 has it, so that the factor divided by is the factor multiplied with.
LOG2_E = torch.tensor(math.log2(math.e), dtype=torch.float32).item()
# What stands for a logit of minus infinity: times LOG2_E it is still a number.
LEAST_LOGIT = -1e38
# Of more than a few rows the best entry is looked for in the best of the bunches of so many: this
# takes a fifth of the time of a plain argmax.
BUNCH = 32
FEW = 8


# Loading the kernel takes half a second, which it saves on so many logits.
KERNEL_MIN_LOGITS = 5 * 10**8


@cache
def numba_kernel() -> Any:
    """What does ``reduce_tile`` in one go, if the extra for it is installed; else None."""
    if find_spec("numba") is None:
        return None
    from logitlens_cli.lens import tiles_numba

    return tiles_numba.reduce_rows


class TileInput(NamedTuple):
    """A tile of some layers, and what it is reduced with."""

    first_id: int
    logits: Tensor
    """(layer, position, entry); overwritten"""
    weights: Tensor
    """(reference, position, entry), q but for a factor"""
    reference_logits: Tensor
    """(reference, position, entry)"""
    targets: Tensor
    """(layer, target, position) logits of the targets"""


class TileSums(NamedTuple):
    """What is left of a tile of some layers."""

    maximum: Tensor
    """(layer, position)"""
    total: Tensor
    """(layer, position) sum exp(z - maximum)"""
    mean: Tensor
    """(layer, position) sum exp(z - maximum) z"""
    cross: Tensor
    """(layer, reference, position) sum q z, but for the factor of q"""
    reverse: Tensor
    """(layer, reference, position) sum exp(z - maximum) z[reference]; without references if not
    asked for"""
    above: Tensor
    """(layer, target, position) number of larger logits"""
    ties: Tensor
    """(layer, target, position) number of equal logits, the target itself among them"""
    top_logits: Tensor
    """(layer, position, k) best of all tiles so far, best first"""
    top_ids: Tensor


# ---------------------------------------------------------------------------------------------
# A tile, step by step (``kernel.reduce_rows`` does the same in one go)


def reduce_tile(tile: TileInput, sums: TileSums, work: Tensor, wants_mean: bool) -> None:
    """Reduce a tile of logits into ``sums``, whose maximum is there already.

    Each step is one pass over a tile that stays in cache, into memory that is allocated already: a
    product and a sum are faster so than a batched product, a comparison into floats and a sum
    faster than counting booleans.
    """
    z, maximum = tile.logits, sums.maximum
    flat_best, flat_ids = sums.top_logits.flatten(0, 1), sums.top_ids.flatten(0, 1)
    merge_top_k(flat_best, flat_ids, z.flatten(0, 1), maximum.flatten(), tile.first_id)
    for n in range(tile.targets.shape[1]):
        target = tile.targets[:, n].unsqueeze(-1)
        torch.sum(torch.gt(z, target, out=work), -1, out=sums.above[:, n])
        torch.sum(torch.eq(z, target, out=work), -1, out=sums.ties[:, n])
    for n, q in enumerate(tile.weights):
        torch.sum(torch.mul(z, q, out=work), -1, out=sums.cross[:, n])
    e = exponential(z, maximum, work if wants_mean else z)
    torch.sum(e, -1, out=sums.total)
    for n in range(sums.reverse.shape[1]):
        torch.sum(e * tile.reference_logits[n], -1, out=sums.reverse[:, n])
    if wants_mean:
        torch.sum(e.mul_(z), -1, out=sums.mean)


def exponential(z: Tensor, maximum: Tensor, out: Tensor) -> Tensor:
    """exp(z - maximum), (..., entry) and (...,)."""
    shift = (maximum * -LOG2_E).unsqueeze(-1)
    return torch.add(shift, z, alpha=LOG2_E, out=out).exp2_()


def scale_exponent(maximum: Tensor) -> Any:
    """The power of two that a maximum is scaled by, as ``exponential`` rounds it."""
    return to_numpy(maximum * LOG2_E)


def merge_top_k(best: Tensor, ids: Tensor, z: Tensor, maximum: Tensor, first_id: int) -> None:
    """Merge a tile (cell, entry) into the top k so far, ``best`` and ``ids`` (cell, k), in place.

    Guesses are found one by one, and only in cells where there are any: a cell gets about
    k log(tiles) of them in all, and most tiles none.
    """
    k = best.shape[-1]
    cells = (maximum > best[:, -1]).nonzero().squeeze(1)
    tile = z.index_select(0, cells)
    for turn in range(min(k, z.shape[-1])):
        if not len(cells):
            return
        entry = first_argmax(tile).unsqueeze(-1)
        values, tokens = tile.gather(-1, entry), entry + first_id
        if k > 1:
            # Stable, so that of equal logits the one of the lowest id, which came first, wins.
            values = torch.cat([best[cells], values], -1)
            values, order = values.sort(dim=-1, descending=True, stable=True)
            tokens = torch.cat([ids[cells], tokens], -1).gather(-1, order)
        best[cells], ids[cells] = values[:, :k], tokens[:, :k]
        if turn + 1 < k:
            tile.scatter_(-1, entry, -torch.inf)
            again = (tile.amax(-1) > values[:, k - 1]).nonzero().squeeze(1)
            tile, cells = tile[again], cells[again]


def leading_ids(tiles: Sequence[Tensor], k: int) -> Tensor:
    """The ids (row, k) of the largest values of ``tiles`` (row, n), best first, lowest id first
    among equals."""
    if k == 1:
        return first_argmax(torch.cat(list(tiles), -1)).unsqueeze(-1)
    rows, first_id = len(tiles[0]), 0
    best = tiles[0].new_full((rows, k), -torch.inf)
    ids = torch.full((rows, k), -1, device=best.device)
    for tile in tiles:
        merge_top_k(best, ids, tile, tile.amax(-1), first_id)
        first_id += tile.shape[-1]
    return ids


def first_argmax(values: Tensor) -> Tensor:
    """The lowest index of the largest value, (row, n) -> (row,)."""
    rows, n = values.shape
    if rows < FEW or n % BUNCH:
        return values.argmax(-1)
    bunches = values.view(-1, BUNCH)
    first = bunches.amax(-1).view(rows, -1).argmax(-1)
    start = torch.arange(0, len(bunches), n // BUNCH, device=values.device)
    return first * BUNCH + bunches.index_select(0, start + first).argmax(-1)


def to_numpy(tensor: Tensor) -> Any:
    """On the host; numbers with a fraction in float64."""
    tensor = tensor.cpu()
    return (tensor.double() if tensor.is_floating_point() else tensor).numpy()
