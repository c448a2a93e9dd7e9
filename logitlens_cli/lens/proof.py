"""Is a decoder right? Its logits are held against the model's own."""

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from logitlens_cli.errors import ProofError
from logitlens_cli.lens.decoder import Route
from logitlens_cli.lens.direct import Direct
from logitlens_cli.lens.machine import free_memory
from logitlens_cli.lens.replay import inner_replay, replay, tail_parameters
from logitlens_cli.lens.rounding import Agreement, agreement
from logitlens_cli.model.anatomy import passes, tensors
from logitlens_cli.model.anatomy.parts import ModelParts

MISFITS = (RuntimeError, TypeError, ValueError, IndexError, AttributeError)
"""what a model may raise where a route does not fit it"""
OFFSET = 3
"""positions of the probe that are left out where a replay is tried on a later part of a text"""

# ---------------------------------------------------------------------------------------------
# The proof


@torch.inference_mode()
def prove(model: Any, parts: ModelParts) -> Route:
    """The fastest route that decodes inner rows as the model itself would.

    Two inner streams of the probe are put in the place of the last block's, in a whole pass over a
    text that is alone in its batch: the model's logits are the truth, whatever the family does
    after its blocks. In float32 where the tail runs in it, whatever the model's dtype. A route must
    give them in every arrangement in which it is used: stacked, alone, out of order, and from a
    later position on.
    Raises ProofError where the last block's stream makes no difference to the logits.
    """
    truth, exact = inner_truth(model, parts)
    if not truth.double().logsumexp(-1).isfinite().all():  # the grid will name the place
        return Route(direct=parts.can_be_direct, exact=exact)
    route = Route(direct=True, exact=exact)
    if parts.can_be_direct and route_agrees(model, parts, route, truth):
        return route
    require_influence(model, parts)
    half = not is_float32(parts)
    coarse = own_truth(model, parts, float32=False) if exact and half else truth
    for skips, float32 in itertools.product((True, False), (True, False)):
        route = Route(False, skips, float32, exact=exact and (float32 or not half))
        if route_agrees(model, parts, route, truth if float32 else coarse):
            return route
    raise ProofError(
        f"the tail of {type(model).__name__} gives other logits each time it runs",
        tensors.UNSUPPORTED,
    )


def inner_truth(model: Any, parts: ModelParts) -> tuple[Tensor, bool]:
    """The model's own logits where its last block leaves the inner streams of the probe, (2,
    position, vocabulary); and whether in float32."""
    if is_float32(parts):
        return own_truth(model, parts, float32=False), True
    # The head's copy takes twice the memory of the head itself.
    if parts.weight.numel() * 4 < free_memory(parts.weight.device) / 4:
        try:
            truth = own_truth(model, parts, float32=True)
        except MISFITS:
            truth = torch.empty(0, dtype=parts.dtype)
        if truth.dtype == torch.float32:
            return truth, True
    return own_truth(model, parts, float32=False), False


@torch.inference_mode()
def samples_agree(model: Any, parts: ModelParts) -> bool:
    """Does the model give the logits of some columns where its head runs on those only? Not where
    what comes after the head looks beyond an entry."""
    ids = passes.probe_ids(parts.weight.shape[0], passes.device_of(model)).reshape(1, -1)
    sampled = [OFFSET, ids.shape[1] - 2]
    whole = passes.forward(model, ids)[:, sampled]

    def sample(head: Any, args: Any) -> Any:
        return (args[0][:, sampled], *args[1:])

    try:
        with passes.hooked([parts.head.register_forward_pre_hook(sample)]):
            logits = passes.forward(model, ids)
    except MISFITS:
        return False
    return logits.shape == whole.shape and agreement(logits, whole, parts.weight.dtype).agrees


def is_float32(parts: ModelParts) -> bool:
    """Is the tail in float32 as it is?"""
    parameters = (p for module in parts.after for p in module.parameters(recurse=False))
    return all(p.dtype == torch.float32 for p in parameters if p.is_floating_point())


def own_truth(model: Any, parts: ModelParts, *, float32: bool) -> Tensor:
    """The same, with the tail in float32 or as it is."""
    route = Route(direct=False, skips=False, float32=float32)
    return inner_replay(model, parts, route, parts.inner, tail_parameters(parts, float32))


def require_influence(model: Any, parts: ModelParts) -> None:
    """Refuse a model whose logits are not made of what its last block leaves."""
    ids = passes.probe_ids(parts.weight.shape[0], passes.device_of(model))
    logits = passes.forward(model, ids.reshape(1, -1))
    if torch.equal(own_truth(model, parts, float32=False).flatten(0, 1), logits[0]):
        raise ProofError(
            f"what leaves {parts.names[parts.blocks[-1]]} makes no difference to the logits",
            tensors.UNSUPPORTED,
        )


Arrangement = tuple[Callable[[Tensor], Tensor], Callable[[], Tensor]]
"""what an arrangement makes of the truth (2, position, vocabulary), and a route's logits for it"""


def arrangements(model: Any, parts: ModelParts, route: Route) -> list[Arrangement]:
    """The ways in which a route must give the truth."""
    inner = parts.inner
    if route.direct:
        # No cell keeps its neighbours.
        return [
            (mixed, lambda: direct_logits(Direct(parts), mixed(inner))),
        ]
    parameters = tail_parameters(parts, route.float32)
    if not route.skips:
        return [(lambda z: z, lambda: inner_replay(model, parts, route, inner, parameters))]

    def replayed(arrange: Callable[[Tensor], Tensor]) -> Arrangement:
        resid = inner if route.float32 else inner.to(parts.dtype)
        return arrange, lambda: replay(model, parts, arrange(resid), parameters)

    return [
        replayed(lambda z: z[[0, 1, 0]]),  # three rows, as the probe had not
        replayed(lambda z: z[[1, 0], OFFSET:]),
        replayed(lambda z: z[1:, -1:]),
        replayed(mixed),
    ]


def mixed(z: Tensor) -> Tensor:
    """Cells of (2, position, ...) in another order and form, (position, 2, ...)."""
    return z.transpose(0, 1).flip(0)


@torch.inference_mode()
def inner_agreement(model: Any, parts: ModelParts, route: Route) -> Agreement:
    """How well a route agrees with the model itself on inner rows."""
    exact = route.exact
    truth = inner_truth(model, parts)[0] if exact else own_truth(model, parts, float32=False)
    arrange, logits = arrangements(model, parts, route)[0]
    return agreement(logits(), arrange(truth), None if exact else parts.weight.dtype)


def direct_logits(direct: Direct, resid: Tensor) -> Tensor:
    """(layer, position, width) -> (layer, position, vocabulary)."""
    prepared = direct.prepare(resid)
    return direct.logits(prepared.flatten(0, 1)).view(*resid.shape[:2], -1)


def route_agrees(model: Any, parts: ModelParts, route: Route, truth: Tensor) -> bool:
    """Does a route give the model's own logits? One that does not fit the model may fail."""
    dtype = None if route.exact else parts.weight.dtype
    for arrange, logits in arrangements(model, parts, route):
        expected = arrange(truth)
        try:
            decoded = logits()
        except MISFITS:
            return False
        if decoded.shape != expected.shape or not agreement(decoded, expected, dtype).agrees:
            return False
    return True
