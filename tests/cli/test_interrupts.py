"""Signals: the first ends the run in order, at any moment; what follows does not disturb that."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import Ran, Shell, heed_interrupts

from logitlens_cli.cli import app
from logitlens_cli.cli.interrupts import Interrupts
from logitlens_cli.commands.topk import TopK
from logitlens_cli.model import fetch

TEXT = "the cat"  # t h e ·cat
SCRIPT = Path(sys.executable).with_name("logitlens")


@pytest.fixture(scope="module")
def dump(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    out = tmp_path_factory.mktemp("dump")
    line = ["all", "-t", TEXT, "-m", str(tiny_folder), "-o", str(out), "--name", "x", "-q"]
    assert app.main([*line, "--format", "none"]) == 0
    return out / "x.all.json"


def test_an_interrupt(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "text")
    line = [str(SCRIPT), "topk", "-f", str(tmp_path / "text")]
    with (
        subprocess.Popen(
            line,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            preexec_fn=heed_interrupts,
        ) as child,
        (tmp_path / "text").open("w"),  # waits until the child reads, which then waits for us
    ):
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    assert (child.returncode, out, err) == (130, "", "logitlens: interrupted\n")


SIGNALLED = """
import os, sys
module, number = sys.argv[1], int(sys.argv[2])
del sys.argv[1:3]

class Signal:
    \"\"\"Comes when a module is about to be loaded.\"\"\"

    def find_spec(self, name, path=None, target=None):
        if name == module:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), number)

sys.meta_path.insert(0, Signal())
from logitlens_cli.__main__ import entry
entry()
"""


@pytest.mark.parametrize("module", ["typer", "logitlens_cli.commands.write", "matplotlib.figure"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_libraries_load(
    module: str, number: signal.Signals, dump: Path, tmp_path: Path
) -> None:
    line = [SIGNALLED, module, str(int(number)), "render", str(dump), "-o", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-c", *line], capture_output=True, text=True, timeout=120,
        preexec_fn=heed_interrupts,
    )  # fmt: skip
    word = "interrupted" if number == signal.SIGINT else "terminated"
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", f"logitlens: {word}\n")
    assert not (tmp_path / "out").exists()


IN_ORDER = """
import os, signal, sys, time
from logitlens_cli import __main__
from logitlens_cli.commands import render as command
from logitlens_cli.reading.atomic import staged

class Late:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)  # where Python lets nothing be raised
        for _ in range(9):
            pass

def render(options):
    with staged() as stage:
        try:
            stage.write(options.out / "x", lambda file: file.write(b"x"))
            late = Late()
            del late
            time.sleep(60)
        finally:
            os.kill(os.getpid(), signal.SIGINT)  # somebody is impatient
            time.sleep(0.1)
    yield options.out / "x"

command.render = render
__main__.entry()
"""


def test_one_signal_is_heard_and_what_follows_does_not_disturb(dump: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IN_ORDER, "render", str(dump), "-o", str(tmp_path)],
        capture_output=True, text=True, timeout=50, preexec_fn=heed_interrupts,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (143, "", "logitlens: terminated\n")
    assert not list(tmp_path.iterdir())


FETCHING = """
import os, signal, time
from logitlens_cli import __main__
from logitlens_cli.model import fetch

def fetch_model(name, **options):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)

fetch.fetch_model = fetch_model
__main__.entry()
"""


def test_an_end_while_fetching() -> None:
    """Typer has its own way with interrupts; which signal it was is known all the same."""
    done = subprocess.run(
        [sys.executable, "-c", FETCHING, "models", "fetch"],
        capture_output=True, text=True, timeout=50,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (143, "", "logitlens: terminated\n")


def test_interrupts_that_a_shell_ignores_stay_ignored(dump: Path, tmp_path: Path) -> None:
    line = [SIGNALLED, "typer", str(int(signal.SIGINT)), "render", str(dump), "-o", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", *line, "rank", "--format", "svg"],
        capture_output=True, text=True, timeout=120,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_an_interrupt_while_fetching(logitlens: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fetch, "fetch_model", interrupted)
    assert logitlens("models", "fetch") == Ran(130, [], ["logitlens: interrupted"])


def test_what_an_interrupt_does_to_a_library_is_an_interrupt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A module in C whose loading is interrupted raises an ImportError of its own."""
    interrupts = Interrupts()

    interrupts = Interrupts()

    def loading(options: TopK) -> None:
        with suppress(KeyboardInterrupt):
            interrupts(signal.SIGINT, None)
        raise ImportError("initialization failed")

    monkeypatch.setattr(app, "interrupts", interrupts)
    monkeypatch.setattr(TopK, "run", loading)
    assert app.main(["topk", "-t", "a"]) == 130
    assert capsys.readouterr().err == "logitlens: interrupted\n"


def test_a_lost_interrupt_can_be_made_again_without_timers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "setitimer")  # as on Windows
    interrupts = Interrupts()
    with pytest.raises(KeyboardInterrupt):
        interrupts(signal.SIGINT, None)
    interrupts(signal.SIGINT, None)  # impatience
    interrupts.on_lost_interrupt(SimpleNamespace(exc_type=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        interrupts(signal.SIGTERM, None)
    assert interrupts.number == signal.SIGTERM
    interrupts.stop_timer()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no such signal")
def test_a_closed_terminal_ends_the_run_in_order(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "text")
    line = [str(SCRIPT), "topk", "-f", str(tmp_path / "text")]
    with (
        subprocess.Popen(line, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as child,
        (tmp_path / "text").open("w"),
    ):
        child.send_signal(signal.SIGHUP)
        _, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (129, "logitlens: hung up\n")


@pytest.mark.parametrize("wait", [0.01, 0.02, 0.03, 0.05, 0.08])
def test_an_interrupt_in_the_first_moments_gives_no_traceback(wait: float) -> None:
    """But for those of Python's own start, before any of this program runs."""
    program = "import logitlens_cli.__main__ as m, sys; sys.argv[1:] = ['--version']; m.entry()"
    started = f"import sys, time; sys.stdout.write('x'); sys.stdout.flush(); {program}"
    with subprocess.Popen(
        [sys.executable, "-c", started],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=heed_interrupts,
    ) as child:
        assert child.stdout is not None
        child.stdout.read(1)
        time.sleep(wait)
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=60)
    assert b"Traceback" not in err
    assert child.returncode in (0, 130, -signal.SIGINT)
