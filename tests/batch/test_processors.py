"""How many processors one of several runs takes."""

import os

import psutil
import pytest

from logitlens_cli.batch.processors import THREADS, cpu_count, make_jobs, share_processors


def test_processors_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cpu_count() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(psutil.Process, "cpu_affinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert cpu_count() == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cpu_count() == 1


@pytest.mark.parametrize(
    ("flags", "jobs"),
    [
        ("", 1),
        (" -j4 --jobserver-auth=fifo:/tmp/x", 4),
        ("s -j12", 12),
        ("--jobs=3", 3),
        (" -j", 1),
        ("-- NAME=-j7", 1),
        ("k", 1),
    ],
)
def test_the_jobs_of_make(flags: str, jobs: int) -> None:
    assert make_jobs(flags) == jobs


@pytest.mark.parametrize(
    ("shards", "flags", "share", "threads"),
    [(1, "", 8, None), (2, "", 4, "4"), (1, "-j4", 2, "2"), (3, "-j2", 2, "2"), (99, "", 1, "1")],
)
def test_runs_side_by_side_share_the_processors(
    shards: int, flags: str, share: int, threads: str | None
) -> None:
    environment = {"MAKEFLAGS": flags}
    assert share_processors(shards, environment, 8) == share
    assert environment.get(THREADS) == threads


def test_what_the_user_says_of_threads_stays() -> None:
    environment = {THREADS: "7"}
    assert share_processors(2, environment, 8) == 4
    assert environment[THREADS] == "7"
