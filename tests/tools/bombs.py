"""Configurations of every model type in which all numbers are a billion: read in little memory and
time, once what ``require_countable`` refuses is left out. Prints what was tried, refused, harmful.
"""

import json
import logging
import resource
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import transformers

from logitlens_cli.errors import WorkError
from logitlens_cli.model.config import require_countable

BILLION = 10**9
TIMES = 3
"""model types in which a number of one name is tried alone"""
MEMORY, SECONDS = 200 * 2**20, 2.0


def places(config: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Where a configuration has a number, or nothing, also in the configurations in it."""
    for key, value in config.items():
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            yield (*path, key)
        elif isinstance(value, dict) and key.endswith("config"):
            yield from places(value, (*path, key))


def with_billion(raw: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    inner = raw
    for key in path[:-1]:
        inner = inner.setdefault(key, {})
    inner[path[-1]] = BILLION
    return raw


def is_harmful(kind: Any, raw: dict[str, Any]) -> bool:
    """Does reading it take more than MEMORY or SECONDS? What is refused by its reader does not."""

    def stop(number: int, frame: Any) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, stop)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, -1))
    try:
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        with suppress(Exception):
            try:
                kind.from_dict(raw).get_text_config()
            except (MemoryError, TimeoutError):
                return True
        return False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, (-1, -1))


def main() -> None:
    logging.disable(logging.CRITICAL)
    tried = refused = 0
    harmful = []
    alone: Counter[str] = Counter()
    for name in transformers.CONFIG_MAPPING:
        with suppress(Exception):  # some need a library that is not there
            kind = transformers.CONFIG_MAPPING[name]
            usual = kind().to_dict()
            raw: dict[str, Any] = {"model_type": name}
            for path in {("num_labels",), ("num_hidden_layers",), *places(usual)}:
                tried += 1
                try:
                    require_countable(with_billion({}, path), Path("config.json"))
                    with_billion(raw, path)
                    # Alone too, since one number may be refused before another is read.
                    alone[path[-1]] += 1
                    if alone[path[-1]] <= TIMES and is_harmful(kind, with_billion({}, path)):
                        harmful.append(f"{name} {'.'.join(path)}")
                except WorkError:
                    refused += 1
            if is_harmful(kind, raw):
                harmful.append(name)
    print(json.dumps([tried, refused, harmful]))


if __name__ == "__main__":
    main()
