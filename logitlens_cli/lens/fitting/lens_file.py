"""Maps as a file."""

import json
from collections.abc import Mapping
from typing import IO, Any

from safetensors.torch import save
from torch import Tensor

from logitlens_cli.lens.fitting.fit_sums import METADATA


def write_lens(
    file: IO[bytes], kind: str, weights: Tensor, biases: Tensor | None, about: Mapping[str, Any]
) -> None:
    """Write maps of all rows but the last as safetensors."""
    tensors = {}
    for n, weight in enumerate(weights, -1):
        name = "input" if n < 0 else str(n)
        tensors[f"{name}.weight"] = weight.contiguous()
        if biases is not None:
            tensors[f"{name}.bias"] = biases[n + 1].contiguous()
    file.write(save(tensors, {METADATA: json.dumps({"kind": kind, **about})}))
