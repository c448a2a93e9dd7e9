"""Which prompts share a pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from logitlens_cli.lens.lens_model import LensModel
    from logitlens_cli.lens.prompt import TokenizedPrompt

LONG = 1024
"""tokens; longer prompts fill the machine by themselves, and families that turn to other positions
from some length on (dynamic scaling) must not see a fill"""


def packed(prompts: Sequence[TokenizedPrompt], budget: int) -> Iterator[list[TokenizedPrompt]]:
    """Prompts of like length, as many as the longest times their number stays within ``budget``."""
    group: list[TokenizedPrompt] = []
    for prompt in sorted(prompts, key=lambda p: len(p.ids)):
        full = (len(group) + 1) * len(prompt.ids) > budget or len(prompt.ids) > LONG
        if group and full:
            yield group
            group = []
        group.append(prompt)
    if group:
        yield group


def token_budget(lens_model: LensModel, rows: int) -> int:
    """Tokens of a pass: enough to fill the machine, as far as a quarter of the free memory goes."""
    import torch

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
