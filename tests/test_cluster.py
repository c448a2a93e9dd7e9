"""A batch on a Ray cluster of two workers on this machine, one of which is killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Shell, next_line

from logitlens_cli import stats
from logitlens_cli.reading import from_json

pytest.importorskip("ray")
pytestmark = pytest.mark.xdist_group("ray")

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
        mine, own = from_json(tmp_path / "ray" / file.name), from_json(file)
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
        stats.load(tmp_path / place / "set.1-of-5.stats.json") for place in ("ray", "here")
    )
    assert (mine.prompts, mine.positions) == (own.prompts, own.positions)
    assert mine.sketches["rank"] == own.sketches["rank"]
    assert mine.sketches["lock-in"] == own.sketches["lock-in"]


def test_no_cluster_and_no_model(
    logitlens: Shell, lines: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    line = ["rank", "--lines", lines, "-m", tiny_folder, "-o", tmp_path / "o", "--engine", "ray"]
    ran = logitlens(*line, "--address", "127.0.0.1:1")
    assert ran.refusal(1).startswith("--address 127.0.0.1:1: no Ray cluster")
    ran = logitlens(*line, "--layers", "9")
    assert ran.refusal(2).startswith("--layers 9: there is no block 9")
