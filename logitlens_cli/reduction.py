"""Tiles of logits -> sums: what the metrics need, from one pass over the vocabulary; Jensen-Shannon
divergence takes a second.

A tile is (layer, position, entry): some rows of the grid by some entries of the vocabulary. What
is summed within a tile is left beside the sums of the other tiles, on the tile's own scale, and all
are put together at the end in float64. Exponentials are powers of two, which take a third of the
time.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

from logitlens_cli.metrics import Needs, Reference, Sums, Target

# As float32 has it, so that the factor divided by is the factor multiplied with.
LOG2_E = torch.tensor(math.log2(math.e)).item()
# What stands for a logit of minus infinity: times LOG2_E it is still a number.
LEAST = -1e38
# What keeps the logarithm of a probability of 0 a number; times that probability it is 0.
TINY = 1e-37
# Of more than a few rows the best entry is looked for in the best of the bunches of so many: this
# takes a fifth of the time of a plain argmax.
BUNCH = 32
FEW = 8


# Loading the kernel takes half a second, which it saves on so many logits.
WORTH = 5 * 10**8


@cache
def kernel() -> Any:
    """What does ``steps`` in one go, if the extra for it is installed."""
    if find_spec("numba") is None:
        return None
    from logitlens_cli import kernel

    return kernel.take


@dataclass(frozen=True)
class Aim:
    """A target token per position."""

    ids: Tensor
    """(position,), -1 where there is none"""
    logit: Tensor | None
    """(layer, position); None where only a tile of the whole vocabulary tells"""


class Running:
    """What a pass over the vocabulary leaves behind of a block of positions."""

    def __init__(
        self,
        shape: tuple[int, int],
        tiles: Sequence[slice],
        k: int,
        needs: Needs,
        references: Sequence[Tensor],
        aims: Mapping[str, Aim],
        forbids: bool,
        workers: int = 1,
        fast: bool = True,
    ) -> None:
        """``shape`` (layers, positions); ``references`` the logits (reference, position, entry) of
        ``needs.references`` by name, a tile each; ``forbids``: are there logits of minus infinity?
        ``workers``: threads that take tiles up, each its own. ``fast``: by ``kernel``, if it is
        there.
        """
        layers, positions = shape
        device = references[0].device
        count = len(needs.references)
        self.tiles, self.needs, self.aims, self.forbids = tiles, needs, aims, forbids
        self.kernel = kernel() if fast and device.type == "cpu" else None

        def per_tile(*size: int) -> Tensor:
            return torch.zeros(len(tiles), layers, *size, device=device)

        self.logits = references
        self.peak = torch.stack([z.amax(-1) for z in references]).amax(0)
        """(reference, position) largest logit"""
        self.weights = [exponential(z, self.peak, torch.empty_like(z)) for z in references]
        """q but for a factor, (reference, position, entry), a tile each"""
        self.maximum = per_tile(positions)
        self.total = per_tile(positions)
        """sum exp(z - the tile's maximum)"""
        self.mean = per_tile(positions)
        """sum exp(z - the tile's maximum) z"""
        self.cross = per_tile(count, positions)
        """sum q z, but for the factor of q"""
        self.reverse = per_tile(count if needs.reverse else 0, positions)
        """sum exp(z - the tile's maximum) z[reference]"""
        self.apart = per_tile(positions if needs.apart else 0)
        """sum p log(p/m) + q log(q/m) of the reference "final", m = (p + q) / 2"""
        self.above = per_tile(len(aims), positions)
        self.level = per_tile(len(aims), positions)
        self.targets = torch.zeros(layers, len(aims), positions, device=device)
        for n, aim in enumerate(aims.values()):
            if aim.logit is not None:
                self.targets[:, n] = aim.logit
        self.own = self.targets.clone()
        """the targets' logits as their tiles have them"""
        self.places = [places(aims.values(), tile) for tile in tiles]
        self.top_logits = torch.full((workers, *shape, k), -torch.inf, device=device)
        """(worker, layer, position, k), best first"""
        self.top_ids = torch.full((workers, *shape, k), -1, device=device)

    def take(self, z: Tensor, work: Tensor, some: slice, tile: int, worker: int = 0) -> None:
        """Take up the tile ``z`` of the layers ``some``; it and ``work``, of its shape, are
        overwritten."""
        if self.forbids:  # times a probability of 0 it must be 0
            z.clamp_(min=LEAST)
        if self.places[tile]:
            aims, columns, entries = self.places[tile]
            own = z[:, columns, entries]
            self.own[some, aims, columns] = own
            if len(self.tiles) == 1:
                self.targets[some, aims, columns] = own
        torch.amax(z, -1, out=self.maximum[tile, some])
        arguments = (
            z,
            self.weights[tile],
            self.logits[tile],
            self.targets[some],
            self.maximum[tile, some],
            self.total[tile, some],
            self.mean[tile, some],
            self.cross[tile, some],
            self.reverse[tile, some],
            self.above[tile, some],
            self.level[tile, some],
            self.top_logits[worker, some],
            self.top_ids[worker, some],
        )
        if self.kernel is None:
            steps(self.tiles[tile].start, self.needs.mean, work, *arguments)
        else:
            self.kernel(self.tiles[tile].start, *(tensor.numpy() for tensor in arguments))

    @np.errstate(invalid="ignore", over="ignore", divide="ignore")
    def weigh(self) -> None:
        """What turns exponentials into probabilities, once all tiles are taken: for ``compare``."""
        _, shrink = self.scales()
        self.largest = self.maximum.amax(0)
        self.factor = self.inverse(joined(self.total, shrink))
        """(layer, position, 1) that makes exponentials probabilities"""
        n = sorted(self.needs.references).index("final")
        factor = self.inverse(self.masses()[n])
        self.output = [(w[n] * factor).add_(TINY) for w in self.weights]
        """q of the reference "final", (position, entry), a tile each"""

    def inverse(self, sums: Any) -> Tensor:
        """One over sums (..., position), for (..., position, entry)."""
        return torch.from_numpy(1 / sums).float().to(self.maximum.device).unsqueeze(-1)

    def masses(self) -> Any:
        """Sums of ``weights``, (reference, position)."""
        return sum(array(w.sum(-1)) for w in self.weights)

    def compare(self, z: Tensor, work: Tensor, some: slice, tile: int, worker: int = 0) -> None:
        """Take up the tile ``z`` once more, for sums of p and q at the same time.

        Every entry counts for itself, and by no less than nothing: where p and q are nearly the
        same, entropies would leave but the rounding of large numbers.
        """
        if self.forbids:
            z.clamp_(min=LEAST)
        p = exponential(z, self.largest[some], z).mul_(self.factor[some]).add_(TINY)
        q = self.output[tile]
        middle = torch.add(p, q, out=work).mul_(0.5)
        of_q = (q / middle).log_().mul_(q).sum(-1)
        torch.sum(torch.div(p, middle, out=middle).log_().mul_(p), -1, out=self.apart[tile, some])
        self.apart[tile, some] += of_q

    def scales(self) -> tuple[Any, Any]:
        """The largest exponent of a cell, (layer, position), and what brings the sums of a tile to
        its scale, (tile, layer, position)."""
        scale = exponent(self.maximum)
        largest = scale.max(0)
        return largest, np.exp2(scale - largest)

    @np.errstate(invalid="ignore", over="ignore", divide="ignore")
    def finish(self, output_ids: Tensor) -> Sums:
        """Put the tiles together, in float64; what is not a number stays so. ``output_ids``
        (position, k) the best tokens of the model's own output."""
        top_logits, top_ids = self.best()
        largest, shrink = self.scales()
        total = joined(self.total, shrink)
        weights = self.masses()
        mean = sum(array((w * z).sum(-1)) for w, z in zip(self.weights, self.logits, strict=True))
        lse = (np.log2(weights) + exponent(self.peak)) / LOG2_E
        references = {
            name: Reference(
                negentropy=mean[n] / weights[n] - lse[n],
                cross=array(self.cross[:, :, n]).sum(0) / weights[n],
                reverse=joined(self.reverse[:, :, n], shrink) / total - lse[n]
                if self.needs.reverse
                else None,
                apart=array(self.apart).sum(0) if self.needs.apart and name == "final" else None,
            )
            for n, name in enumerate(sorted(self.needs.references))
        }
        return Sums(
            final_ids=array(output_ids[:, 0]),
            top_ids=top_ids,
            top_logits=top_logits,
            lse=(np.log2(total) + largest) / LOG2_E,
            mean=joined(self.mean, shrink) / total if self.needs.mean else None,
            targets={
                name: self.target(n, aim, top_ids[..., 0])
                for n, (name, aim) in enumerate(self.aims.items())
            },
            references=references,
            output_ids=array(output_ids.unsqueeze(0)) if self.needs.best else None,
        )

    def best(self) -> tuple[Any, Any]:
        """The top k of all workers, (layer, position, k) logits and ids."""
        k = self.top_ids.shape[-1]
        logits, ids = (torch.cat(list(tops), -1) for tops in (self.top_logits, self.top_ids))
        # Workers are in the order of the vocabulary: of equals the lowest id comes first.
        logits, order = logits.sort(dim=-1, descending=True, stable=True)
        return array(logits[..., :k]), array(ids.gather(-1, order)[..., :k])

    def target(self, n: int, aim: Aim, best: Any) -> Target:
        """The counts against one target; ``best`` (layer, position) the top guesses."""
        logit, own = array(self.targets[:, n]), array(self.own[:, n])
        ids = array(aim.ids)
        # The target itself is neither, though its logit in a tile may be rounded otherwise.
        above = array(self.above[:, :, n]).sum(0) - (own > logit)
        level = array(self.level[:, :, n]).sum(0) - (own == logit)
        # The best guess has rank 1 by definition, whatever rounding made of near-ties.
        above[best == ids] = 0
        return Target(
            logit=np.where(ids < 0, np.nan, logit),
            above=np.where(ids < 0, -1, above).astype(np.int64),
            ties=np.where(ids < 0, 0, level).astype(np.int64),
        )


def joined(sums: Tensor, shrink: Any) -> Any:
    """The sums of all tiles on one scale; ``shrink`` brings each to it."""
    # Where a whole tile is forbidden, its own sums overflow, and do not count.
    return (np.where(shrink == 0, 0, array(sums)) * shrink).sum(0)


def places(aims: Iterable[Aim], tile: slice) -> tuple[tuple[int, ...], ...]:
    """The targets that are in a tile: numbers of targets, of positions and of entries."""
    found = [
        (n, position, token_id - tile.start)
        for n, aim in enumerate(aims)
        for position, token_id in enumerate(aim.ids.tolist())
        if tile.start <= token_id < tile.stop
    ]
    return tuple(zip(*found, strict=True))


# ---------------------------------------------------------------------------------------------
# A tile, step by step (``kernel.take`` does the same in one go)


def steps(
    start: int, wants_mean: bool, work: Tensor,
    z: Tensor, weights: Tensor, others: Tensor, targets: Tensor,
    maximum: Tensor, total: Tensor, mean: Tensor, cross: Tensor, reverse: Tensor,
    above: Tensor, level: Tensor, best: Tensor, ids: Tensor,
) -> None:  # fmt: skip
    """Reduce a tile; see ``kernel.take`` for what is what.

    Every step is one pass over a tile that stays in cache, into memory that is there already: a
    product and a sum are faster so than a batched product, a comparison into floats and a sum
    faster than counting booleans.
    """
    keep_best(best.flatten(0, 1), ids.flatten(0, 1), z.flatten(0, 1), maximum.flatten(), start)
    for n in range(targets.shape[1]):
        target = targets[:, n].unsqueeze(-1)
        torch.sum(torch.gt(z, target, out=work), -1, out=above[:, n])
        torch.sum(torch.eq(z, target, out=work), -1, out=level[:, n])
    for n, q in enumerate(weights):
        torch.sum(torch.mul(z, q, out=work), -1, out=cross[:, n])
    e = exponential(z, maximum, work if wants_mean else z)
    torch.sum(e, -1, out=total)
    for n in range(reverse.shape[1]):
        torch.sum(e * others[n], -1, out=reverse[:, n])
    if wants_mean:
        torch.sum(e.mul_(z), -1, out=mean)


def exponential(z: Tensor, maximum: Tensor, out: Tensor) -> Tensor:
    """exp(z - maximum), (..., entry) and (...,)."""
    shift = (maximum * -LOG2_E).unsqueeze(-1)
    return torch.add(shift, z, alpha=LOG2_E, out=out).exp2_()


def exponent(maximum: Tensor) -> Any:
    """The power of two that a maximum is scaled by, as ``exponential`` rounds it."""
    return array(maximum * LOG2_E)


def keep_best(best: Tensor, ids: Tensor, z: Tensor, maximum: Tensor, start: int) -> None:
    """Merge a tile (cell, entry) into the top k so far, ``best`` and ``ids`` (cell, k), in place.

    Guesses are taken one by one, and only in cells where there are any: a cell gets about
    k log(tiles) of them in all, and most tiles none.
    """
    k = best.shape[-1]
    left = (maximum > best[:, -1]).nonzero().squeeze(1)
    tile = z.index_select(0, left)
    for turn in range(min(k, z.shape[-1])):
        if not len(left):
            return
        place = first_best(tile).unsqueeze(-1)
        values, owners = tile.gather(-1, place), place + start
        if k > 1:
            # Stable, so that of equal logits the one of the lowest id, which came first, wins.
            values = torch.cat([best[left], values], -1)
            values, order = values.sort(dim=-1, descending=True, stable=True)
            owners = torch.cat([ids[left], owners], -1).gather(-1, order)
        best[left], ids[left] = values[:, :k], owners[:, :k]
        if turn + 1 < k:
            tile.scatter_(-1, place, -torch.inf)
            again = (tile.amax(-1) > values[:, k - 1]).nonzero().squeeze(1)
            tile, left = tile[again], left[again]


def leading(tiles: Sequence[Tensor], k: int) -> Tensor:
    """The ids (row, k) of the largest values of ``tiles`` (row, n), best first, lowest id first
    among equals."""
    if k == 1:
        return first_best(torch.cat(list(tiles), -1)).unsqueeze(-1)
    rows, start = len(tiles[0]), 0
    best = torch.full((rows, k), -torch.inf, device=tiles[0].device)
    ids = torch.full((rows, k), -1, device=best.device)
    for tile in tiles:
        keep_best(best, ids, tile, tile.amax(-1), start)
        start += tile.shape[-1]
    return ids


def first_best(values: Tensor) -> Tensor:
    """The lowest index of the largest value, (row, n) -> (row,)."""
    rows, n = values.shape
    if rows < FEW or n % BUNCH:
        return values.argmax(-1)
    bunches = values.view(-1, BUNCH)
    first = bunches.amax(-1).view(rows, -1).argmax(-1)
    start = torch.arange(0, len(bunches), n // BUNCH, device=values.device)
    return first * BUNCH + bunches.index_select(0, start + first).argmax(-1)


def array(tensor: Tensor) -> Any:
    """On the host; numbers with a fraction in float64."""
    tensor = tensor.cpu()
    return (tensor.double() if tensor.is_floating_point() else tensor).numpy()
