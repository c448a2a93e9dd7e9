"""Names of prompts whose files get into each other's way, or the batch's."""

import tempfile
from pathlib import Path

import pytest
from conftest import Shell

from logitlens_cli.batch import meetings
from logitlens_cli.batch.meetings import folds_names, require_side_by_side
from logitlens_cli.batch.prompts import Prompt
from logitlens_cli.errors import UsageError

ENDINGS = ("rank.json", "rank.png", "topk.png")
TAKEN = ("failures.jsonl", "set.rank.done.jsonl")


def require(names: list[str], out: Path = Path()) -> None:
    prompts = [Prompt(name, "", n) for n, name in enumerate(names, 1)]
    require_side_by_side(prompts, ENDINGS, TAKEN, out)


@pytest.mark.parametrize(
    "names",
    [
        ["a", "b", "a/b", "a/b/c", "a.b/c"],
        ["a", "a.rank/b", "a.rank.svg/b", "x/a.rank.json/b", "a.1.json/b"],
        ["a", "failures/b", "x/failures.jsonl/b", "set.rank.done"],
        ["a.rank", "a.rank/b"],
    ],
)
def test_names_that_do_not_meet(names: list[str]) -> None:
    require(names)


@pytest.mark.parametrize(
    ("names", "line", "folder"),
    [
        (["a", "a.rank.json/b"], 2, "a.rank.json"),
        (["a.rank.json/b", "a"], 1, "a.rank.json"),
        (["a", "a.rank.png/b/c/d"], 2, "a.rank.png"),
        (["x/a", "x/a.rank.png/b"], 2, "x/a.rank.png"),
        (["a", "a.topk.2.png/b"], 2, "a.topk.2.png"),  # a piece of a figure that is split
        (["a.b", "a.b.rank.png/c"], 2, "a.b.rank.png"),
    ],
)
def test_a_file_where_a_folder_is_needed(names: list[str], line: int, folder: str) -> None:
    with pytest.raises(UsageError) as caught:
        require(names)
    assert str(caught.value) == (
        f"line {line}: the files of {names[line - 1]!r} need a folder {folder}, which is a file of "
        "another prompt; give the prompts other names"
    )


@pytest.mark.parametrize("name", ["failures.jsonl/b", "set.rank.done.jsonl/b/c"])
def test_a_file_of_the_batch_where_a_folder_is_needed(name: str) -> None:
    with pytest.raises(UsageError, match="which is a file of the batch itself; give the prompts"):
        require(["a", name])


COMPOSED, APART = "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize("names", [["a", "A"], ["x/straße", "x/STRASSE"], [COMPOSED, APART]])
def test_names_that_some_systems_take_for_one(
    names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    require(names, tmp_path / "none" / "yet")
    monkeypatch.setattr(meetings, "folds_names", lambda folder: True)
    with pytest.raises(UsageError) as caught:
        require(["z", *names], tmp_path)
    assert str(caught.value) == (
        f"lines 2 and 3: {names[0]!r} and {names[1]!r} are one name in {tmp_path}; give the "
        "prompts other names"
    )


def test_what_a_file_system_takes_for_one_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "name").touch()
    assert folds_names(tmp_path / "not" / "yet") == (tmp_path / "NAME").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["name"]
    make = tempfile.NamedTemporaryFile

    def folding(**given: str) -> object:
        file = make(**given)  # type: ignore[call-overload]
        Path(file.name.replace("logitlens-a", "LOGITLENS-A")).touch()
        return file

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", folding)
    assert folds_names(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '{"text": "a", "name": "a"}\n{"text": "b", "name": "a.rank.json/b"}\n',
            "line 2: the files of 'a.rank.json/b' need a folder a.rank.json",
        ),
        (
            '{"text": "a", "name": "failures.jsonl/b"}\n',
            "line 1: the files of 'failures.jsonl/b' need a folder failures.jsonl",
        ),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_they_are_refused_before_any_work(
    text: str, said: str, dry: list[str], tmp_path: Path, logitlens: Shell
) -> None:
    (tmp_path / "set.jsonl").write_text(text)
    line = ["rank", "--lines", tmp_path / "set.jsonl", "-m", "/nowhere", "-o", tmp_path / "out"]
    assert logitlens(*line, *dry).refusal(2).startswith(said)
    assert not (tmp_path / "out").exists()
