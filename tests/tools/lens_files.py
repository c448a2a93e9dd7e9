"""Lenses as other programs publish them, with random maps, and their own way from h to what the
tail gets."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def tuned_folder(folder: Path, width: int, blocks: int, **config: Any) -> Path:
    """A tuned-lens folder: translator i for what enters block i."""
    draw = torch.Generator().manual_seed(5)
    state = {}
    for n in range(blocks):
        state[f"{n}.weight"] = 0.2 * torch.randn(width, width, generator=draw)
        state[f"{n}.bias"] = torch.randn(width, generator=draw)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / "params.pt")
    words = {
        "base_model_name_or_path": "somebody/tiny-llama",
        "d_model": width,
        "num_hidden_layers": blocks,
        "bias": True,
        "base_model_revision": None,
        "unembed_hash": None,
        "lens_type": "linear_tuned_lens",
    }
    (folder / "config.json").write_text(json.dumps(words | config))
    return folder


def through_tuned(folder: Path, entering: list[Tensor]) -> list[Tensor]:
    """``entering[i]`` (position, width) enters block i; what the tail gets of each, as that
    program computes it: what was read, plus a linear layer of it."""
    state = torch.load(folder / "params.pt", weights_only=True)
    return [
        h + torch.nn.functional.linear(h, state[f"{i}.weight"].to(h), state[f"{i}.bias"].to(h))
        for i, h in enumerate(entering)
    ]


def jacobian_file(path: Path, width: int, layers: list[int], **entries: Any) -> Path:
    """A Jacobian lens: J of layer l for what leaves block l, in float16."""
    draw = torch.Generator().manual_seed(6)
    eye = torch.eye(width)
    matrices = {n: (eye + 0.2 * torch.randn(width, width, generator=draw)).half() for n in layers}
    words = {"J": matrices, "n_prompts": 100, "source_layers": layers, "d_model": width}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({key: value for key, value in (words | entries).items() if value is not None}, path)
    return path


def through_jacobian(path: Path, leaving: dict[int, Tensor]) -> dict[int, Tensor]:
    """``leaving[l]`` (position, width) leaves block l; J h of each, a position at a time."""
    matrices = torch.load(path, weights_only=True)["J"]
    return {
        n: torch.stack([matrices[n].to(x) @ x for x in h]) if n in matrices else h
        for n, h in leaving.items()
    }
