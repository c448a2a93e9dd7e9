"""The same command writes the same bytes, wherever and however it is run."""

import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

FORMATS = ["--format", "png,svg,pdf"]
# A dotted capital I, which Turkish lowers in its own way, and is two tokens' bytes.
READ = ["all", "--text", "İI the cat", "--name", "it", "--table", "md,csv", "--caption"]
LOOKS = "axes.facecolor: red\nsavefig.dpi: 33\nfont.size: 20\nsvg.hashsalt: other\n"


@dataclass(frozen=True)
class Surroundings:
    """All that must not matter, but for the number of threads."""

    environment: Mapping[str, str] = field(default_factory=dict)
    terminal: bool = False
    elsewhere: bool = False
    """another --out, and a style of matplotlib in the working folder"""
    threads: int = 1

    def run(self, arguments: list[str], model: Path | None, folder: Path) -> dict[str, bytes]:
        """What ``logitlens ARGUMENTS`` writes when it is run in ``folder``."""
        folder.mkdir(parents=True)
        out = Path("deep/down" if self.elsewhere else "out")
        if self.elsewhere:
            (folder / "matplotlibrc").write_text(LOOKS)
        if model is not None:  # the dump keeps options as they were given
            shutil.copytree(model, folder / "models" / model.name)
            arguments = [*arguments, "--model", f"models/{model.name}"]
        kept = {k: v for k, v in os.environ.items() if k not in ("TZ", "LANG", "SOURCE_DATE_EPOCH")}
        threads = {"OMP_NUM_THREADS": str(self.threads)}
        command = [sys.executable, "-m", "logitlens_cli", *arguments, *FORMATS, "-o", str(out)]
        code, said = (on_terminal if self.terminal else in_pipe)(
            command, folder, kept | threads | dict(self.environment)
        )
        assert code == 0, said
        return {path.name: path.read_bytes() for path in (folder / out).iterdir()}


def in_pipe(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    return ran.returncode, ran.stderr


def on_terminal(command: list[str], folder: Path, environment: dict[str, str]) -> tuple[int, str]:
    ours, its = pty.openpty()
    with subprocess.Popen(
        command, cwd=folder, env=environment, stdin=its, stdout=its, stderr=its
    ) as child:
        os.close(its)
        said = b""
        try:
            while some := os.read(ours, 65536):
                said += some
        except OSError:  # how Linux says that the other side is closed
            pass
        os.close(ours)
    return child.returncode, said.decode(errors="replace")


PLAIN = Surroundings({"TZ": "UTC", "LC_ALL": "C", "PYTHONHASHSEED": "0", "PYTHONUTF8": "1"})
# Each by itself, to say which one it is; the tests try them all at once.
VARIED = {
    "folder": Surroundings(PLAIN.environment, elsewhere=True),
    "time zone": Surroundings({**PLAIN.environment, "TZ": "Asia/Kathmandu"}),
    "locale": Surroundings({**PLAIN.environment, "LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8"}),
    "hash seed": Surroundings({**PLAIN.environment, "PYTHONHASHSEED": "4711"}),
    "terminal": Surroundings(
        {**PLAIN.environment, "TERM": "xterm-256color", "COLUMNS": "61"}, terminal=True
    ),
}
ALL = Surroundings(
    {name: value for one in VARIED.values() for name, value in one.environment.items()}
    | {"TZ": "Asia/Kathmandu", "LC_ALL": "tr_TR.UTF-8", "PYTHONHASHSEED": "4711"},
    terminal=True,
    elsewhere=True,
)
THREADS = Surroundings(PLAIN.environment, threads=2)


@pytest.fixture(scope="module", autouse=True)
def turkish(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Turkish locale of our own (decimal comma, letters i with and without a dot). Where it
    cannot be made, its name is one that C libraries refuse, and how the tool takes that is tried.
    """
    folder = tmp_path_factory.mktemp("locales")
    if shutil.which("localedef"):
        command = ["localedef", "-i", "tr_TR", "-f", "UTF-8", str(folder / "tr_TR.UTF-8")]
        subprocess.run(command, check=False, capture_output=True, timeout=60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCPATH", str(folder))
        yield


def differing(a: dict[str, bytes], b: dict[str, bytes]) -> list[str]:
    return sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))


def must_agree(arguments: list[str], model: Path | None, plain: dict[str, bytes], at: Path) -> None:
    """Run once with everything varied; only if that differs, once for each."""
    if names := differing(plain, ALL.run(arguments, model, at / "all")):
        culprits = [
            what
            for what, one in VARIED.items()
            if differing(plain, one.run(arguments, model, at / what))
        ] or ["a second run"]
        pytest.fail(f"{', '.join(culprits)} changed {', '.join(names)}")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> dict[str, bytes]:
    return PLAIN.run(READ, tiny_folder, tmp_path_factory.mktemp("plain") / "here")


@pytest.mark.xdist_group("reproducible")
def test_surroundings_do_not_matter(
    plain: dict[str, bytes], tiny_folder: Path, tmp_path: Path
) -> None:
    assert len(plain) == 1 + 4 * 6  # the dump; png, svg, pdf, md, csv, txt of each figure
    must_agree(READ, tiny_folder, plain, tmp_path)


@pytest.mark.xdist_group("reproducible")
def test_threads_change_last_bits_at_most(
    plain: dict[str, bytes], tiny_folder: Path, tmp_path: Path
) -> None:
    other = THREADS.run(READ, tiny_folder, tmp_path / "two")
    assert other.keys() == plain.keys()
    one, two = (json.loads(files["it.all.json"]) for files in (plain, other))
    assert one["guesses"]["ids"] == two["guesses"]["ids"]
    for metric in one["metrics"]:
        values, others = (np.array(dump["metrics"][metric]["values"], float) for dump in (one, two))
        np.testing.assert_allclose(values, others, rtol=1e-4, atol=1e-4)


@pytest.mark.xdist_group("reproducible")
def test_a_dump_is_drawn_as_it_was(plain: dict[str, bytes], tmp_path: Path) -> None:
    dump = tmp_path / "it.all.json"
    dump.write_bytes(plain[dump.name])
    drawn = {name: data for name, data in plain.items() if name != dump.name}
    render = ["render", str(dump), "--name", "it", "--table", "md,csv", "--caption"]
    must_agree(render, None, drawn, tmp_path)


def test_a_difference_is_seen() -> None:
    assert differing({"a": b"1", "b": b"2"}, {"a": b"1", "b": b"3", "c": b""}) == ["b", "c"]
