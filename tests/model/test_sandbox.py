"""What comes with a model ends in time, and leaves signals and limits as they were."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from conftest import Shell, heed_interrupts
from model_files import BACKTRACKING, split_by
from tokenizers import pre_tokenizers

from logitlens_cli.errors import UsageError, WorkError
from logitlens_cli.lens.lens_model import LensModel
from logitlens_cli.model import sandbox
from logitlens_cli.model.tokenizer import encode


def test_the_result_of_a_thread_comes_back() -> None:
    assert sandbox.run_with_timeout("it", 0, lambda: 7) == 7
    for error in (UsageError("a", "b"), TimeoutError("its own"), KeyboardInterrupt()):

        def fail(error: BaseException = error) -> None:
            raise error

        with pytest.raises(type(error)) as caught:
            sandbox.run_with_timeout("it", 0, fail)
        assert caught.value is error


def test_what_takes_too_long_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "SECONDS", 0.1)
    over = threading.Event()
    start = time.monotonic()
    # 0.1 s, and 0.2 s for 2000 characters
    with pytest.raises(WorkError, match=r"^it needs more than 0 s for a text of 2000 characters; "):
        sandbox.run_with_timeout("it", 2000, lambda: over.wait(100))
    assert 0.3 <= time.monotonic() - start < 10
    over.set()


def test_a_panic_is_one_line(read: Shell, tiny_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "hostile"))
    split_by("(a|a)*$")(folder)
    ran = read("rank", "-m", folder, "-t", "a" * 40 + "!")
    assert ran.refusal(1).startswith("the tokenizer of hostile fails: Onig: Regex search error")
    lines = tmp_path / "set.txt"
    lines.write_text("\n".join(["the cat", "a" * 40 + "!", "cat"]))
    ran = read("rank", "-m", folder, "--lines", lines)
    assert (ran.code, len(ran.out)) == (4, 4)
    assert ran.err[0].startswith("logitlens: line 2 (set-2): the tokenizer of hostile fails")
    ran = read("rank", "-m", folder, "-t", "the cat", "--target", "a" * 40 + "!")
    assert ran.refusal(1).startswith("the tokenizer of hostile fails: Onig: Regex search error")


def test_rust_is_silent(tokenizer: Any, capfd: pytest.CaptureFixture[str]) -> None:
    own = tokenizers.Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    own.pre_tokenizer = pre_tokenizers.Split(tokenizers.Regex("(a|a)*$"), "isolated")
    with pytest.raises(WorkError, match=r"^it fails: Onig: Regex search error: retry-limit"):
        sandbox.run_with_timeout("it", 0, lambda: own.encode_batch(["a" * 40 + "!"]))
    os.write(2, b"heard again")
    assert capfd.readouterr().err == "heard again"


def test_of_a_batch_one_prompt_takes_too_long(
    read: Shell, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "SECONDS", 2.0)
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "hostile"))
    split_by(BACKTRACKING)(folder)
    lines = tmp_path / "set.txt"
    lines.write_text("\n".join(["the cat", "a" * 2000, "cat"]))
    ran = read("rank", "-m", folder, "--lines", lines)
    assert (ran.code, len(ran.out)) == (4, 4)
    assert "line 2 (set-2): the tokenizer of hostile needs more than 2 s for" in ran.err[0]


def for_ever() -> None:
    with sandbox.resource_limits("it", "leave it"):
        while True:
            pass


def test_programs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "SECONDS", 0.1)
    before = signal.getsignal(signal.SIGALRM), resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(WorkError, match=r"^it needs more than 0 s; leave it$"):
        for_ever()
    with pytest.raises(MemoryError), sandbox.resource_limits("it", "leave it"):
        "x" * 2**30
    after = signal.getsignal(signal.SIGALRM), resource.getrlimit(resource.RLIMIT_AS)
    assert before == after
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_elsewhere_than_in_the_main_thread_signals_are_left_alone() -> None:
    seen = []

    def run() -> None:
        with sandbox.resource_limits("it", "leave it"):
            seen.append(signal.getitimer(signal.ITIMER_REAL))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)
    assert seen == [(0, 0)]


def test_a_megabyte_of_words_is_no_trouble(smollm2: LensModel) -> None:
    text = Path(sandbox.__file__).read_text("utf-8")
    text = (text * (10**6 // len(text) + 1))[: 10**6]
    start = time.monotonic()
    made = sandbox.run_with_timeout("it", len(text), lambda: encode(smollm2.tokenizer, text))
    spent = time.monotonic() - start
    print(f"{spent:.2f} s")
    assert len(made.ids) > 10**5
    assert spent < (sandbox.SECONDS + len(text) / sandbox.PACE) / 4


# The command line, told to end while the tokenizer works.
TOLD = """
import os, sys, threading
from logitlens_cli.model import sandbox
from logitlens_cli.__main__ import entry
run_with_timeout = sandbox.run_with_timeout
number = int(sys.argv.pop())
def interrupted(what, characters, work):
    if characters:
        threading.Timer(1, os.kill, (os.getpid(), number)).start()
    return run_with_timeout(what, characters, work)
sandbox.run_with_timeout = interrupted
entry()
"""


@pytest.mark.parametrize(
    ("number", "ended"),
    [(signal.SIGINT, (130, "interrupted")), (signal.SIGTERM, (143, "terminated"))],
    ids=str,
)
def test_a_tokenizer_that_hangs_can_be_stopped(
    tiny_folder: Path, tmp_path: Path, number: int, ended: tuple[int, str]
) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "hostile"))
    split_by(BACKTRACKING)(folder)
    text = tmp_path / "text.txt"
    text.write_text("a" * 10**6)  # which may take 130 s
    line = ["rank", "-f", text, "-m", folder, "-o", tmp_path / "out", "-q"]
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", TOLD, *map(str, line), str(int(number))],
        capture_output=True, text=True, timeout=150, check=False, preexec_fn=heed_interrupts,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (ended[0], f"logitlens: {ended[1]}\n")
    assert time.monotonic() - start < 60
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
