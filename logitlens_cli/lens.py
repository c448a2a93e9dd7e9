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
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from logitlens_cli.anatomy import Anatomy
from logitlens_cli.capture import INPUT, Row, Stream
from logitlens_cli.decode import Decoder, difference
from logitlens_cli.errors import ProofError, WorkError
from logitlens_cli.metrics import Needs, Sums
from logitlens_cli.reduction import LEAST, WORTH, Aim, Running, leading

# ---------------------------------------------------------------------------------------------
# The proof


@dataclass(frozen=True)
class Check:
    """How well the decoded last row reproduces the model's own logits, over sampled columns."""

    columns: int
    max_abs_logit_error: float
    tolerance: float
    max_kl: float
    """KL(model || decoded) in nats, the worst column"""
    top1_agreement: float
    passed: bool
    route: str
    """"direct" or "replay" """


@torch.inference_mode()
def check(decoder: Decoder, route: str, stream: Stream) -> Check:
    """Decode the last block's stream and hold it against the model's own logits."""
    mine, own = decoder.last(stream), stream.logits
    error, tolerance = difference(mine, own)
    p = own.double().log_softmax(-1)
    q = mine.double().log_softmax(-1)
    kl = torch.where(p.isneginf(), 0.0, p.exp() * (p - q)).sum(-1).max()
    agreement = (mine.argmax(-1) == own.argmax(-1)).double().mean()
    return Check(
        columns=len(stream.checked),
        max_abs_logit_error=error,
        tolerance=tolerance,
        max_kl=max(0.0, float(kl)),
        top1_agreement=float(agreement),
        passed=error <= tolerance,
        route=route,
    )


def require(result: Check, parts: Anatomy) -> None:
    """Refuse to go on where the proof failed."""
    if not result.passed:
        raise ProofError(
            "the decoded last row does not reproduce the model's own logits: they differ by up to "
            f"{result.max_abs_logit_error:.3g}, allowed is {result.tolerance:.3g} "
            f"({' -> '.join(parts.describe(result.route == 'direct'))})",
            "no figure is drawn of this model, since it would be wrong",
        )


# ---------------------------------------------------------------------------------------------
# The grid


@dataclass(frozen=True)
class Wanted:
    """What to compute."""

    rows: tuple[Row, ...]
    """which of the stream's rows become layers of the grid"""
    k: int
    needs: Needs
    targets: Mapping[str, Sequence[int]]
    """(position,) ids by name, -1 where there is none; "final" is found here and not given"""


# Each thread holds two tiles, of 4 MB each on a CPU.
MOST_THREADS = 8


@torch.inference_mode()
def grid(decoder: Decoder, stream: Stream, wanted: Wanted) -> Sums:
    """Decode ``wanted.rows`` of ``stream`` and reduce every cell.

    Raises WorkError that names layer and position where a logit is not a number.
    """
    positions = stream.resid.shape[1]
    size, group = decoder.sizes(positions)
    with team_of(decoder) as team:
        blocks = [
            block(decoder, stream, slice(start, min(start + size, positions)), group, wanted, team)
            for start in range(0, positions, size)
        ]
    sums: Sums = join(blocks)
    require_finite(sums, wanted.rows)
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
    size = min(torch.get_num_threads(), MOST_THREADS) if decoder.shared else 1
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


def block(
    decoder: Decoder, stream: Stream, columns: slice, group: int, wanted: Wanted, team: Team
) -> Sums:
    """The sums of a block of positions, ``group`` layers at a time."""
    prepared = decoder.prepare(stream.resid[[stream.rows.index(r) for r in wanted.rows], columns])
    needs = wanted.needs
    tiles = list(decoder.entries())
    # References come first, by name; the model's own word is always asked for.
    names = sorted(needs.references | {"final"}, key=lambda n: (n not in needs.references, n))
    sources = [source(name, decoder, stream, columns) for name in names]
    logits = all_logits(sources, tiles, team)
    forbids = any(bool(z.amin() <= LEAST) for z in logits)
    if forbids:
        for z in logits:
            z.clamp_(min=LEAST)
    best = min(max(1, needs.best), tiles[-1].stop)
    output_ids = leading([z[names.index("final")] for z in logits], best)
    running = Running(
        (len(prepared), prepared.shape[1]),
        tiles,
        max(wanted.k, best),
        needs,
        [z[: len(needs.references)] for z in logits],
        {
            name: aim(name, decoder, prepared, columns, wanted, output_ids[:, 0])
            for name in needs.targets
        },
        forbids,
        team.size,
        # By the size of the whole grid, so that the same text gives the same bits.
        len(wanted.rows) * stream.resid.shape[1] * tiles[-1].stop >= WORTH,
    )
    # The first row and the last are often what the others are held against: decoded by now.
    last = len(prepared) - 1
    known = {
        row: n
        for row in (0, last)
        for n, (head, vectors) in enumerate(sources)
        if head is decoder and torch.equal(vectors[0], prepared[row])
    }

    groups = parts(range(0 in known, last + (last not in known)), group)
    shares = parts(range(len(tiles)), math.ceil(len(tiles) / team.size))

    def decode(take: Callable[..., None], worker: int) -> None:
        buffer: Tensor | None = None
        for n in range(len(tiles))[shares[worker]]:
            for some in groups:
                z = decoder.tile(prepared[some], tiles[n], buffer)
                if buffer is None:  # the first tile is the largest: its memory serves all others
                    buffer, work = z.view(-1), torch.empty_like(z).view(-1)
                take(z, work[: z.numel()].view(z.shape), some, n, worker)
            for row, place in known.items():
                z = logits[n][place].unsqueeze(0).clone()
                take(z, torch.empty_like(z), slice(row, row + 1), n, worker)

    team.share(partial(decode, running.take), range(len(shares)))
    if needs.apart:
        # What needs a cell's probabilities themselves: they are known only now.
        running.weigh()
        team.share(partial(decode, running.compare), range(len(shares)))
    return running.finish(output_ids)


def parts(items: range, most: int) -> list[slice]:
    """A range in as few like parts as have ``most`` items at most, the largest first."""
    count = math.ceil(len(items) / most)
    edges = [items.stop - len(items) * n // max(1, count) for n in range(count, -1, -1)]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def source(name: str, decoder: Decoder, stream: Stream, columns: slice) -> tuple[Decoder, Tensor]:
    """What makes the logits of a reference: a decoder and a prepared row (1, position, width)."""
    if name == "final":
        return decoder.own(stream, columns)
    return decoder, decoder.prepare(stream.resid[[stream.rows.index(INPUT)], columns])


def all_logits(
    sources: Sequence[tuple[Decoder, Tensor]], tiles: Sequence[slice], team: Team
) -> list[Tensor]:
    """All logits of prepared rows (1, position, width): (row, position, entry), a tile each."""
    one = len({id(head) for head, _ in sources}) == 1
    # In one product if they can be, since more rows make a faster one.
    parts = [(sources[0][0], torch.cat([row for _, row in sources]))] if one else sources
    made = [torch.empty(0)] * len(tiles)

    def fill(n: int) -> None:
        made[n] = torch.cat([head.tile(rows, tiles[n]) for head, rows in parts])

    team.share(fill, range(len(tiles)))
    return made


def aim(
    name: str,
    decoder: Decoder,
    prepared: Tensor,
    columns: slice,
    wanted: Wanted,
    final_ids: Tensor,
) -> Aim:
    """A target per position, with its logits in every layer."""
    given = None if name == "final" else torch.tensor(wanted.targets[name][columns])
    ids = final_ids if given is None else given.to(prepared.device)
    return Aim(ids, decoder.at(prepared, ids.clamp(min=0)))


def join(blocks: Sequence[Sums]) -> Any:
    """Put blocks of positions side by side."""
    return mapped(lambda *parts: np.concatenate(parts, min(1, parts[0].ndim - 1)), *blocks)


def cut(sums: Sums, columns: slice) -> Any:
    """The sums of some of the positions."""
    return mapped(lambda part: part[columns] if part.ndim == 1 else part[:, columns], sums)


def mapped(change: Callable[..., Any], *nodes: Any) -> Any:
    """Apply ``change`` to the arrays that stand at the same place in records of the same form.

    Their positions are the second axis, or the first of arrays that have one axis only.
    """
    first = nodes[0]
    if first is None:
        return None
    if isinstance(first, Mapping):
        return {key: mapped(change, *(node[key] for node in nodes)) for key in first}
    if is_dataclass(first) and not isinstance(first, type):
        names = [f.name for f in fields(first)]
        made = {n: mapped(change, *(getattr(node, n) for node in nodes)) for n in names}
        return type(first)(**made)
    return change(*nodes)


def require_finite(sums: Sums, rows: Sequence[Row]) -> None:
    """Refuse a grid in which a logit is NaN or infinite; name the first such cell."""
    bad = np.argwhere(~np.isfinite(sums.lse))
    if len(bad):
        layer, position = (int(i) for i in bad[0])
        raise WorkError(
            f"a logit is not a number at layer {rows[layer].label}, position {position} of the "
            f"window ({len(bad)} such cells)",
            "the weights or the dtype overflow: try --dtype float32",
        )
