"""What changes in a pass when a tensor is changed on its way.

Only models need it whose data flow leaves a question open: which of several tensors is the residual
stream, whether a module adds to the stream, whether one stack of blocks hands on to another.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from logitlens_cli.model.anatomy.passes import PROBE_TOKENS, forward, hooked
from logitlens_cli.model.anatomy.tensors import Slot, tensor_at, with_tensor

Change = Callable[[Tensor], Tensor]

STEP = {torch.float32: 1e-2, torch.float64: 1e-2}
"""size of a nudge, relative to the tensor; in half precision larger, or it would be rounded away"""
DRAWS = 4
"""of noise, to tell a summand from chance"""
SAME_SIGN = 0.85
"""share of the channels in which a summand comes out with its own sign"""


class TensorSite(NamedTuple):
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
        self, changes: Mapping[TensorSite, Change], watched: Sequence[TensorSite] = ()
    ) -> tuple[list[Tensor], Tensor]:
        """One pass with changed tensors: what was seen at each watched site, and the logits."""
        seen: dict[TensorSite, Tensor] = {}
        times: Counter[nn.Module] = Counter()
        sites = {*changes, *watched}

        def at(module: nn.Module, enters: bool, value: Any) -> Any:
            for site in sites:
                if site[:3] != (module, times[module] - 1, enters):
                    continue
                tensor = tensor_at(value, site.slot)
                if site in changes:
                    tensor = changes[site](tensor.clone())
                    value = with_tensor(value, site.slot, tensor)
                if site in watched:
                    seen[site] = tensor.clone()
            return value

        def entering(module: nn.Module, args: Any, kwargs: Any) -> Any:
            times[module] += 1
            return tuple(at(module, True, [args, kwargs]))

        def leaving(module: nn.Module, args: Any, output: Any) -> Any:
            return at(module, False, output)

        handles = []
        for module in {site.module for site in sites}:
            handles.append(module.register_forward_pre_hook(entering, with_kwargs=True))
            handles.append(module.register_forward_hook(leaving))
        with hooked(handles):
            logits = forward(self.model, self.ids)
        return [seen[site] for site in watched], logits

    def difference(
        self, site: TensorSite, watched: TensorSite, change: Change
    ) -> tuple[Tensor, Tensor]:
        """What a change does to the tensor itself and to what is watched, both float64."""
        ((before, old), _), ((after, new), _) = (
            self.run(changes, [site, watched]) for changes in ({}, {site: change})
        )
        return after.double() - before.double(), new.double() - old.double()

    def carries(self, site: TensorSite, watched: TensorSite) -> bool:
        """Is the one tensor a summand of the other, so that noise comes out again, times a
        constant, beside whatever else it does?

        By chance alone, N numbers have a correlation of 1 / sqrt(N). What is multiplied by another
        tensor comes out with either sign, what is a summand does not.
        """
        pairs = [self.difference(site, watched, partial(nudge, seed=seed)) for seed in range(DRAWS)]
        if pairs[0][0].shape != pairs[0][1].shape:
            return False
        noise, moved = (torch.stack(of) for of in zip(*pairs, strict=True))
        norms = float(noise.norm() * moved.norm())
        correlation = float((noise * moved).sum()) / norms if norms else 0.0
        by_channel = (noise * moved).flatten(0, -2).sum(0)
        is_one_sign = float((by_channel > 0).double().mean()) > SAME_SIGN
        return is_one_sign and correlation > max(0.1, 4 / noise.numel() ** 0.5)

    def matters(self, site: TensorSite) -> bool:
        """Does a very small change move the logits? Such as only turns a choice does not."""
        small = partial(nudge, part=0.01)
        before, after = (self.run(changes)[1] for changes in ({}, {site: small}))
        return not torch.equal(before, after)

    def moves_later(self, site: TensorSite, watched: TensorSite) -> bool:
        """Does a change of the first position at one site move later positions at another?"""

        def change(tensor: Tensor) -> Tensor:
            nudged = nudge(tensor)
            by_position(nudged)[:, 1:] = by_position(tensor)[:, 1:]
            return nudged

        (before,), _ = self.run({}, [watched])
        (after,), _ = self.run({site: change}, [watched])
        return not torch.equal(by_position(before)[:, 1:], by_position(after)[:, 1:])


def nudge(tensor: Tensor, seed: int = 0, part: float = 1.0) -> Tensor:
    """A tensor with a little noise, the same for each seed."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(tensor.shape, generator=generator).to(tensor.device, tensor.dtype)
    size = float(tensor.double().square().mean().sqrt()) or 1.0
    return tensor + noise * size * STEP.get(tensor.dtype, 0.1 / part) * part


def by_position(tensor: Tensor) -> Tensor:
    """(2, position, ...) as a view; some families flatten both axes or have them the other way."""
    if len(tensor) == 2 * PROBE_TOKENS:
        return tensor.view(2, PROBE_TOKENS, *tensor.shape[1:])
    return tensor if len(tensor) == 2 else tensor.movedim(1, 0)
