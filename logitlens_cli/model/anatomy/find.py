"""Where a causal LM keeps its blocks, final norm and head, found by following the data.

Knows no module names and no family. One probe pass (two rows of a few tokens) records what every
module receives and returns; a module feeds another when the very same tensor leaves the one and
enters the other. The elementwise tail behind the head (scale, soft-cap) is found by putting known
numbers in place of the head's output and reading what the model makes of them. Where the way from
the last block to the logits cannot be traced, the chain stays empty and ``lens`` replays it.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from logitlens_cli.errors import ProofError, UsageError
from logitlens_cli.model.anatomy.mids import find_mids
from logitlens_cli.model.anatomy.parts import BlockRun, ModelParts, StreamLayout
from logitlens_cli.model.anatomy.passages import Passages
from logitlens_cli.model.anatomy.passes import (
    PROBE_TOKENS,
    Probe,
    device_of,
    logits_after,
    probe_ids,
    run_probe,
)
from logitlens_cli.model.anatomy.slots import entering_slots, leaving_slots
from logitlens_cli.model.anatomy.stacks import Stack, StreamSearch, find_stacks
from logitlens_cli.model.anatomy.tail import UntraceableTailError, find_chain, find_tail, tail_calls
from logitlens_cli.model.anatomy.tensors import UNSUPPORTED, tensor_at
from logitlens_cli.model.anatomy.trials import Trial

CONTAINERS = (nn.ModuleList, nn.ModuleDict)
"""of modules, that never run themselves"""


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
    try:
        return parts_of(model, head, probe, ids, subblocks)
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        said = f"{type(error).__name__}: {error}"
        raise ProofError(
            f"{type(model).__name__} could not be taken apart ({said})", UNSUPPORTED
        ) from error


def parts_of(
    model: nn.Module, head: nn.Module, probe: Probe, ids: Tensor, subblocks: bool
) -> ModelParts:
    """The parts that follow from the last of the stacks that holds blocks."""
    trial = Trial(model, ids)
    passages = Passages(probe.calls, trial)
    outer, plain = find_stacks(model, probe.calls, passages)
    names = {module: name for name, module in model.named_modules()}
    search = StreamSearch(passages, outer, names)
    for stack in outer:
        whole = search.whole(stack)
        if whole is None:
            continue
        parts = assemble(trial, head, probe, whole, subblocks)
        if whole.chained or settles_logits(model, parts, ids):
            return parts
        if passages.is_block(stack.end):
            plain = []  # a tail may be a list, too
            break
    for stack in plain:
        parts = assemble(trial, head, probe, stack, subblocks)
        if settles_logits(model, parts, ids):
            return parts
    raise ProofError(
        f"the blocks of {type(model).__name__} could not be found: no list of modules hands one "
        "residual stream from each to the next",
        UNSUPPORTED,
    )


def assemble(
    trial: Trial, head: nn.Module, probe: Probe, stack: Stack, subblocks: bool
) -> ModelParts:
    """The parts that follow from a choice of blocks."""
    model, calls = trial.model, probe.calls
    run_calls = [calls[n] for n in stack.runs]
    slots = leaving_slots(run_calls, trial)
    runs = tuple(
        BlockRun(call.module, call.number, slots_of_run, call.output)
        for call, slots_of_run in zip(run_calls, slots, strict=True)
    )
    leaving = [tensor_at(runs[-1].returned, slot) for slot in slots[-1]]
    after_blocks = tail_calls(calls[stack.end + 1 :], stack.blocks)
    head_calls = [call for call in calls if call.module is head]
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
    layout = find_layout(leaving)
    entry = calls[stack.entry]
    return ModelParts(
        runs=runs,
        entry=entry.module,
        entry_slots=entering_slots(entry, run_calls, slots, trial),
        layout=layout,
        after=tuple(dict.fromkeys(with_parameters)),
        chain=chain,
        head=head,
        tail=tail,
        traceable=traceable,
        vocabulary=probe.logits.shape[-1],
        names={module: name for name, module in model.named_modules()},
        inner=inner_streams(layout, runs),
        mids=find_mids(calls, stack.runs, slots, trial) if subblocks else (),
        samples_columns=len(probe.injected) == 1
        and head_calls[0].received[0].shape[:2] == (2, PROBE_TOKENS),
        idle=tuple(idle_modules(model, {call.module for call in calls}, set(stack.blocks))),
        remembers=probe.remembers,
    )


def idle_modules(
    module: nn.Module, called: set[nn.Module], blocks: set[nn.Module]
) -> Iterator[nn.Module]:
    """The modules within one that did not run, outside of the blocks (which have experts that run
    for some tokens only), without those within others."""
    for child in module.children():
        if child in blocks:
            continue
        if called.isdisjoint(child.modules()) and not isinstance(child, CONTAINERS):
            yield child
        else:
            yield from idle_modules(child, called, blocks)


def inner_streams(layout: StreamLayout, runs: Sequence[BlockRun]) -> Tensor:
    """(2, position, width) float32: what the first block left of the first text, and a block half
    way up of the second."""
    device = tensor_at(runs[-1].returned, runs[-1].slots[0]).device
    low, middle = (
        layout.read(run.returned, run.slots, PROBE_TOKENS).to(device)
        for run in (runs[0], runs[len(runs) // 2])
    )
    # With a single block there is no inner stream, so its own is taken at half its size.
    return torch.stack([low[0] * (0.5 if len(runs) == 1 else 1), middle[1]]).float()


def find_layout(leaving: list[Tensor]) -> StreamLayout:
    """Which axes of a block's output are batch and position, from the probe's sizes; where several
    axes have such a size, those along which its texts are equal but for the last position."""
    sizes = list(leaving[0].shape)
    pairs = [
        (batch, position)
        for batch, size in enumerate(sizes)
        for position, length in enumerate(sizes)
        if (size, length) == (2, PROBE_TOKENS)
    ]
    if len(pairs) > 1:
        pairs = [pair for pair in pairs if differs_at_end(leaving[0].movedim(pair, (0, 1)))]
    if len(pairs) == 1:
        batch, position = pairs[0]
        rest = tuple(size for axis, size in enumerate(sizes) if axis not in pairs[0])
        return StreamLayout(batch, position, rest, len(leaving))
    flat = sizes[0] == 2 * PROBE_TOKENS
    if flat and differs_at_end(leaving[0].reshape(2, PROBE_TOKENS, *sizes[1:])):
        return StreamLayout(None, 0, tuple(sizes[1:]), len(leaving))
    raise ProofError(
        f"a residual stream of shape {tuple(sizes)} has no axis of positions", UNSUPPORTED
    )


def differs_at_end(texts: Tensor) -> bool:
    """Are two texts (2, position, ...) equal up to rounding at all positions but the last?"""
    a, b = texts.float()
    difference = (a - b).abs().flatten(1).amax(1)
    slack = max(1e-3, 4 * torch.finfo(texts.dtype).eps) * float(a.abs().max())
    return not bool((difference[:-1] > slack).any()) and not bool(difference[-1] == 0)


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
