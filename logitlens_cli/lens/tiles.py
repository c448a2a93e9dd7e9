"""Tiles of logits -> sums: what the metrics need, from one pass over the vocabulary; Jensen-Shannon
divergence takes a second.

A tile is (layer, position, entry): some rows of the grid by some entries of the vocabulary. What
is summed within a tile is left beside the sums of the other tiles, on the tile's own scale, and all
are put together at the end in float64. Exponentials are powers of two, which take a third of the
time.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from logitlens_cli.lens.tile import (
    LEAST_LOGIT,
    LOG2_E,
    TileInput,
    TileSums,
    exponential,
    numba_kernel,
    reduce_tile,
    scale_exponent,
    to_numpy,
)
from logitlens_cli.metrics.sums import Needs, ReferenceSums, Sums, TargetSums

# What keeps the logarithm of a probability of 0 a number; times that probability it is 0.
TINY = 1e-37


@dataclass(frozen=True)
class TargetTokens:
    """A target token per position."""

    ids: Tensor
    """(position,), -1 where there is none"""
    logit: Tensor | None
    """(layer, position); None where only a tile of the whole vocabulary holds it"""


@dataclass(frozen=True)
class Tiling:
    """How the logits of a block of positions come in."""

    tiles: Sequence[slice]
    """of the vocabulary"""
    forbids: bool = False
    """are there logits of minus infinity?"""
    workers: int = 1
    """threads that add tiles, each its own"""
    fast: bool = True
    """by ``numba_kernel``, if it is there"""


class References:
    """The distributions q that the layers are compared with."""

    def __init__(self, logits: Sequence[Tensor]) -> None:
        self.logits = logits
        """(reference, position, entry), a tile each"""
        self.peak = torch.stack([z.amax(-1) for z in logits]).amax(0)
        """(reference, position) largest logit"""
        self.weights = [exponential(z, self.peak, torch.empty_like(z)) for z in logits]
        """q but for a factor, (reference, position, entry), a tile each"""

    def masses(self) -> Any:
        """Sums of ``weights``, (reference, position)."""
        return sum(to_numpy(w.sum(-1)) for w in self.weights)

    def means(self) -> Any:
        """Sums of ``weights`` times logits, (reference, position)."""
        pairs = zip(self.weights, self.logits, strict=True)
        return sum(to_numpy((w * z).sum(-1)) for w, z in pairs)

    def lse(self, masses: Any) -> Any:
        """log sum exp z, (reference, position)."""
        return (np.log2(masses) + scale_exponent(self.peak)) / LOG2_E


class TargetCounts:
    """Targets of a block of positions, and how many logits lie above each, or level with it."""

    def __init__(
        self,
        shape: tuple[int, int],
        tiles: Sequence[slice],
        targets: Mapping[str, TargetTokens],
        device: torch.device,
    ) -> None:
        layers, positions = shape
        self.targets, self.whole_vocabulary = targets, len(tiles) == 1
        self.above = float_zeros(device, len(tiles), layers, len(targets), positions)
        self.ties = torch.zeros_like(self.above)
        self.logits = float_zeros(device, layers, len(targets), positions)
        for n, target in enumerate(targets.values()):
            if target.logit is not None:
                self.logits[:, n] = target.logit
        self.tile_logits = self.logits.clone()
        """the targets' logits as their tiles have them"""
        self.found = [targets_in_tile(targets.values(), tile) for tile in tiles]

    def read(self, z: Tensor, layers: slice, tile: int) -> None:
        """Note the logits of the targets that are in a tile."""
        if self.found[tile]:
            targets, positions, entries = self.found[tile]
            logits = z[:, positions, entries]
            self.tile_logits[layers, targets, positions] = logits
            if self.whole_vocabulary:
                self.logits[layers, targets, positions] = logits

    def result(self, top_guesses: Any) -> dict[str, TargetSums]:
        """The counts against every target; ``top_guesses`` (layer, position)."""
        return {
            name: self.target(n, to_numpy(target.ids), top_guesses)
            for n, (name, target) in enumerate(self.targets.items())
        }

    def target(self, n: int, ids: Any, top_guesses: Any) -> TargetSums:
        """The counts against one target, of ``ids`` (position,)."""
        logit, tile_logit = to_numpy(self.logits[:, n]), to_numpy(self.tile_logits[:, n])
        # The target itself is neither, though its logit in a tile may be rounded otherwise.
        above = to_numpy(self.above[:, :, n]).sum(0) - (tile_logit > logit)
        ties = to_numpy(self.ties[:, :, n]).sum(0) - (tile_logit == logit)
        # The best guess has rank 1 by definition, whatever rounding made of near-ties.
        above[top_guesses == ids] = 0
        return TargetSums(
            logit=np.where(ids < 0, np.nan, logit),
            above=np.where(ids < 0, -1, above).astype(np.int64),
            ties=np.where(ids < 0, 0, ties).astype(np.int64),
        )


class TileAccumulator:
    """What a pass over the vocabulary leaves behind of a block of positions."""

    def __init__(
        self,
        shape: tuple[int, int],
        tiling: Tiling,
        k: int,
        needs: Needs,
        references: Sequence[Tensor],
        targets: Mapping[str, TargetTokens],
    ) -> None:
        """``shape`` (layers, positions); ``references`` the logits (reference, position, entry) of
        ``needs.references`` by name, a tile each."""
        layers, positions = shape
        device = references[0].device
        count = len(needs.references)
        self.tiling, self.needs = tiling, needs
        self.kernel = numba_kernel() if tiling.fast and device.type == "cpu" else None
        self.references = References(references)
        self.targets = TargetCounts(shape, tiling.tiles, targets, device)

        def per_tile(*size: int) -> Tensor:
            return float_zeros(device, len(tiling.tiles), layers, *size)

        # For what each is, see ``TileSums``; a tile each.
        self.maximum, self.total, self.mean = (per_tile(positions) for _ in range(3))
        self.cross = per_tile(count, positions)
        self.reverse = per_tile(count if needs.reverse else 0, positions)
        self.js = per_tile(positions if needs.js else 0)
        """sum p log(p/m) + q log(q/m) of the reference "final", m = (p + q) / 2"""
        top = (tiling.workers, *shape, k)
        self.top_logits = torch.full(top, -torch.inf, dtype=torch.float32, device=device)
        """(worker, layer, position, k), best first"""
        self.top_ids = torch.full(top, -1, device=device)

    def add(self, z: Tensor, work: Tensor, layers: slice, tile: int, worker: int = 0) -> None:
        """Add tile number ``tile`` of some layers, ``z`` (layer, position, entry); it and ``work``,
        of its shape, are overwritten."""
        if self.tiling.forbids:  # times a probability of 0 it must be 0
            z.clamp_(min=LEAST_LOGIT)
        self.targets.read(z, layers, tile)
        references = self.references
        tile_input = TileInput(
            self.tiling.tiles[tile].start,
            z,
            references.weights[tile],
            references.logits[tile],
            self.targets.logits[layers],
        )
        sums = TileSums(
            torch.amax(z, -1, out=self.maximum[tile, layers]),
            self.total[tile, layers],
            self.mean[tile, layers],
            self.cross[tile, layers],
            self.reverse[tile, layers],
            self.targets.above[tile, layers],
            self.targets.ties[tile, layers],
            self.top_logits[worker, layers],
            self.top_ids[worker, layers],
        )
        if self.kernel is None:
            reduce_tile(tile_input, sums, work, self.needs.mean)
        else:
            first_id, *tensors = *tile_input, *sums
            self.kernel(first_id, *(tensor.numpy() for tensor in tensors))

    @np.errstate(invalid="ignore", over="ignore", divide="ignore")
    def start_second_pass(self) -> None:
        """Find what turns exponentials into probabilities, once all tiles are added: for
        ``add_js``."""
        _, shrink = self.scales()
        self.largest = self.maximum.amax(0)
        self.factor = self.inverse(sum_tiles(self.total, shrink))
        """(layer, position, 1) that makes exponentials probabilities"""
        n = sorted(self.needs.references).index("final")
        factor = self.inverse(self.references.masses()[n])
        self.output = [(w[n] * factor).add_(TINY) for w in self.references.weights]
        """q of the reference "final", (position, entry), a tile each"""

    def inverse(self, sums: Any) -> Tensor:
        """One over sums (..., position), for (..., position, entry)."""
        return torch.from_numpy(1 / sums).float().to(self.maximum.device).unsqueeze(-1)

    def add_js(self, z: Tensor, work: Tensor, layers: slice, tile: int, worker: int = 0) -> None:
        """Add a tile once more, for sums of p and q at the same time.

        Each entry counts for itself, and by no less than nothing: where p and q are nearly the
        same, entropies would leave but the rounding of large numbers.
        """
        if self.tiling.forbids:
            z.clamp_(min=LEAST_LOGIT)
        p = exponential(z, self.largest[layers], z).mul_(self.factor[layers]).add_(TINY)
        q = self.output[tile]
        middle = torch.add(p, q, out=work).mul_(0.5)
        of_q = (q / middle).log_().mul_(q).sum(-1)
        torch.sum(torch.div(p, middle, out=middle).log_().mul_(p), -1, out=self.js[tile, layers])
        self.js[tile, layers] += of_q

    def scales(self) -> tuple[Any, Any]:
        """The largest exponent of a cell, (layer, position), and what brings the sums of a tile to
        its scale, (tile, layer, position)."""
        scale = scale_exponent(self.maximum)
        largest = scale.max(0)
        return largest, np.exp2(scale - largest)

    @np.errstate(invalid="ignore", over="ignore", divide="ignore")
    def result(self, output_ids: Tensor) -> Sums:
        """Put the tiles together, in float64; what is not a number stays so. ``output_ids``
        (position, k) the best tokens of the model's own output."""
        top_logits, top_ids = self.top_k()
        largest, shrink = self.scales()
        total = sum_tiles(self.total, shrink)
        return Sums(
            final_ids=to_numpy(output_ids[:, 0]),
            top_ids=top_ids,
            top_logits=top_logits,
            lse=(np.log2(total) + largest) / LOG2_E,
            mean=sum_tiles(self.mean, shrink) / total if self.needs.mean else None,
            targets=self.targets.result(top_ids[..., 0]),
            references=self.reference_sums(total, shrink),
            output_ids=to_numpy(output_ids.unsqueeze(0)) if self.needs.best else None,
        )

    def reference_sums(self, total: Any, shrink: Any) -> dict[str, ReferenceSums]:
        """The sums about every reference; ``total`` (layer, position) sum of exponentials."""
        masses, means = self.references.masses(), self.references.means()
        lse = self.references.lse(masses)
        return {
            name: ReferenceSums(
                negentropy=means[n] / masses[n] - lse[n],
                cross=to_numpy(self.cross[:, :, n]).sum(0) / masses[n],
                reverse=sum_tiles(self.reverse[:, :, n], shrink) / total - lse[n]
                if self.needs.reverse
                else None,
                js=to_numpy(self.js).sum(0) if self.needs.js and name == "final" else None,
            )
            for n, name in enumerate(sorted(self.needs.references))
        }

    def top_k(self) -> tuple[Any, Any]:
        """The top k of all workers, (layer, position, k) logits and ids."""
        k = self.top_ids.shape[-1]
        logits, ids = (torch.cat(list(tops), -1) for tops in (self.top_logits, self.top_ids))
        # Workers are in the order of the vocabulary: of equals the lowest id comes first.
        logits, order = logits.sort(dim=-1, descending=True, stable=True)
        return to_numpy(logits[..., :k]), to_numpy(ids.gather(-1, order)[..., :k])


def sum_tiles(sums: Tensor, shrink: Any) -> Any:
    """The sums of all tiles on one scale; ``shrink`` brings each to it."""
    # Where a whole tile is forbidden, its own sums overflow, and do not count.
    return (np.where(shrink == 0, 0, to_numpy(sums)) * shrink).sum(0)


def float_zeros(device: torch.device, *size: int) -> Tensor:
    """Zeros in float32, whatever torch's default is."""
    return torch.zeros(size, dtype=torch.float32, device=device)


def targets_in_tile(targets: Iterable[TargetTokens], tile: slice) -> tuple[tuple[int, ...], ...]:
    """The targets that are in a tile: numbers of targets, of positions and of entries."""
    found = [
        (n, position, token_id - tile.start)
        for n, target in enumerate(targets)
        for position, token_id in enumerate(target.ids.tolist())
        if tile.start <= token_id < tile.stop
    ]
    return tuple(zip(*found, strict=True))
