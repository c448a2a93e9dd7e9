"""The grid's last row is the model's output in every column, not only in those that are checked.

``output_check`` holds sampled columns against the model's own logits. Here it is the divergences
that were computed anyhow: from the output to the last row there must be none.
"""

from __future__ import annotations

import numpy as np

from logitlens_cli.errors import ProofError
from logitlens_cli.lens.capture import StreamSite
from logitlens_cli.lens.output_check import OutputCheck
from logitlens_cli.lens.spec import Norm
from logitlens_cli.metrics.sums import Floats, Sums

SPREAD = 4.0
"""logits that rounding moves by so much at the most differ by a quarter of it on the average"""
SUM_ROUNDING = 4e-6
"""what the float32 of sums over the vocabulary may lose of them"""


def require_no_divergence(
    check: OutputCheck, sums: Sums, last_row: StreamSite, last_block: StreamSite, norm: str
) -> None:
    """Raise ProofError where KL(output || last row) is not zero but for rounding: ``sums`` of a
    grid whose last row is ``last_row``."""
    # Logits that differ by less than d: KL is at most d^2 / 2 (Hoeffding's lemma).
    allowed = (check.tolerance / SPREAD) ** 2 / 2
    require_small(np.array([check.max_kl]), np.array([allowed + SUM_ROUNDING]))
    if "final" in sums.references and last_row == last_block and norm == Norm.full:
        final, lse = sums.references["final"], sums.lse[-1]
        size = np.abs(final.negentropy) + np.abs(final.cross[-1]) + np.abs(lse)
        require_small(final.negentropy - final.cross[-1] + lse, allowed + SUM_ROUNDING * (1 + size))


def require_small(divergences: Floats, allowed: Floats) -> None:
    """Raise ProofError for a divergence, in nats, that is larger than allowed."""
    if (divergences > allowed).any():
        worst = int((divergences - allowed).argmax())
        raise ProofError(
            "the decoded last row is not the model's own output: KL is up to "
            f"{divergences[worst]:.3g} nats, allowed is {allowed[worst]:.3g}",
            "no figure is drawn of this model, since it would be wrong",
        )
