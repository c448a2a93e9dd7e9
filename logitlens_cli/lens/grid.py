"""Stream -> sums: decode every layer's residual stream and reduce the logits at once.

The algorithm, top to bottom. Positions are cut into blocks, the vocabulary into tiles and the rows
into groups of layers, so that a tile of logits stays in cache; each tile is reduced to maxima, sums
and counts (``reduction``), then overwritten. The logits of the whole grid never exist. Norm, head
and sums are computed in float32 whatever the model's dtype; formulas follow in float64
(``metrics``).
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from logitlens_cli.errors import WorkError
from logitlens_cli.lens.capture import INPUT, Stream, StreamSite
from logitlens_cli.lens.decoder import Decoder
from logitlens_cli.lens.tile import KERNEL_MIN_LOGITS, LEAST_LOGIT, leading_ids, numba_kernel
from logitlens_cli.lens.tiles import TargetTokens, TileAccumulator, Tiling
from logitlens_cli.metrics.sums import Needs, Sums

# ---------------------------------------------------------------------------------------------
# The grid


@dataclass(frozen=True)
class GridSpec:
    """What to compute."""

    rows: tuple[StreamSite, ...]
    """which of the stream's rows become layers of the grid"""
    k: int
    needs: Needs
    targets: Mapping[str, Sequence[int]]
    """(position,) ids by name, -1 where there is none; "final" is found here and not given"""


# Each thread holds two tiles, of 4 MB each on a CPU.
MOST_THREADS = 8


@torch.inference_mode()
def grid(decoder: Decoder, stream: Stream, spec: GridSpec) -> Sums:
    """Decode ``spec.rows`` of ``stream`` and reduce every cell.

    Raises WorkError that names layer and position where a logit is not a number.
    """
    positions = stream.resid.shape[1]
    width, layers = decoder.tile_shape(positions)
    with team_of(decoder) as team:
        stream = stream.mapped_at_once(spec.rows, team.share)
        blocks = [
            column_sums(
                decoder, stream, slice(start, min(start + width, positions)), layers, spec, team
            )
            for start in range(0, positions, width)
        ]
    sums: Sums = join_sums(blocks)
    require_finite(sums, spec.rows)
    return sums


Item = TypeVar("Item")


class Team:
    """Python threads that share the work on a block, each with a torch of one thread.

    They wait for each other twice in a block; torch's own threads would at every step on every
    tile, which takes a tenth of the time on two cores (measured).
    """

    def __init__(self, pool: ThreadPoolExecutor | None, size: int) -> None:
        self.pool, self.size = pool, size

    def share(self, work: Callable[[Item], None], items: Iterable[Item]) -> None:
        """Do ``work`` on every item, in any order."""
        if self.pool is None:
            for item in items:
                work(item)
        else:
            # Inference mode is a thread's own.
            list(self.pool.map(torch.inference_mode()(work), items))


@contextmanager
def team_of(decoder: Decoder) -> Iterator[Team]:
    """As many threads as torch has, where the decoder's work can be shared; torch's number of
    threads is one meanwhile."""
    size = min(torch.get_num_threads(), MOST_THREADS) if decoder.thread_safe else 1
    if size == 1:
        yield Team(None, 1)
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(size)
    try:
        yield Team(pool, size)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


@dataclass(frozen=True)
class TiledRows:
    """Rows of the grid over a block of positions, to be decoded tile by tile."""

    decoder: Decoder
    prepared: Tensor
    """(layer, position, width)"""
    tiles: Sequence[slice]
    """of the vocabulary"""
    groups: Sequence[slice]
    """layers that are decoded together"""
    decoded: Mapping[int, int]
    """by layer: which reference it is, so that its logits are there already"""
    logits: Sequence[Tensor]
    """(reference, position, entry), a tile each"""

    def decode(self, tiles: slice, worker: int, add: Callable[..., None]) -> None:
        """Give all layers of some tiles to ``add``, with memory to work in."""
        buffer: Tensor | None = None
        for n in range(len(self.tiles))[tiles]:
            for layers in self.groups:
                z = self.decoder.tile(self.prepared[layers], self.tiles[n], buffer)
                if buffer is None:  # the first tile is the largest: its memory serves all others
                    buffer, work = z.view(-1), torch.empty_like(z).view(-1)
                add(z, work[: z.numel()].view(z.shape), layers, n, worker)
            for layer, reference in self.decoded.items():
                z = self.logits[n][reference].unsqueeze(0).clone()
                add(z, torch.empty_like(z), slice(layer, layer + 1), n, worker)


def column_sums(
    decoder: Decoder, stream: Stream, columns: slice, group: int, spec: GridSpec, team: Team
) -> Sums:
    """The sums of a block of positions, ``group`` layers at a time."""
    prepared = decoder.prepare(stream.decoded_rows(spec.rows, columns, team.share))
    needs, tiles = spec.needs, list(decoder.entries())
    # References come first, by name; the model's output is always asked for.
    names = sorted(needs.references | {"final"}, key=lambda n: (n not in needs.references, n))
    sources = [reference_source(name, decoder, stream, columns) for name in names]
    logits = reference_logits(sources, tiles, team)
    forbids = clamp_forbidden(logits)
    best = min(max(1, needs.best), tiles[-1].stop)
    output_ids = leading_ids([z[names.index("final")] for z in logits], best)
    accumulator = TileAccumulator(
        (len(prepared), prepared.shape[1]),
        # By the size of the whole grid, so that the same text gives the same bits.
        Tiling(tiles, forbids, team.size, logits_in_grid(stream, spec, tiles) >= KERNEL_MIN_LOGITS),
        max(spec.k, best),
        needs,
        [z[: len(needs.references)] for z in logits],
        {
            name: target_tokens(name, decoder, prepared, columns, spec, output_ids[:, 0])
            for name in needs.targets
        },
    )
    decoded = decoded_layers(decoder, prepared, sources)
    groups = split_range(undecoded_layers(len(prepared), decoded), group)
    tiled = TiledRows(decoder, prepared, tiles, groups, decoded, logits)
    shares = split_range(range(len(tiles)), math.ceil(len(tiles) / team.size))

    def pass_over_vocabulary(add: Callable[..., None]) -> None:
        team.share(lambda worker: tiled.decode(shares[worker], worker, add), range(len(shares)))

    pass_over_vocabulary(accumulator.add)
    if needs.js:  # of a cell's probabilities themselves, which need the sums over all tiles
        accumulator.start_second_pass()
        pass_over_vocabulary(accumulator.add_js)
    return accumulator.result(output_ids)


def engine_name(decoder: Decoder, stream: Stream, spec: GridSpec) -> str:
    """What reduces the logits of a grid: "numba" or "torch"."""
    is_large = logits_in_grid(stream, spec, list(decoder.entries())) >= KERNEL_MIN_LOGITS
    on_cpu = decoder.parts.weight.device.type == "cpu"
    return "numba" if is_large and on_cpu and numba_kernel() is not None else "torch"


def logits_in_grid(stream: Stream, spec: GridSpec, tiles: Sequence[slice]) -> int:
    """How many logits all cells have together."""
    return len(spec.rows) * stream.resid.shape[1] * int(tiles[-1].stop)


def clamp_forbidden(logits: Sequence[Tensor]) -> bool:
    """Are there logits of minus infinity? Raise them, in place, to what can be reckoned with."""
    forbids = any(bool(z.amin() <= LEAST_LOGIT) for z in logits)
    if forbids:
        for z in logits:
            z.clamp_(min=LEAST_LOGIT)
    return forbids


def decoded_layers(
    decoder: Decoder, prepared: Tensor, sources: Sequence[tuple[Decoder, Tensor]]
) -> dict[int, int]:
    """Which of the first and the last layer is a reference (by number), and so decoded by now."""
    return {
        layer: n
        for layer in (0, len(prepared) - 1)
        for n, (reference_decoder, rows) in enumerate(sources)
        if reference_decoder is decoder and torch.equal(rows[0], prepared[layer])
    }


def undecoded_layers(layers: int, decoded: Mapping[int, int]) -> range:
    """The layers that remain, of which the first and the last may be decoded."""
    last = layers - 1
    return range(0 in decoded, last + (last not in decoded))


def split_range(items: range, most: int) -> list[slice]:
    """A range in as few like parts as have ``most`` items at most, the largest first."""
    count = math.ceil(len(items) / most)
    edges = [items.stop - len(items) * n // max(1, count) for n in range(count, -1, -1)]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def reference_source(
    name: str, decoder: Decoder, stream: Stream, columns: slice
) -> tuple[Decoder, Tensor]:
    """What gives the logits of a reference: a decoder and a prepared row (1, position, width)."""
    if name == "final":
        return decoder.model_output(stream, columns)
    return decoder, decoder.prepare(stream.decoded_rows([INPUT], columns))


def reference_logits(
    sources: Sequence[tuple[Decoder, Tensor]], tiles: Sequence[slice], team: Team
) -> list[Tensor]:
    """All logits of prepared rows (1, position, width): (row, position, entry), a tile each."""
    one_decoder = len({id(decoder) for decoder, _ in sources}) == 1
    if one_decoder:  # in one product, since more rows make a faster one
        sources = [(sources[0][0], torch.cat([rows for _, rows in sources]))]
    logits = [torch.empty(0)] * len(tiles)

    def fill(n: int) -> None:
        logits[n] = torch.cat([decoder.tile(rows, tiles[n]) for decoder, rows in sources])

    team.share(fill, range(len(tiles)))
    return logits


def target_tokens(
    name: str,
    decoder: Decoder,
    prepared: Tensor,
    columns: slice,
    spec: GridSpec,
    final_ids: Tensor,
) -> TargetTokens:
    """A target per position, with its logits in every layer."""
    given = None if name == "final" else torch.tensor(spec.targets[name][columns])
    ids = final_ids if given is None else given.to(prepared.device)
    return TargetTokens(ids, decoder.target_logits(prepared, ids.clamp(min=0)))


def join_sums(blocks: Sequence[Sums]) -> Any:
    """Put blocks of positions side by side."""
    return map_arrays(lambda *arrays: np.concatenate(arrays, min(1, arrays[0].ndim - 1)), *blocks)


def cut_sums(sums: Sums, columns: slice) -> Any:
    """The sums of some of the positions."""
    return map_arrays(lambda a: a[columns] if a.ndim == 1 else a[:, columns], sums)


def map_arrays(change: Callable[..., Any], *nodes: Any) -> Any:
    """Apply ``change`` to the arrays of the same field in records of the same form.

    Their positions are the second axis, or the first of arrays that have one axis only.
    """
    first = nodes[0]
    if first is None:
        return None
    if isinstance(first, Mapping):
        return {key: map_arrays(change, *(node[key] for node in nodes)) for key in first}
    if is_dataclass(first) and not isinstance(first, type):
        names = [f.name for f in fields(first)]
        changed = {n: map_arrays(change, *(getattr(node, n) for node in nodes)) for n in names}
        return type(first)(**changed)
    return change(*nodes)


def require_finite(sums: Sums, rows: Sequence[StreamSite]) -> None:
    """Refuse a grid in which a logit is NaN or infinite; name the first such cell."""
    bad = np.argwhere(~np.isfinite(sums.lse))
    if len(bad):
        layer, position = (int(i) for i in bad[0])
        raise WorkError(
            f"a logit is not a number at layer {rows[layer].label}, position {position} of the "
            f"window ({len(bad)} such cells)",
            "the weights or the dtype overflow: try --dtype float32",
        )
