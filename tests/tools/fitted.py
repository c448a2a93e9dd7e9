"""Texts to fit to, and what transformers itself says of a Llama's stream on them."""

from typing import Any

import numpy as np
import torch

GENERATOR = torch.Generator().manual_seed(0)
TEXTS = [torch.randint(0, 256, (n,), generator=GENERATOR).tolist() for n in (40, 23, 31, 40)]
"""tokens"""


def rows_of_texts(model: Any, texts: list[list[int]], skip_first: int) -> Any:
    """(row, position, width) float64: what enters each block, and what leaves the last one, of each
    text by itself, without its first positions. The record of transformers has the last row only
    after the norm, so that one is taken with a hook."""
    streams = []
    for ids in texts:
        last: list[torch.Tensor] = []
        hook = model.model.layers[-1].register_forward_hook(lambda *given: last.append(given[2]))  # noqa: B023
        with torch.no_grad():
            out = model(torch.tensor([ids]), output_hidden_states=True)
        hook.remove()
        streams.append(torch.cat([*out.hidden_states[:-1], *last])[:, skip_first:])
    return np.asarray(torch.cat(streams, 1).double())
