"""Fuzz one target with atheris, which steers inputs towards code that none has reached yet.

    make fuzz                                       every target
    python tests/fuzz/run.py dump -runs=1000000     one, with any option of libFuzzer
    python tests/fuzz/run.py dump build/fuzz/crash-...

Inputs that reach new code stay in build/fuzz/TARGET, one that fails in build/fuzz.
"""

import copy
import json
import os
import random
import sys
import tempfile
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import atheris

sys.path[:0] = [str(Path(__file__).parents[n]) for n in (1, 2)]
with atheris.instrument_imports(include=["logitlens_cli"]):
    from fuzz.targets import CORPUS, TARGETS, group

FOUND = Path("build/fuzz")
MEMORY = next(place for place in map(Path, ("/dev/shm", tempfile.gettempdir())) if place.is_dir())
"""of files that are written a thousand times a second"""
HABITS = ["-timeout=5", "-rss_limit_mb=1000", f"-artifact_prefix={FOUND}/", "-print_final_stats=1"]
LONGEST = {"dump": 8192, "summary": 8192}
"""bytes of an input; of others 1024"""
WORDS = (
    "",
    "\x00",
    "\x1b[2J",
    "\n",
    "\u202e",
    "\ud800",
    "日本",
    "e\u0301" * 9,
    "x" * 300,
    "{n}",
    "*",
)
ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 1, 2, 3, 2**31 - 1, 2**31, 2**62, 2**63, 2**64, 10**30, 10**400),
    *(0.5, -0.0, 5e-324, 1e-320, 1e-7, 1e100, -1e100, 1e101, 1e308, -1e308, float("nan")),
    *WORDS,
    *([], {}, [[]], [None]),
)


def keys(container: Any) -> list[Any]:
    return list(container) if isinstance(container, dict) else list(range(len(container)))


def change(whole: Any, draw: random.Random) -> None:
    """One thing wrong, or odd, somewhere in a JSON value."""
    parent, key = place(whole, draw)
    old = parent[key]
    match draw.randrange(8):
        case 0:
            del parent[key]
        case 1 if isinstance(parent, list):
            parent.insert(key, old)
        case 2 if isinstance(old, list):
            parent[key] = (old * draw.randrange(4))[: draw.randrange(1, 9)]
        case 3 if isinstance(old, str):
            made = atheris.Mutate(old.encode("utf-8", "replace"), len(old) + 8)
            parent[key] = made.decode("utf-8", "replace")
        case 4 if isinstance(old, int | float) and not isinstance(old, bool):
            parent[key] = draw.choice((-old, old + 1, old - 1, old * 10, old and 1 / old))
        case 5 | 6:
            there, other = place(whole, draw)
            parent[key] = copy.deepcopy(there[other])
        case _:
            parent[key] = copy.deepcopy(draw.choice(ODD))


def place(whole: Any, draw: random.Random) -> tuple[Any, Any]:
    """A container and a key of it, on a way down that ends anywhere: so the few keys at the top are
    met as often as the many cells below."""
    parent, key = whole, draw.choice(keys(whole))
    while isinstance(parent[key], dict | list) and parent[key] and draw.random() < 0.8:
        parent = parent[key]
        key = draw.choice(keys(parent))
    return parent, key


def mutate_json(data: bytes, size: int, seed: int) -> bytes:
    """A custom mutator of libFuzzer: changes within the JSON of a line, now and then of bytes."""
    draw = random.Random(seed)
    lines = data.split(b"\n")
    chosen = draw.randrange(len(lines))
    try:
        value = json.loads(lines[chosen])
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict | list) or draw.random() < 0.05:
        return bytes(atheris.Mutate(data, size))
    for _ in range(draw.choice((1, 1, 2, 4))):
        if value:
            change(value, draw)
    lines[chosen] = json.dumps(value, separators=(",", ":")).encode()
    made = b"\n".join(lines)
    return made if len(made) <= size else data


@cache
def options() -> list[str]:
    return sorted({option.name for one in group().commands.values() for option in one.params})


def mutate_preset(data: bytes, size: int, seed: int) -> bytes:
    """Another: one option is given an odd value, or bytes change."""
    draw = random.Random(seed)
    if draw.random() < 0.5:
        return bytes(atheris.Mutate(data, size))
    name = draw.choice(options())
    line = f"{name} = {json.dumps(draw.choice(ODD))}".encode()
    others = [old for old in data.split(b"\n") if not old.startswith(name.encode())]
    made = b"\n".join([line, *others])
    return made if len(made) <= size else line


MUTATORS = {
    **dict.fromkeys(("dump", "summary", "lines"), mutate_json),
    "preset": mutate_preset,
}


def fuzz(target: str, options: list[str], files: Path) -> None:
    """Never returns: libFuzzer ends the process."""
    warnings.simplefilter("error")
    kept = FOUND / target
    kept.mkdir(parents=True, exist_ok=True)
    line = [sys.argv[0], *HABITS, f"-max_len={LONGEST.get(target, 1024)}", *options]
    if all(option.startswith("-") for option in options):  # else only the files that are named
        line += [str(kept), str(CORPUS / target)]
    mutator = {"custom_mutator": MUTATORS[target]} if target in MUTATORS else {}
    atheris.Setup(line, lambda data: TARGETS[target](data, files), **mutator)
    atheris.Fuzz()


def main() -> None:
    target, *options = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="logitlens-fuzz-", dir=MEMORY) as files:
        if not (child := os.fork()):
            fuzz(target, options, Path(files))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    sys.exit(code)


if __name__ == "__main__":
    main()
