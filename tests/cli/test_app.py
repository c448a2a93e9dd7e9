"""The command line: what bad input gets, exit codes, help, and what is kept out of the way."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran, Shell, heed_interrupts

from logitlens_cli.cli import app
from logitlens_cli.errors import WorkError
from logitlens_cli.model import fetch

TEXT = "the cat"  # t h e ·cat
SCRIPT = Path(sys.executable).with_name("logitlens")

# ---- help


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], ["topk", "rank", "kl-final", "js", "logit-diff", "all", "render", "diff"]),
        (["topk", "--help"], ["--text", "--model", "--k", "--color", "--out", "--config"]),
        (["rank", "-h"], ["--target", "--window"]),
        (["kl-final", "--help"], ["--direction"]),
        (["kl-input", "--help"], ["--direction", "--one-hot"]),
        (["overlap", "--help"], ["--k"]),
        (["logit-diff", "--help"], ["--target", "--minus"]),
        (["all", "--help"], ["--k", "--color", "--target", "--direction", "--one-hot"]),
        (["render", "--help"], ["FILE.json", "[METRIC]", "--cmap", "--split"]),
        (["diff", "--help"], ["A.json", "B.json", "[METRIC]", "--over", "--cmap", "--json"]),
        (["models", "--help"], ["fetch"]),
        (["models", "fetch", "--help"], ["--revision", "smollm2"]),
    ],
)
def test_help(logitlens: Shell, arguments: list[str], words: list[str]) -> None:
    ran = logitlens(*arguments)
    assert (ran.code, ran.err) == (0, [])
    assert not [word for word in words if word not in "\n".join(ran.out)]


def test_no_command_shows_the_help(logitlens: Shell) -> None:
    ran = logitlens()
    assert (ran.code, ran.err) == (2, [])
    assert "\n".join(ran.out).strip() == "\n".join(logitlens("--help").out).strip()


def test_version(logitlens: Shell) -> None:
    assert logitlens("--version") == Ran(0, ["logitlens 0.1.0"], [])


def test_models_are_listed(logitlens: Shell) -> None:
    ran = logitlens("models")
    assert (ran.code, ran.err) == (0, [])
    assert ran.out[0].split() == ["name", "blocks", "width", "vocabulary", "size", "path"]
    assert ran.out[1].split()[:4] == ["smollm2", "30", "576", "49152"]


def test_a_model_is_fetched(logitlens: Shell) -> None:
    ran = logitlens("models", "fetch", "-q")
    assert (ran.code, len(ran.out), ran.err) == (0, 1, [])
    assert (Path(ran.out[0]) / "config.json").is_file()


# ---- the process


def process(*arguments: object, stdout: Any = subprocess.PIPE, **options: Any) -> Ran:
    """The console script itself."""
    line = [str(SCRIPT), *map(str, arguments)]
    with subprocess.Popen(
        line, stdout=stdout, stderr=subprocess.PIPE, text=True, **options
    ) as child:
        out, err = child.communicate(timeout=120)
    return Ran(child.returncode, (out or "").splitlines(), err.splitlines())


@pytest.fixture(scope="module")
def dump(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    out = tmp_path_factory.mktemp("dump")
    line = ["all", "-t", TEXT, "-m", str(tiny_folder), "-o", str(out), "--name", "x", "-q"]
    assert app.main([*line, "--format", "svg"]) == 0
    return out / "x.all.json"


def test_the_console_script(tiny_folder: Path, tmp_path: Path) -> None:
    line = ["topk", "-t", TEXT, "-m", tiny_folder, "-o", tmp_path, "--format", "svg"]
    names = [str(tmp_path / "the-cat.topk.json"), str(tmp_path / "the-cat.topk.svg")]
    assert process(*line) == Ran(0, names, [])
    assert process("topk").refusal(2).startswith("there is no prompt; ")


def test_a_reader_that_goes_away(dump: Path, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        ran = process("render", dump, "-o", tmp_path, "--format", "svg", stdout=closed)
        lists = process("models", "families", stdout=closed)
    assert ran == lists == Ran(0, [], [])
    assert len(list(tmp_path.iterdir())) == 4


def test_work_goes_on_when_its_reader_goes_away(tiny_folder: Path, tmp_path: Path) -> None:
    lines = tmp_path / "set.txt"
    lines.write_text("the cat\n" * 3)
    reader, writer = os.pipe()
    os.close(reader)
    read = ["rank", "-m", tiny_folder, "--format", "svg", "-q"]
    with os.fdopen(writer, "w") as closed:
        ran = process(*read, "--lines", lines, "-o", tmp_path / "many", stdout=closed)
        shown = process(*read, "--no-json", "--format", "none", "--show", "-t", TEXT, stdout=closed)
    assert ran == shown == Ran(0, [], [])
    assert len(list((tmp_path / "many").glob("*.json"))) == 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
def test_a_standard_output_that_is_full(dump: Path, tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        ran = process("render", dump, "rank", "-o", tmp_path, "--format", "svg", stdout=full)
    assert ran.refusal(1) == (
        "standard output cannot be written: No space left on device; "
        f"{tmp_path}/x.rank.svg is there all the same"
    )


def test_an_output_folder_that_is_full(dump: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk; 20 kB are less than a figure."""
    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    out = tmp_path / "out"
    ran = process("render", dump, "-o", out, "--format", "png", preexec_fn=limit)
    assert ran.refusal(1) == (
        f"{out}/x.topk.png cannot be written: File too large; "
        "free some space, or choose another folder with --out"
    )
    assert not list(out.iterdir())


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


@pytest.mark.parametrize("module", ["typer", "logitlens_cli.commands.read", "matplotlib.figure"])
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
from logitlens_cli import __main__, redraw
from logitlens_cli.files import staged

class Late:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)  # where Python lets nothing be raised
        for _ in range(9):
            pass

def render(request):
    with staged() as stage:
        try:
            stage.write(request.out / "x", lambda file: file.write(b"x"))
            late = Late()
            del late
            time.sleep(60)
        finally:
            os.kill(os.getpid(), signal.SIGINT)  # somebody is impatient
            time.sleep(0.1)
    yield request.out / "x"

redraw.render = render
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
from logitlens_cli import __main__, model

def fetch_model(name, **options):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)

model.fetch_model = fetch_model
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


def test_an_unexpected_error_is_shown_whole_on_demand(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LOGITLENS_DEBUG", "1")
    with pytest.raises(WorkError, match="cannot be written"):
        app.main(["topk", "-t", TEXT, "-o", "/proc/none"])


LOADED = """
import sys
from logitlens_cli import cli, model
code = cli.main(sys.argv[1:])
heavy = {"torch", "transformers", "numpy", "matplotlib", "seaborn", "pandas", "safetensors"}
print(code, *sorted(heavy & set(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("arguments", "loaded"),
    [
        (["--help"], "0"),
        (["all", "--help"], "0"),
        (["--version"], "0"),
        (["topk"], "2"),
        (["topk", "-t", "a", "--dry-run"], "0"),
        (["models"], "0"),
        (["render", "DUMP", "--dry-run"], "0 numpy"),
        (["render", "DUMP", "-o", "OUT"], "0 matplotlib numpy pandas seaborn"),
        (["diff", "DUMP", "DUMP", "--dry-run"], "0 numpy"),
        (["diff", "DUMP", "DUMP", "-o", "OUT"], "0 matplotlib numpy pandas seaborn"),
    ],
)
def test_nothing_heavy_is_loaded_in_vain(
    dump: Path, tmp_path: Path, arguments: list[str], loaded: str
) -> None:
    places = {"DUMP": str(dump), "OUT": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *(places.get(a, a) for a in arguments)],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert done.stderr.splitlines()[-1] == loaded


def test_what_an_interrupt_does_to_a_library_is_an_interrupt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A module in C whose loading is interrupted raises an ImportError of its own."""

    def loading(request: object) -> None:
        with suppress(KeyboardInterrupt):
            app.stop(signal.SIGINT, None)
        raise ImportError("initialization failed")

    monkeypatch.setattr(app, "stop", app.Stop())
    monkeypatch.setattr(app, "paths_of", loading)
    assert app.main(["topk", "-t", "a"]) == 130
    assert capsys.readouterr().err == "logitlens: interrupted\n"
