"""Is a decoder right? Its logits are held against the model's own."""

from typing import Any

import torch
from torch import Tensor

from logitlens_cli.errors import ProofError
from logitlens_cli.lens.decoder import Route
from logitlens_cli.lens.direct import Direct
from logitlens_cli.lens.replay import replay, tail_parameters
from logitlens_cli.lens.rounding import logit_difference
from logitlens_cli.model.anatomy import passes, tensors
from logitlens_cli.model.anatomy.parts import ModelParts

# ---------------------------------------------------------------------------------------------
# The proof


@torch.inference_mode()
def prove(model: Any, parts: ModelParts) -> Route:
    """The fastest route that decodes inner rows as the model itself would.

    Two inner streams of the probe are put in the place of the last block's, in a whole pass of the
    model: its logits are the truth, whatever the family does after its blocks.
    Raises ProofError where the last block's stream makes no difference to the logits.
    """
    truth = inner_truth(model, parts)
    if truth.isnan().any():  # the grid will name the place
        return Route(direct=parts.traceable)
    if parts.traceable and route_agrees(model, parts, Route(direct=True), truth):
        return Route(direct=True)
    ids = passes.probe_ids(parts.weight.shape[0], passes.device_of(model))
    if torch.equal(truth, passes.forward(model, ids)):
        raise ProofError(
            f"what leaves {parts.names[parts.blocks[-1]]} makes no difference to the logits",
            tensors.UNSUPPORTED,
        )
    for skips in (True, False):
        for float32 in (True, False):
            route = Route(direct=False, skips=skips, float32=float32)
            if route_agrees(model, parts, route, truth):
                return route
    raise ProofError(
        f"the tail of {type(model).__name__} gives other logits each time it runs",
        tensors.UNSUPPORTED,
    )


def inner_truth(model: Any, parts: ModelParts) -> Tensor:
    """The model's own logits where its last block leaves the inner streams of the probe."""
    ids = passes.probe_ids(parts.weight.shape[0], passes.device_of(model))
    return passes.logits_after(model, parts, ids, parts.inner.to(parts.dtype))


def inner_logits(model: Any, parts: ModelParts, route: Route) -> Tensor:
    """The logits of the inner streams of the probe by a route, (2, position, vocabulary)."""
    if route.direct:
        return direct_logits(Direct(parts), parts.inner)
    resid = parts.inner if route.float32 else parts.inner.to(parts.dtype)
    parameters = tail_parameters(parts, "full", route.float32)
    if route.skips:
        # Blocks must be skipped for any number of rows: also for three, as the probe had not.
        return replay(model, parts, resid[[0, 1, 0]], parameters)[:2]
    ids = passes.probe_ids(parts.weight.shape[0], passes.device_of(model))
    return passes.logits_after(model, parts, ids, resid, parameters)


@torch.inference_mode()
def inner_difference(model: Any, parts: ModelParts, route: Route) -> tuple[float, float]:
    """How far a route is from the model itself on inner streams, and what rounding allows."""
    return logit_difference(inner_logits(model, parts, route), inner_truth(model, parts))


def direct_logits(direct: Direct, resid: Tensor) -> Tensor:
    """(layer, position, width) -> (layer, position, vocabulary)."""
    prepared = direct.prepare(resid)
    return direct.logits(prepared.flatten(0, 1)).view(*resid.shape[:2], -1)


def route_agrees(model: Any, parts: ModelParts, route: Route, truth: Tensor) -> bool:
    """Does a route give the model's own logits? One that does not fit the model may fail."""
    try:
        decoded = inner_logits(model, parts, route)
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError):
        return False
    if decoded.shape != truth.shape:
        return False
    error, allowed = logit_difference(decoded, truth)
    return error <= allowed
