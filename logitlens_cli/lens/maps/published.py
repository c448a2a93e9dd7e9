"""Maps as other programs publish them: tuned-lens folders, files of Jacobian lenses.

Both hold pickles, which are read by torch's restricted reader only: nothing in them is run. Which
row a map belongs to differs: a tuned lens reads what enters a block, a Jacobian what leaves it.
"""

import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from logitlens_cli.errors import WorkError
from logitlens_cli.lens.maps.lens_maps import INPUT_ROW, LensMaps
from logitlens_cli.lens.maps.maps_file import sha256_of
from logitlens_cli.reading.record import MapsRecord

TUNED_CONFIG, TUNED_WEIGHTS = "config.json", "params.pt"
TUNED_TYPE = "linear_tuned_lens"
FLOAT32_HASH = "float32-sha256:"
ROOM = 2**20
"""bytes that a pickle's own records may take beside its tensors"""


def read_tuned(folder: Path, name: str, revision: str | None) -> LensMaps:
    """A tuned lens (Belrose et al. 2023, arXiv 2303.08112) from its folder.

    Its translator i reads what enters block i, so it is of the row below: of what leaves block
    i - 1, and of the input row for 0. It adds to what it reads: h + W h + b.
    """
    config = read_lens_config(folder / TUNED_CONFIG)
    state = read_pickle(folder / TUNED_WEIGHTS)
    kind = config.get("lens_type", TUNED_TYPE)
    if kind != TUNED_TYPE:
        raise broken(folder, f"its lens_type is {str(kind)[:60]!r}, not {TUNED_TYPE!r}")
    weights: dict[int, Tensor] = {}
    biases: dict[int, Tensor] = {}
    for key, tensor in state.items():
        named = re.fullmatch(r"(\d{1,6})\.(weight|bias)", str(key))
        if named is None or not is_matrix(tensor, 2 if named[2] == "weight" else 1):
            raise broken(folder, f"{TUNED_WEIGHTS} holds {str(key)[:40]!r}")
        row = int(named[1]) - 1
        if named[2] == "bias":
            biases[row] = tensor.float()
        else:
            weights[row] = tensor.float() + torch.eye(len(tensor), tensor.shape[1])
    digest = text_of(config, "unembed_hash")
    return LensMaps(
        MapsRecord(
            name=name,
            kind="tuned",
            sha256=sha256_of(folder / TUNED_WEIGHTS),
            source_revision=revision,
            model=text_of(config, "base_model_name_or_path"),
            revision=text_of(config, "base_model_revision"),
        ),
        weights,
        biases,
        FLOAT32_HASH + digest if digest else None,
        count_of_blocks(config.get("num_hidden_layers")),
    )


def read_jacobian(path: Path, name: str, revision: str | None) -> LensMaps:
    """A Jacobian lens (Gurnee et al. 2026) from its file, or from the checkpoint of a fit.

    J of layer l is applied to what leaves block l; there is none of the last layer, and no bias.
    """
    state = read_pickle(path)
    divisor = 1.0
    if "jacobian_sum" in state and "J" not in state:
        matrices, divisor = state["jacobian_sum"], float(number_of(state, "n_done", path))
    else:
        matrices = state.get("J")
    if not isinstance(matrices, Mapping) or not matrices:
        raise broken(path, "it holds no J by layer")
    weights = {}
    for layer, matrix in matrices.items():
        if not isinstance(layer, int) or layer < INPUT_ROW or not is_matrix(matrix, 2):
            raise broken(path, f"its J has an entry {str(layer)[:40]!r} that is no layer's matrix")
        weights[layer] = matrix.float() / divisor
    about = state.get("metadata")
    about = about if isinstance(about, Mapping) else {}
    count = state.get("n_prompts", state.get("n_done"))
    return LensMaps(
        MapsRecord(
            name=name,
            kind="jacobian",
            sha256=sha256_of(path),
            source_revision=revision,
            model=text_of(about, "model", "model_name"),
            revision=text_of(about, "revision", "model_revision"),
            corpus=text_of(about, "corpus", "dataset"),
            prompts=count if isinstance(count, int) and 0 <= count < 2**31 else None,
            target=target_of(about),
        ),
        weights,
        {},
    )


def target_of(about: Mapping[Any, Any]) -> int:
    """The block that the maps aim at; -1 is the last."""
    target = about.get("target_layer", -1)
    return target if isinstance(target, int) and -1 <= target < 10**6 else -1


def is_matrix(value: Any, axes: int) -> bool:
    """Is it a tensor of floats of so many axes, no larger than what was read?"""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.is_floating_point()
        and value.dim() == axes
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )


def read_pickle(path: Path) -> Mapping[Any, Any]:
    """A dictionary that torch saved; WorkError for what its restricted reader does not read."""
    try:
        size = path.stat().st_size
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > size + ROOM:
            raise ValueError(f"it would unpack to {unpacked >> 20} MB from {size >> 20} MB")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken or hostile file can raise anything
        raise broken(path, " ".join(str(error).split())[:160] or type(error).__name__) from error
    if not isinstance(state, Mapping):
        raise broken(path, "it holds no dictionary")
    return state


def read_lens_config(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > ROOM:
            raise ValueError("it is larger than a configuration is")
        config = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise broken(path, " ".join(str(error).split())[:160]) from error
    if not isinstance(config, dict):
        raise broken(path, "it holds no JSON object")
    return config


def count_of_blocks(value: Any) -> int | None:
    return value if isinstance(value, int) and 0 < value < 10**6 else None


def number_of(state: Mapping[Any, Any], key: str, path: Path) -> int:
    value = state.get(key)
    if not isinstance(value, int) or value <= 0:
        raise broken(path, f"its {key} is {str(value)[:40]!r}")
    return value


def text_of(about: Mapping[Any, Any], *keys: str) -> str | None:
    """The first of some entries that is a text, cut to what a record holds."""
    texts = (about.get(key) for key in keys)
    return next((text[:200] for text in texts if isinstance(text, str) and text), None)


def broken(path: Path, why: str) -> WorkError:
    return WorkError(f"cannot read the lens {path}: {why}", "fetch or save the lens again")
