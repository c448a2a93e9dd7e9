"""One tile of logits, step by step (``tiles_numba.reduce_rows`` does the same in one go)."""

import math
import warnings
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
# Guesses are looked for in bunches of so many entries, by the best of each: an argmax takes five
# times as long.
BUNCH = 32


# Loading the kernel takes half a second, which it saves on so many logits.
KERNEL_MIN_LOGITS = 5 * 10**8


@cache
def numba_kernel() -> Any:
    """What does ``reduce_tile`` in one go, if the extra for it is installed; else None. One that is
    installed and does not load is warned of, once, and done without."""
    if find_spec("numba") is None:
        return None
    try:
        from logitlens_cli.lens import tiles_numba
    except Exception as error:  # of another version of Python, numpy or llvmlite: anything
        said = f"{type(error).__name__}: {error}".partition("\n")[0]
        warnings.warn(
            f"numba is installed and does not load ({said}); torch computes instead", stacklevel=2
        )
        return None
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

    Entries that may be guesses are looked for in the bunches whose best one may be: a cell gets
    about k log(tiles) of them in all, and most tiles none.
    """
    k = best.shape[-1]
    cells = (maximum > best[:, -1]).nonzero().squeeze(1)
    if not len(cells):
        return
    cell, entry, values = candidates(z, cells, best[:, -1], k)
    # Side by side behind the guesses so far, in the order of their ids.
    counts = cell.bincount(minlength=len(cells))
    rank = torch.arange(len(cell), device=z.device) - (counts.cumsum(0) - counts)[cell] + k
    width = k + int(counts.max())
    merged = z.new_full((len(cells), width), -torch.inf)
    merged[:, :k] = best[cells]
    merged[cell, rank] = values
    tokens = ids.new_full((len(cells), width), -1)
    tokens[:, :k] = ids[cells]
    tokens[cell, rank] = entry + first_id
    # Stable, so that of equal logits the one of the lowest id, which came first, wins.
    merged, order = merged.sort(dim=-1, descending=True, stable=True)
    best[cells], ids[cells] = merged[:, :k], tokens.gather(-1, order[:, :k])


def candidates(z: Tensor, cells: Tensor, least: Tensor, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Entries of a tile (cell, entry) that may be among the best k of ``cells``, in the order of
    their ids: which of the ``cells``, which entry, its logit. They are above ``least`` (cell,), the
    k-th best logit so far."""
    bunches = bunch_maxima(z)[cells]
    # Where there are not k guesses yet: no less than the k-th of the bunches' best.
    few = min(k, bunches.shape[-1])
    floor = bunches.topk(few, dim=-1).values[:, -1] if few == k else least.new_full((), -torch.inf)
    least = least[cells]
    least = torch.where(least == -torch.inf, floor.nextafter(least), least).unsqueeze(-1)
    row, bunch = (bunches > least).nonzero(as_tuple=True)
    entry = bunch.unsqueeze(-1) * BUNCH + torch.arange(BUNCH, device=z.device)
    values = z[cells[row].unsqueeze(-1), entry.clamp(max=z.shape[-1] - 1)]
    found = (values > least[row]) & (entry < z.shape[-1])
    return row.unsqueeze(-1).expand_as(entry)[found], entry[found], values[found]


def bunch_maxima(z: Tensor) -> Tensor:
    """The largest of each ``BUNCH`` entries, (cell, entry) -> (cell, bunch)."""
    whole = z.shape[-1] // BUNCH * BUNCH
    maxima = z[:, :whole].view(len(z), whole // BUNCH, BUNCH).amax(-1)
    return maxima if whole == z.shape[-1] else torch.cat([maxima, z[:, whole:].amax(-1, True)], -1)


def leading_ids(tiles: Sequence[Tensor], k: int) -> Tensor:
    """The ids (row, k) of the largest values of ``tiles`` (row, n), best first, lowest id first
    among equals."""
    best = tiles[0].new_full((len(tiles[0]), k), -torch.inf)
    ids = torch.full(best.shape, -1, device=best.device)
    first_id = 0
    for tile in tiles:
        merge_top_k(best, ids, tile, tile.amax(-1), first_id)
        first_id += tile.shape[-1]
    return ids


def to_numpy(tensor: Tensor) -> Any:
    """On the host; numbers with a fraction in float64."""
    tensor = tensor.cpu()
    return (tensor.double() if tensor.is_floating_point() else tensor).numpy()
