"""Which of the tensors that a block receives and returns are the residual stream."""

from collections.abc import Sequence

from torch import Tensor

from logitlens_cli.errors import ProofError
from logitlens_cli.model.anatomy.tensors import (
    UNSUPPORTED,
    ModuleCall,
    Slot,
    constant_factor,
    equal_tensors,
    float_slots,
)
from logitlens_cli.model.anatomy.trials import TensorSite, Trial


def alike(call: ModuleCall, shape: tuple[int, ...]) -> dict[Slot, Tensor]:
    """What a call returned of one shape, by slot."""
    return {slot: t for slot, t in float_slots(call.output) if tuple(t.shape) == shape}


def last_slots(call: ModuleCall, trial: Trial) -> tuple[Slot, ...]:
    """Where the last run leaves the stream: in what the logits depend on, of all that has the shape
    of something that it received."""
    found = dict(float_slots(call.output))
    if not found:
        raise ProofError("a block passes on no tensor", UNSUPPORTED)
    shapes = {tensor.shape for tensor in call.received}
    likely = [slot for slot, tensor in found.items() if tensor.shape in shapes]
    if len(likely) > 1:
        likely = [
            s for s in likely if trial.matters(TensorSite(call.module, call.number, False, s))
        ]
    chosen = likely or list(found)[:1]
    if len({found[slot].shape for slot in chosen}) > 1:
        raise ProofError(
            f"the last block, a {type(call.module).__name__}, leaves tensors of several shapes "
            "that the logits depend on",
            UNSUPPORTED,
        )
    return tuple(chosen)


def leaving_slots(calls: Sequence[ModuleCall], trial: Trial) -> list[tuple[Slot, ...]]:
    """Where each run leaves the stream, in order."""
    last = last_slots(calls[-1], trial)
    shape = tuple(dict(float_slots(calls[-1].output))[last[0]].shape)
    slots = [last]
    for call, following in zip(calls[-2::-1], calls[:0:-1], strict=True):
        found = alike(call, shape)
        chosen = last if all(slot in found for slot in last) else tuple(found)
        if len(found) > len(last) == 1:  # which of them goes on to the next block?
            passed = [slot for slot, tensor in found.items() if receives(following, tensor)]
            if chosen[0] not in passed and passed:
                chosen = tuple(passed)
        if len(chosen) != len(last):
            raise ProofError(
                f"a {type(call.module).__name__} leaves {len(found)} tensors of the shape of the "
                "residual stream, and which is the stream cannot be told",
                UNSUPPORTED,
            )
        slots.append(chosen)
    return slots[::-1]


def receives(call: ModuleCall, tensor: Tensor) -> list[Slot]:
    """The slots in which a call received a tensor, up to a constant factor."""
    return [
        slot
        for slot, entering in zip(call.slots, call.received, strict=True)
        if equal_tensors(tensor, entering) or constant_factor(tensor, entering) is not None
    ]


def entering_slots(
    entry: ModuleCall,
    runs: Sequence[ModuleCall],
    leaving: Sequence[tuple[Slot, ...]],
    trial: Trial,
) -> tuple[Slot, ...]:
    """Where the entry receives the stream: as a later run of its class does from the one before it,
    or in the tensor that it adds to."""
    count = len(leaving[0])
    shape = dict(float_slots(runs[0].output))[leaving[0][0]].shape
    likely = [s for s, t in zip(entry.slots, entry.received, strict=True) if t.shape == shape]
    if len(likely) <= count or entry is not runs[0]:
        chosen = tuple(likely or entry.slots)[:count]
        if len(chosen) == count:
            return chosen
        raise ProofError(
            f"the first block, a {type(entry.module).__name__}, receives {len(chosen)} tensor of "
            f"the shape of the residual stream, but blocks leave {count}",
            UNSUPPORTED,
        )
    for n, call in enumerate(runs[1:], 1):
        if type(call.module) is type(entry.module):
            before = dict(float_slots(runs[n - 1].output))
            passed = [receives(call, before[slot]) for slot in leaving[n - 1]]
            if all(passed) and all(slots[0] in likely for slots in passed):
                return tuple(slots[0] for slots in passed)
    site = TensorSite(entry.module, entry.number, False, leaving[0][0])
    added = [s for s in likely if trial.carries(TensorSite(entry.module, 0, True, s), site)]
    if len(added) != count:
        raise ProofError(
            f"the first block, a {type(entry.module).__name__}, receives {len(likely)} tensors of "
            "the shape of the residual stream, and which it adds to cannot be told",
            UNSUPPORTED,
        )
    return tuple(added)
