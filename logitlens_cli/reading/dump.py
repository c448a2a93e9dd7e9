"""A reading as JSON, and back; refuses what is not one."""

import errno
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from logitlens_cli.errors import UsageError
from logitlens_cli.reading.record import Reading

LARGEST_DUMP = 2**29
"""bytes of a file that is read back"""


def dump_to_json(reading: Reading) -> bytes:
    """The dump, the same bytes for the same reading; ends with a line feed."""
    return msgspec.json.encode(reading) + b"\n"


def load_dump(path: Path) -> Reading:
    """Read a dump; UsageError says where it is not one."""
    try:
        data = read_bounded(path)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", "name a JSON dump of logitlens") from error
    try:
        reading = msgspec.json.decode(data, type=Reading)
        require_single_keys(data)
        return reading
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        for kind, (what, hint) in OTHER_FILES.items():
            if f'"{kind}/'.encode() in data[:200]:
                raise UsageError(f"{path} is {what}, not a dump of a text", hint) from error
        raise UsageError(
            f"{path} is not a dump of this version of logitlens ({error})",
            "make it again with logitlens all",
        ) from error


OTHER_FILES = {
    "logitlens-stats": ("a summary of many texts", "logitlens stats --merge draws it again"),
    "logitlens-diff": ("a difference of two dumps", "logitlens diff draws it from these"),
}
"""what else has a schema of ours"""


def read_bounded(path: Path) -> bytes:
    """A file, or OSError if it is larger than any that we write; also of one without an end."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(LARGEST_DUMP + 1) if size <= LARGEST_DUMP else b""
    if max(len(data), size) > LARGEST_DUMP:
        raise OSError(errno.EFBIG, f"it has more than {LARGEST_DUMP >> 20} MB")
    return data


def require_single_keys(data: bytes) -> None:
    """ValueError for JSON in which an object has the same key twice, since programs do not agree
    on which of them counts."""

    def check(pairs: list[tuple[str, Any]]) -> None:
        counts = Counter(key for key, _ in pairs)
        if len(counts) < len(pairs):
            twice = counts.most_common(1)[0][0]
            raise ValueError(f"the key {twice!r} occurs twice in an object")

    json.loads(data, object_pairs_hook=check)


def dump_schema() -> dict[str, Any]:
    """The JSON Schema of the dump."""
    return msgspec.json.schema(Reading)
