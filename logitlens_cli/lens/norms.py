"""Which modules after the last block are norms, and the same without gain and bias.

No name and no shape tells: a module is a norm if what it makes of a vector is that vector at unit
size, centred or not, times a gain and plus a bias. It is tried.
"""

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from logitlens_cli.errors import UsageError
from logitlens_cli.model.anatomy import passes

TRIED_ROWS = 8
# Far above the roundings of half precision, and far below what an activation leaves.
MISFIT = 2e-3


def norms_in(module: nn.Module, value: Tensor) -> list[tuple[nn.Module, Tensor]]:
    """The norms among ``module`` and all within it, with what they are given as it runs on
    ``value``: of norms within norms the outermost."""
    received: dict[nn.Module, Tensor] = {}
    with passes.hooked(keep_received(module.modules(), received)):
        module(value.clone())
    return [(norm, received[norm]) for norm in outermost_norms(module.modules(), received)]


def keep_received(modules: Iterable[nn.Module], received: dict[nn.Module, Tensor]) -> list[Any]:
    """Hooks that note the first tensor that each module is given."""

    def keep(module: nn.Module, args: Any) -> None:
        if args and isinstance(args[0], Tensor):
            received.setdefault(module, args[0])

    return [module.register_forward_pre_hook(keep) for module in modules]


def outermost_norms(
    modules: Iterable[nn.Module], received: Mapping[nn.Module, Tensor]
) -> list[nn.Module]:
    """Those of the modules that are norms and not within another."""
    norms = [m for m in modules if m in received and normalizes(m, received[m])]
    within = {inner for norm in norms for inner in norm.modules() if inner is not norm}
    return [norm for norm in norms if norm not in within]


def normalizes(module: nn.Module, like: Tensor) -> bool:
    """Is a module a norm of tensors like this one? Nothing with a matrix is copied to find out."""
    vectors = all(max(p.shape, default=1) == p.numel() for p in module.parameters())
    if not vectors or not like.is_floating_point():
        return False
    return normalized(copy.deepcopy(module).float(), like.float()) is not None


def trial_input(like: Tensor) -> Tensor:
    """Rows in the form of ``like`` that differ in size and in mean, far above any epsilon."""
    width = like.shape[-1]
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(TRIED_ROWS, width, generator=generator)
    scale = torch.linspace(20, 90, TRIED_ROWS)[:, None]
    x = scale * (x + torch.linspace(-1, 1, TRIED_ROWS).roll(3)[:, None])
    return x.reshape(*[1] * (like.ndim - 2), TRIED_ROWS, width).to(like.device, like.dtype)


def normalized(module: nn.Module, like: Tensor) -> Tensor | None:
    """What a norm makes of the trial rows but for gain and bias; None where the module is none."""
    x = trial_input(like)
    try:
        with torch.no_grad():
            y = module(x.clone())
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError):
        return None
    if not isinstance(y, Tensor) or y.shape != x.shape:
        return None
    y = y.double().reshape(TRIED_ROWS, -1)
    varying = y - y.mean(0)
    if not varying.isfinite().all() or not varying.any():
        return None
    for n in unit_rows(x.double().reshape(TRIED_ROWS, -1)):
        centred = n - n.mean(0)
        gain = (centred * varying).sum(0) / centred.square().sum(0).clamp(min=1e-12)
        if float((varying - gain * centred).abs().max()) <= MISFIT * float(varying.abs().max()):
            return n
    return None


def unit_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows at a mean square of one: as they are, and centred."""
    centred = x - x.mean(-1, keepdim=True)
    return x / x.square().mean(-1, keepdim=True).sqrt(), (
        centred / centred.square().mean(-1, keepdim=True).sqrt().clamp(min=1e-12)
    )


def change_norm(norm: nn.Module, kind: str, like: Tensor) -> None:
    """Take gain and bias from a norm, a float32 copy ("no-affine"), and try that what is left is
    the rows at unit size; or have it return what it is given ("none").

    Raises UsageError where it is still another thing.
    """
    if kind == "none":
        norm.forward = lambda x, *_, **__: x
        return
    expected = normalized(norm, like)
    with torch.no_grad():
        remove_affine(norm, like.shape[-1])
        output = norm(trial_input(like)).double().reshape(TRIED_ROWS, -1)
    # Of unit mean square, or of unit length.
    sizes = (1.0, output.shape[-1] ** -0.5)
    if expected is None or not any(
        float((output - size * expected).abs().max()) <= 5 * MISFIT * size for size in sizes
    ):
        raise UsageError(
            f"--norm no-affine is not possible: the gain and bias of the final norm "
            f"({type(norm).__name__}) cannot be told from the rest of it",
            "use --norm full",
        )


def remove_affine(norm: nn.Module, width: int) -> None:
    """Set a norm's parameters to the values that change nothing, found by trying.

    A bias is what is returned alone when everything is zero but it. A gain multiplies: with gain
    zero nothing is left, so its neutral value is one; where something is left the module adds one
    itself (Gemma), and the neutral value is zero.
    """
    parameters = list(norm.parameters())
    if not parameters:
        return
    x = torch.linspace(-1, 2, width, device=parameters[0].device).square()[None, None]
    for parameter in parameters:
        parameter.zero_()
    if norm(x).abs().max() > 0:
        return
    gains = []
    for parameter in parameters:
        parameter.fill_(1)
        normed = norm(x)
        if not torch.equal(normed, torch.ones_like(normed)):
            gains.append(parameter)
        parameter.zero_()
    for gain in gains:
        gain.fill_(1)


def no_norm_error(model_name: str, norm: str) -> UsageError:
    """For a model whose stream goes to the head without a norm that could be found."""
    return UsageError(
        f"--norm {norm} is not possible for {model_name}: no norm was found between its last block "
        "and its head",
        "use --norm full",
    )
