"""The prompts of a batch on a Ray cluster: readings come back, files are written here.

An actor opens the model once and reads parts of the lines; Ray starts it again, and its part too,
where its process or its machine is lost. No scheduler of our own.
"""

import io
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray._private.state import actors
from ray.exceptions import RayError

from logitlens_cli.batch.chunks import Chunk
from logitlens_cli.batch.fitting import FitJob, FitSession, added_here
from logitlens_cli.batch.job import ReadJob
from logitlens_cli.batch.prompts import Prompt
from logitlens_cli.batch.session import Outcome, Session
from logitlens_cli.errors import LogitLensError, UsageError, WorkError
from logitlens_cli.lens.fitting.fit_sums import FitSums
from logitlens_cli.model.progress import Progress

PART = 128
"""most prompts that go to an actor at a time"""
SHARE = 4
"""parts for each actor at the least, so that all end at about the same time"""
RETRIES = 4
"""of a part whose worker is lost; a prompt that kills its worker must not go on for ever"""
PARTS_AHEAD = 2
"""parts that wait for each actor: it never idles, and memory stays bounded"""
LOOK = 60.0
"""seconds after which those who wait look whether anybody works"""
WORKER_PATIENCE = 1800.0
"""seconds without a worker; it may take machines that start, and models that load"""


class Reader:
    """An actor: a model that is open."""

    def __init__(self, job: ReadJob) -> None:
        # A mistake in the job is told when prompts come: Ray would begin again and again.
        self.error: LogitLensError | None = None
        try:
            self.session = Session(job, Progress())
        except LogitLensError as error:
            self.error = error

    def read(self, part: Sequence[Prompt]) -> list[Outcome] | LogitLensError:
        return self.error or list(self.session.readings(part))


class FitWorker:
    """An actor: a model that is open, and a lens that is fitted to it."""

    def __init__(self, job: FitJob) -> None:
        self.error: LogitLensError | None = None
        try:
            self.session = FitSession(job, Progress())
        except LogitLensError as error:
            self.error = error

    def read(self, part: Sequence[Chunk]) -> list[tuple[Sequence[Chunk], FitSums]] | LogitLensError:
        """The sums of some chunks."""
        if self.error is not None:
            return self.error
        sums = self.session.empty()
        try:
            for _ in added_here(self.session, sums, part):
                pass
        except LogitLensError as error:
            return error
        return [(part, sums.on_cpu())]


class ThreadStdout(io.TextIOBase):
    """Standard output for this thread alone: what Ray's own threads print on it becomes a note."""

    def __init__(self, stream: Any, progress: Progress) -> None:
        self.stream, self.progress = stream, progress
        self.owner = threading.get_ident()

    def write(self, text: str) -> int:
        if threading.get_ident() == self.owner:
            return int(self.stream.write(text))
        if text.strip():
            self.progress.note(re.sub("\x1b\\[[0-9;]*m", "", text))
        return len(text)

    def flush(self) -> None:
        self.stream.flush()

    def fileno(self) -> int:
        return int(self.stream.fileno())


def cluster_readings(
    job: ReadJob,
    todo: Sequence[Prompt],
    progress: Progress,
    address: str | None,
    workers: int | None,
) -> Iterator[Outcome]:
    """The reading of every prompt, or why there is none, by the prompt's name, as from ``Session``.

    Raises WorkError where there is no cluster, or where it lost every worker for good.
    """
    with joined(address, progress):
        yield from outcomes_of(start(Reader, job, workers), todo, progress)


def added_by_cluster(
    job: FitJob,
    progress: Progress,
    address: str | None,
    workers: int | None,
    sums: FitSums,
    chunks: Sequence[Chunk],
) -> Iterator[Sequence[Chunk]]:
    """Add chunks to sums, part by part, as ``added_here`` does."""
    with joined(address, progress):
        for part, more in outcomes_of(start(FitWorker, job, workers), chunks, progress):
            sums.add(more)
            yield part


@contextmanager
def joined(address: str | None, progress: Progress) -> Iterator[None]:
    """Work on the cluster at --address."""
    with progress.step("joining the cluster"):
        join(address)
    stdout = ThreadStdout(sys.stdout, progress)
    with redirect_stdout(stdout):  # Ray prints by itself, and has no way to say where
        try:
            yield
        finally:
            stdout.owner = -1  # what Ray held back it prints now
            ray.shutdown()


def outcomes_of(readers: Sequence[Any], todo: Sequence[Any], progress: Progress) -> Iterator[Any]:
    """What the actors made of parts of the prompts, as they come."""
    size = max(1, min(PART, len(todo) // (SHARE * len(readers))))
    parts = [todo[n : n + size] for n in range(0, len(todo), size)]
    waiting: dict[Any, Any] = {}
    idle = [reader for _ in range(PARTS_AHEAD) for reader in readers]
    for part in parts:
        if not idle:
            done = first_of(waiting, progress)
            idle.append(waiting.pop(done))
            yield from result(done)
        actor = idle.pop(0)
        waiting[actor.read.remote(part)] = actor
    while waiting:
        done = first_of(waiting, progress)
        del waiting[done]
        yield from result(done)


def join(address: str | None) -> None:
    """Join the cluster at --address, or start one on this machine."""
    try:
        if address and ":" in address:  # Ray itself would try for minutes
            host, _, port = address.rpartition("/")[2].rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
        ray.init(address=address, log_to_driver=False, logging_level="ERROR",
                 include_dashboard=None if address else False)  # fmt: skip
    except (RayError, OSError, RuntimeError, ValueError) as error:
        raise WorkError(
            f"--address {address or 'of this machine'}: no Ray cluster ({error})",
            "start one with ray start --head, or leave --address out",
        ) from error


def cores_each(machines: Sequence[int], workers: int) -> int:
    """Most cores that each of ``workers`` can have, on machines with these numbers of cores; 0
    where there is no place for all of them, and some would be waited for in vain."""
    most = max(machines, default=0)
    fitting = (n for n in range(most, 0, -1) if sum(m // n for m in machines) >= workers)
    return next(fitting, 0)


def start(kind: type, job: ReadJob, workers: int | None) -> list[Any]:
    """The actors: --workers of them, or one for each GPU, or for each machine without any."""
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    alive = [node for node in ray.nodes() if node["Alive"]]
    count = workers or gpus or len(alive)
    cores = cores_each([int(node["Resources"].get("CPU", 0)) for node in alive], count)
    if not cores:
        raise UsageError(
            f"--workers {count}: the cluster has {resources.get('CPU', 0):.0f} cores",
            "give fewer workers, a core each at the least",
        )
    # Elsewhere the folder we are in may be another; names of the hub stay names.
    local = Path(job.source.model)
    source = replace(job.source, model=str(local.resolve())) if local.exists() else job.source
    remote: Any = ray.remote(kind)
    actor = remote.options(
        num_cpus=cores,
        num_gpus=1 if gpus >= count else 0,
        max_restarts=-1,
        max_task_retries=RETRIES,
    )
    return [actor.remote(replace(job, source=source)) for _ in range(count)]


def first_of(waiting: Mapping[Any, Any], progress: Progress) -> Any:
    """The first part that is done; WorkError where for long none of the actors that have parts is
    there. A part that somebody works on may take as long as it takes."""
    since = time.monotonic()
    while True:
        done, _ = ray.wait(list(waiting), timeout=LOOK)
        if done:
            return done[0]
        states = {actors(actor._actor_id.hex()).get("State") for actor in waiting.values()}
        now = time.monotonic()
        if "ALIVE" in states:
            since = now
        elif now - since > WORKER_PATIENCE:
            raise WorkError(
                f"the cluster has had no worker for {WORKER_PATIENCE / 60:.0f} minutes",
                "see ray status, or run the command without --engine ray to see why",
            )
        else:
            progress.note(f"waiting for a worker of the cluster, {now - since:.0f} s so far")


def result(reference: Any) -> list[Any]:
    try:
        outcomes: list[Any] | LogitLensError = ray.get(reference)
    except RayError as error:
        raise WorkError(
            f"a worker of the cluster failed: {str(error).strip().splitlines()[-1]}",
            "run the command without --engine ray to see why",
        ) from error
    if isinstance(outcomes, LogitLensError):
        raise outcomes
    return outcomes
