"""Summaries and their tallies, against numbers computed with everything at hand."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from conftest import Ran, Shell, tiny_llama

import logitlens_cli
from logitlens_cli.errors import UsageError
from logitlens_cli.reading import summary
from logitlens_cli.reading.dump import dump_to_json
from logitlens_cli.reading.record import Reading
from logitlens_cli.reading.sketch import BINS, UNIT, Sketch

MEASURED = ("rank", "kl-final")
TEXTS = ["the cat", "the dog sat on a mat", "a", "cats and dogs", "the end of it all, says the cat"]


@pytest.fixture(scope="module")
def readings(tokenizer: Any) -> list[Reading]:
    model = tiny_llama()
    return [logitlens_cli.read(model, tokenizer, text) for text in TEXTS]


def summed(readings: list[Reading], name: str = "x") -> summary.Summary:
    made = summary.empty_summary(readings[0], MEASURED, name)
    for reading in readings:
        made = summary.add_reading(made, reading)
    return made


# ---- summaries


def test_lock_in_is_the_row_from_which_the_guess_stays() -> None:
    top = np.array([[7, 7, 1, 2], [5, 7, 1, 2], [7, 7, 1, 9], [7, 7, 3, 4]])
    # Column 0 agrees, leaves and comes back at row 2; 1 agrees always; 2 and 3 at the top only.
    assert summary.lock_in_rows(top, [7, 7, 3, 4]).tolist() == [2, 0, 3, 3]
    assert summary.lock_in_rows(top, [0, 0, 0, 0]).tolist() == [
        4,
        4,
        4,
        4,
    ]  # as without the last norm


def test_a_summary_is_that_of_all_cells(readings: list[Reading]) -> None:
    made = summed(readings)
    numbers = summary.summary_numbers(made)
    assert (made.prompts, made.positions) == (5, sum(len(r.tokens) for r in readings))
    for metric in MEASURED:
        every = np.concatenate([r.values(metric) for r in readings], 1)
        np.testing.assert_allclose(numbers[metric]["mean"], every.mean(1), rtol=1e-6, atol=1e-6)
        exact = np.quantile(every, 0.5, axis=1, method="lower")
        np.testing.assert_allclose(numbers[metric]["p50"], exact, rtol=0.0051, atol=1e-6)
    agrees = np.concatenate([r.top() == np.array(r.final_ids) for r in readings], 1)
    np.testing.assert_allclose(numbers["agrees"]["share"], agrees.mean(1), rtol=1e-6)
    assert numbers["locked-in"]["share"][-1] == 1.0
    since = np.concatenate([summary.lock_in_rows(r.top(), r.final_ids) for r in readings])
    # As the number of a block: the lowest row is the input row, which is none and does not count.
    blocks = np.maximum(since - 1, 0)
    assert numbers["lock-in"]["mean"] == [pytest.approx(blocks.mean(), rel=1e-6)]
    assert numbers["lock-in"]["all_blocks"] is True
    locked = (np.arange(len(made.layers))[:, None] >= since).mean(1)
    np.testing.assert_allclose(numbers["locked-in"]["share"], locked, rtol=1e-6)


def test_places_are_shares_of_the_whole_text(readings: list[Reading]) -> None:
    reading = readings[1]
    tally = summed([reading]).tallies["kl-final"]
    values, count = reading.values("kl-final"), len(reading.tokens)
    expected = np.full((len(reading.layers), BINS), np.nan)
    for column in range(BINS):
        inside = [i for i in range(count) if int(i / count * BINS) == column]
        if inside:
            expected[:, column] = values[:, inside].mean(1)
    np.testing.assert_allclose(tally.means(), expected, atol=2 * UNIT)


def test_parts_merge_to_exactly_the_whole(readings: list[Reading], tmp_path: Path) -> None:
    parts = []
    for n in range(3):
        part = msgspec.structs.replace(summed(readings[n::3], f"x.{n}"), shards=[("c", n, 3)])
        path = tmp_path / f"{n}.json"
        path.write_bytes(summary.summary_to_json(part))
        parts.append((path, summary.load_summary(path)))
    merged = summary.merge_summaries(parts, "x")
    assert summary.missing_shards(merged) == []
    assert summary.summary_to_json(
        msgspec.structs.replace(merged, shards=[])
    ) == summary.summary_to_json(summed(readings))


def test_what_does_not_belong_together_is_refused(readings: list[Reading]) -> None:
    def part(**changes: Any) -> tuple[Path, summary.Summary]:
        made = msgspec.structs.replace(summed(readings), shards=[("c", 0, 2)])
        return Path(f"{len(changes)}.json"), msgspec.structs.replace(made, **changes)

    other = msgspec.structs.replace(readings[0].model, name="other")
    for changes, said in (
        ({"model": other}, "differ in model"),
        ({"lens": {"norm": "none"}}, "differ in lens"),
        ({"layers": readings[0].layers[::-1]}, "differ in layers"),
        ({"sketches": {"lock-in": [Sketch()]}}, "measure different things"),
        ({}, "hold the same lines"),
    ):
        with pytest.raises(UsageError, match=said):
            summary.merge_summaries([part(), part(**changes)], "x")
    alone = summary.merge_summaries([part()], "x")
    assert summary.missing_shards(alone) == ["2/2"]


def test_a_file_that_is_no_summary_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(UsageError, match="name a summary"):
        summary.load_summary(path)
    for content in (b"", b"{}", b"[" * 10**5, b"\xff"):
        path.write_bytes(content)
        with pytest.raises(UsageError, match="is not a summary"):
            summary.load_summary(path)
        assert summary.key_of_summary(path) is None


# ---- from the command line


@pytest.fixture
def run(logitlens: Shell, tiny_folder: Path, tmp_path: Path) -> Any:
    file = tmp_path / "set.txt"
    file.write_text("\n".join(TEXTS))

    def run(*arguments: object) -> Ran:
        return logitlens("stats", "-m", tiny_folder, "-o", tmp_path / "o", "-q", *arguments)

    return run


def test_a_corpus_has_a_summary(run: Any, tmp_path: Path) -> None:
    out, lines = tmp_path / "o", tmp_path / "set.txt"
    ran = run("--lines", lines, "--format", "svg")
    names = ["set.stats.json", "set.stats.svg", "set.positions.svg", "set.stats.csv"]
    assert (ran.code, ran.err, ran.out) == (0, [], [str(out / name) for name in names])
    assert ran.out == run("--lines", lines, "--format", "svg", "--dry-run").out
    made = json.loads((out / names[0]).read_bytes())
    assert made["prompts"] == 5
    with (out / names[-1]).open() as file:
        rows = {(row["metric"], row["layer"]): row for row in csv.DictReader(file)}
    for metric in ("rank", "kl-final", "kl-input", "entropy", "cross-entropy"):
        for n, layer in enumerate(made["layers"]):
            row, numbers = rows[metric, layer["label"]], made["summary"][metric]
            assert float(row["mean"]) == numbers["mean"][n]
            assert float(row["p50"]) == numbers["p50"][n]
    # The last token of a text has no next one.
    assert made["summary"]["cross-entropy"]["count"][0] == made["positions"] - 5
    assert run("--lines", lines, "--format", "svg").out == []  # made of the same
    assert len(run("--lines", lines, "--format", "svg", "--norm", "none").out) == 4


def test_parts_of_a_corpus_merge(run: Any, tmp_path: Path) -> None:
    out, lines = tmp_path / "o", tmp_path / "set.txt"
    run("--lines", lines, "--format", "none", "--name", "whole")
    for n in (1, 2):
        run("--lines", lines, "--format", "none", "--shard", f"{n}/2")
    parts = [out / f"set.{n}-of-2.stats.json" for n in (1, 2)]
    ran = run("--merge", *parts, "--format", "none")
    assert ran.out == [str(out / "set.stats.json"), str(out / "set.stats.csv")]
    whole, merged = (summary.load_summary(out / f"{name}.stats.json") for name in ("whole", "set"))
    assert (merged.prompts, merged.positions) == (whole.prompts, whole.positions)
    assert merged.sketches["rank"] == whole.sketches["rank"]
    for metric, made in summary.summary_numbers(whole).items():
        for name, values in made.items():
            np.testing.assert_allclose(
                summary.summary_numbers(merged)[metric][name], values, rtol=0.011, atol=1e-5
            )


def test_a_summary_goes_on_after_a_failure(run: Any, tmp_path: Path) -> None:
    lines = tmp_path / "set.txt"
    lines.write_text("\n".join([*TEXTS, "x" * 65]))
    ran = run("--lines", lines, "--format", "none")
    assert (ran.code, len(ran.out)) == (4, 2)
    made = summary.load_summary(tmp_path / "o" / "set.stats.json")
    assert (made.prompts, made.key) == (5, "")
    assert (tmp_path / "o" / "set.stats.part").exists()  # what is done is not done again
    assert run("--lines", lines, "--format", "none").code == 4
    assert summary.load_summary(tmp_path / "o" / "set.stats.json") == made


def test_a_summary_of_other_lines_begins_anew(run: Any, tmp_path: Path) -> None:
    lines = tmp_path / "set.txt"
    lines.write_text("\n".join(["x" * 65, "the cat", "the dog"]))
    assert run("--lines", lines, "--format", "none").code == 4
    lines.write_text("\n".join(["", "x" * 65, "the cat", "the dog"]))  # the lines move on by one
    assert run("--lines", lines, "--format", "none").code == 4
    made = summary.load_summary(tmp_path / "o" / "set.stats.json")
    assert (made.prompts, made.failed) == (2, 1)


def test_no_line_is_counted_twice(run: Any, tmp_path: Path) -> None:
    out, lines = tmp_path / "o", tmp_path / "set.txt"
    for shard in ("1/1", "1/2", "2/2", "1/4", "2/4", "3/4"):
        run("--lines", lines, "--format", "none", "--name", "x", "--shard", shard)

    def part(name: str) -> Path:
        return out / f"x.{name}.stats.json" if name else out / "x.stats.json"

    for twice in (["", ""], ["", "1-of-2"], ["1-of-2", "1-of-4"], ["1-of-2", "3-of-4"]):
        ran = run("--merge", *map(part, twice), "--format", "none", "--name", "y")
        assert "hold the same lines; give every line once" in ran.refusal(2)
    assert run("--merge", part("1-of-2"), part("2-of-4"), "--format", "none").code == 0
    merged = summary.load_summary(out / "x.stats.json")
    assert summary.missing_shards(merged) == ["4/4"]
    lines.write_text("another\nfile\n")
    run("--lines", lines, "--format", "none", "--name", "z", "--shard", "1/2")
    ran = run("--merge", out / "z.1-of-2.stats.json", part("1-of-2"), "--format", "none")
    assert ran.code == 0  # parts of two files
    assert summary.load_summary(out / "merged.stats.json").prompts == 1 + 3


def test_a_part_without_lines_is_no_failure(run: Any, tmp_path: Path) -> None:
    assert run("--lines", tmp_path / "set.txt", "--shard", "6/6") == Ran(0, [], [])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--vmin", "50"], "--vmin 50 is not below --vmax 30"),
        (["--cmap", "nonsense"], "--cmap 'nonsense' is unknown"),
    ],
)
def test_colours_are_refused_before_any_work(
    run: Any, tmp_path: Path, arguments: list[str], said: str
) -> None:
    ran = run("--lines", tmp_path / "set.txt", *arguments, "-m", "/nowhere")
    assert ran.refusal(2).startswith(said)


def test_lines_from_standard_input_are_read_once(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = io.TextIOWrapper(io.BytesIO("\n".join(TEXTS).encode()))
    monkeypatch.setattr("sys.stdin", given)
    assert run("--lines", "-", "--format", "none").code == 0
    made = summary.load_summary(tmp_path / "o" / "stdin.stats.json")
    assert (made.prompts, [shard[1:] for shard in made.shards]) == (5, [(0, 1)])


def test_names_in_the_lines_count_for_nothing(run: Any, tmp_path: Path) -> None:
    lines = tmp_path / "twice.jsonl"
    lines.write_text('{"text": "the cat", "name": "a"}\n{"text": "the dog", "name": "a"}\n')
    assert run("--lines", lines, "--format", "none").code == 0
    assert summary.load_summary(tmp_path / "o" / "twice.stats.json").prompts == 2


def test_a_summary_does_not_go_in_the_place_of_its_part(run: Any, tmp_path: Path) -> None:
    run("--lines", tmp_path / "set.txt", "--format", "none")
    made = tmp_path / "o" / "set.stats.json"
    assert "would overwrite" in run("--merge", made, "--format", "none").refusal(2)
    assert run("--merge", made, "--format", "none", "--name", "again").code == 0


def test_refusals(run: Any, tmp_path: Path) -> None:
    lines = tmp_path / "set.txt"
    for arguments, said in (
        ([], "there is no prompt"),
        (["-t", "a"], "No such option: -t; it is an option of topk, "),
        (["--lines", lines, "--skip-first", "4"], "No such option: --skip-first; "),
        (["--lines", lines, "--changes-only"], "No such option: --changes-only; "),
        (["--merge"], "--merge and the summaries to merge go together"),
        (["--lines", lines, "x.json"], "--merge and the summaries to merge go together"),
        (["--merge", "x.json", "--lines", lines], "--merge reads no prompt"),
        (["--merge", "x.json"], "x.json: No such file"),
        (["--lines", lines, "--split", "3"], "No such option: --split; "),
    ):
        assert run(*arguments).refusal(2).startswith(said)


def test_a_dump_is_no_summary(run: Any, readings: list[Reading], tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(dump_to_json(readings[0]))
    assert "is not a summary" in run("--merge", tmp_path / "a.json").refusal(2)


# ---- sums that no file could hold


def with_kl(reading: Reading, value: float) -> Reading:
    kl = reading.metrics["kl-final"]
    values: list[list[float | None]] = [[value] * len(row) for row in kl.values]
    made = msgspec.structs.replace(kl, values=values)
    return msgspec.structs.replace(reading, metrics={**reading.metrics, "kl-final": made})


def test_sums_are_right_up_to_what_a_file_holds(readings: list[Reading]) -> None:
    """2**62 units of 2**-24 are 2**38, 274877906944."""
    cat = readings[0]
    columns = len(cat.tokens)
    made = summary.add_reading(
        summary.empty_summary(cat, MEASURED, "x"), with_kl(cat, 2.0**37 / columns)
    )
    before = summary.summary_to_json(made)
    assert made.sketches["kl-final"][1].total == 2**61
    with pytest.raises(UsageError, match=r"^kl-final adds up to 3\.44e\+11, and a summary holds "
                       r"2\.75e\+11; .*--shard"):  # fmt: skip
        summary.add_reading(made, with_kl(cat, 1.5 * 2.0**37 / columns))
    with pytest.raises(UsageError, match=r"^kl-final adds up to 1e\+300, "):
        summary.add_reading(made, with_kl(cat, 1e300 / columns))
    assert summary.summary_to_json(made) == before  # nothing of them was counted
    whole = summary.add_reading(made, with_kl(cat, 2.0**37 / columns))
    assert whole.sketches["kl-final"][1].total == 2**62
    assert whole.sketches["kl-final"][1].mean() == 2.0**37 / columns


def test_merged_sums_that_no_file_could_hold(readings: list[Reading], tmp_path: Path) -> None:
    paths = []
    for n in range(3):
        path = tmp_path / f"{n}.stats.json"
        cat = readings[0]
        made = summary.empty_summary(cat, MEASURED, "x")
        made = summary.add_reading(made, with_kl(cat, 2.0**37 / len(cat.tokens)))
        made = msgspec.structs.replace(made, shards=[("x", n, 3)])
        path.write_bytes(summary.summary_to_json(made))
        paths.append((path, summary.load_summary(path)))
    both = summary.merge_summaries(paths[:2], "both")
    assert both.sketches["kl-final"][1].total == 2**62
    with pytest.raises(UsageError, match=r"^kl-final adds up to 4\.12e\+11, and a summary holds "):
        summary.merge_summaries([(paths[0][0], both), paths[2]], "all")


def test_a_text_for_which_there_is_no_room_is_told_apart(
    read: Shell, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = tmp_path / "set.txt"
    lines.write_text(f"a\n{'the cat ' * 20}\ncat\n")
    assert read("stats", "--lines", lines, "-o", tmp_path / "all").code == 0
    whole = summary.load_summary(tmp_path / "all" / "set.stats.json")
    largest = max(sketch.total for sketch in whole.sketches["rank"])
    monkeypatch.setattr(summary, "LARGEST_COUNT", largest // 2)
    ran = read("stats", "--lines", lines)
    assert (ran.code, len(ran.err)) == (4, 2)
    assert ran.err[0].startswith("logitlens: line 2 (2): rank adds up to ")
    made = summary.load_summary(out / "set.stats.json")
    assert (made.prompts, made.failed) == (2, 1)
