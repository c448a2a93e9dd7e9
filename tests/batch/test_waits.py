"""A batch never waits without an end or a word: for locks of others, for processes that draw."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from batches import files
from conftest import Shell, heed_interrupts, next_line
from processes import alive, until

SCRIPT = Path(sys.executable).with_name("logitlens")
PACKAGE = [sys.executable, "-m", "logitlens_cli"]
PROMPTS = 5
HOLD = """
import sys
from pathlib import Path
from logitlens_cli.reading.lock import folder_lock
with folder_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    file = tmp_path / "set.txt"
    file.write_text("".join(f"the cat number {n}\n" for n in range(PROMPTS)))
    return file


@pytest.fixture
def line(lines: Path, tiny_folder: Path, out: Path) -> list[str]:
    batch = [*PACKAGE, "rank", "--lines", str(lines), "-m", str(tiny_folder), "-o", str(out)]
    return [*batch, "--format", "svg", "--batch-tokens", "60", "--dpi", "60"]


@pytest.fixture
def holder(out: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, which has locked the folder and is stopped."""
    out.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(out)],
        text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert next_line(process) == "held\n"
        process.send_signal(signal.SIGSTOP)
        try:
            yield process
        finally:
            process.kill()


def start(line: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        line, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        preexec_fn=heed_interrupts, start_new_session=True,
    )  # fmt: skip


def wait_told(child: subprocess.Popen[str]) -> str:
    """What is said of the lock, after the lines on what the batch does."""
    assert child.stderr is not None
    return next(line for line in child.stderr if "waiting" in line)


@pytest.mark.skipif(shutil.which("flock") is None, reason="no flock here")
def test_a_folder_that_the_shell_has_locked(line: list[str], out: Path) -> None:
    """A lock of the user's own on the folder is none of ours."""
    out.mkdir()
    ran = subprocess.run(
        ["flock", str(out), *line, "-q"], text=True, capture_output=True, timeout=100, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert len(files(out)) == 2 * PROMPTS + 1


@pytest.mark.parametrize("jobs", ["0", pytest.param("2", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_locked_folder_is_told_and_the_first_signal_ends_the_wait(
    jobs: str,
    number: signal.Signals,
    line: list[str],
    out: Path,
    holder: subprocess.Popen[str],
) -> None:
    child = start([*line, "--jobs", jobs])
    told = wait_told(child)
    assert told.startswith(f"logitlens: waiting for process {holder.pid} (python")
    assert told.endswith(f"), which is writing to {out}\n")
    sent = time.monotonic()
    child.send_signal(number)
    printed, said = child.communicate(timeout=60)
    assert time.monotonic() - sent < 30
    assert (child.returncode, printed) == (128 + number, "")
    word = "interrupted" if number == signal.SIGINT else "terminated"
    assert said.splitlines()[-1] == f"logitlens: {word}"
    assert "Traceback" not in said
    until(lambda: not alive(child.pid))
    assert files(out) == [".logitlens.lock"]  # the other's


def test_a_locked_folder_is_waited_for(
    line: list[str], out: Path, holder: subprocess.Popen[str]
) -> None:
    child = start([*line, "--jobs", "0"])
    assert wait_told(child).startswith("logitlens: waiting for process ")
    holder.send_signal(signal.SIGCONT)
    holder.communicate("end\n", timeout=10)
    printed, said = child.communicate(timeout=100)
    assert (child.returncode, said) == (0, "")
    assert len(printed.splitlines()) == 2 * PROMPTS


@pytest.mark.slow
def test_drawing_processes_that_are_stopped_do_not_hold_up_an_interrupt(
    line: list[str], out: Path, logitlens: Shell
) -> None:
    child = start([*line, "--jobs", "2", "-q"])
    assert next_line(child).startswith(str(out))
    drawing = [
        process
        for process in psutil.Process(child.pid).children()
        if "spawn_main" in " ".join(process.cmdline())
    ]
    assert len(drawing) == 2
    for process in drawing:
        process.suspend()
    time.sleep(1)  # all that can be done without them is done
    sent = time.monotonic()
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert time.monotonic() - sent < 30
    # Python may say of killed processes that they left something behind.
    assert (child.returncode, said.splitlines()[0]) == (130, "logitlens: interrupted")
    until(lambda: not alive(child.pid))
    assert not [name for name in files(out) if ".logitlens-" in name and name.endswith(".part")]
    ran = logitlens(*line[3:], "-q", "--jobs", "0")
    assert ran.code == 0
    assert len(files(out)) == 2 * PROMPTS + 1


@pytest.mark.slow
def test_two_batches_with_other_options_in_one_folder(line: list[str], out: Path) -> None:
    """Whoever is the last to write a prompt's files wrote all of them."""
    children = [start([*line, "-q", "--jobs", "1", "--title", name]) for name in ("one", "two")]
    for child in children:
        assert child.communicate(timeout=200)[1] == ""
        assert child.returncode == 0
    for n in range(1, PROMPTS + 1):
        dump = (out / f"set-{n}.rank.json").read_text()
        figure = (out / f"set-{n}.rank.svg").read_text()
        assert ('"title":"one"' in dump) != ('"title":"two"' in dump)
        assert ('"title":"one"' in dump) == ("one</text>" in figure)
        assert ('"title":"two"' in dump) == ("two</text>" in figure)
    assert not [name for name in files(out) if name.startswith(".logitlens-")]
