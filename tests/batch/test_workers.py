"""Processes that draw: order, errors, interrupts, ends."""

import multiprocessing
import os
import signal
import threading
import time

import psutil
import pytest
from processes import until

from logitlens_cli.batch.workers import Workers
from logitlens_cli.errors import UsageError, WorkError


def shout(text: str) -> str:
    if text == "bad":
        raise UsageError("bad", "be good")
    if text == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return text.upper()


@pytest.mark.parametrize("jobs", [0, 2])
def test_work_comes_back_in_order_with_its_errors(jobs: int) -> None:
    with Workers(jobs) as workers:
        made = []
        for text in ("a", "bad", "c"):
            workers.submit(text, shout, text)
            made += list(workers.completed())
        made += list(workers.completed(pending=0))
    assert [(m.subject, m.result) for m in made] == [("a", "A"), ("bad", None), ("c", "C")]
    error = made[1].error
    assert isinstance(error, UsageError)
    assert (error.problem, error.hint) == ("bad", "be good")


def test_a_killed_worker_is_told() -> None:
    with Workers(1) as workers:
        workers.submit("x", shout, "die")
        with pytest.raises(WorkError, match="was killed; run it again"):
            list(workers.completed(pending=0))


def test_an_interrupt_while_workers_come_to_rest() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    workers = Workers(1)
    workers.submit("x", time.sleep, 1.5)
    until(workers.waiting[0][1].running)
    (worker,) = multiprocessing.active_children()
    late = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    late.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            workers.__exit__()
    finally:
        late.join()
        signal.signal(signal.SIGINT, before)
    # None goes on without its parent. Asked of the system: two threads wait for the process, and
    # the one that did not get its status first cannot tell.
    assert worker.pid is not None
    assert not psutil.pid_exists(worker.pid)


def stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def test_a_worker_that_is_stopped_does_not_hold_up_an_interrupt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("logitlens_cli.batch.workers.LAST_DRAWING", 0.5)
    workers = Workers(1)
    workers.submit("x", stop)
    (worker,) = multiprocessing.active_children()
    assert worker.pid is not None
    until(lambda: psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt), workers:
        raise KeyboardInterrupt
    assert 0.4 < time.monotonic() - start < 5
    assert not psutil.pid_exists(worker.pid)
    assert workers.subjects() == ["x"]
    assert list(workers.drain()) == []


def test_what_is_drawn_comes_to_its_end_after_an_interrupt() -> None:
    workers = Workers(1)
    workers.submit("x", time.sleep, 1.0)
    until(workers.waiting[0][1].running)
    with pytest.raises(KeyboardInterrupt), workers:
        raise KeyboardInterrupt
    assert [finished.subject for finished in workers.drain()] == ["x"]


def test_a_worker_that_starts_does_not_hear_what_its_parent_hears() -> None:
    with Workers(1) as workers:
        workers.submit("x", shout, "a")  # the process is there, and its Python starts
        assert workers.pool is not None
        (worker,) = workers.pool._processes
        os.kill(worker, signal.SIGINT)
        os.kill(worker, signal.SIGTERM)
        assert [made.result for made in workers.completed(pending=0)] == ["A"]
