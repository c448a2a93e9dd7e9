"""Texts from everywhere, and the names that their files get."""

import io
import os
import sys
from functools import partial
from pathlib import Path

import pytest
from listening import Listening

from logitlens_cli.batch import prompts
from logitlens_cli.batch.prompts import Prompt
from logitlens_cli.errors import UsageError


def refusal(call: object, *arguments: object) -> str:
    assert callable(call)
    with pytest.raises(UsageError) as caught:
        call(*arguments)
    return str(caught.value)


def type_in(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_a_file_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts, "LARGEST_FILE", 2**20)
    too_large = "{} /dev/zero: it has more than 1 MB; name a readable file"
    assert refusal(prompts.read_text_file, Path("/dev/zero"), "--file") == too_large.format(
        "--file"
    )
    type_in(monkeypatch, b"x" * 2**20)
    assert prompts.read_text_file(Path("-"), "--lines") == "x" * 2**20
    type_in(monkeypatch, b"x" * (2**20 + 1))
    assert "-: it has more than 1 MB" in refusal(prompts.read_text_file, Path("-"), "--lines")


# ---- names


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("The cat", "the-cat"),
        ("  The cat.\n", "the-cat"),
        ("GPT-3, with 175 billion", "gpt-3-with-175-billion"),
        ("a/b\\c:d", "a-b-c-d"),
        ("../../etc/passwd", "etc-passwd"),
        ("日本語のテキスト", "日本語のテキスト"),
        ("!?", "prompt"),
        (" ", "prompt"),
        ("word " * 100, "word-word-word-word-word-word-word-word"),  # 40 less the hyphen at the end
        ("x" * 100, "x" * 40),
    ],
)
def test_the_name_of_a_text_is_its_first_words(text: str, name: str) -> None:
    assert prompts.from_text(text, None) == Prompt(name, text)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("plasma", "plasma"),
        ("gpt2-xl/plasma", "gpt2-xl/plasma"),
        ("a b", "a-b"),
        ("a;rm -rf *", "a-rm--rf-"),
        ("/etc/passwd", "etc/passwd"),
        ("../../up", "up"),
        ("a/./../b", "a/b"),
        (".hidden", "hidden"),
        ("-o", "o"),
        ("a//b/", "a/b"),
        ("v1.2+x=y@z,{n}", "v1.2+x=y@z,{n}"),
        ("tab\tand\nline", "tab-and-line"),
    ],
)
def test_names_stay_in_their_folder_and_out_of_the_shells_way(given: str, name: str) -> None:
    assert prompts.from_text("text", given) == Prompt(name, "text")


@pytest.mark.parametrize("given", ["", "...", "--", "/", "../.."])
def test_names_without_a_letter(given: str) -> None:
    said = f"--name {given!r} holds no letter or digit; give another name"
    assert refusal(prompts.from_text, "text", given) == said


# ---- one text


def test_an_empty_text() -> None:
    assert refusal(prompts.from_text, "", "x") == "--text: the prompt is empty; give some text"


def test_half_a_character_from_the_command_line() -> None:
    said = "--text: the prompt is not valid Unicode at character 2; give it as UTF-8"
    assert refusal(prompts.from_text, "ab\udcc3", None) == said


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"the cat", "the cat"),
        (b"the cat\n", "the cat"),
        (b"the cat\r\n", "the cat"),
        (b"the cat\n\n", "the cat\n"),
        (b"\n the cat ", "\n the cat "),
        (b"\xef\xbb\xbfthe cat", "the cat"),  # a byte order mark
        ("日本\n".encode(), "日本"),
        (b"a\r\nb", "a\r\nb"),
        (b" ", " "),
    ],
)
def test_a_file_is_one_text(tmp_path: Path, data: bytes, text: str) -> None:
    (tmp_path / "my.text.txt").write_bytes(data)
    assert prompts.from_file(tmp_path / "my.text.txt", None) == Prompt("my.text", text)
    assert prompts.from_file(tmp_path / "my.text.txt", "own") == Prompt("own", text)


def test_standard_input_is_one_text(monkeypatch: pytest.MonkeyPatch) -> None:
    type_in(monkeypatch, "the 猫\n".encode())
    assert prompts.from_file(Path("-"), None) == Prompt("stdin", "the 猫")


FILES = {
    "empty": b"",
    "line": b"\n",
    "latin": b"caf\xe9 au lait",
    "utf-16": "the".encode("utf-16"),
    "binary": b"\x89PNG\r\n",
    "cut": "日".encode()[:2],
}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing", "--file {} does not exist; name a text file"),
        ("folder", "--file {} is a folder; name a text file"),
        ("empty", "--file {}: the prompt is empty; give some text"),
        ("line", "--file {}: the prompt is empty; give some text"),
        ("latin", "--file {} is not UTF-8 (byte 0xE9 at 3); save it as UTF-8"),
        ("utf-16", "--file {} is not UTF-8 (byte 0xFF at 0); save it as UTF-8"),
        ("binary", "--file {} is not UTF-8 (byte 0x89 at 0); save it as UTF-8"),
        ("cut", "--file {} is not UTF-8 (byte 0xE6 at 0); save it as UTF-8"),
        ("n" * 300, "--file {}: File name too long; name a readable file"),
    ],
)
def test_files_that_are_no_text(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "folder").mkdir()
    for file, data in FILES.items():
        (tmp_path / file).write_bytes(data)
    path = tmp_path / name
    assert refusal(prompts.from_file, path, None) == said.format(path)


def test_a_path_with_a_zero_byte() -> None:
    assert "embedded null byte" in refusal(prompts.from_file, Path("a\0b"), None)


# ---- one text per line


def lines(folder: Path, text: str, name: str | None = None, file: str = "two.txt") -> list[Prompt]:
    path = folder / file
    path.write_text(text, encoding="utf-8", newline="")
    return prompts.from_lines(path, name)


def test_lines_are_named_by_their_number(tmp_path: Path) -> None:
    assert lines(tmp_path, "the cat\r\n\n \nthe dog") == [
        Prompt("two-1", "the cat", 1),
        Prompt("two-4", "the dog", 4),
    ]


def test_numbers_have_as_many_digits_as_the_last(tmp_path: Path) -> None:
    made = lines(tmp_path, "a\n" * 10)
    assert [prompt.name for prompt in made] == [f"two-{n:02d}" for n in range(1, 11)]


def test_a_pattern_of_names(tmp_path: Path) -> None:
    assert [p.name for p in lines(tmp_path, "a\nb", "set/{n}.x")] == ["set/1.x", "set/2.x"]
    assert [p.name for p in lines(tmp_path, "only", "one")] == ["one"]


def test_lines_end_at_line_feeds_only(tmp_path: Path) -> None:
    (prompt,) = lines(tmp_path, "a\u2028b\x0bc\x85d\re\n")
    assert prompt.text == "a\u2028b\x0bc\x85d\re"


def test_lines_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    type_in(monkeypatch, b"a\nb\n")
    assert [p.name for p in prompts.from_lines(Path("-"), None)] == ["stdin-1", "stdin-2"]


def test_lines_of_json(tmp_path: Path) -> None:
    made = lines(
        tmp_path,
        '{"text": "the cat\\n", "name": "cats/one"}\n\n{"text": "the dog", "more": 1}\n',
        file="set.jsonl",
    )
    assert made == [Prompt("cats/one", "the cat\n", 1), Prompt("set-3", "the dog", 3)]


def test_json_with_a_name_for_every_line_needs_no_pattern(tmp_path: Path) -> None:
    text = '{"text": "a", "name": "x"}\n{"text": "b"}\n'
    assert [p.name for p in lines(tmp_path, text, "rest", "set.jsonl")] == ["x", "rest"]


SHAPE = 'not an object with a string "text"; write {{"text": "...", "name": "..."}}'
TWICE = "--lines {}: lines 1 and 2 would both write 'x'; give them different names"


@pytest.mark.parametrize(
    ("file", "text", "name", "said"),
    [
        ("a.txt", "", None, "--lines {} has no line with text; write one prompt per line"),
        ("a.txt", " \n\n", None, "--lines {} has no line with text; write one prompt per line"),
        (
            *("a.txt", "a\nb\n", "x"),
            "--name 'x' cannot name 2 prompts; put {{n}} where the number goes",
        ),
        (
            "a.jsonl",
            "{\n",
            None,
            "--lines {}, line 1: not JSON (Input data was truncated); correct the line",
        ),
        ("a.jsonl", '\n["a"]\n', None, "--lines {}, line 2: " + SHAPE),
        ("a.jsonl", "null\n", None, "--lines {}, line 1: " + SHAPE),
        ("a.jsonl", '{"text": 3}\n', None, "--lines {}, line 1: " + SHAPE),
        ("a.jsonl", '{"text": "a", "name": 3}\n', None, "--lines {}, line 1: " + SHAPE),
        ("a.jsonl", '{"name": "a"}\n', None, "--lines {}, line 1: " + SHAPE),
        (
            *("a.jsonl", '{"text": "a", "name": ""}\n', None),
            "--lines {}, line 1: name '' holds no letter or digit; give another name",
        ),
        ("a.jsonl", '{"text":"a","name":"x"}\n{"text":"b","name":"x"}\n', None, TWICE),
        ("a.jsonl", '{"text":"a","name":"x"}\n{"text":"b","name":"./x"}\n', None, TWICE),
        ("a.jsonl", '{"text":"a"}\n{"text":"b"}\n', "x", TWICE),
    ],
)
def test_lines_that_cannot_be(
    tmp_path: Path, file: str, text: str, name: str | None, said: str
) -> None:
    path = tmp_path / file
    path.write_text(text)
    assert refusal(prompts.from_lines, path, name) == said.format(path)


def test_all_wrong_lines_are_told_at_once(tmp_path: Path) -> None:
    """Whatever is wrong with them, in the file's order."""
    path = tmp_path / "p.jsonl"
    path.write_text(
        '{"text": "a", "name": "x"}\n{"text":\n{"text": 3}\n{"text": "b", "name": "x"}\n'
        '\n{"text": "c", "name": "/"}\n'
    )
    said = Listening()
    assert refusal(partial(prompts.from_lines, path, None, progress=said)) == (
        f"--lines {path}: 4 lines are wrong; correct them; nothing was read"
    )
    assert said.failures == [
        f"--lines {path}, line 2: not JSON (Input data was truncated); correct the line",
        f'--lines {path}, line 3: not an object with a string "text"; write {{"text": "...", '
        '"name": "..."}',
        f"--lines {path}: lines 1 and 4 would both write 'x'; give them different names",
        f"--lines {path}, line 6: name '/' holds no letter or digit; give another name",
    ]
    assert said.notes == []


@pytest.mark.parametrize(("count", "more"), [(10, ""), (11, ", 1 more than these")])
def test_no_more_than_ten_wrong_lines_are_told(tmp_path: Path, count: int, more: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("{}\n" * count)
    said = Listening()
    assert refusal(partial(prompts.from_lines, path, None, progress=said)) == (
        f"--lines {path}: {count} lines are wrong{more}; correct them; nothing was read"
    )
    assert [failure.split(":")[0].rpartition(" ")[2] for failure in said.failures] == [
        *map(str, range(1, 11))
    ]


@pytest.mark.parametrize(
    ("file", "text", "name", "notes"),
    [
        ("a.txt", "a\nb\n", None, []),
        ("a.txt", "a\n\nb", None, ["1 line without text passed over"]),
        ("a.txt", "\n \t\na\n\r\n", None, ["3 lines without text passed over"]),
        ("a.txt", "a\nb", "x/{n}", []),
        (
            *("a.txt", "a\nb", "my x-{n}"),
            ["2 names changed to be safe as the name of a file, the first from 'my x-1' to "
             "'my-x-1'"],
        ),
        ("my file.txt", "a\n", None, []),  # of no name that was given
        (
            "a.jsonl",
            '{"text": "a", "target": " Paris"}\n{"text": "b", "target": 3, "id": 1}\n'
            '{"text": "c", "name": "../escape"}\n',
            None,
            ['keys other than "text" and "name" count for nothing: \'id\' (1 line), \'target\' '
             "(2 lines)",
             "1 name changed to be safe as the name of a file, the first from '../escape' to "
             "'escape'"],
        ),
    ],
)  # fmt: skip
def test_what_is_passed_over_or_changed_is_noted_once(
    tmp_path: Path, file: str, text: str, name: str | None, notes: list[str]
) -> None:
    path = tmp_path / file
    path.write_text(text, newline="")
    said = Listening()
    prompts.from_lines(path, name, progress=said)
    assert said.notes == [f"--lines {path}: {note}" for note in notes]
    assert said.failures == []


def test_names_that_count_for_nothing_are_not_noted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "name": "../escape"}\n')
    said = Listening()
    prompts.from_lines(path, "{n}", named=False, progress=said)
    assert said.notes == []


def test_deep_json(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("[" * 100_000)
    assert "line 1: not JSON" in refusal(prompts.from_lines, tmp_path / "a.jsonl", None)


def test_the_parser_of_prompts_gives_text_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": ""}\n')
    assert prompts.from_lines(tmp_path / "a.jsonl", None) == [Prompt("a-1", "", 1)]


# ---- JSON lines under other names


@pytest.mark.parametrize(
    "name", ["p.jsonl", "P.JSONL", "p.ndjson", "p.NDJson", "p.json", "p.txt", "p", "p.dat"]
)
def test_lines_of_json_are_read_whatever_the_files_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('\n{"text": "hello world"}\n{"text": "b", "name": "x"}\n')
    assert prompts.from_lines(tmp_path / name, None) == [
        Prompt(f"{Path(name).stem}-2", "hello world", 2),
        Prompt("x", "b", 3),
    ]


def test_lines_of_json_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    type_in(monkeypatch, b'{"text": "hello world"}\n')
    assert prompts.from_lines(Path("-"), None) == [Prompt("stdin-1", "hello world", 1)]


def test_lines_of_json_from_a_process() -> None:
    reading, writing = os.pipe()
    os.write(writing, b'{"text": "hello world"}\n')
    os.close(writing)
    pipe = Path(f"/dev/fd/{reading}")
    assert prompts.from_lines(pipe, None) == [Prompt("stdin-1", "hello world", 1)]
    os.close(reading)


SHAPE_OF_LINES = 'not an object with a string "text"; write {"text": "...", "name": "..."}'


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.json", '[{"text": "a"}]\n', "its first line is no JSON object, so it is not JSON li"),
        ("p.json", '{\n  "text": "a"\n}\n', "its first line is no JSON object, so it is not JSO"),
        ("p", '[{"text": "a"}, {"text": "b"}]\n', "its first line is no JSON object, so it is n"),
        ("p", '{\n  "text": "a"\n}\n', "its first line is no JSON object, so it is not JSON l"),
        ("p.ndjson", "hello\n", "line 1: not JSON"),
        ("p", '{"prompt": "a"}\n', f"line 1: {SHAPE_OF_LINES}"),
        ("p.json", '{"prompt": "a"}\n', f"line 1: {SHAPE_OF_LINES}"),
        ("p.txt", '{"text": "a"}\nhello\n', "line 2: not JSON"),
    ],
)
def test_what_looks_like_json_and_cannot_be_read(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    assert message in refusal(prompts.from_lines, tmp_path / name, None)


def test_pretty_json_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    type_in(monkeypatch, b'{\n  "text": "hello world"\n}\n')
    assert refusal(prompts.from_lines, Path("-"), None) == (
        "--lines -: its first line is no JSON object, so it is not JSON lines; write one object a "
        'line, {"text": "..."}, as jq -c \'.[]\' makes of a list'
    )


@pytest.mark.parametrize("line", ["[1, 2]", "[]", "{text}", "[x](y)", "[" * 9999])
def test_texts_that_begin_like_json_stay_texts(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    type_in(monkeypatch, f"{line}\nb\n".encode())
    assert [prompt.text for prompt in prompts.from_lines(Path("-"), None)] == [line, "b"]


@pytest.mark.parametrize("line", ['{"a": 1}', "{}", "[1, 2]", '"text"', "12", "{text}", "[" * 9999])
def test_texts_that_are_code_stay_texts(tmp_path: Path, line: str) -> None:
    (tmp_path / "p.txt").write_text(f"{line}\n")
    assert [prompt.text for prompt in prompts.from_lines(tmp_path / "p.txt", None)] == [line]
