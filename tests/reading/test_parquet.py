"""All cells as a table."""

import re
import statistics
from pathlib import Path
from typing import Any

import pytest
from conftest import Shell
from reference_docs import REFERENCE

from logitlens_cli.reading.dump import load_dump

pa: Any = pytest.importorskip("pyarrow")
dataset: Any = pytest.importorskip("pyarrow.dataset")


def test_a_batch_is_one_data_set(logitlens: Shell, tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "set.txt").write_text("the cat\nthe dog sat\n")
    line = ["all", "--lines", tmp_path / "set.txt", "-m", tiny_folder, "-o", tmp_path, "-q"]
    ran = logitlens(*line, "--format", "parquet")
    assert ran.code == 0
    folder = tmp_path / "set.all.parquet"
    assert sorted(path.name for path in folder.iterdir()) == ["set-1.parquet", "set-2.parquet"]
    assert str(folder / "set-1.parquet") in ran.out
    table = dataset.dataset(folder).to_table().to_pylist()
    for name in ("set-1", "set-2"):
        reading = load_dump(tmp_path / f"{name}.all.json")
        rows = [row for row in table if row["name"] == name]
        assert len(rows) == len(reading.layers) * len(reading.tokens)
        for row in rows:
            layer, column = row["row"], row["position"]
            assert row["layer"] == row["block"] == reading.layers[layer].block
            assert row["layer_label"] == reading.layers[layer].label
            assert row["token"] == reading.tokens[column].label
            assert row["next_id"] == reading.tokens[column].next_id
            assert row["final_id"] == reading.final_ids[column]
            assert row["guess_ids"] == reading.guesses.ids[layer][column]
            assert row["guess_log_probs"] == reading.guesses.log_probs[layer][column]
            assert row["guess_labels"] == reading.guesses.labels[layer][column]
            for metric, scores in reading.metrics.items():
                assert row[metric] == scores.values[layer][column]
    again = logitlens(*line, "--format", "parquet")  # done: only the paths are printed
    assert len(again.out) == 4
    assert again.err == []


def test_a_dump_becomes_a_table_later(logitlens: Shell, tiny_folder: Path, tmp_path: Path) -> None:
    line = ["-m", tiny_folder, "-o", tmp_path, "-q", "--name", "a"]
    logitlens("rank", "-t", "the cat", *line, "--format", "none")
    ran = logitlens("render", tmp_path / "a.rank.json", "-o", tmp_path, "--format", "parquet")
    assert ran.out == [str(tmp_path / "a.rank.parquet")]
    assert dataset.dataset(ran.out[0]).count_rows() == 5 * 4


@pytest.mark.parametrize("command", ["logit-diff", "overlap"])
def test_commands_of_one_metric(
    logitlens: Shell, tiny_folder: Path, tmp_path: Path, command: str
) -> None:
    line = ["-m", tiny_folder, "-o", tmp_path, "-q", "--name", "a"]
    logitlens(command, "-t", "the cat", *line, "--format", "parquet")
    reading = load_dump(tmp_path / f"a.{command}.json")
    column = dataset.dataset(tmp_path / f"a.{command}.parquet").to_table()[command].to_pylist()
    assert column == [value for row in reading.metrics[command].values for value in row]


def test_a_layer_is_the_number_of_a_block(
    logitlens: Shell, tiny_folder: Path, tmp_path: Path
) -> None:
    line = ["-m", tiny_folder, "-o", tmp_path, "-q", "--name", "a", "--format", "parquet"]
    logitlens("rank", "-t", "the", *line, "--every", "2", "--subblocks")
    table = dataset.dataset(tmp_path / "a.rank.parquet").to_table().to_pylist()
    rows = [row for row in table if row["position"] == 0]
    named = [(row["layer_label"], row["layer"], row["block"], row["row"]) for row in rows]
    assert named == [
        ("input", None, None, 0), ("0 mid", -0.5, 0, 1), ("0", 0, 0, 2), ("2 mid", 1.5, 2, 3),
        ("2", 2, 2, 4), ("3 mid", 2.5, 3, 5), ("3", 3, 3, 6),
    ]  # fmt: skip


def test_what_the_reference_does_with_a_table(
    logitlens: Shell, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = re.search(r"```python\n(import pandas\n.*?)```", REFERENCE.read_text(), re.DOTALL)
    assert code is not None
    (tmp_path / "prompts.txt").write_text("the cat\nthe dog sat\n")
    line = ["--lines", tmp_path / "prompts.txt", "-m", tiny_folder, "-o", tmp_path / "outputs"]
    logitlens("rank", *line, "-q", "--every", "3", "--format", "parquet")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code[1], names)
    dumps = [load_dump(tmp_path / "outputs" / f"prompts-{n}.rank.json") for n in (1, 2)]
    ranks = [reading.values("rank") for reading in dumps]
    medians = {
        reading.layers[row].block: statistics.median([v for grid in ranks for v in grid[row]])
        for reading in dumps[:1]
        for row in (1, 2)
    }
    assert medians.keys() == {0, 3}
    assert names["medians"].to_dict() == medians


def test_without_pyarrow(logitlens: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logitlens_cli.commands.checks.find_spec", lambda name: None)
    ran = logitlens("rank", "-t", "a", "--format", "parquet")
    assert ran.refusal(2).startswith("--format parquet needs pyarrow; pip install")
