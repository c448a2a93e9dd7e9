"""What is said while work lasts: on a terminal, and where there is none."""

import os
import re
import subprocess
import sys

import pytest
from listening import Listening

from logitlens_cli.commands import progress as progress_module
from logitlens_cli.commands.progress import TerminalCount, TerminalProgress

# ---- without a terminal


def test_steps_are_silent_without_a_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    progress = TerminalProgress()
    with progress.step("reading x"), progress.count(3) as count:
        count.add(prompts=1, tokens=10)
    assert capsys.readouterr() == ("", "logitlens: reading 3 prompts\n")


def test_long_work_says_each_step_elsewhere_too(capsys: pytest.CaptureFixture[str]) -> None:
    with TerminalProgress(long=True).step("loading x"):
        assert capsys.readouterr() == ("", "logitlens: loading x\n")
    with TerminalProgress(long=True, quiet=True).step("loading x"):
        assert capsys.readouterr() == ("", "")


def test_a_note_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    TerminalProgress().note("one\nline \x1b[31m")
    assert capsys.readouterr() == ("", "logitlens: one line  [31m\n")


def test_quiet_is_about_notes_and_not_about_failures(capsys: pytest.CaptureFixture[str]) -> None:
    progress = TerminalProgress(quiet=True)
    progress.note("a note")
    progress.failure("a failure")
    assert capsys.readouterr() == ("", "logitlens: a failure\n")


def test_without_a_standard_error_nothing_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    progress = TerminalProgress()
    progress.failure("a failure")
    with progress.step("reading x"), progress.count(1) as count:
        count.add(prompts=1)
    assert capsys.readouterr().out == ""


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress_module, "time", clock)
    return clock


def test_a_long_work_says_now_and_then_how_far_it_is(clock: Clock) -> None:
    heard = Listening()
    count = TerminalCount(heard, 40)
    clock.now += 29
    count.add(prompts=1, tokens=300)
    assert heard.notes == []
    clock.now += 31
    count.add(tokens=300)  # 600 tokens in 60 s; one prompt tells nothing of the time left
    assert heard.notes == ["1 of 40 prompts, 10 tokens/s"]
    clock.now += 29
    count.add(prompts=9)
    assert len(heard.notes) == 1
    clock.now += 31  # 10 prompts in 120 s, and 30 are left
    count.add()
    assert heard.notes[1:] == ["10 of 40 prompts, 5 tokens/s, 6 min left"]


def test_work_whose_first_prompt_takes_long_is_not_silent(clock: Clock) -> None:
    heard = Listening()
    count = TerminalCount(heard, 2)
    clock.now += 100
    count.add()
    assert heard.notes == ["0 of 2 prompts"]


def test_prompts_that_are_done_at_once_tell_nothing_of_the_time_left(clock: Clock) -> None:
    shown = []
    count = TerminalCount(Listening(), 100, lambda done, state: shown.append(state))
    clock.now += 2
    count.add(prompts=50, tokens=100)
    clock.now += 8  # 50 in 10 s
    count.add()
    assert shown == [", 50 tokens/s", ", 10 tokens/s, 0 min left"]


def test_a_count_that_is_shown_is_not_said_too(clock: Clock) -> None:
    heard, shown = Listening(), []
    count = TerminalCount(heard, 2, lambda done, state: shown.append((done, state)))
    clock.now += 50
    count.add(prompts=1, tokens=100)
    count.add(prompts=1)
    assert (heard.notes, shown) == ([], [(1, ", 2 tokens/s"), (2, ", 2 tokens/s")])


# ---- on a terminal

WORK = """
import sys
from logitlens_cli.commands.progress import TerminalProgress
progress = TerminalProgress(quiet="quiet" in sys.argv)
with progress.step("reading [x]"):
    pass
with progress.count(3) as count:
    for n in range(3):
        count.add(tokens=10)
        print(f"path-{n}", flush=True)
        count.add(prompts=1)
progress.note("done")
"""


def on_a_terminal(*arguments: str) -> tuple[str, str]:
    """Standard output, which is a pipe, and what stood on the terminal of standard error."""
    pty = pytest.importorskip("pty")
    mine, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", WORK, *arguments],
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    ) as child:
        os.close(theirs)
        data = b""
        try:
            while more := os.read(mine, 65536):
                data += more
        except OSError:  # which is how a terminal ends
            pass
        finally:
            os.close(mine)
        assert child.stdout is not None
        out = child.stdout.read()
    assert child.returncode == 0
    return out, re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", data.decode())


def test_a_bar_on_a_terminal() -> None:
    out, shown = on_a_terminal()
    assert out == "path-0\npath-1\npath-2\n"  # nothing of the bar
    assert "reading [x]" in shown
    assert "reading the first" in shown
    assert re.search(r"━+\S* *3/3 prompts, \d+ tokens/s", shown)
    assert "path" not in shown
    assert shown.splitlines()[-1] == "logitlens: done"


def test_quiet_on_a_terminal() -> None:
    assert on_a_terminal("quiet") == ("path-0\npath-1\npath-2\n", "")
