"""The residual stream between the halves of a block."""

from collections.abc import Sequence

import torch
from torch import Tensor

from logitlens_cli.model.anatomy.parts import MidSite
from logitlens_cli.model.anatomy.tensors import ModuleCall, Slot, equal_tensors, tensor_at
from logitlens_cli.model.anatomy.trials import TensorSite, Trial


def find_mids(
    calls: list[ModuleCall],
    runs: Sequence[int],
    slots: Sequence[tuple[Slot, ...]],
    trial: Trial,
) -> tuple[MidSite | None, ...]:
    """Where the stream after the attention half can be seen, by run."""
    starts = [0, *(n + 1 for n in runs[:-1])]
    found = [
        find_sums(calls[start:end], calls[end], of[0])
        for start, end, of in zip(starts, runs, slots, strict=True)
    ]
    chosen: list[MidSite | None] = []
    # Blocks of one build need not be tried one by one.
    tried: dict[tuple[type, int], int | None] = {}
    for sums, end, of in zip(found, runs, slots, strict=True):
        kind = (type(calls[end].module), len(sums))
        if sums and kind not in tried:
            tried[kind] = attention_of(sums, calls[end], of[0], trial)
        after = tried.get(kind)
        chosen.append(None if after is None or after == len(sums) else sums[after])
    return tuple(chosen)


def find_sums(inside: list[ModuleCall], block: ModuleCall, slot: Slot) -> list[MidSite]:
    """Where the stream can be seen between the parts of a block.

    It is the input of the norm before the MLP, or of the MLP where there is none: a tensor between
    the block's children that none of them returned (an addition made it), and to which a later
    child's result is added to give what leaves the block. In a parallel block nothing is between;
    in a block whose norms come after the additions nothing is added to it.
    """
    members = set(block.module.children())
    children = [call for call in inside if call.module in members and call.returned]
    entering, leaving = block.received, tensor_at(block.output, slot)
    seen: list[Tensor] = list(entering)
    found: list[MidSite] = []
    for n, child in enumerate(children):
        for index, tensor in enumerate(child.received):
            is_new = not any(equal_tensors(tensor, other) for other in seen)
            # Bloom hands the stream into the attention, which adds to it and returns it.
            is_sum = is_new or (
                not found and n > 0 and adds_inside(children[n - 1], entering, tensor)
            )
            fits = tensor.numel() == leaving.numel() and is_sum
            if fits and is_added_to(tensor, children[n:], leaving):
                found.append(MidSite(child.module, child.slots[index], child.number))
                seen.append(tensor)
        seen += child.returned
    return found


def attention_of(
    sums: Sequence[MidSite], block: ModuleCall, slot: Slot, trial: Trial
) -> int | None:
    """Which part of a block looks at other positions, as the index of the sum after it; None where
    none does, or several. Of two parts the first will do: RWKV's other half looks back too."""
    between = [TensorSite(site.module, site.number, True, site.slot) for site in sums]
    leaving = TensorSite(block.module, block.number, False, slot)
    shape = tensor_at(block.output, slot).shape
    entering = [
        TensorSite(block.module, block.number, True, of)
        for of, tensor in zip(block.slots, block.received, strict=True)
        if tensor.shape == shape
    ]
    if len(entering) > 1:
        entering = [site for site in entering if trial.carries(site, leaving)]
    if len(entering) != 1:
        return None
    starts, ends = [*entering, *between], [*between, leaving]
    pairs = enumerate(zip(starts, ends, strict=True))
    mixing = [n for n, (start, end) in pairs if trial.moves_later(start, end)]
    is_told = len(mixing) == 1 or (len(sums) == 1 and 0 in mixing)
    return mixing[0] if is_told else None


def adds_inside(child: ModuleCall, entering: list[Tensor], returned: Tensor) -> bool:
    """Does a child receive the block's stream beside another tensor, and return ``returned``?"""
    alike = [tensor for tensor in child.received if tensor.numel() == returned.numel()]
    return (
        len(alike) > 1
        and any(equal_tensors(tensor, entering[0]) for tensor in alike[1:])
        and equal_tensors(child.returned[0], returned)
    )


def is_added_to(tensor: Tensor, later: list[ModuleCall], leaving: Tensor) -> bool:
    """Is what leaves the block this tensor plus results of later children, with constant
    factors?"""
    for child in later:  # a child may do the adding itself, and its result leaves the block
        receives = any(equal_tensors(tensor, received) for received in child.received)
        if len(child.received) > 1 and receives and equal_tensors(child.returned[0], leaving):
            return True
    results = [
        result
        for child in later
        for result in child.returned
        if result.numel() == leaving.numel() and not equal_tensors(result, leaving)
    ]
    columns = torch.stack([t.double().reshape(-1).cpu() for t in (tensor, *results)], 1)
    y = leaving.double().reshape(-1).cpu()
    weights = torch.linalg.lstsq(columns, y, driver="gelsd").solution
    slack = 32 * torch.finfo(leaving.dtype).eps * float(columns.abs().max())
    exact = float((columns @ weights - y).abs().max()) <= slack
    return exact and abs(float(weights[0])) > 1e-3 and bool((weights[1:].abs() > 1e-3).any())
