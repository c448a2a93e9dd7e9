"""How many processors a run may use, of which others run beside it."""

import os
import re
from collections.abc import MutableMapping

import psutil

THREADS = "OMP_NUM_THREADS"
"""the variable that torch heeds"""


def cpu_count() -> int:
    """Processors that this process may use, which are those of the machine where it cannot be bound
    to some (macOS)."""
    process = psutil.Process()
    bound = process.cpu_affinity() if hasattr(process, "cpu_affinity") else None
    return len(bound or ()) or os.cpu_count() or 1


def make_jobs(flags: str) -> int:
    """How many commands ``make`` runs at a time, by its MAKEFLAGS; 1 where it does not say."""
    found = re.search(r"(?:^|\s)(?:-j|--jobs=)(\d+)", flags)
    return int(found[1]) if found else 1


def share_processors(
    shards: int, environment: MutableMapping[str, str] = os.environ, processors: int | None = None
) -> int:
    """The processors for one of several runs side by side, the shards of a batch or the jobs of
    ``make -jN``, so that they do not wait for each other's threads.

    torch, which is not loaded yet, is told by ``environment``, unless the user has.
    """
    beside = max(shards, make_jobs(environment.get("MAKEFLAGS", "")))
    share = max(1, (processors or cpu_count()) // beside)
    if beside > 1:
        environment.setdefault(THREADS, str(share))
    return share
