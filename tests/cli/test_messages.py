"""What the command line says: paths on standard output, errors as a line, exit codes."""

import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from conftest import Shell
from typer.exceptions import TyperException

from logitlens_cli.cli.messages import (
    print_error,
    print_path,
    usage_message,
)
from logitlens_cli.errors import WorkError


def test_a_path_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_path(Path("out/x y.png"))
    assert capsys.readouterr() == ("out/x y.png\n", "")


def test_a_path_that_standard_output_cannot_encode(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    print_path(Path("out/a.png"))
    print_path(Path("out/\u6771.png"))
    print_path(Path("out/b.png"))
    assert written.getvalue() == "out/a.png\nout/\u6771.png\nout/b.png\n".encode()


def test_an_error_is_a_line_and_a_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_error("it is\nwrong; do\tthis", 3) == 3
    assert capsys.readouterr() == ("", "logitlens: it is wrong; do this\n")


def test_an_error_without_a_standard_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Standard output is not written instead."""
    monkeypatch.setattr(sys, "stderr", None)
    assert print_error("wrong", 1) == 1
    assert capsys.readouterr().out == ""


def refuse_writing(number: int) -> object:
    """A standard output on which nothing can be written, in the way of an error's number."""

    class Stream:
        descriptor = os.open(os.devnull, os.O_WRONLY)

        def write(self, text: str) -> int:
            raise OSError(number, os.strerror(number))

        def flush(self) -> None:
            """Nothing waits."""

        def fileno(self) -> int:
            return self.descriptor

    return Stream()


def test_a_reader_that_is_gone_does_not_stop_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = refuse_writing(errno.EPIPE)
    monkeypatch.setattr(sys, "stdout", stream)
    print_path(Path("x.png"))
    os.close(stream.fileno())  # type: ignore[attr-defined]


def test_a_full_standard_output_names_what_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = refuse_writing(errno.ENOSPC)
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.raises(WorkError) as caught:
        print_path(Path("x.png"))
    assert str(caught.value) == (
        "standard output cannot be written: No space left on device; x.png was written all the same"
    )
    os.close(stream.fileno())  # type: ignore[attr-defined]


def test_words_of_typer_without_their_full_stop() -> None:
    error = TyperException("Value error, something is odd.")
    assert usage_message(error) == "something is odd; see logitlens --help"


def test_words_of_typer_about_a_command() -> None:
    error = typer.BadParameter("it is odd")
    error.ctx = type("Context", (), {"command_path": "logitlens topk"})()
    assert usage_message(error) == "Invalid value: it is odd; see logitlens topk --help"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["The cat's"],
            'No such command "The cat\'s"; to see what every layer guesses in a text, write '
            "logitlens topk 'The cat'\"'\"'s'; see logitlens --help",
        ),
        (["TOPK"], "No such command 'TOPK'; did you mean topk? See logitlens --help"),
        (["tokp"], "No such command 'tokp'; did you mean topk? See logitlens --help"),
        (
            ["models", "chek"],
            "No such command 'chek'; did you mean check? See logitlens models --help",
        ),
        (["models", "x"], "No such command 'x'; see logitlens models --help"),
        (
            ["topk", "--evry", "2"],
            "No such option: --evry; did you mean --every? See logitlens topk --help",
        ),
        (
            ["topk", "--minus", "a"],
            "No such option: --minus; it is an option of logit-diff; see logitlens topk --help",
        ),
        (
            ["--every", "2", "topk"],
            "No such option: --every; it is an option of topk, rank, kl-final, kl-input, ...; see "
            "logitlens --help",
        ),
        (["topk", "-z"], "No such option: -z; see logitlens topk --help"),
        (
            ["topk", "The", "capital", "of", "France"],
            "Got unexpected extra argument(s) (capital of France); put a text of several words in "
            "quotes; see logitlens topk --help",
        ),
        (
            ["models", "fetch", "a", "b"],
            "Got unexpected extra argument(s) (b); see logitlens models fetch --help",
        ),
        (
            ["topk", "--norm", "half", "-t", "a"],
            "Invalid value for '--norm': 'half' is not one of 'full', 'no-affine', 'none'; "
            "see logitlens topk --help",
        ),
        (
            ["topk", "--every", "two", "-t", "a"],
            "Invalid value 'two' for '--every': Input should be a valid integer, unable to parse "
            "string as an integer; see logitlens topk --help",
        ),
    ],
)
def test_usage_names_the_value(logitlens: Shell, arguments: list[str], said: str) -> None:
    assert logitlens(*arguments).refusal(2) == said


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_an_encoding_does_not_have_is_written_as_an_escape(
    encoding: str, tiny_folder: Path
) -> None:
    line = [sys.executable, "-m", "logitlens_cli", "tokens", "\u65e5", "-m", str(tiny_folder)]
    ran = subprocess.run(
        line, capture_output=True, env={**os.environ, "PYTHONIOENCODING": encoding}, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert ran.stdout
    assert ran.stdout.isascii()
