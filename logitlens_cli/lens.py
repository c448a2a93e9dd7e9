"""Stream -> sums: decode every layer's residual stream and reduce the logits at once.

The algorithm, top to bottom. The vocabulary is cut into tiles and the rows (layer, position) into
groups of layers, so that a tile of logits stays in cache; each tile is reduced to running maxima,
sums and counts, then overwritten. The logits of the whole grid never exist. Norm, head and all sums
are computed in float32 whatever the model's dtype; formulas follow in float64 (``metrics``).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from logitlens_cli.anatomy import Anatomy
from logitlens_cli.capture import INPUT, Row, Stream
from logitlens_cli.decode import Decoder, difference
from logitlens_cli.errors import ProofError, WorkError
from logitlens_cli.metrics import Needs, Reference, Sums, Target

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


@torch.inference_mode()
def grid(decoder: Decoder, stream: Stream, wanted: Wanted) -> Sums:
    """Decode ``wanted.rows`` of ``stream`` and reduce every cell.

    Raises WorkError that names layer and position where a logit is not a number.
    """
    positions = stream.resid.shape[1]
    size, group = decoder.sizes(positions)
    blocks = [
        block(decoder, stream, slice(start, min(start + size, positions)), group, wanted)
        for start in range(0, positions, size)
    ]
    sums: Sums = join(blocks)
    require_finite(sums, wanted.rows)
    return sums


@dataclass
class Refer:
    """One reference distribution q over a block of positions, and the sums against it."""

    q: Tensor
    """(position, vocabulary)"""
    log_q: Tensor | None
    """(position, vocabulary), only for the reverse direction"""
    negentropy: Tensor
    """(position,)"""
    cross: Tensor
    """(layer, position)"""
    reverse: Tensor
    """(layer, position) sum exp(z - running maximum) log q"""


@dataclass
class Aim:
    """One target token per position, and the counts against it."""

    ids: Tensor
    """(position,), -1 where there is none"""
    logit: Tensor
    """(layer, position)"""
    above: Tensor
    ties: Tensor


@dataclass
class Running:
    """The sums of a block of positions while the vocabulary goes by; each (layer, position)."""

    maximum: Tensor
    total: Tensor
    """sum exp(z - maximum)"""
    mean: Tensor
    """sum exp(z - maximum) z"""
    top_logits: Tensor
    """(layer, position, k), best first"""
    top_ids: Tensor
    final_ids: Tensor
    """(position,) the model's own top guess"""
    forbids: bool
    """are there logits of minus infinity?"""
    aims: dict[str, Aim] = field(default_factory=dict)
    references: dict[str, Refer] = field(default_factory=dict)


def block(decoder: Decoder, stream: Stream, columns: slice, group: int, wanted: Wanted) -> Sums:
    """The sums of a block of positions, ``group`` layers at a time."""
    where = [stream.rows.index(row) for row in wanted.rows]
    prepared = decoder.prepare(stream.resid[where, columns])
    layers = len(prepared)
    running = begin(decoder, stream, columns, wanted, prepared)
    buffer: Tensor | None = None
    spare = prepared.new_empty(0)
    for entries in decoder.entries():
        for first in range(0, layers, group):
            some = slice(first, min(first + group, layers))
            z = decoder.tile(prepared[some], entries, buffer)
            if buffer is None:  # the first tile is the largest: its memory serves all others
                buffer, spare = z.view(-1), torch.empty_like(z).view(-1)
            if decoder.whole:
                take_targets(running, z, some)
            work = spare[: z.numel()].view(z.shape)
            reduce_tile(running, z, work, some, entries, wanted.needs)
    return finish(running, wanted)


def begin(
    decoder: Decoder, stream: Stream, columns: slice, wanted: Wanted, prepared: Tensor
) -> Running:
    """Reference distributions, targets and empty sums for a block of positions."""
    shape = prepared.shape[:2]
    zeros = prepared.new_zeros(shape)
    # The model's word is what its own head makes of what it received, not the last row decoded.
    final = decoder.own(stream, columns)
    running = Running(
        maximum=prepared.new_full(shape, -torch.inf),
        total=zeros.clone(),
        mean=zeros.clone(),
        top_logits=prepared.new_full((*shape, wanted.k), -torch.inf),
        top_ids=torch.full((*shape, wanted.k), -1, device=prepared.device),
        final_ids=first_best(final),
        forbids=bool(final.isneginf().any()),
    )
    if running.forbids:
        final.clamp_(min=torch.finfo(final.dtype).min)
    if "final" in wanted.needs.references:
        running.references["final"] = refer(final, zeros, wanted.needs.reverse)
    if "input" in wanted.needs.references:
        entering = decoder.prepare(stream.resid[stream.rows.index(INPUT), columns].unsqueeze(0))
        tiles = [decoder.tile(entering, entries)[0] for entries in decoder.entries()]
        logits = torch.cat(tiles, -1)
        if running.forbids:
            logits.clamp_(min=torch.finfo(logits.dtype).min)
        running.references["input"] = refer(logits, zeros, wanted.needs.reverse)
    for name in sorted(wanted.needs.targets):
        if name == "final":
            ids = running.final_ids
        else:
            ids = torch.tensor(wanted.targets[name][columns], device=prepared.device)
        count = torch.zeros(shape, dtype=torch.int64, device=prepared.device)
        logit = decoder.at(prepared, ids.clamp(min=0))
        logit = zeros.clone() if logit is None else logit
        running.aims[name] = Aim(ids, logit, count, count.clone())
    return running


def take_targets(running: Running, z: Tensor, some: slice) -> None:
    """Take the targets' logits from a tile that holds the whole vocabulary."""
    for aim in running.aims.values():
        place = aim.ids.clamp(min=0).expand(z.shape[:2]).unsqueeze(-1)
        aim.logit[some] = z.gather(-1, place).squeeze(-1)


def first_best(logits: Tensor) -> Tensor:
    """The lowest id among the largest logits, (row, vocabulary) -> (row,)."""
    best = logits.amax(-1, keepdim=True)
    return (logits == best).int().argmax(-1)  # argmax of equals is the first one


def refer(logits: Tensor, zeros: Tensor, reverse: bool) -> Refer:
    """A reference distribution from its logits (position, vocabulary), which are overwritten."""
    logits.sub_(logits.amax(-1, keepdim=True))
    q = exp_(logits.clone())
    total = q.sum(-1, keepdim=True)
    q /= total
    negentropy = (q * logits).sum(-1) - total.squeeze(-1).log()
    log_q = logits.sub_(total.log()) if reverse else None
    return Refer(q, log_q, negentropy, zeros.clone(), zeros.clone())


LOG2_E = math.log2(math.e)


def exp_(x: Tensor) -> Tensor:
    """exp in place; by powers of two, which take half the time and less (measured)."""
    return x.mul_(LOG2_E).exp2_()


def reduce_tile(
    running: Running, z: Tensor, work: Tensor, some: slice, entries: slice, needs: Needs
) -> None:
    """Take up one tile of logits (layer, position, entry); it and ``work``, of the same shape, are
    overwritten.

    Every step is one pass over a tile that stays in cache, into memory that is there already: a
    product and a sum are faster so than a batched product, a comparison into floats and a sum
    faster than counting booleans.
    """
    if running.forbids:
        # Minus infinity is a logit that the model forbids; times a probability of 0 it must be 0.
        z.clamp_(min=torch.finfo(z.dtype).min)
    top = z.amax(-1)
    keep_best(running, z, top, some, entries)
    for aim in running.aims.values():
        count(aim, z, work, some, entries)
    for reference in running.references.values():
        reference.cross[some] += torch.mul(z, reference.q[:, entries], out=work).sum(-1)
    before = running.maximum[some]
    maximum = torch.maximum(before, top)
    shrink = torch.exp(before - maximum)
    running.maximum[some] = maximum
    e = exp_(torch.sub(z, maximum.unsqueeze(-1), out=work))
    running.total[some] = running.total[some] * shrink + e.sum(-1)
    for reference in running.references.values():
        if reference.log_q is not None:
            reference.reverse[some] *= shrink
            reference.reverse[some] += (e * reference.log_q[:, entries]).sum(-1)
    if needs.mean:
        running.mean[some] = running.mean[some] * shrink + z.mul_(e).sum(-1)


def keep_best(running: Running, z: Tensor, top: Tensor, some: slice, entries: slice) -> None:
    """Merge a tile into the running top k; only cells that it can improve are looked at."""
    best, ids = running.top_logits[some], running.top_ids[some]
    k = best.shape[-1]
    moved = top > best[..., -1]
    if not moved.any():
        return
    tile = z[moved]
    values, places = best_of(tile, torch.arange(tile.shape[-1], device=z.device), k)
    merged = torch.cat([best[moved], values], -1)
    owners = torch.cat([ids[moved], places + entries.start], -1)
    best[moved], ids[moved] = best_of(merged, owners, k)


def best_of(values: Tensor, ids: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest values with their ids, best first and lowest id first among equals.

    ``values`` (row, n), ``ids`` (n,) or (row, n) ascending among equals; returns two (row, k).
    """
    k = min(k, values.shape[-1])
    if k == 1:
        places = first_best(values).unsqueeze(-1)
    else:
        best, places = values.topk(min(k + 1, values.shape[-1]))
        places = places[:, :k]
        tied = (best[:, 1:] == best[:, :-1]).any(-1)
        if tied.any():  # a stable sort keeps equals in the order in which they stand, by id
            by_id = values[tied].sort(dim=-1, descending=True, stable=True)
            places[tied] = by_id.indices[:, :k]
    return values.gather(-1, places), ids.expand_as(values).gather(-1, places)


def count(aim: Aim, z: Tensor, work: Tensor, some: slice, entries: slice) -> None:
    """Count the entries above and level with the target."""
    t = aim.logit[some].unsqueeze(-1)
    above = torch.gt(z, t, out=work).sum(-1).long()
    ties = torch.eq(z, t, out=work).sum(-1).long()
    # The target itself is neither, though its logit here may be rounded otherwise than ``t``.
    here = (aim.ids >= entries.start) & (aim.ids < entries.stop)
    if here.any():
        place = (aim.ids - entries.start).clamp(0, z.shape[-1] - 1)
        own = z.gather(-1, place.expand(z.shape[:2]).unsqueeze(-1))
        above -= ((own > t).squeeze(-1) & here).long()
        ties -= ((own == t).squeeze(-1) & here).long()
    aim.above[some] += above
    aim.ties[some] += ties


def finish(running: Running, wanted: Wanted) -> Sums:
    """From running sums on the device to float64 arrays."""
    targets = {}
    for name, aim in running.aims.items():
        # The best guess has rank 1 by definition, whatever rounding made of near-ties.
        above = torch.where(running.top_ids[..., 0] == aim.ids, 0, aim.above)
        exists = (aim.ids >= 0).expand_as(above)
        targets[name] = Target(
            logit=array(torch.where(exists, aim.logit.double(), torch.nan)),
            above=array(torch.where(exists, above, -1)),
            ties=array(torch.where(exists, aim.ties, 0)),
        )
    total = running.total.double()
    references = {
        name: Reference(
            negentropy=array(reference.negentropy.double()),
            cross=array(reference.cross.double()),
            reverse=array(reference.reverse.double() / total) if wanted.needs.reverse else None,
        )
        for name, reference in running.references.items()
    }
    return Sums(
        final_ids=array(running.final_ids),
        top_ids=array(running.top_ids),
        top_logits=array(running.top_logits.double()),
        lse=array(running.maximum.double() + total.log()),
        mean=array(running.mean.double() / total) if wanted.needs.mean else None,
        targets=targets,
        references=references,
    )


def array(tensor: Tensor) -> Any:
    return tensor.cpu().numpy()


def join(blocks: Sequence[Sums]) -> Any:
    """Put blocks of positions side by side."""
    import numpy as np

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
    import numpy as np

    bad = np.argwhere(~np.isfinite(sums.lse))
    if len(bad):
        layer, position = (int(i) for i in bad[0])
        raise WorkError(
            f"a logit is not a number at layer {rows[layer].label}, position {position} of the "
            f"window ({len(bad)} such cells)",
            "the weights or the dtype overflow: try --dtype float32",
        )
