"""Do maps belong to a model? Each way in which they do not has its sentence."""

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor

from logitlens_cli.errors import UsageError, WorkError
from logitlens_cli.lens.lens_model import LensModel
from logitlens_cli.lens.maps.lens_maps import INPUT_ROW, LensMaps

OWN_FIT = "fit one to this model with logitlens fit"
HASHED = (torch.float32, torch.bfloat16, torch.float16)
"""the dtypes in which a model may have been open when its head was hashed"""


def require_fits_model(maps: LensMaps, lens_model: LensModel) -> None:
    """Raise UsageError for maps of another width, depth, head or target, WorkError for numbers that
    are none."""
    name, model = maps.record.name, lens_model.record
    last = model.blocks - 1
    if not maps.weights:
        raise UsageError(f"--lens {name} has no map", OWN_FIT)
    for row, weight in maps.weights.items():
        require_shape(name, row, weight, model.width)
        require_finite_map(name, row, weight)
    for row, bias in maps.biases.items():
        if row not in maps.weights or tuple(bias.shape) != (model.width,):
            raise UsageError(f"--lens {name}: the bias of {row_named(row)} fits no map", OWN_FIT)
        require_finite_map(name, row, bias)
    deepest = max(maps.weights)
    if deepest >= last or maps.blocks not in (None, model.blocks):
        blocks = f"{maps.blocks} blocks" if maps.blocks else f"more than {deepest} blocks"
        raise UsageError(
            f"--lens {name} is of a model with {blocks}, {model.name} has {model.blocks}", OWN_FIT
        )
    if maps.record.target not in (-1, last):
        raise UsageError(
            f"--lens {name} aims at the output of block {maps.record.target}, not of the last, "
            f"{last}",
            "take one that was fitted to the last block",
        )
    if maps.unembedding is not None and maps.unembedding not in head_hashes(
        lens_model.parts.weight, maps.unembedding
    ):
        raise UsageError(
            f"--lens {name} was fitted to another unembedding than that of {model.name}", OWN_FIT
        )


def warnings_of(maps: LensMaps, lens_model: LensModel) -> Iterator[str]:
    """What may be wrong with maps that fit in all that can be compared."""
    record, model = maps.record, lens_model.record
    if (
        record.model is not None
        and record.model.rpartition("/")[2] != model.name.rpartition("/")[2]
    ):
        yield f"the lens {record.name} was fitted to {record.model}, not to {model.name}"
    elif record.revision and model.revision and record.revision != model.revision:
        yield (
            f"the lens {record.name} was fitted to revision {record.revision} of the model, not to "
            f"{model.revision}"
        )


def require_shape(name: str, row: int, weight: Tensor, width: int) -> None:
    if tuple(weight.shape) != (width, width):
        shape = " x ".join(map(str, weight.shape))
        raise UsageError(
            f"--lens {name}: the map of {row_named(row)} is {shape}, the model's width is {width}",
            OWN_FIT,
        )


def require_finite_map(name: str, row: int, tensor: Tensor) -> None:
    if not bool(torch.isfinite(tensor).all()):
        raise WorkError(
            f"--lens {name}: the map of {row_named(row)} holds numbers that are none",
            "fit or fetch the lens again",
        )


def row_named(row: int) -> str:
    return "the input row" if row == INPUT_ROW else f"layer {row}"


def head_hashes(weight: Tensor, wanted: str) -> Iterator[str]:
    """The head's hash in the dtype that ``wanted`` names, from each dtype in which the model may
    have been open then."""
    name = wanted.partition("-sha256:")[0]
    dtype = getattr(torch, name, None)
    if dtype not in HASHED:
        return
    for opened in HASHED:
        yield unembedding_hash(weight, dtype, opened)


def unembedding_hash(
    weight: Tensor, dtype: torch.dtype = torch.bfloat16, opened: torch.dtype | None = None
) -> str:
    """A head's weight (entry, width) as a name: a hash of its bytes, rounded to a dtype.

    In bfloat16 by default, so that it does not depend on the dtype in which a model is open.
    ``opened``: as if the model were open in that one.
    """
    # A block of rows at a time: a head may be larger than the memory that is free.
    digest = hashlib.sha256()
    for rows in torch.split(weight.detach(), 4096):
        raw = rows.to("cpu", opened or rows.dtype).to(dtype).contiguous().view(torch.uint8)
        digest.update(raw.numpy().data)
    return f"{str(dtype).removeprefix('torch.')}-sha256:{digest.hexdigest()}"
