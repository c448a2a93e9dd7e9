"""Which prompts of a batch failed, beside those of other batches."""

from pathlib import Path

import pytest
from batches import failed

from logitlens_cli.batch.failures import Failures
from logitlens_cli.batch.prompts import Prompt
from logitlens_cli.errors import DiskError, UsageError, WorkError
from logitlens_cli.model.progress import Progress


def fail(folder: Path, command: str, tried: list[int], failing: list[int], there: int = 3) -> None:
    todo = [Prompt(f"set-{n}", "", n) for n in tried]
    every = [Prompt(f"set-{n}", "", n) for n in range(1, there + 1)]
    failures = Failures(folder, Path("set.txt"), command, every, Progress())
    for prompt in todo:
        failures.settle(prompt)
    for n in failing:
        failures.add(Prompt(f"set-{n}", "", n), UsageError("it is empty", "give some text"))
    failures.save()


def test_a_full_disk_ends_the_batch(tmp_path: Path) -> None:
    prompt = Prompt("a", "", 1)
    failures = Failures(tmp_path, Path("s"), "rank", [], Progress())
    with pytest.raises(DiskError):
        failures.add(prompt, DiskError("full", "free some"))


def test_a_folder_in_the_place_of_the_file_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "failures.jsonl").mkdir()
    with pytest.raises(WorkError, match=r"failures.jsonl is a folder, not the file of failures; "):
        Failures(tmp_path, Path("s"), "rank", [], Progress())


def test_one_file_of_lines_has_one_name(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "sub")
    (tmp_path / "sub" / "s").touch()
    names = {
        Failures(tmp_path, tmp_path / name, "rank", [], Progress()).lines
        for name in ("sub/s", "sub/../sub/s", "link/s")
    }
    assert names == {str((tmp_path / "sub" / "s").resolve())}


def test_failures_of_other_batches_stay(tmp_path: Path) -> None:
    fail(tmp_path, "topk", [1], [1])
    fail(tmp_path, "rank", [1, 2], [2, 1])
    fail(tmp_path, "rank", [3], [3])  # another part of the lines
    assert [(f["command"], f["line"]) for f in failed(tmp_path)] == [
        *(("rank", n) for n in (1, 2, 3)), ("topk", 1)
    ]  # fmt: skip
    fail(tmp_path, "rank", [1], [], there=2)  # line 3 is gone from the file
    assert [(f["command"], f["line"]) for f in failed(tmp_path)] == [("rank", 2), ("topk", 1)]
    fail(tmp_path, "rank", [1, 2, 3], [])
    assert [(f["command"], f["line"]) for f in failed(tmp_path)] == [("topk", 1)]
    fail(tmp_path, "topk", [1], [])
    assert not (tmp_path / "failures.jsonl").exists()


def test_a_file_of_that_name_that_is_not_ours_stays(tmp_path: Path) -> None:
    (tmp_path / "failures.jsonl").write_text("my own notes\n")
    fail(tmp_path, "rank", [1, 2], [2])
    assert (tmp_path / "failures.jsonl").read_text().startswith('my own notes\n{"lines":')
    fail(tmp_path, "rank", [1, 2], [])
    assert (tmp_path / "failures.jsonl").read_text() == "my own notes\n"
