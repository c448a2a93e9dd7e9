"""The residual stream between the halves of a block."""

import torch
from torch import Tensor, nn

from logitlens_cli.model.anatomy.parts import MidSite
from logitlens_cli.model.anatomy.tensors import ModuleCall, equal_tensors


def find_mid(block: nn.Module, calls: list[ModuleCall]) -> MidSite | None:
    """Where the stream after the attention half of ``block`` can be seen, if there is one.

    It is the input of the norm before the MLP, or of the MLP where there is none: the first tensor
    between the block's children that none of them returned (an addition made it), and to which a
    later child's result is added to give what leaves the block. In a parallel block nothing is
    between;
    in a block whose norms come after the additions nothing is added to it.
    """
    end = max((i for i, call in enumerate(calls) if call.module is block), default=-1)
    inside = set(block.children())
    # Lists of a block's children return nothing themselves, so their members count as children.
    children = [call for call in calls[:end] if call.module in inside and call.returned]
    if end < 0 or not calls[end].returned:
        return None
    entering, leaving = calls[end].received, calls[end].returned[0]
    seen: list[Tensor] = list(entering)
    for n, child in enumerate(children):
        for index, tensor in enumerate(child.received):
            is_new = not any(equal_tensors(tensor, other) for other in seen)
            # Bloom hands the stream into the attention, which adds to it and returns it.
            is_sum = is_new or (n > 0 and adds_inside(children[n - 1], entering, tensor))
            fits = tensor.numel() == leaving.numel() and is_sum
            if fits and is_added_to(tensor, children[n:], leaving):
                return MidSite(child.module, index)
        seen += child.returned
    return None


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
