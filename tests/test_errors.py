"""What a user can get wrong: one line each, whatever the error was."""

import os
import pickle
from pathlib import Path

import pytest

from logitlens_cli.errors import (
    LONGEST,
    BatchError,
    DiskError,
    LogitLensError,
    ProofError,
    UsageError,
    WorkError,
    as_known_error,
    discard_stream,
    nearest,
    one_line,
)

KINDS = (LogitLensError, UsageError, WorkError, DiskError, ProofError, BatchError)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("plain", "plain"),
        ("  two  spaces stay  ", "two  spaces stay"),
        ("a\nb\r\nc\td", "a b  c d"),
        ("\x1b[31mred", "[31mred"),
        ("日·e\u0301", "日·e\u0301"),
        ("a\u202eb\u200b", "a b"),
        ("\ud800x", "x"),
        ("", ""),
    ],
)
def test_one_line(text: str, line: str) -> None:
    assert one_line(text) == line


def test_of_a_long_text_the_middle_is_left_out() -> None:
    whole = "a" * LONGEST + "b" * LONGEST
    assert one_line(whole) == whole
    assert one_line(f"{'a' * LONGEST}x{'b' * LONGEST}") == f"{'a' * LONGEST} ... {'b' * LONGEST}"


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_is_its_problem_and_its_hint(kind: type[LogitLensError]) -> None:
    error = kind("it is\nwrong", "do this\n")
    assert (error.problem, error.hint, str(error)) == (
        *("it is wrong", "do this", "it is wrong; do this"),
    )


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_comes_whole_from_another_process(kind: type[LogitLensError]) -> None:
    again = pickle.loads(pickle.dumps(kind("wrong", "do this")))
    assert type(again) is kind
    assert (again.problem, again.hint, str(again)) == ("wrong", "do this", "wrong; do this")


def test_an_error_of_ours_stays_as_it_is() -> None:
    error = ProofError("wrong", "do this")
    assert as_known_error(error) is error


MEMORY = "shorten the text, use --every or --batch-tokens, or take a smaller model"
INTERNAL = "LOGITLENS_DEBUG=1 shows the traceback; please report it"


@pytest.mark.parametrize(
    ("error", "problem", "hint"),
    [
        (MemoryError(), "there is not enough memory (MemoryError)", MEMORY),
        (MemoryError("so much"), "there is not enough memory (so much)", MEMORY),
        (
            RuntimeError("CUDA out of memory"),
            "there is not enough memory (CUDA out of memory)",
            MEMORY,
        ),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate"),
            "there is not enough memory (DefaultCPUAllocator: can't allocate)",
            MEMORY,
        ),
        (
            PermissionError(13, "Permission denied", "/x"),
            "/x: Permission denied",
            "check the path and its permissions",
        ),
        (
            OSError(28, "No space left on device"),
            "No space left on device",
            "check the path and its permissions",
        ),
        (OSError("odd"), "internal error: OSError: odd", INTERNAL),
        (KeyError("a\nb"), r"internal error: KeyError: 'a\nb'", INTERNAL),
        (ValueError("a\nb"), "internal error: ValueError: a b", INTERNAL),
    ],
)
def test_any_error_as_a_line(error: BaseException, problem: str, hint: str) -> None:
    known = as_known_error(error)
    assert type(known) is WorkError
    assert (known.problem, known.hint) == (problem, hint)


def test_an_error_is_raised_for_its_traceback_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGITLENS_DEBUG", "1")
    ours = UsageError("wrong", "do this")
    assert as_known_error(ours) is ours
    with pytest.raises(KeyError):
        as_known_error(KeyError("a"))


def test_what_is_written_to_a_discarded_stream_vanishes(tmp_path: Path) -> None:
    path = tmp_path / "x"
    descriptors = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else None
    with path.open("w") as stream:
        stream.write("before")
        stream.flush()
        discard_stream(stream)
        stream.write("after")
    assert path.read_text() == "before"
    if descriptors is not None:
        assert len(os.listdir("/proc/self/fd")) == descriptors


@pytest.mark.parametrize(
    ("word", "prefix", "question"),
    [
        ("entropi", "", "did you mean entropy? "),
        ("RANK", "", "did you mean rank? "),
        ("rnk", "", "did you mean rank? "),
        ("kl-initial", "", "did you mean kl-final? "),
        ("zzz", "", ""),
        ("", "", ""),
    ],
)
def test_names_that_are_near(word: str, prefix: str, question: str) -> None:
    assert nearest(word, ["rank", "entropy", "kl-input", "kl-final"], prefix) == question


def test_a_prefix_makes_no_names_alike() -> None:
    names = ["LOGITLENS_EVERY", "LOGITLENS_OVER"]
    assert nearest("LOGITLENS_EVRY", names, "LOGITLENS_") == "did you mean LOGITLENS_EVERY? "
    assert nearest("LOGITLENS_ZZ", names, "LOGITLENS_") == ""
