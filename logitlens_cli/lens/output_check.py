"""The last row against the model's own output, in every run."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from logitlens_cli.errors import ProofError
from logitlens_cli.lens.capture import Stream
from logitlens_cli.lens.decoder import Decoder
from logitlens_cli.lens.direct import Direct
from logitlens_cli.lens.rounding import TOLERANCE, agreement, allowed_differences, coarsest
from logitlens_cli.metrics.sums import Sums
from logitlens_cli.model.anatomy.parts import ModelParts

HEAD_INPUT = 10.0
"""what the head receives may differ by so many times what a logit may, relative to its largest"""
SUM_ROUNDING = 4e-6
"""a log-sum-exp may differ by so much of itself, where logits are small"""
COARSEST = 0.01
"""what float32 may not tell apart in the largest logit, at most: it does so from 100 000 on"""
CELLS = 4.0
"""a cell's sums may differ by so many times what its logits may"""

# ---------------------------------------------------------------------------------------------
# The proof


@dataclass(frozen=True)
class OutputCheck:
    """How well the decoded last row reproduces the model's own logits, over sampled columns."""

    columns: int
    max_abs_logit_error: float
    """of the logit that is furthest from the model's by what rounding allows there"""
    tolerance: float
    """what rounding allows there"""
    max_kl: float
    """KL(model || decoded) in nats, the worst column"""
    top1_agreement: float
    passed: bool
    route: str
    """"direct" or "replay" """
    allowed_kl: float = 0.0
    """what rounding allows of the worst column, in nats"""
    coarseness: float = 0.0
    """what float32 cannot tell apart in the largest logit"""
    proven: Sequence[str] = ()
    """what was held against the model itself, a sentence each"""


@torch.inference_mode()
def check_output(decoder: Decoder, route: str, stream: Stream) -> OutputCheck:
    """Decode the last block's stream and hold it against the model's own logits."""
    decoded, output = decoder.last_layer(stream), stream.logits
    # Logits that are given in float32 may be computed in less.
    result = agreement(decoded, output, decoder.parts.weight.dtype)
    return OutputCheck(
        columns=len(stream.checked),
        max_abs_logit_error=result.error,
        tolerance=result.allowed,
        max_kl=result.kl,
        top1_agreement=result.same_top,
        passed=result.agrees and head_input_agrees(decoder, stream),
        route=route,
        allowed_kl=result.allowed_kl,
        coarseness=result.coarseness,
    )


def require_agreement(result: OutputCheck, parts: ModelParts) -> None:
    """Refuse to go on where the lens does not reproduce the model's output, or where the output is
    itself too coarse; raises ProofError."""
    if result.coarseness > COARSEST:
        raise ProofError(
            "the model's own logits are so large that float32 does not tell what differs by less "
            f"than {result.coarseness:.2g}",
            "no figure is drawn of this model, since it would be wrong",
        )
    if not result.passed:
        raise ProofError(
            "the decoded last row does not reproduce the model's own logits: they differ by up to "
            f"{result.max_abs_logit_error:.3g}, allowed is {result.tolerance:.3g}; KL is up to "
            f"{result.max_kl:.3g} nats, allowed is {result.allowed_kl:.3g} "
            f"({' -> '.join(parts.describe(result.route == 'direct'))})",
            "no figure is drawn of this model, since it would be wrong",
        )


def head_input_agrees(decoder: Decoder, stream: Stream) -> bool:
    """Is what the direct route gives the head what the model's own head received, at every
    position?"""
    if stream.final is None or not isinstance(decoder, Direct):
        return True
    prepared, received = decoder.prepare(stream.resid[-1:])[0], stream.final.float()
    if prepared.shape != received.shape:
        return False
    tolerance = TOLERANCE[coarsest(stream.final.dtype, decoder.parts.weight.dtype)]
    allowed = HEAD_INPUT * tolerance * received.abs().amax(-1)
    error = (prepared - received).abs().amax(-1)
    return bool(((error <= allowed) | error.isnan()).all())  # the grid has named what is no number


def require_cells(sums: Sums, row: int | None, stream: Stream, dtype: torch.dtype) -> None:
    """Hold the sums of the last block's ``row``, if given, and the final guesses against the
    model's own logits; ``dtype``: of the weights. Raises ProofError.

    Another way than the decoder's of finding that threads, tiles and compiled code did their work.
    """
    columns, output = stream.checked.cpu(), stream.logits.float()
    dtype = coarsest(stream.logits.dtype, stream.resid.dtype, dtype)
    allowed = CELLS * allowed_differences(output, TOLERANCE[dtype])[1].double().cpu()
    best, total = output.max(-1).values, output.logsumexp(-1).double().cpu()
    guesses = torch.from_numpy(sums.final_ids)[columns].to(output.device)
    allowed += SUM_ROUNDING * (1 + total.abs())
    found = [best - output.gather(-1, guesses[:, None])[:, 0]]
    if row is not None:
        found.append(torch.from_numpy(sums.top_logits)[row, columns, 0] - best.double().cpu())
        found.append(torch.from_numpy(sums.lse)[row, columns] - total)
    if any(bool((error.double().cpu().abs() > allowed).any()) for error in found):
        raise ProofError(
            "the grid's last row is not the model's own output, though its decoder is right: "
            f"off by up to {max(float(error.abs().max()) for error in found):.3g}",
            "report this, with the versions of torch and numba",
        )
