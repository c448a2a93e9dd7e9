"""Many readings -> one summary, which goes on where it stopped."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from batches import TEXTS, failed
from conftest import tiny_llama
from listening import Listening

import logitlens_cli
from logitlens_cli.batch import summing
from logitlens_cli.batch.failures import Failures
from logitlens_cli.batch.prompts import Prompt
from logitlens_cli.batch.session import Outcome
from logitlens_cli.batch.summing import Summing, load_state
from logitlens_cli.errors import BatchError, UsageError
from logitlens_cli.metrics.table import METRICS
from logitlens_cli.model.progress import Progress
from logitlens_cli.reading.record import Reading
from logitlens_cli.reading.summary import add_reading, empty_summary, summary_to_json

METRIC_SPECS = {name: METRICS[name].spec() for name in ("rank", "kl-final")}
PROMPTS = [Prompt(f"set-{n}", text, n) for n, text in enumerate(TEXTS, 1)]
WRONG = UsageError("it is odd", "make it even")


@pytest.fixture(scope="module")
def readings(tokenizer: Any) -> dict[str, Reading]:
    model = tiny_llama()
    return {p.name: logitlens_cli.read(model, tokenizer, p.text) for p in PROMPTS}


class Reader:
    """Reads prompts as a session would; fails at ``failing``, is stopped at ``stopped``."""

    def __init__(
        self, readings: dict[str, Reading], failing: Sequence[str] = (), stopped: str = ""
    ) -> None:
        self.readings, self.failing, self.stopped = readings, failing, stopped
        self.asked: list[str] = []

    def __call__(self, todo: Sequence[Prompt]) -> Iterator[Outcome]:
        for prompt in todo:
            if prompt.name == self.stopped:
                raise KeyboardInterrupt
            self.asked.append(prompt.name)
            yield prompt.name, WRONG if prompt.name in self.failing else self.readings[prompt.name]


def summing_in(folder: Path, progress: Progress, key: str = "k") -> Summing:
    failures = Failures(folder, Path("set.txt"), "stats", PROMPTS, progress)
    return Summing(folder / "set.state", key, "set", METRIC_SPECS, failures, progress)


def test_a_summary_is_that_of_all_readings(readings: dict[str, Reading], tmp_path: Path) -> None:
    expected = empty_summary(readings["set-1"], METRIC_SPECS, "set")
    for prompt in PROMPTS:
        expected = add_reading(expected, readings[prompt.name])
    progress, reader = Listening(), Reader(readings)
    summary = summing_in(tmp_path, progress).add_all(PROMPTS, reader)
    assert summary_to_json(summary) == summary_to_json(expected)
    assert (summary.prompts, reader.asked) == (5, [prompt.name for prompt in PROMPTS])
    assert (progress.notes, progress.failures) == ([], [])
    assert not (tmp_path / "failures.jsonl").exists()


def test_a_stopped_summary_goes_on(readings: dict[str, Reading], tmp_path: Path) -> None:
    whole = summing_in(tmp_path / "whole", Listening()).add_all(PROMPTS, Reader(readings))
    with pytest.raises(KeyboardInterrupt):
        summing_in(tmp_path, Listening()).add_all(PROMPTS, Reader(readings, stopped="set-4"))
    state = json.loads((tmp_path / "set.state").read_bytes())
    assert (state["key"], state["done"]) == ("k", ["set-1", "set-2", "set-3"])

    progress, reader = Listening(), Reader(readings)
    summary = summing_in(tmp_path, progress).add_all(PROMPTS, reader)
    assert reader.asked == ["set-4", "set-5"]
    assert progress.notes == ["3 of 5 prompts are done already"]
    assert summary_to_json(summary) == summary_to_json(whole)

    # Once more: nothing is read.
    reader = Reader(readings)
    again = summing_in(tmp_path, Listening()).add_all(PROMPTS, reader)
    assert (reader.asked, summary_to_json(again)) == ([], summary_to_json(whole))


def test_a_state_of_other_prompts_is_not_gone_on_with(
    readings: dict[str, Reading], tmp_path: Path
) -> None:
    summing_in(tmp_path, Listening()).add_all(PROMPTS[:2], Reader(readings))
    assert load_state(tmp_path / "set.state", "k") is not None
    assert load_state(tmp_path / "set.state", "other") is None
    reader = Reader(readings)
    summary = summing_in(tmp_path, Listening(), key="other").add_all(PROMPTS[:3], reader)
    assert (summary.prompts, len(reader.asked)) == (3, 3)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b'{"key": "k"}'])
def test_a_state_that_is_none_is_passed_over(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "state"
    assert load_state(path, "k") is None
    path.write_bytes(data)
    assert load_state(path, "k") is None


def test_a_prompt_that_fails_is_left_out_and_tried_again(
    readings: dict[str, Reading], tmp_path: Path
) -> None:
    progress = Listening()
    sums = summing_in(tmp_path, progress)
    summary = sums.add_all(PROMPTS, Reader(readings, failing=["set-2"]))
    assert summary.prompts == 4
    assert progress.failures == ["line 2 (set-2): it is odd; make it even"]
    assert [(f["line"], f["error"]) for f in failed(tmp_path)] == [(2, "it is odd")]

    reader = Reader(readings)
    summary = summing_in(tmp_path, Listening()).add_all(PROMPTS, reader)
    assert (summary.prompts, reader.asked) == (5, ["set-2"])
    assert not (tmp_path / "failures.jsonl").exists()


def test_where_every_prompt_fails_there_is_no_summary(
    readings: dict[str, Reading], tmp_path: Path
) -> None:
    names = [prompt.name for prompt in PROMPTS]
    with pytest.raises(BatchError) as caught:
        summing_in(tmp_path, Listening()).add_all(PROMPTS, Reader(readings, failing=names))
    assert caught.value.problem == (
        "5 of 5 prompts failed: line 1 (set-1), line 2 (set-2), line 3 (set-3), line 4 (set-4), "
        "line 5 (set-5)"
    )
    assert not (tmp_path / "set.state").exists()


def test_a_long_work_is_saved_on_its_way(
    readings: dict[str, Reading], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summing, "SAVED_EVERY", -1.0)
    saved = []

    def read(todo: Sequence[Prompt]) -> Iterator[Outcome]:
        for prompt in todo:
            state = load_state(tmp_path / "set.state", "k")
            saved.append(0 if state is None else len(state.done))
            yield prompt.name, readings[prompt.name]

    summing_in(tmp_path, Listening()).add_all(PROMPTS, read)
    assert saved == [0, 1, 2, 3, 4]
