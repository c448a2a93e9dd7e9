"""The command line: what bad input gets, exit codes, help, and what is kept out of the way."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Ran, Shell
from options_of import parsed

from logitlens_cli.cli import app
from logitlens_cli.commands.table import commands
from logitlens_cli.errors import WorkError

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


USUAL = [
    *("file", "lines", "model", "every", "window", "color", "format", "title", "width"),
    *("lock-in", "probs", "out", "name", "show", "help"),
]


def shown_options(ran: Ran) -> list[str]:
    return re.findall(r"^  (?:-\w, )?--([a-z-]+)", "\n".join(ran.out), re.MULTILINE)


def test_the_short_help_shows_what_people_use(logitlens: Shell) -> None:
    short, whole = logitlens("topk", "-h"), logitlens("topk", "--help")
    assert shown_options(short) == USUAL
    assert set(shown_options(short)) < set(shown_options(whole))
    more = len(shown_options(whole)) - len(shown_options(short))
    assert short.out[-1] == f"--help shows {more} more options."
    assert whole.out[-2:] == short.out[-4:-2]  # the example


@pytest.mark.parametrize("name", sorted(commands()))
def test_each_command_has_a_short_help_and_an_example(logitlens: Shell, name: str) -> None:
    """The example is a command line that parses."""
    short = logitlens(name, "-h")
    assert (short.code, short.err) == (0, [])
    assert len(shown_options(short)) <= 15 + len(["help"])
    example = short.out[short.out.index("Example:") + 1].split(maxsplit=1)
    assert example[0] == "logitlens"
    words = shlex.split(example[1])
    assert words[0] == name
    assert type(parsed(*words)).__name__ == commands()[name].__name__


def test_few_options_are_shown_all(logitlens: Shell) -> None:
    assert logitlens("tokens", "-h").out == logitlens("tokens", "--help").out
    assert "--quiet" in "\n".join(logitlens("models", "check", "-h").out)


def test_a_text_that_looks_like_help(logitlens: Shell) -> None:
    ran = logitlens("topk", "-t", "-h", "--dry-run", "--format", "none")
    assert ran.out == ["outputs/h.topk.json"]


def test_no_command_shows_the_help(logitlens: Shell) -> None:
    ran = logitlens()
    assert (ran.code, ran.err) == (2, [])
    assert "\n".join(ran.out).strip() == "\n".join(logitlens("--help").out).strip()


def test_version(logitlens: Shell) -> None:
    assert logitlens("--version") == Ran(0, ["logitlens 0.1.0"], [])


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
        f"{tmp_path}/x.rank.svg was written all the same"
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


def test_an_unexpected_error_is_shown_whole_on_demand(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LOGITLENS_DEBUG", "1")
    with pytest.raises(WorkError, match="cannot be written"):
        app.main(["topk", "-t", TEXT, "-o", "/proc/none"])


LOADED = """
import sys
import logitlens_cli.model.open
from logitlens_cli.cli import app
code = app.main(sys.argv[1:])
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
