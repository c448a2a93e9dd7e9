"""--lines: what is done already, what fails, what is planned, which part is read."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from batches import failed
from listening import Listening
from options_of import refusal

from logitlens_cli.batch.prompts import Prompt
from logitlens_cli.batch.session import Outcome
from logitlens_cli.commands import read_lines as read_lines_module
from logitlens_cli.commands.rank import Rank
from logitlens_cli.commands.read_lines import outcomes_of_lines, read_lines, shard_of
from logitlens_cli.commands.topk import TopK
from logitlens_cli.errors import BatchError, UsageError
from logitlens_cli.options.reading import Engine, TextReadOptions
from logitlens_cli.reading.dump import load_dump
from logitlens_cli.reading.record import Reading

WRONG = UsageError("it is odd", "make it even")


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "set.txt"
    path.write_text("the cat\nthe dog\na mat\n")
    return path


class Outcomes:
    """In the place of a session: gives one reading for all, fails at ``failing``."""

    def __init__(self, reading: Reading, failing: Sequence[str] = ()) -> None:
        self.reading, self.failing = reading, failing
        self.asked: list[str] = []

    def __call__(
        self, options: object, todo: Sequence[Prompt], progress: object
    ) -> Iterator[Outcome]:
        for prompt in todo:
            self.asked.append(prompt.name)
            yield prompt.name, WRONG if prompt.name in self.failing else self.reading


def read(
    monkeypatch: pytest.MonkeyPatch, options: TextReadOptions, outcomes: Outcomes
) -> tuple[list[str], Listening]:
    """The names of the files written, and what was said."""
    monkeypatch.setattr(read_lines_module, "outcomes_of_lines", outcomes)
    assert options.lines is not None
    progress = Listening()
    paths = list(read_lines(options, options.lines, progress))
    return [str(path.relative_to(options.out)) for path in paths], progress


def follow(paths: Iterator[Path], written: list[str]) -> None:
    """Keep the names of paths up to an error."""
    for path in paths:
        written.append(path.name)


@pytest.fixture
def reading(dump_file: Path) -> Reading:
    return load_dump(dump_file)


def rank(lines: Path, out: Path, **options: Any) -> Rank:
    return Rank(lines=lines, out=out, format="none", target=["next"], jobs=0, **options)


def dumps(*numbers: int) -> list[str]:
    return [f"set-{n}.rank.json" for n in numbers]


def test_what_is_done_already_is_not_done_again(
    monkeypatch: pytest.MonkeyPatch, lines: Path, out: Path, reading: Reading
) -> None:
    options = rank(lines, out)
    first = Outcomes(reading)
    written, progress = read(monkeypatch, options, first)
    assert (written, first.asked, progress.notes) == (
        dumps(1, 2, 3),
        ["set-1", "set-2", "set-3"],
        [],
    )

    (out / "set-2.rank.json").unlink()
    again = Outcomes(reading)
    written, progress = read(monkeypatch, options, again)
    assert (written, again.asked) == (dumps(1, 3, 2), ["set-2"])  # done ones first
    assert progress.notes == ["2 of 3 prompts are done already"]

    none = Outcomes(reading)
    written, progress = read(monkeypatch, options, none)
    assert (written, none.asked) == (dumps(1, 2, 3), [])
    assert progress.notes == ["3 of 3 prompts are done already"]


def test_a_prompt_that_fails_does_not_stop_the_rest(
    monkeypatch: pytest.MonkeyPatch, lines: Path, out: Path, reading: Reading
) -> None:
    options = rank(lines, out)
    written: list[str] = []
    monkeypatch.setattr(read_lines_module, "outcomes_of_lines", Outcomes(reading, ["set-2"]))
    progress = Listening()
    with pytest.raises(BatchError) as caught:
        follow(read_lines(options, lines, progress), written)
    assert written == dumps(1, 3)
    assert str(caught.value) == (
        f"1 of 3 prompts failed: line 2 (set-2); {out}/failures.jsonl says why; the others are "
        "written"
    )
    assert progress.failures == ["line 2 (set-2): it is odd; make it even"]
    assert [f["line"] for f in failed(out)] == [2]

    written, _ = read(monkeypatch, options, again := Outcomes(reading))
    assert (written, again.asked) == (dumps(1, 3, 2), ["set-2"])
    assert not (out / "failures.jsonl").exists()


def test_a_file_that_cannot_be_written_is_a_failure_of_its_prompt(
    monkeypatch: pytest.MonkeyPatch, lines: Path, out: Path, reading: Reading
) -> None:
    (out / "set-1.rank.json").mkdir(parents=True)
    monkeypatch.setattr(read_lines_module, "outcomes_of_lines", Outcomes(reading))
    written: list[str] = []
    progress = Listening()
    with pytest.raises(BatchError):
        follow(read_lines(rank(lines, out), lines, progress), written)
    assert written == dumps(2, 3)
    assert progress.failures[0].startswith(f"line 1 (set-1): {out}/set-1.rank.json cannot be ")


def test_what_exists_is_skipped_only_on_demand(
    monkeypatch: pytest.MonkeyPatch, lines: Path, out: Path, reading: Reading
) -> None:
    out.mkdir()
    (out / "set-1.rank.json").write_text("mine")
    written, _ = read(monkeypatch, rank(lines, out, skip_existing=True), Outcomes(reading))
    assert written == dumps(1, 2, 3)
    assert (out / "set-1.rank.json").read_text() == "mine"
    written, _ = read(monkeypatch, rank(lines, out), again := Outcomes(reading))
    assert (written, again.asked) == (dumps(2, 3, 1), ["set-1"])  # no ledger has it
    assert json.loads((out / "set-1.rank.json").read_text())["schema"] == "logitlens/1"


def test_a_dry_run_names_the_files_and_reads_nothing(
    monkeypatch: pytest.MonkeyPatch, lines: Path, out: Path, reading: Reading
) -> None:
    outcomes = Outcomes(reading)
    planned, progress = read(monkeypatch, rank(lines, out, dry_run=True), outcomes)
    assert (planned, outcomes.asked) == (dumps(1, 2, 3), [])
    # 7 characters or fewer: 10 kB and 1.8 kB for each of them, three times.
    assert progress.notes == ["3 prompts, 3 files, about 0.1 MB; nothing is written"]
    assert not out.exists()


def test_a_dry_run_of_a_split_counts_tokens(tiny_folder: Path, lines: Path, out: Path) -> None:
    """t h e ·cat; t h e · d o g; a · m a t, four in a figure."""
    options = TopK(
        lines=lines, out=out, format="svg", json=False, split=4, dry_run=True,
        model=str(tiny_folder), offline=True,
    )  # fmt: skip
    assert [path.name for path in read_lines(options, lines, Listening())] == [
        *("set-1.topk.1.svg", "set-2.topk.1.svg", "set-2.topk.2.svg"),
        *("set-3.topk.1.svg", "set-3.topk.2.svg"),
    ]
    assert not out.exists()


@pytest.mark.parametrize(
    ("shard", "numbers"),
    [(None, [1, 2, 3, 4, 5]), ("1/2", [1, 3, 5]), ("2/2", [2, 4]), ("5/5", [5]), ("6/6", [])],
)
def test_a_part_of_the_lines(shard: str | None, numbers: list[int]) -> None:
    prompts = [Prompt(f"x-{n}", "a", n) for n in range(1, 6)]
    options = Rank(lines=Path("a"), shard=shard)
    assert [prompt.line for prompt in shard_of(options, prompts)] == numbers


def test_what_other_parts_did_is_not_asked_for(
    monkeypatch: pytest.MonkeyPatch, lines: Path, out: Path, reading: Reading
) -> None:
    written, _ = read(monkeypatch, rank(lines, out, shard="1/2"), Outcomes(reading))
    assert written == dumps(1, 3)
    written, _ = read(monkeypatch, rank(lines, out, shard="2/2"), Outcomes(reading))
    assert written == dumps(2)


def test_a_cluster_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "logitlens_cli.batch.cluster", raising=False)
    monkeypatch.delattr("logitlens_cli.batch.cluster", raising=False)
    options = Rank(lines=Path("a"), engine=Engine.ray)
    assert refusal(lambda: outcomes_of_lines(options, [], Listening())) == (
        '--engine ray needs Ray; pip install "logitlens-cli[ray]"'
    )


def test_a_session_reads_here(tiny_folder: Path) -> None:
    options = Rank(lines=Path("a"), model=str(tiny_folder), offline=True)
    prompts = [Prompt("one", "the cat", 1), Prompt("none", "", 2)]
    outcomes = dict(outcomes_of_lines(options, prompts, Listening()))
    assert outcomes.keys() == {"one", "none"}
    one = outcomes["one"]
    assert isinstance(one, Reading)
    assert [token.label for token in one.tokens] == ["t", "h", "e", "·cat"]
    assert str(outcomes["none"]) == "its text: the prompt is empty; give some text"
