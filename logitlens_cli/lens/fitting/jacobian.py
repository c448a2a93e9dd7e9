"""The Jacobian map of a row: how the last block's output moves with the row's stream.

Gurnee et al. (2026), transformer-circuits.pub/2026/workspace. J of a text is the mean over source
positions t of the sum over later positions t' >= t of d output[t'] / d row[t]; texts are averaged.
"""

from collections.abc import Sequence
from itertools import count
from typing import Any

import torch
from torch import Tensor

from logitlens_cli.errors import UsageError
from logitlens_cli.lens.fitting.fit_sums import FitSums, empty_sums
from logitlens_cli.lens.lens_model import LensModel
from logitlens_cli.lens.undisturbed import undisturbed
from logitlens_cli.model.anatomy import passes
from logitlens_cli.model.anatomy.parts import ModelParts


def empty_jacobian(lens_model: LensModel) -> FitSums:
    """(row, width, width): the sum of the texts' Jacobians."""
    parts = lens_model.parts
    width = parts.layout.width
    return empty_sums(len(parts.blocks), (width, width), parts.inner.device)


def add_jacobian(
    sums: FitSums, lens_model: LensModel, ids: Sequence[int], skip_first: int, copies: int
) -> None:
    """Add the Jacobian of one text; ``copies`` of it share a pass, each with an entry of the
    output of its own, so there are width / copies backward passes."""
    jacobian = text_jacobian(lens_model, ids, skip_first, copies)
    sums.is_whole = False
    sums.rows += jacobian.to(sums.rows.device, torch.float64)
    sums.count(len(ids) - skip_first, 1)


def text_jacobian(
    lens_model: LensModel, ids: Sequence[int], skip_first: int, copies: int
) -> Tensor:
    """(row, output entry, row entry) of one text, without the first positions as sources."""
    parts = lens_model.parts
    width = parts.layout.width
    with torch.inference_mode(False), torch.enable_grad(), undisturbed(lens_model.model):
        # Of the causal model's positions, an output depends on those before it only: the sum over
        # all positions is that over later ones.
        rows = stream_with_gradient(lens_model.model, parts, [list(ids)] * copies)
        totals = rows[-1].sum(1)  # (copy, width)
        jacobian = totals.new_zeros(len(rows) - 1, width, width)
        for start in range(0, width, copies):
            entries = torch.arange(start, min(start + copies, width), device=totals.device)
            which = torch.arange(len(entries), device=totals.device)
            gradients = torch.autograd.grad(
                totals[which, entries].sum(), rows[:-1], retain_graph=start + copies < width
            )
            for row, gradient in zip(jacobian, gradients, strict=True):
                row[entries] = gradient[which, skip_first:].mean(1).to(row.device)
    return jacobian


def stream_with_gradient(
    model: Any, parts: ModelParts, texts: Sequence[Sequence[int]]
) -> list[Tensor]:
    """All rows of a pass over texts of one length, (text, position, width) each, as nodes of one
    graph: every row depends on the rows below it."""
    length = len(texts[0])
    rows: list[Tensor] = []

    def node(value: Any, slots: Any) -> Any:
        """What a module received or returned, with its stream noted on its way. A copy goes on, as
        some blocks add to their input in place."""
        resid = parts.layout.read(value, slots, length)
        resid = resid if rows else resid.detach().requires_grad_()
        rows.append(resid)
        return parts.layout.write(value, slots, resid.clone())

    entries = count()

    @passes.in_this_thread
    def enter(module: Any, args: Any, kwargs: Any) -> Any:
        if next(entries) == 0:
            return tuple(node([args, kwargs], parts.entry_slots))
        return None

    def leave(number: int) -> Any:
        run, calls = parts.runs[number], count()

        @passes.in_this_thread
        def noted(block: Any, args: Any, output: Any) -> Any:
            if next(calls) != run.number:
                return output
            return node(output, run.slots)

        return run.block.register_forward_hook(noted)

    handles = [parts.entry.register_forward_pre_hook(enter, with_kwargs=True)]
    handles += [leave(number) for number in range(len(parts.runs))]
    with passes.hooked(handles):
        passes.forward(model, torch.tensor(texts, device=passes.device_of(model)))
    if not all(row.requires_grad for row in rows) or len(rows) != len(parts.runs) + 1:
        raise UsageError(
            f"--kind jacobian: no gradient passes through all blocks of {type(model).__name__}",
            "fit --kind linear",
        )
    return rows


def jacobian_maps(sums: FitSums) -> Tensor:
    """Weights (row, width, width), float64; such a map has no bias."""
    return sums.rows.cpu() / max(1, sums.chunks)
