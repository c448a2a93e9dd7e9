"""What a fit adds up: sums of parts add up to those of the whole, and can be kept on disk."""

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from logitlens_cli.errors import UsageError, WorkError

METADATA = "logitlens"
"""the key of our own words in the header of a file"""
LARGEST_HEADER = 2**26
"""bytes"""


class FitSums:
    """Sums over chunks of text, of one row after another.

    ``rows``: (row, ...) float64, one tensor for all rows from the input row to the last but one;
    what is added is the kind's own matter (``linear``, ``jacobian``).
    """

    def __init__(self, rows: Tensor, tokens: int = 0, chunks: int = 0) -> None:
        self.rows, self.tokens, self.chunks = rows, tokens, chunks
        self.is_whole = True
        """is no pass half added? Who adds makes it False, who has noted what was added True"""

    def add(self, other: "FitSums") -> None:
        """Add the sums of other chunks."""
        self.is_whole = False
        self.rows += other.rows.to(self.rows.device)
        self.count(other.tokens, other.chunks)

    def count(self, tokens: int, chunks: int) -> None:
        """So many positions and chunks more are added up."""
        self.tokens += tokens
        self.chunks += chunks

    def on_cpu(self) -> "FitSums":
        """The same, for another machine."""
        return FitSums(self.rows.cpu(), self.tokens, self.chunks)

    def require_finite(self, labels: list[str]) -> None:
        """WorkError that names the row whose sums are not numbers."""
        for label, row in zip(labels, self.rows, strict=True):
            if not bool(row.isfinite().all()):
                raise WorkError(
                    f"the stream of row {label} is not a number somewhere in these texts",
                    "the weights or the dtype overflow: try --dtype float32",
                )


def empty_sums(rows: int, shape: tuple[int, int], device: torch.device) -> FitSums:
    """Nothing added yet; float64, which Apple's GPUs do not have, so there on the CPU."""
    where = torch.device("cpu") if device.type == "mps" else device
    return FitSums(torch.zeros(rows, *shape, dtype=torch.float64, device=where))


def write_sums(file: IO[bytes], sums: FitSums, about: Mapping[str, Any]) -> None:
    """Write as safetensors, row by row, so that no second copy is made; ``about``: what can be
    said in JSON."""
    words = {**about, "tokens": sums.tokens, "chunks": sums.chunks}
    size = sums.rows.nbytes
    header = json.dumps(
        {
            "__metadata__": {METADATA: json.dumps(words)},
            "rows": {"dtype": "F64", "shape": list(sums.rows.shape), "data_offsets": [0, size]},
        }
    ).encode()
    header += b" " * (-len(header) % 8)
    file.write(struct.pack("<Q", len(header)) + header)
    for row in sums.rows:
        file.write(row.cpu().contiguous().numpy().astype("<f8", copy=False).data)


def read_sums(path: Path) -> tuple[FitSums, dict[str, Any]]:
    """What ``write_sums`` wrote; UsageError for any other file."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > LARGEST_HEADER:
                raise ValueError("its header is too long")
            header = json.loads(file.read(length))
            words = json.loads(header["__metadata__"][METADATA])
            shape = [int(n) for n in header["rows"]["shape"]]
            left = path.stat().st_size - file.tell()
            if header["rows"]["dtype"] != "F64" or len(shape) != 3 or min(shape) < 1:
                raise ValueError("its tensor is another one")
            if 8 * math.prod(shape) != left:
                raise ValueError("it is cut off, or too long")
            rows = torch.empty(shape, dtype=torch.float64)
            for row in rows:
                if file.readinto(row.numpy().data.cast("B")) != row.nbytes:
                    raise ValueError("it is cut off")
        counts = int(words.pop("tokens")), int(words.pop("chunks"))
        return FitSums(rows, *counts), words
    except FileNotFoundError as error:
        raise UsageError(f"{path} does not exist", "name the sums of a part") from error
    except IsADirectoryError as error:
        raise UsageError(f"{path} is a folder", "name the sums of a part") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, struct.error) as error:
        raise UsageError(
            f"{path} does not hold the sums of a fit ({error})",
            "name a file that logitlens fit --shard wrote",
        ) from error
