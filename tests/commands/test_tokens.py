"""``logitlens tokens``: position, id and label of each token, and the spellings of a word."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Shell

RUN = """
import os
import sys
from logitlens_cli.cli import app
code = app.main(sys.argv[1:])
used = os.times()
print(code, "torch" in sys.modules, used.user + used.system < 2, file=sys.stderr)
"""
"""two seconds of a processor that nobody else uses"""


def rows(lines: list[str]) -> list[list[str]]:
    return [line.split() for line in lines]


def test_tokens_of_a_text(logitlens: Shell, tiny_folder: Path) -> None:
    """Bytes are tokens, but for two words: by conftest's own vocabulary."""
    ran = logitlens("tokens", "the cat\n", "-m", tiny_folder)
    assert (ran.code, ran.err) == (0, [])
    assert rows(ran.out) == [
        ["position", "id", "token"],
        ["0", "116", "t"],
        ["1", "104", "h"],
        ["2", "101", "e"],
        ["3", "261", "·cat"],
        ["4", "10", "↵"],
    ]


def test_tokens_as_the_model_sees_them(logitlens: Shell, tiny_folder: Path) -> None:
    ran = logitlens("tokens", "a", "-m", tiny_folder, "--bos", "add")
    assert rows(ran.out)[1:] == [["0", "262", "<s>"], ["1", "97", "a"]]


def test_tokens_of_a_file(logitlens: Shell, tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("ab\n")
    ran = logitlens("tokens", "-f", tmp_path / "a.txt", "-m", tiny_folder)
    assert rows(ran.out)[1:] == [["0", "97", "a"], ["1", "98", "b"]]


def test_spellings(logitlens: Shell, tiny_folder: Path) -> None:
    ran = logitlens("tokens", "--find", "The", "-m", tiny_folder)
    assert (ran.code, ran.err) == (0, [])
    assert [" ".join(row) for row in rows(ran.out)] == [
        "spelling id token",
        '" The" 32 + 84 + 104 + 101 · + T + h + e',
        '"The" 84 + 104 + 101 T + h + e',
        '" the" 258 ·the',
        '"the" 116 + 104 + 101 t + h + e',
        '" THE" 32 + 84 + 72 + 69 · + T + H + E',
        '"THE" 84 + 72 + 69 T + H + E',
    ]


def test_of_the_default_model_without_torch(smollm2: object) -> None:
    line = ["tokens", "The capital of France is", "--find", "Paris"]
    done = subprocess.run(
        [sys.executable, "-c", RUN, *line], capture_output=True, text=True, check=True, timeout=100
    )
    assert done.stderr == "0 False True\n"
    listed = rows(done.stdout.splitlines())
    assert listed[1:6] == [
        ["0", "504", "The"],
        ["1", "3575", "·capital"],
        ["2", "282", "·of"],
        ["3", "4649", "·France"],
        ["4", "314", "·is"],
    ]
    assert ['"', 'Paris"', "7042", "·Paris"] in listed
    assert ['"Paris"', "38634", "Paris"] in listed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "there is no text; give one in quotes, --file or --find"),
        (["a", "-t", "b"], "TEXT and --text cannot be combined; give one prompt source"),
        (["--find", " "], "--find ' ' is no word; give a word"),
        ([""], "TEXT: the prompt is empty; give some text"),
        (["a", "-m", "./none"], "there is no model './none': no such folder or file, and no hub…"),
    ],
)
def test_wrong_tokens(logitlens: Shell, arguments: list[str], said: str) -> None:
    assert logitlens("tokens", *arguments).refusal(2).startswith(said.rstrip("…"))
