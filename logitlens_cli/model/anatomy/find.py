"""Where a causal LM keeps its blocks, final norm and head, found by following the data.

Knows no module names and no family. One probe pass (two rows of a few tokens) records what every
module receives and returns; a module feeds another when the very same tensor leaves the one and
enters the other. The elementwise tail behind the head (scale, soft-cap) is found by putting known
numbers in place of the head's output and reading what the model makes of them. Where the way from
the last block to the logits cannot be traced, the chain stays empty and ``decode`` replays it.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from logitlens_cli.errors import ProofError, UsageError
from logitlens_cli.model.anatomy.mids import find_mid
from logitlens_cli.model.anatomy.parts import ModelParts, StreamLayout
from logitlens_cli.model.anatomy.passes import (
    PROBE_TOKENS,
    Probe,
    device_of,
    logits_after,
    probe_ids,
    run_probe,
)
from logitlens_cli.model.anatomy.tail import UntraceableTailError, find_chain, find_tail, tail_calls
from logitlens_cli.model.anatomy.tensors import UNSUPPORTED, ModuleCall, feeds, stream_tensors


@torch.inference_mode()
def find_parts(model: Any, *, subblocks: bool = False) -> ModelParts:
    """Probe ``model`` and return its parts; ``subblocks``: also where its blocks have a middle.

    Raises UsageError where the model is no causal LM, ProofError where its parts cannot be found.
    """
    head: Any = getattr(model, "get_output_embeddings", lambda: None)()
    weight = getattr(head, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        raise ProofError(
            f"{type(model).__name__} has no linear head that maps the residual stream to logits",
            "use a causal language model",
        )
    ids = probe_ids(weight.shape[0], device_of(model))
    probe = run_probe(model, head, ids)
    require_causal(model, head, probe)
    for candidate in block_candidates(model, probe.calls):
        parts = assemble(model, head, probe, candidate, subblocks)
        if candidate.chained or settles_logits(model, parts, ids):
            return parts
    raise ProofError(
        f"the blocks of {type(model).__name__} could not be found: no list of modules hands one "
        "residual stream from each to the next",
        UNSUPPORTED,
    )


def assemble(
    model: nn.Module, head: nn.Module, probe: Probe, candidate: "BlockList", subblocks: bool
) -> ModelParts:
    """The parts that follow from a choice of blocks."""
    blocks, calls = candidate.blocks, probe.calls
    block_calls = {call.module: call for call in calls if call.module in set(blocks)}
    last_block = max(i for i, call in enumerate(calls) if call.module is blocks[-1])
    after_blocks = tail_calls(calls[last_block + 1 :], blocks)
    head_calls = [call for call in calls if call.module is head]
    leaving = block_calls[blocks[-1]].returned
    try:
        chain = find_chain(after_blocks, leaving[0], head_calls)
        tail = find_tail(model, probe.injected, probe.logits[1])
        traceable = True
    except UntraceableTailError:
        chain, tail, traceable = (), (), False
    with_parameters = (
        call.module
        for call in after_blocks
        if any(True for _ in call.module.parameters(recurse=False))
    )
    layout = find_layout(stream_tensors(leaving))
    return ModelParts(
        blocks=blocks,
        entry=candidate.entry,
        layout=layout,
        after=tuple(dict.fromkeys(with_parameters)),
        chain=chain,
        head=head,
        tail=tail,
        traceable=traceable,
        vocabulary=probe.logits.shape[-1],
        names={module: name for name, module in model.named_modules()},
        returned=tuple(block_calls[block].output for block in blocks),
        inner=inner_streams(layout, blocks, block_calls),
        mids=tuple(find_mid(block, calls) for block in blocks) if subblocks else (),
        samples_columns=len(probe.injected) == 1
        and head_calls[0].received[0].shape[:2] == (2, PROBE_TOKENS),
    )


def inner_streams(
    layout: StreamLayout, blocks: Sequence[nn.Module], calls: Mapping[nn.Module, ModuleCall]
) -> Tensor:
    """(2, position, width) float32: what the first block left of the first text, and a block half
    way up of the second."""
    device = calls[blocks[-1]].returned[0].device
    low, middle = (
        layout.read(calls[block].output, PROBE_TOKENS).to(device)
        for block in (blocks[0], blocks[len(blocks) // 2])
    )
    # With a single block there is no inner stream, so its own is taken at half its size.
    return torch.stack([low[0] * (0.5 if len(blocks) == 1 else 1), middle[1]]).float()


def find_layout(leaving: list[Tensor]) -> StreamLayout:
    """Which axes of a block's output are batch and position, from the probe's sizes."""
    sizes = list(leaving[0].shape)
    if sizes[0] == 2 * PROBE_TOKENS:
        return StreamLayout(None, 0, tuple(sizes[1:]), len(leaving))
    if 2 not in sizes or PROBE_TOKENS not in sizes:
        raise ProofError(
            f"a residual stream of shape {tuple(sizes)} has no axis of positions", UNSUPPORTED
        )
    batch, position = sizes.index(2), sizes.index(PROBE_TOKENS)
    rest = tuple(size for axis, size in enumerate(sizes) if axis not in (batch, position))
    return StreamLayout(batch, position, rest, len(leaving))


def settles_logits(model: nn.Module, parts: ModelParts, ids: Tensor) -> bool:
    """Does what the last block leaves settle the logits, whatever the text was?"""
    resid = parts.inner.to(parts.dtype)
    one = logits_after(model, parts, ids, resid)
    other = logits_after(model, parts, ids.flip(1), resid)
    return torch.equal(one, other)


def require_causal(model: nn.Module, head: nn.Module, probe: Probe) -> None:
    """Refuse a model in which a later token changes what an earlier position predicts."""
    received = [c.received[0] for c in probe.calls if c.module is head and c.received]
    # The second row's logits are made up, so what the head received is compared.
    whole_rows = received and received[0].numel() % (2 * PROBE_TOKENS) == 0
    seen = received[0] if whole_rows else probe.logits
    a, b = seen.reshape(2, PROBE_TOKENS, -1)[:, :-1].float()
    # Batched kernels round the two rows differently; measured far below this in every dtype.
    slack = max(1e-3, 4 * torch.finfo(seen.dtype).eps) * float(a.abs().max())
    if float((a - b).abs().max()) > slack:
        raise UsageError(
            f"{type(model).__name__} is not a causal language model: a later token changes "
            "what earlier positions predict",
            "use a decoder-only model that predicts the next token",
        )


@dataclass(frozen=True)
class BlockList:
    """A list of modules that may be the blocks."""

    blocks: tuple[nn.Module, ...]
    entry: nn.Module
    chained: bool
    """does each hand its stream to the next?"""
    end: int
    """when the last of them returned, as an index of the calls"""


def block_candidates(model: nn.Module, calls: list[ModuleCall]) -> list[BlockList]:
    """Lists of modules that may be the blocks, those that return last in time first.

    Children that did not run (cross-attention on a text without pictures) are left out; of a block
    that runs several times the last run counts. A block has children, unlike the members of a tail
    that is written as a list. If no such list will do, rows of parallel lists of plain
    modules are tried (XLM).
    """
    last_call = {call.module: i for i, call in enumerate(calls) if call.received and call.returned}
    composite: list[BlockList] = []
    plain: list[BlockList] = []
    entered: list[tuple[int, nn.Module]] = []
    for parent in model.modules():
        if not isinstance(parent, (nn.ModuleList, nn.Sequential)):
            continue
        children = tuple(child for child in parent.children() if child in last_call)
        if not children:
            continue
        ends = [last_call[child] for child in children]
        shapes = {calls[end].returned[0].shape for end in ends}
        if ends != sorted(ends) or len(shapes) > 1:
            continue
        entered.append((ends[0], children[0]))
        chained = all(feeds(calls[a], calls[b]) for a, b in itertools.pairwise(ends))
        found = BlockList(children, children[0], chained, ends[-1])
        if all(any(True for _ in child.children()) for child in children):
            composite.append(found)
        elif len(children) > 1 and len({type(child) for child in children}) == 1:
            plain.append(replace(found, chained=False))
    composite.sort(key=lambda found: -found.end)
    plain.sort(key=lambda found: -found.end)
    first = min(entered, key=lambda pair: pair[0])[1] if entered else None
    return composite + [replace(found, entry=first) for found in plain if first is not None]
