"""A reading as JSON, and back; refuses what is not one."""

import errno
import json
import os
import re
from pathlib import Path
from typing import Any

import msgspec

from logitlens_cli.errors import UsageError
from logitlens_cli.reading.contradictions import require_consistent
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
        require_few_lists(data)
        reading = msgspec.json.decode(data, type=Reading)
        require_single_keys(data)
        require_consistent(reading)
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


STRING = rb'"(?:[^"\\]++|\\.)*+"'


def require_few_lists(data: bytes) -> None:
    """ValueError for JSON that takes far more memory than it is long, as numbers of one digit and
    lists of one number do."""
    if len(data) < DENSE:
        return
    bare = re.sub(STRING, b"", data, flags=re.DOTALL)
    needed = sum(bare.count(sign) * size for sign, size in MEMORY.items())
    if needed > MOST_MEMORY * len(data):
        raise ValueError(
            f"its {len(data) >> 20} MB would take {needed >> 20} MB of memory, more than numbers "
            "of seven figures do"
        )


DENSE = 2**20
"""bytes below which it does not matter what is in a file"""
MEMORY = {b"[": 88, b"{": 96, b",": 40}
"""bytes that a list, an object, a value take in Python at most"""
MOST_MEMORY = 18
"""times the length of the file"""


def require_single_keys(data: bytes) -> None:
    """ValueError for valid JSON in which an object has the same key twice, since programs do not
    agree on which of them counts. Goes through it without building it."""
    objects: list[set[str]] = []
    for match in re.finditer(rb"(" + STRING + rb")(\s*:)?|([{}])", data, re.DOTALL):
        string, is_key, brace = match.groups()
        if brace == b"{":
            objects.append(set())
        elif brace:
            objects.pop()
        elif is_key:
            key = json.loads(string) if b"\\" in string else string[1:-1].decode()
            if key in objects[-1]:
                raise ValueError(f"the key {key!r} occurs twice in an object")
            objects[-1].add(key)


def dump_schema() -> dict[str, Any]:
    """The JSON Schema of the dump."""
    return msgspec.json.schema(Reading)
