"""It runs where its users are: with what macOS and Windows do not have taken away."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# Python runs this first in every process, also in those that draw. What is missing is missing for
# our package only: the libraries here are those for Linux, and need what they use.
WITHOUT = """
import builtins, os, signal, sys, time, types

MODULES = set("fcntl resource termios tty pty pwd grp syslog posix".split())
NAMES = set('''
    sched_getaffinity sched_setaffinity process_cpu_count fork forkpty wait3 wait4 nice
    getuid geteuid getgid getegid getgroups getpgid getpgrp setsid getsid killpg getloadavg
    chown lchown fchown fchmod mkfifo mknod chroot sysconf statvfs fstatvfs pread pwrite sync
    O_NOFOLLOW O_DIRECTORY O_CLOEXEC O_NONBLOCK O_TMPFILE O_SYNC O_DSYNC O_NOCTTY
    SIGALRM SIGKILL SIGHUP SIGQUIT SIGPIPE SIGUSR1 SIGUSR2 SIGCHLD SIGCONT SIGSTOP SIGTSTP
    setitimer getitimer ITIMER_REAL alarm pause siginterrupt pthread_sigmask pthread_kill
    sigpending sigwait SIG_BLOCK SIG_UNBLOCK SIG_SETMASK tzset clock_gettime
'''.split())

def missing(known, names, name):
    asks = str(known.get("__name__")).partition(".")[0]
    return name in names and asks in ("logitlens_cli", "__main__", "__mp_main__")

class Poor(types.ModuleType):
    def __getattribute__(self, name):
        if missing(sys._getframe(1).f_globals, NAMES, name):
            raise AttributeError(f"no {name} here")
        return super().__getattribute__(name)

for module in (os, signal, time):
    module.__class__ = Poor
load = builtins.__import__

def loading(name, globals=None, locals=None, fromlist=(), level=0):
    if missing(globals or {}, MODULES, name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return load(name, globals, locals, fromlist, level)

builtins.__import__ = loading
"""

IMPORTS = """
import importlib, os, pkgutil, signal
import logitlens_cli
assert not hasattr(os, "sched_getaffinity") and not hasattr(signal, "SIGALRM")
try:
    import fcntl
except ModuleNotFoundError:
    pass
else:
    raise AssertionError("fcntl is there")
for module in pkgutil.walk_packages(logitlens_cli.__path__, "logitlens_cli."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
        print(module.name)
"""


@pytest.fixture
def poor(tmp_path: Path) -> dict[str, str]:
    """The environment of processes on a system that lacks much."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(WITHOUT)
    package = Path(__file__).parent.parent
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), str(package)])}


def process(poor: dict[str, str], *line: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, line)],
        env=poor, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_every_module_loads(poor: dict[str, str]) -> None:
    done = process(poor, "-c", IMPORTS)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) > 40


def test_a_single_run(poor: dict[str, str], tiny_folder: Path, out: Path) -> None:
    line = ["-m", "logitlens_cli", "rank", "-t", "the cat", "-m", tiny_folder, "-o", out]
    done = process(poor, *line, "--format", "png")
    assert (done.returncode, done.stderr) == (0, "")
    assert names(out) == ["the-cat.rank.json", "the-cat.rank.png"]


def test_a_batch(poor: dict[str, str], tiny_folder: Path, out: Path, tmp_path: Path) -> None:
    (tmp_path / "set.txt").write_text("the cat\na dog\n")
    line = ["-m", "logitlens_cli", "rank", "--lines", tmp_path / "set.txt"]
    line += ["-m", tiny_folder, "-o", out, "--jobs", "1", "--format", "png"]
    done = process(poor, *line)
    assert done.returncode == 0
    assert done.stderr.splitlines()[-1] == "logitlens: reading 2 prompts"
    made = [f"set-{n}.rank.{end}" for n in (1, 2) for end in ("json", "png")]
    assert names(out) == [*made, "set.rank.done.jsonl"]
    again = process(poor, *line)
    assert (again.returncode, again.stdout) == (0, done.stdout)
    assert again.stderr == "logitlens: 2 of 2 prompts are done already\n"


def test_a_limit_that_is_missing_is_told(
    poor: dict[str, str], tiny_folder: Path, out: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "chatty"))
    template = "{% for message in messages %}{{ message.content }}{% endfor %}"
    (folder / "chat_template.jinja").write_text(template)
    line = ["-m", "logitlens_cli", "rank", "-t", "the cat", "--chat", "-m", folder, "-o", out]
    done = process(poor, *line, "--format", "none")
    assert done.returncode == 0
    assert done.stderr == (
        "logitlens: --chat: the chat template's time and memory cannot be limited on this system\n"
    )


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "nonsense", ""])
@pytest.mark.parametrize("jobs", ["0", "1"])
def test_figures_from_a_notebook(
    tiny_folder: Path, tmp_path: Path, backend: str, jobs: str
) -> None:
    """Jupyter names its own backend to what it starts, whether or not that is installed here."""
    (tmp_path / "set.txt").write_text("the cat\n")
    line = ["-m", "logitlens_cli", "rank", "--lines", tmp_path / "set.txt", "-m", tiny_folder]
    line += ["-o", tmp_path, "--jobs", jobs, "--format", "png,svg,pdf", "--no-json", "-q"]
    done = process(os.environ | {"MPLBACKEND": backend}, *line)
    assert (done.returncode, done.stderr) == (0, "")
    assert [Path(path).suffix for path in done.stdout.split()] == [".png", ".svg", ".pdf"]
