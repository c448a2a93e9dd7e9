"""Sums of a fit on disk, and sums that cannot be."""

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from logitlens_cli.errors import UsageError, WorkError
from logitlens_cli.lens.fitting.fit_sums import FitSums, read_sums, write_sums


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.sums"
    sums = FitSums(torch.arange(24.0, dtype=torch.float64).reshape(2, 3, 4), 7, 2)
    with path.open("wb") as file:
        write_sums(file, sums, {"key": "é"})
    return path


def test_sums_come_back(file: Path) -> None:
    sums, about = read_sums(file)
    assert (sums.tokens, sums.chunks, about) == (7, 2, {"key": "é"})
    assert sums.rows.flatten().tolist() == list(range(24))
    assert torch.equal(load_file(file)["rows"], sums.rows)  # it is a file of safetensors


def damaged(data: bytes, how: str) -> bytes:
    (length,) = struct.unpack("<Q", data[:8])
    header, rest = json.loads(data[8 : 8 + length]), data[8 + length :]
    if how == "dtype":
        header["rows"]["dtype"] = "F32"
    elif how == "shape":
        header["rows"]["shape"] = [2, 3, 10**9]
    elif how == "metadata":
        header["__metadata__"] = {}
    changed = json.dumps(header).encode()
    whole = struct.pack("<Q", len(changed)) + changed + rest
    return {"empty": b"", "cut": data[:-1], "long": data + b"x", "huge": b"\xff" * 100,
            "deep": struct.pack("<Q", 10**5) + b"[" * 10**5}.get(how, whole)  # fmt: skip


@pytest.mark.parametrize(
    "how", ["empty", "cut", "long", "huge", "deep", "dtype", "shape", "metadata"]
)
def test_a_file_that_holds_no_sums(file: Path, how: str) -> None:
    file.write_bytes(damaged(file.read_bytes(), how))
    with pytest.raises(UsageError, match="does not hold the sums of a fit"):
        read_sums(file)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        read_sums(tmp_path / "none.sums")
    with pytest.raises(UsageError, match="is a folder"):
        read_sums(tmp_path)


def test_a_row_that_is_no_number_is_named() -> None:
    sums = FitSums(torch.zeros(3, 2, 2, dtype=torch.float64))
    sums.require_finite(["input", "0", "1"])
    sums.rows[1, 0, 1] = torch.inf
    with pytest.raises(WorkError, match=r"^the stream of row 0 is not"):
        sums.require_finite(["input", "0", "1"])
