"""The last row against the model's own output, in every run."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from logitlens_cli.errors import ProofError
from logitlens_cli.lens.capture import Stream
from logitlens_cli.lens.decoder import Decoder
from logitlens_cli.lens.rounding import agreement
from logitlens_cli.metrics.sums import Sums
from logitlens_cli.model.anatomy.parts import ModelParts

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
    proven: Sequence[str] = ()
    """what was held against the model itself, a sentence each"""


@torch.inference_mode()
def check_output(decoder: Decoder, route: str, stream: Stream) -> OutputCheck:
    """Decode the last block's stream and hold it against the model's own logits."""
    result = agreement(decoder.last_layer(stream), stream.logits)
    return OutputCheck(
        columns=len(stream.checked),
        max_abs_logit_error=result.error,
        tolerance=result.allowed,
        max_kl=result.kl,
        top1_agreement=result.same_top,
        passed=result.agrees,
        route=route,
        allowed_kl=result.allowed_kl,
    )


def require_agreement(result: OutputCheck, parts: ModelParts) -> None:
    """Refuse to go on where the lens does not reproduce the model's output; raises ProofError."""
    if not result.passed:
        raise ProofError(
            "the decoded last row does not reproduce the model's own logits: they differ by up to "
            f"{result.max_abs_logit_error:.3g}, allowed is {result.tolerance:.3g}; KL is up to "
            f"{result.max_kl:.3g} nats, allowed is {result.allowed_kl:.3g} "
            f"({' -> '.join(parts.describe(result.route == 'direct'))})",
            "no figure is drawn of this model, since it would be wrong",
        )
