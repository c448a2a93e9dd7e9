"""A batch on a Ray cluster of two workers on this machine, one of which is killed."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from conftest import Shell, next_line
from safetensors.torch import load_file

from logitlens_cli.reading import summary
from logitlens_cli.reading.dump import load_dump

cluster = pytest.importorskip("logitlens_cli.batch.cluster", exc_type=ImportError)
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]

SCRIPT = Path(sys.executable).with_name("logitlens")
PROMPTS = 200


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    file = tmp_path / "set.txt"
    texts = [f"the cat number {n} " + "and so on " * (n % 4) for n in range(PROMPTS)]
    file.write_text("\n".join([*texts, "x" * 65]))
    return file


def actors(session: int) -> list[int]:
    """Processes of a session's cluster that hold a model and have begun to read."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            line = (folder / "cmdline").read_bytes()
            own = int((folder / "stat").read_text().rpartition(")")[2].split()[3])
        except (OSError, ValueError):
            continue
        if line.startswith(b"ray::Reader") and own == session:
            found.append(int(folder.name))
    return found


def test_a_killed_worker_loses_nothing(lines: Path, tiny_folder: Path, tmp_path: Path) -> None:
    line = ["rank", "--lines", lines, "-m", tiny_folder, "--format", "none", "--quiet"]
    child = subprocess.Popen(
        [str(w) for w in (SCRIPT, *line, "-o", tmp_path / "ray", "--engine", "ray",
                          "--workers", "2")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    first = next_line(child)
    both = actors(child.pid)
    os.kill(both[0], signal.SIGKILL)
    rest, said = child.communicate(timeout=100)
    assert child.returncode == 4, said
    assert said.startswith("logitlens: line 201 (set-201): the text has 65 tokens, tiny-llama")
    assert len(both) == 2
    assert len({first, *rest.splitlines(keepends=True)}) == PROMPTS
    here = [str(w) for w in (SCRIPT, *line, "-o", tmp_path / "here")]
    assert subprocess.run(here, capture_output=True, check=False, timeout=100).returncode == 4
    for file in sorted((tmp_path / "here").glob("*.json")):
        mine, own = load_dump(tmp_path / "ray" / file.name), load_dump(file)
        assert mine.guesses.ids == own.guesses.ids
        assert mine.metrics["rank"].values == own.metrics["rank"].values
        np.testing.assert_allclose(
            mine.guesses.logits, own.guesses.logits, rtol=1e-4, atol=1e-4
        )  # fmt: skip


def test_a_summary_is_the_same_from_a_cluster(
    logitlens: Shell, lines: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    line = ["stats", "--lines", lines, "-m", tiny_folder, "--format", "none", "-q"]
    line += ["--shard", "1/5"]
    assert logitlens(*line, "-o", tmp_path / "here").code == 4  # line 201 is of part 1
    ran = logitlens(*line, "-o", tmp_path / "ray", "--engine", "ray", "--workers", "2")
    assert ran.code == 4
    mine, own = (
        summary.load_summary(tmp_path / place / "set.1-of-5.stats.json")
        for place in ("ray", "here")
    )
    assert (mine.prompts, mine.positions) == (own.prompts, own.positions)
    assert mine.sketches["rank"] == own.sketches["rank"]
    assert mine.sketches["lock-in"] == own.sketches["lock-in"]


def test_a_lens_is_the_same_from_a_cluster(
    logitlens: Shell, lines: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    line = ["fit", "--lines", lines, "-m", tiny_folder, "--format", "none", "-q"]
    here, there = tmp_path / "here.safetensors", tmp_path / "ray.safetensors"
    assert logitlens(*line, "-o", here).code == 0
    ran = logitlens(*line, "-o", there, "--engine", "ray", "--workers", "2")
    assert (ran.code, ran.out[0]) == (0, str(there))
    mine, own = load_file(there), load_file(here)
    assert mine.keys() == own.keys()
    for name, tensor in own.items():
        np.testing.assert_allclose(mine[name], tensor, rtol=1e-5, atol=1e-5)


def test_no_cluster_and_no_model(
    logitlens: Shell, lines: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    line = ["rank", "--lines", lines, "-m", tiny_folder, "-o", tmp_path / "o", "--engine", "ray"]
    ran = logitlens(*line, "-q", "--address", "127.0.0.1:1")
    assert ran.refusal(1).startswith("--address 127.0.0.1:1: no Ray cluster")
    ran = logitlens(*line, "-q", "--layers", "9")
    assert ran.refusal(2).startswith("--layers 9: there is no block 9")


@pytest.mark.parametrize(
    ("machines", "workers", "cores"),
    [
        ([8], 1, 8), ([8], 3, 2), ([2], 3, 0), ([], 1, 0),
        ([3, 1], 2, 1),  # not 2: the second machine would take none
        ([4, 4, 4], 4, 2), ([16, 2], 8, 2), ([16, 2], 9, 2), ([16, 2], 10, 1),
    ],
)  # fmt: skip
def test_every_worker_has_a_place(machines: list[int], workers: int, cores: int) -> None:
    assert cluster.cores_each(machines, workers) == cores


def test_more_workers_than_cores_are_not_waited_for(
    logitlens: Shell, lines: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    line = ["rank", "--lines", lines, "-m", tiny_folder, "-o", tmp_path / "o", "--engine", "ray"]
    ran = logitlens(*line, "-q", "--workers", "1000")
    assert ran.refusal(2).startswith("--workers 1000: the cluster has ")


# The command line, with little patience.
HASTY = """
from logitlens_cli.batch import cluster
from logitlens_cli.__main__ import entry
cluster.LOOK, cluster.WORKER_PATIENCE = 1.0, 5.0
entry()
"""


def test_workers_that_never_live_are_not_waited_for(
    lines: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    """Each is killed as soon as it is there, so that Ray starts it again and again."""
    line = ["rank", "--lines", lines, "-m", tiny_folder, "-o", tmp_path / "o", "--format", "none"]
    child = subprocess.Popen(
        [sys.executable, "-c", HASTY, *map(str, line), "--engine", "ray", "--workers", "2"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    end = time.monotonic() + 100
    while child.poll() is None and time.monotonic() < end:
        for actor in actors(child.pid):
            with suppress(ProcessLookupError):
                os.kill(actor, signal.SIGKILL)
        time.sleep(0.01)
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
    out, said = child.communicate(timeout=30)
    assert child.returncode == 1, said
    assert out == ""
    assert "logitlens: the cluster has had no worker for 0 minutes; " in said
