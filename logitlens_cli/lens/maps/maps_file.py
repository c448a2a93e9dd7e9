"""The project's own file of maps: safetensors, and what they are as JSON in its header.

Tensors ``input.weight``, ``input.bias``, ``0.weight``, ``0.bias``, ...: A and b of what enters
block 0 and of what leaves each block. Nothing in such a file can run code.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import msgspec
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from logitlens_cli.errors import WorkError
from logitlens_cli.lens.maps.lens_maps import INPUT_ROW, LensMaps
from logitlens_cli.reading.record import MapsRecord

METADATA = "logitlens"
FORMAT = "logitlens-maps/1"
CHUNK = 2**20


class MapsHeader(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of maps, as their file says it."""

    format: str
    kind: str
    model: str | None = None
    revision: str | None = None
    unembedding: str | None = None
    """``unembedding_hash`` of the model that they were fitted to"""
    blocks: int | None = None
    width: int | None = None
    corpus: str | None = None
    """name of the texts"""
    tokens: int | None = None
    """how many were fitted on"""
    prompts: int | None = None
    """how many texts, where only that is known"""
    target: int = -1
    """the block whose output the rows were fitted to; -1 is the last"""
    fit: dict[str, Any] = {}
    """options of the fit"""


def write_maps(file: IO[bytes], maps: LensMaps, header: MapsHeader) -> None:
    """Write maps into a binary file."""
    named = {"weight": maps.weights, "bias": maps.biases}
    tensors = {
        f"{row_name(row)}.{name}": tensor.float().contiguous().cpu()
        for name, of_rows in named.items()
        for row, tensor in of_rows.items()
    }
    words = json.dumps(msgspec.to_builtins(header), allow_nan=False, sort_keys=True)
    file.write(save(dict(sorted(tensors.items())), {METADATA: words}))


def read_maps(path: Path, name: str) -> LensMaps:
    """Read a file of ``write_maps``; WorkError for any other."""
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata = file.metadata() or {}
            if METADATA not in metadata:
                raise ValueError(f"its header has no {METADATA!r}")
            header = msgspec.json.decode(metadata[METADATA], type=MapsHeader)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if header.format != FORMAT:
            raise ValueError(f"its format is {header.format!r}, this version reads {FORMAT!r}")
        weights, biases = rows_of_tensors(tensors)
    except (SafetensorError, ValueError, OSError, msgspec.MsgspecError) as error:
        said = " ".join(str(error).split())[:200]
        raise WorkError(
            f"cannot read the lens {path}: {said}", "give a file of logitlens fit or lenses convert"
        ) from error
    record = MapsRecord(
        name=name,
        kind=header.kind,
        sha256=sha256_of(path),
        model=header.model,
        revision=header.revision,
        corpus=header.corpus,
        tokens=header.tokens,
        prompts=header.prompts,
        target=header.target,
    )
    return LensMaps(record, weights, biases, header.unembedding, header.blocks)


def header_of(maps: LensMaps) -> MapsHeader:
    """The header of maps that were read from a file of another program."""
    record = maps.record
    return MapsHeader(
        format=FORMAT,
        kind=record.kind,
        model=record.model,
        revision=record.revision,
        unembedding=maps.unembedding,
        blocks=maps.blocks,
        width=maps.width,
        corpus=record.corpus,
        tokens=record.tokens,
        prompts=record.prompts,
        target=record.target,
    )


def rows_of_tensors(tensors: Mapping[str, Tensor]) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
    """Weights and biases by row, in float32; ValueError for a tensor of another name."""
    found: dict[str, dict[int, Tensor]] = {"weight": {}, "bias": {}}
    for name, tensor in tensors.items():
        row, _, what = name.partition(".")
        if what not in found or not (row == "input" or (row.isdecimal() and len(row) <= 6)):
            raise ValueError(f"it has a tensor {name[:40]!r}")
        found[what][INPUT_ROW if row == "input" else int(row)] = tensor.float()
    return found["weight"], found["bias"]


def row_name(row: int) -> str:
    return "input" if row == INPUT_ROW else str(row)


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
