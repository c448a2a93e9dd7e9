"""The last row against the model's own output, in every run."""

from dataclasses import dataclass

import torch

from logitlens_cli.errors import ProofError
from logitlens_cli.lens.capture import Stream
from logitlens_cli.lens.decoder import Decoder
from logitlens_cli.lens.rounding import logit_difference
from logitlens_cli.model.anatomy.parts import ModelParts

# ---------------------------------------------------------------------------------------------
# The proof


@dataclass(frozen=True)
class OutputCheck:
    """How well the decoded last row reproduces the model's own logits, over sampled columns."""

    columns: int
    max_abs_logit_error: float
    tolerance: float
    max_kl: float
    """KL(model || decoded) in nats, the worst column"""
    top1_agreement: float
    passed: bool
    route: str
    """"direct" or "replay" """


@torch.inference_mode()
def check_output(decoder: Decoder, route: str, stream: Stream) -> OutputCheck:
    """Decode the last block's stream and hold it against the model's own logits."""
    decoded, output = decoder.last_layer(stream), stream.logits
    error, tolerance = logit_difference(decoded, output)
    log_p = output.double().log_softmax(-1)
    log_q = decoded.double().log_softmax(-1)
    kl = torch.where(log_p.isneginf(), 0.0, log_p.exp() * (log_p - log_q)).sum(-1).max()
    agreement = (decoded.argmax(-1) == output.argmax(-1)).double().mean()
    return OutputCheck(
        columns=len(stream.checked),
        max_abs_logit_error=error,
        tolerance=tolerance,
        max_kl=max(0.0, float(kl)),
        top1_agreement=float(agreement),
        passed=error <= tolerance,
        route=route,
    )


def require_agreement(result: OutputCheck, parts: ModelParts) -> None:
    """Refuse to go on where the lens does not reproduce the model's output; raises ProofError."""
    if not result.passed:
        raise ProofError(
            "the decoded last row does not reproduce the model's own logits: they differ by up to "
            f"{result.max_abs_logit_error:.3g}, allowed is {result.tolerance:.3g} "
            f"({' -> '.join(parts.describe(result.route == 'direct'))})",
            "no figure is drawn of this model, since it would be wrong",
        )
