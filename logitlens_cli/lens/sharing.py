"""May texts share a forward pass on this model, and how many tokens of them?"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import psutil
import torch

from logitlens_cli.errors import ProofError
from logitlens_cli.lens import capture, rounding
from logitlens_cli.lens.capture import INPUT, PromptSlice, resid_post
from logitlens_cli.lens.lens_model import LensModel
from logitlens_cli.lens.spec import ReadSpec
from logitlens_cli.lens.targets import starts_of
from logitlens_cli.model.anatomy.parts import ModelParts

SHARED_PASS_LENGTHS = (3, 61, 40)
"""tokens of the texts that are read side by side and each by itself: some families choose among the
tokens they attend to, but not among a few"""


def can_share_pass(lens_model: LensModel, spec: ReadSpec) -> bool:
    """Does a text give the same numbers beside a longer one as by itself? It is tried.

    Only where every position is decoded by itself: else a text takes a pass to itself anyhow.
    """
    parts = lens_model.parts
    if not lens_model.route.direct or not parts.samples_columns or spec.decoder_blocks:
        return False
    longest = max(SHARED_PASS_LENGTHS)
    longest = min(longest, lens_model.context or longest)
    step = max(1, parts.weight.shape[0] // (longest + 2))
    ids = [step * (n + 1) % parts.weight.shape[0] for n in range(longest)]
    return shared_pass_agrees(lens_model.model, parts, [ids[-n:] for n in SHARED_PASS_LENGTHS])


def shared_pass_agrees(model: Any, parts: ModelParts, texts: Sequence[Sequence[int]]) -> bool:
    """Are the streams of texts that share a pass those of each by itself, but for rounding?"""
    sites = [INPUT, *(resid_post(n) for n in range(len(parts.blocks)))]
    slices = [PromptSlice(ids, range(len(ids)), [len(ids) - 1]) for ids in texts]
    try:
        together = capture.capture(model, parts, slices, sites).resid
    except (ProofError, RuntimeError, TypeError, ValueError, IndexError):  # it takes one text only
        return False
    singly = [capture.capture(model, parts, [text], sites).resid for text in slices]
    edges = [*starts_of([text.window for text in slices]), together.shape[1]]
    return all(
        streams_agree(together[:, start:stop], resid)
        for (start, stop), resid in zip(pairwise(edges), singly, strict=True)
    )


def streams_agree(a: Any, b: Any) -> bool:
    """Are two streams equal but for rounding?"""
    error, allowed = rounding.logit_difference(a, b)
    return error <= allowed


def token_budget(lens_model: LensModel, rows: int) -> int:
    """Tokens of a pass: enough to fill the machine, as far as a quarter of the free memory goes."""
    device = lens_model.model.device
    if device.type == "cuda":
        free, most = torch.cuda.mem_get_info(device)[0], 16384
    else:
        # On two cores, passes of 512 tokens are as fast as longer ones, and shorter ones are not.
        free, most = psutil.virtual_memory().available, 512
    width = lens_model.parts.layout.width
    # The stream of every row, and some forty of its width at a time within a block.
    token = 4 * width * (rows + 40)
    return max(1, min(most, free // 4 // token))
