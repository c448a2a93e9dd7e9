"""Headers of GGUF files: those of a writer pass, and what lies is refused soon."""

import resource
import struct
import time
from pathlib import Path

import pytest
from gguf import GGUFWriter
from model_files import save_gguf

from logitlens_cli.errors import WorkError
from logitlens_cli.model.gguf_header import check_gguf_header


def header(keys: bytes = b"", *, tensors: int = 0, count: int = 1, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, count) + keys


def text(words: bytes) -> bytes:
    return struct.pack("<Q", len(words)) + words


def key(name: bytes, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def array(kind: int, count: int, values: bytes = b"") -> bytes:
    return struct.pack("<IQ", kind, count) + values


NESTED = array(9, 1) * 10 + array(4, 0)
LIES = {
    "another file": b"PK\x03\x04" + bytes(100),
    "nothing": b"",
    "four bytes": b"GGUF",
    "an old version": header(version=1),
    "numbers beyond the end": header(key(b"a", 9, array(0, 2**33))),
    "numbers that overflow": header(key(b"a", 9, array(12, 2**62))),
    "strings beyond the end": header(key(b"a", 9, array(8, 2**40))),
    "a string beyond the end": header(key(b"a", 8, struct.pack("<Q", 2**50))),
    "a key beyond the end": header(struct.pack("<Q", 2**60)),
    "no such type": header(key(b"a", 13, bytes(8))),
    "nested": header(key(b"a", 9, NESTED)),
    "more keys than bytes": header(count=2**40),
    "more tensors than bytes": header(count=0, tensors=2**40),
    "a tensor of many dimensions": header(
        text(b"t") + struct.pack("<I", 2**31), count=0, tensors=1
    ),
    "a tensor beyond the end": header(
        text(b"t") + struct.pack("<IQIQ", 1, 4, 0, 2**40), count=0, tensors=1
    ),
    "a billion blocks": header(key(b"llama.block_count", 4, struct.pack("<I", 10**9))),
    "keys that end": header(key(b"a", 4, bytes(4)), count=2),
}


@pytest.mark.parametrize("name", LIES)
def test_headers_that_lie_are_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(LIES[name])
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(WorkError) as refused:
        check_gguf_header(path)
    assert "corrupt GGUF file" in str(refused.value)
    assert time.monotonic() - start < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024


def test_headers_of_a_writer_pass(tmp_path: Path) -> None:
    writer = GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_block_count(2)
    writer.add_array("numbers", [1, 2, 3])
    writer.add_array("words", ["a", "bc", ""])
    writer.add_array("both", [[1, 2], [3]])
    writer.add_bool("truth", True)
    writer.add_float64("half", 0.5)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    check_gguf_header(tmp_path / "m.gguf")


def test_a_model_passes(tiny_folder: Path, tmp_path: Path) -> None:
    save_gguf(tiny_folder, tmp_path / "m.gguf")
    check_gguf_header(tmp_path / "m.gguf")
    whole = (tmp_path / "m.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[:200])
    with pytest.raises(WorkError, match="beyond its end"):
        check_gguf_header(tmp_path / "cut.gguf")
