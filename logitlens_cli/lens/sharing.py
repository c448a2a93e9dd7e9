"""May texts share a forward pass on this model, and how many tokens of them?"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor

from logitlens_cli.errors import ProofError
from logitlens_cli.lens import capture
from logitlens_cli.lens.capture import INPUT, PromptSlice, resid_post
from logitlens_cli.lens.lens_model import LensModel
from logitlens_cli.lens.machine import free_memory
from logitlens_cli.lens.rounding import TOLERANCE
from logitlens_cli.lens.spec import ReadSpec
from logitlens_cli.lens.targets import starts_of
from logitlens_cli.model.anatomy.parts import ModelParts

SHARED_ROUNDING = 10.0
"""a vector may differ by so many times what a logit may, relative to its largest number, since
blocks pass on what others have rounded"""
SHARED_PASS_LENGTHS = (3, 65, 40)
"""tokens of the texts that are read side by side and each by itself: some families choose among the
tokens they attend to, but not among a few"""


LONGEST_SHARED = 256
"""tokens: of two texts in a pass of 512, one has no more"""


def can_share_pass(lens_model: LensModel, spec: ReadSpec, longest: int = LONGEST_SHARED) -> bool:
    """Does a text give the same numbers beside a longer one as by itself? It is tried, for texts
    of up to ``longest`` tokens, with one that is as long or longer: the numbers of a family may
    change at a length (a sliding window, chunks, scaled positions).

    Only where every position is decoded by itself: else a text takes a pass to itself anyhow.
    """
    if not lens_model.route.direct or not lens_model.parts.samples_columns or spec.decoder_blocks:
        return False
    least = min(max(SHARED_PASS_LENGTHS), lens_model.context or longest)
    tried = max(SHARED_PASS_LENGTHS)
    while tried < longest:
        tried *= 2
    tried = max(least, min(tried, lens_model.context or tried))
    lengths = {tried: (40, tried)} | {least: SHARED_PASS_LENGTHS}
    return all(trial_agrees(lens_model, length, texts) for length, texts in lengths.items())


def trial_agrees(lens_model: LensModel, longest: int, lengths: Sequence[int]) -> bool:
    """Do texts of these lengths give the same numbers together and alone? Tried once on an open
    model for each ``longest``."""
    if longest not in lens_model.shared_lengths:
        parts = lens_model.parts
        step = max(1, parts.weight.shape[0] // (longest + 2))
        ids = [step * (n + 1) % parts.weight.shape[0] for n in range(longest)]
        texts = [ids[-n:] for n in lengths]
        lens_model.shared_lengths[longest] = shared_pass_agrees(lens_model.model, parts, texts)
    return lens_model.shared_lengths[longest]


def shared_pass_agrees(model: Any, parts: ModelParts, texts: Sequence[Sequence[int]]) -> bool:
    """Are the streams of texts that share a pass those of each by itself, but for rounding? And
    what the head receives, and the logits."""
    sites = [INPUT, *(resid_post(n) for n in range(len(parts.blocks)))]
    slices = [PromptSlice(ids, range(len(ids)), [len(ids) - 1]) for ids in texts]
    try:
        together = capture.capture(model, parts, slices, sites)
    except (ProofError, RuntimeError, TypeError, ValueError, IndexError):  # it takes one text only
        return False
    edges = [*starts_of([text.window for text in slices]), together.resid.shape[1]]
    for n, (start, stop) in enumerate(pairwise(edges)):
        alone = capture.capture(model, parts, [slices[n]], sites)
        pairs = [(together.resid[:, start:stop], alone.resid), (together.logits[n], alone.logits)]
        if together.final is not None and alone.final is not None:
            pairs.append((together.final[start:stop], alone.final))
        if not all(vectors_agree(a, b) for a, b in pairs):
            return False
    return True


def vectors_agree(a: Tensor, b: Tensor) -> bool:
    """Are vectors equal but for rounding, each by its own largest number?"""
    error = (a.float() - b.float()).abs().amax(-1)
    return bool((error <= SHARED_ROUNDING * TOLERANCE[b.dtype] * b.float().abs().amax(-1)).all())


def token_budget(lens_model: LensModel, rows: int) -> int:
    """Tokens of a pass: enough to fill the machine, as far as a quarter of the free memory goes."""
    device = lens_model.model.device
    # On two cores, passes of 512 tokens are as fast as longer ones, and shorter ones are not.
    free, most = free_memory(device), 16384 if device.type == "cuda" else 512
    width = lens_model.parts.layout.width
    # The stream of every row, and some forty of its width at a time within a block.
    token = 4 * width * (rows + 40)
    return max(1, min(most, free // 4 // token))
