"""The header of a GGUF file, walked through before a library reads it: every length in it must lie
within the file, or its reader would ask for memory that no file fills.

The format (ggml's documentation of GGUF, versions 2 and 3): "GGUF", the version, the numbers of
tensors and of keys; each key a string, a type and a value; then each tensor's name, sizes, type and
offset. A string is its length and its bytes; an array its type, its length and its values.
"""

import mmap
import struct
from pathlib import Path

from logitlens_cli.errors import WorkError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""bytes of a number, by the format's code of its type"""
STRING, ARRAY = 8, 9
INTEGERS = {4: "I", 5: "i", 10: "Q", 11: "q"}
MOST_DIMENSIONS, MOST_NESTED, MOST_BLOCKS = 8, 4, 100_000


class Walk:
    """A place in a header, which never leaves the file."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.place = data, 4
        version = struct.unpack_from("<I", self.advance(4))[0]
        self.order = "<" if version & 0xFFFF else ">"
        """of bytes, little end first or big"""
        self.version = struct.unpack(f"{self.order}I", struct.pack("<I", version))[0]

    def advance(self, size: int) -> bytes:
        """The next bytes; ValueError where the file has not so many."""
        start, self.place = self.place, self.place + size
        if size < 0 or self.place > len(self.data):
            raise ValueError(f"{size} bytes at {start} lie beyond its end")
        return self.data[start : self.place]

    def skip(self, size: int) -> None:
        if size > len(self.data) - self.place:
            raise ValueError(f"{size} bytes at {self.place} lie beyond its end")
        self.place += size

    def number(self, form: str) -> int:
        form = self.order + form
        return int(struct.unpack(form, self.advance(struct.calcsize(form)))[0])

    def string(self) -> None:
        self.skip(self.number("Q"))

    def value(self, kind: int, depth: int = 0) -> int | None:
        """Pass over a value; a whole number is given back."""
        if kind in INTEGERS:
            return self.number(INTEGERS[kind])
        if kind == STRING:
            self.string()
        elif kind == ARRAY:
            self.array(depth)
        elif kind in SIZES:
            self.skip(SIZES[kind])
        else:
            raise ValueError(f"a value has the type {kind}, which is none")
        return None

    def array(self, depth: int) -> None:
        inner, count = self.number("I"), self.number("Q")
        if depth >= MOST_NESTED:
            raise ValueError("its arrays are nested too deep")
        if inner in SIZES:
            self.skip(count * SIZES[inner])
            return
        if count > len(self.data) - self.place:  # each takes some bytes
            raise ValueError(f"an array of {count} lies beyond its end")
        for _ in range(count):
            self.value(inner, depth + 1)

    def tensor(self) -> None:
        self.string()
        dimensions = self.number("I")
        if dimensions > MOST_DIMENSIONS:
            raise ValueError(f"a tensor has {dimensions} dimensions")
        self.skip(8 * dimensions + 4)
        offset = self.number("Q")
        if offset > len(self.data):
            raise ValueError(f"a tensor at {offset} lies beyond its end")


def check_gguf_header(path: Path) -> None:
    """WorkError for a file whose header is no GGUF header, or lies about lengths."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            walk_header(data)
    except (OSError, ValueError, struct.error) as error:
        raise WorkError(
            f"corrupt GGUF file {path}: {' '.join(str(error).split())[:200]}",
            "fetch the file again",
        ) from error


def walk_header(data: mmap.mmap) -> None:
    """ValueError for a header that does not fit its file."""
    if data[:4] != MAGIC:
        raise ValueError("it does not begin with GGUF")
    walk = Walk(data)
    if walk.version not in VERSIONS:
        raise ValueError(f"its version is {walk.version}, not {VERSIONS[0]} or {VERSIONS[-1]}")
    tensors, keys = walk.number("Q"), walk.number("Q")
    for what, count in (("tensors", tensors), ("keys", keys)):
        if count > len(data):
            raise ValueError(f"it says that it has {count} {what}")
    for _ in range(keys):
        key = walk.advance(walk.number("Q"))
        value = walk.value(walk.number("I"))
        if value is not None and key.endswith(b"block_count") and value > MOST_BLOCKS:
            raise ValueError(f"it says that it has {value} blocks")
    for _ in range(tensors):
        walk.tensor()
