"""What changes in a pass when a tensor is changed on its way.

Only models need it whose data flow leaves a question open: which of several tensors is the residual
stream, whether a module adds to the stream, whether one stack of blocks hands on to another.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from logitlens_cli.model.anatomy.passes import forward, hooked
from logitlens_cli.model.anatomy.tensors import Slot, tensor_at, with_tensor

Change = Callable[[Tensor], Tensor]

STEP = {torch.float32: 1e-2, torch.float64: 1e-2}
"""size of a nudge, relative to the tensor; in half precision larger, or it would be rounded away"""


class Place(NamedTuple):
    """A tensor that a module receives or returns in one of its calls."""

    module: nn.Module
    number: int
    """of the call in a pass, from 0"""
    enters: bool
    slot: Slot
    """in ``[args, kwargs]`` or in what is returned"""


class Trial(NamedTuple):
    """A model with the ids of its probe, on which changes are tried."""

    model: Any
    ids: Tensor

    def run(
        self, changes: Mapping[Place, Change], watched: Sequence[Place] = ()
    ) -> tuple[list[Tensor], Tensor]:
        """One pass with changed tensors: what was seen at each watched place, and the logits."""
        seen: dict[Place, Tensor] = {}
        times: Counter[nn.Module] = Counter()
        places = {*changes, *watched}

        def at(module: nn.Module, enters: bool, value: Any) -> Any:
            for place in places:
                if place[:3] != (module, times[module] - 1, enters):
                    continue
                tensor = tensor_at(value, place.slot)
                if place in changes:
                    tensor = changes[place](tensor.clone())
                    value = with_tensor(value, place.slot, tensor)
                if place in watched:
                    seen[place] = tensor.clone()
            return value

        def entering(module: nn.Module, args: Any, kwargs: Any) -> Any:
            times[module] += 1
            return tuple(at(module, True, [args, kwargs]))

        def leaving(module: nn.Module, args: Any, output: Any) -> Any:
            return at(module, False, output)

        handles = []
        for module in {place.module for place in places}:
            handles.append(module.register_forward_pre_hook(entering, with_kwargs=True))
            handles.append(module.register_forward_hook(leaving))
        with hooked(handles):
            logits = forward(self.model, self.ids)
        return [seen[place] for place in watched], logits

    def difference(self, place: Place, watched: Place, change: Change) -> tuple[Tensor, Tensor]:
        """What a change does to the tensor itself and to what is watched, both float64."""
        ((before, old), _), ((after, new), _) = (
            self.run(changes, [place, watched]) for changes in ({}, {place: change})
        )
        return after.double() - before.double(), new.double() - old.double()

    def carries(self, place: Place, watched: Place) -> bool:
        """Is the one tensor a summand of the other, so that a nudge goes through as it is, beside
        whatever else it does?"""
        nudged, moved = self.difference(place, watched, nudge)
        return nudged.shape == moved.shape and goes_through(nudged, moved)

    def matters(self, place: Place) -> bool:
        """Does a nudge change the logits?"""
        return not torch.equal(self.run({})[1], self.run({place: nudge})[1])


def nudge(tensor: Tensor) -> Tensor:
    """A tensor with a little noise, the same each time."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(tensor.shape, generator=generator).to(tensor.device, tensor.dtype)
    size = float(tensor.double().square().mean().sqrt()) or 1.0
    return tensor + noise * size * STEP.get(tensor.dtype, 0.1)


def goes_through(nudged: Tensor, moved: Tensor) -> bool:
    """Does noise come out again, times a constant, more than by chance? Chance would make the
    correlation of N numbers some 1 / sqrt(N)."""
    a, b = nudged.reshape(-1), moved.reshape(-1)
    norms = float(a.norm() * b.norm())
    correlation = float(a @ b) / norms if norms else 0.0
    return correlation > max(0.1, 6 / a.numel() ** 0.5)
