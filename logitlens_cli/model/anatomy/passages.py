"""Through which modules the stream runs: such as add to it."""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from logitlens_cli.model.anatomy.tensors import ModuleCall, float_slots
from logitlens_cli.model.anatomy.trials import Change, TensorSite, Trial


class Passage(NamedTuple):
    """How the stream runs through a module."""

    entering: TensorSite
    leaving: TensorSite


@dataclass(frozen=True)
class Passages:
    """Through which of the calls of a probe the stream runs, found by trials."""

    calls: list[ModuleCall]
    trial: Trial
    found: dict[int, Passage | None] = field(default_factory=dict)

    def through(self, run: int) -> Passage | None:
        """How the stream runs through a module that adds to it; None if it does not.

        A norm adds nothing: it returns the same where all is twice as large. Neither does what
        returns its input as it is.
        """
        if run not in self.found:
            self.found[run] = self.tried(self.calls[run])
        return self.found[run]

    def tried(self, call: ModuleCall) -> Passage | None:
        if stream_shape(call) is None:
            return None
        for leaving in all_left_by(call):
            for entering in taken_by(call):
                if not self.trial.carries(entering, leaving):
                    continue
                # It is looked at again: modules that work in place change what the probe has seen.
                (before, after), _ = self.trial.run({}, [entering, leaving])
                more, moved = self.trial.difference(entering, leaving, twice)
                grows = float(moved.abs().max()) > 1e-2 * float(more.abs().max())
                if grows and not torch.equal(before, after):
                    return Passage(entering, leaving)
        return None

    def ignores_size(self, run: int) -> bool:
        """Does a call return the same where all that it receives is twice as large? Then a norm is
        its way in or out, and it is no block, whatever else it does."""
        leaving, changes = (
            all_left_by(self.calls[run])[0],
            dict.fromkeys(taken_by(self.calls[run]), twice),
        )
        (before,), _ = self.trial.run({}, [leaving])
        (after,), _ = self.trial.run(changes, [leaving])
        return float((after - before).abs().max()) < 1e-2 * float(before.abs().max())

    def is_block(self, run: int) -> bool:
        return self.through(run) is not None

    def left_by(self, run: int) -> TensorSite:
        """Where a call leaves the stream, or the first tensor of its shape."""
        passage = self.through(run)
        return passage.leaving if passage else all_left_by(self.calls[run])[0]

    def taken_by(self, run: int) -> list[TensorSite]:
        """Where a call receives the stream, or all tensors of its shape."""
        passage = self.through(run)
        return [passage.entering] if passage else taken_by(self.calls[run])


def stream_shape(call: ModuleCall) -> tuple[int, ...] | None:
    """The shape that a module both receives and returns, if there is one."""
    received = {tensor.shape for tensor in call.received}
    return next((tuple(t.shape) for t in call.returned if t.shape in received), None)


def all_left_by(call: ModuleCall) -> list[TensorSite]:
    """Where a call leaves tensors of the shape of the stream."""
    shape = stream_shape(call)
    return [
        TensorSite(call.module, call.number, False, slot)
        for slot, tensor in float_slots(call.output)
        if tuple(tensor.shape) == shape
    ]


def twice(tensor: Tensor) -> Tensor:
    return 2 * tensor


def constant(tensor: Tensor) -> Change:
    """The change that puts a tensor in the place of whatever was there."""
    return lambda _: tensor.clone()


def taken_by(call: ModuleCall) -> list[TensorSite]:
    """Where a call receives tensors of the shape of the stream."""
    shape = stream_shape(call)
    return [
        TensorSite(call.module, call.number, True, slot)
        for slot, tensor in zip(call.slots, call.received, strict=True)
        if tuple(tensor.shape) == shape
    ]
