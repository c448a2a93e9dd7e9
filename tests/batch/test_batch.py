"""Whole batches from the command line: what is written, done again, stopped, shared."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from batches import TEXTS, failed, files, renewed, require_same
from conftest import Ran, Shell, heed_interrupts, next_line
from processes import alive, until

from logitlens_cli.reading.dump import load_dump

SCRIPT = Path(sys.executable).with_name("logitlens")


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    file = tmp_path / "set.txt"
    file.write_text("\n".join(TEXTS) + "\n")
    return file


def written_by(ran: Ran, folder: Path) -> list[str]:
    return sorted(path.removeprefix(f"{folder}/") for path in ran.out)


@pytest.mark.parametrize(
    ("command", "limit", "said"),
    [
        ("rank", ["--vmin", "0"], "--vmin 0 on a logarithmic scale"),
        ("all", ["--vmin", "31"], "--vmin 31 is above the upper colour limit 30"),
        ("topk", ["--color", "prob", "--vmin", "2"], "--vmin 2 is above the upper colour limit 1"),
    ],
)
def test_limits_of_colours_are_refused_before_any_work(
    command: str, limit: list[str], said: str, lines: Path, logitlens: Shell
) -> None:
    assert (
        logitlens(command, "--lines", lines, "-m", "/nowhere", *limit).refusal(2).startswith(said)
    )


def test_a_prompt_that_fails_is_told_apart(
    logitlens: Shell, tiny_folder: Path, out: Path, tmp_path: Path
) -> None:
    file = tmp_path / "set.jsonl"
    texts = ["the cat", "", "x" * 65, "the dog"]
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    line = ["topk", "--lines", file, "-m", tiny_folder, "-o", out, "--format", "svg"]
    ran = logitlens(*line)
    assert ran.code == 4
    names = [f"set-{n}.topk.{end}" for n in (1, 4) for end in ("json", "svg")]
    assert written_by(ran, out) == names
    assert files(out) == ["failures.jsonl", *names, "set.topk.done.jsonl"]
    assert ran.err[-3:] == [
        "logitlens: line 2 (set-2): its text: the prompt is empty; give some text",
        "logitlens: line 3 (set-3): the text has 65 tokens, tiny-llama takes 64; shorten it",
        "logitlens: 2 of 4 prompts failed: line 2 (set-2), line 3 (set-3); "
        f"{out}/failures.jsonl says why; the others are written",
    ]
    assert failed(out)[1] == {
        "lines": str(file), "command": "topk", "line": 3, "name": "set-3",
        "error": f"the text has 65 tokens, {tiny_folder.name} takes 64", "hint": "shorten it",
    }  # fmt: skip
    # Only what failed is tried again.
    assert renewed(out, lambda: logitlens(*line, "-q")) == ["failures.jsonl"]
    ran = logitlens(*line, "-q")
    assert (ran.code, written_by(ran, out), len(ran.err)) == (4, names, 3)
    texts = ["the cat", "a", "b", "the dog"]
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    ran = logitlens(*line, "-q")
    assert (ran.code, len(ran.out), ran.err) == (0, 8, [])
    assert "failures.jsonl" not in files(out)


def test_more_failures_than_fit_a_line(read: Shell, out: Path, tmp_path: Path) -> None:
    file = tmp_path / "set.txt"
    file.write_text("no\n" * 7)
    ran = read("topk", "--lines", file, "--window", "yes")
    assert (ran.code, ran.out, len(ran.err)) == (4, [], 8)
    assert ran.err[-1] == (
        "logitlens: 7 of 7 prompts failed: line 1 (set-1), line 2 (set-2), line 3 (set-3), "
        f"line 4 (set-4), line 5 (set-5), ...; {out}/failures.jsonl says why"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-m", "/nowhere"], "there is no model '/nowhere'"),
        (["--layers", "9"], "--layers 9: there is no block 9; the model's blocks are 0 to 3"),
        (["--target", "the"], "--target 'the' is not one token but 3: t + h + e"),
        (["--device", "tpu"], "unknown device 'tpu'"),
    ],
)
def test_what_is_wrong_with_every_prompt_is_said_once(
    read: Shell, out: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    file = tmp_path / "set.txt"
    file.write_text("the cat\nthe dog\n")
    ran = read("rank", "--lines", file, *arguments)
    assert ran.refusal(2).startswith(said)
    assert not out.exists()


def test_lines_of_json(read: Shell, out: Path, tmp_path: Path) -> None:
    file = tmp_path / "set.jsonl"
    file.write_text('{"text": "the\\ncat", "name": "cats/one"}\n{"text": "the dog"}\n')
    names = ["cats/one.topk.json", "cats/one.topk.svg", "set-2.topk.json", "set-2.topk.svg"]
    line = ["topk", "--lines", file]
    assert read(*line, "--dry-run").out == [str(out / name) for name in names]
    ran = read(*line)
    assert (ran.code, ran.err, written_by(ran, out)) == (0, [], names)
    assert files(out) == [*names, "set.topk.done.jsonl"]
    assert json.loads((out / "cats/one.topk.json").read_bytes())["text"] == "the\ncat"


def test_lines_give_what_each_gives_alone(read: Shell, out: Path, lines: Path) -> None:
    read("all", "--lines", lines, "--target", "final", "--target", "auto")
    for n, text in enumerate(TEXTS, 1):
        name = f"set-{n}"
        read("all", "-t", text, "--name", f"own-{n}", "--target", "final", "--target", "auto")
        mine, own = (load_dump(out / f"{stem}.all.json") for stem in (name, f"own-{n}"))
        require_same(mine, own)
        assert mine.options == own.options


def test_what_is_done_is_done_again_only_where_something_changed(
    read: Shell, out: Path, lines: Path
) -> None:
    line = ["rank", "--lines", lines]
    bare = [*line, "--norm", "no-affine"]
    ledger = "set.rank.done.jsonl"
    whole = [f"set-{n}.rank.{end}" for n in range(1, 6) for end in ("json", "svg")]
    assert written_by(read(*line), out) == whole
    assert renewed(out, lambda: read(*line)) == []
    assert renewed(out, lambda: read(*bare)) == [*whole, ledger]
    assert renewed(out, lambda: read(*bare)) == []
    lines.write_text("\n".join([*TEXTS[:2], "another", *TEXTS[3:]]))
    assert renewed(out, lambda: read(*bare)) == ["set-3.rank.json", "set-3.rank.svg", ledger]
    (out / "set-5.rank.svg").unlink()
    assert renewed(out, lambda: read(*bare)) == ["set-5.rank.json", "set-5.rank.svg", ledger]
    # Every path is told, whoever wrote it.
    assert written_by(read(*bare), out) == whole


def test_what_another_command_wrote_over_is_done_again(
    read: Shell, out: Path, tmp_path: Path
) -> None:
    files = {name: tmp_path / f"{name}.txt" for name in ("first", "second")}
    for name, file in files.items():
        file.write_text(f"the {name}\n")
    for name in ("first", "second", "first"):
        ran = read("rank", "--lines", files[name], "--name", "x-{n}")
        assert written_by(ran, out) == ["x-1.rank.json", "x-1.rank.svg"]
        assert load_dump(out / "x-1.rank.json").text == f"the {name}"


def test_a_split_batch_goes_on_too(read: Shell, out: Path, lines: Path) -> None:
    line = ["rank", "--lines", lines, "--split", "8"]
    first = read(*line)
    assert written_by(first, out) == sorted(
        path.removeprefix(f"{out}/") for path in read(*line, "--dry-run").out
    )
    assert renewed(out, lambda: read(*line)) == []
    (out / "set-5.rank.2.svg").unlink()
    assert "set-5.rank.2.svg" in renewed(out, lambda: read(*line))


def test_shards_are_disjoint_and_complete(read: Shell, out: Path, lines: Path) -> None:
    line = ["rank", "--lines", lines]
    parts = [read(*line, "--shard", f"{n}/3").out for n in (1, 2, 3)]
    assert sorted(path for part in parts for path in part) == sorted(read(*line, "--dry-run").out)
    assert renewed(out, lambda: read(*line)) == []  # the whole is done then


def test_no_figure(read: Shell, out: Path, lines: Path) -> None:
    read("rank", "--lines", lines, "--format", "none")
    assert files(out) == [f"set-{n}.rank.json" for n in range(1, 6)] + ["set.rank.done.jsonl"]


def test_figures_are_the_same_from_workers(read: Shell, out: Path, lines: Path) -> None:
    read("all", "--lines", lines, "--name", "x-{n}")
    read("all", "--lines", lines, "--name", "y-{n}", "--jobs", "2")
    for file in out.glob("x-*.svg"):
        assert file.read_bytes() == (out / f"y{file.name[1:]}").read_bytes()


def test_a_batch_that_is_done_changes_nothing(read: Shell, out: Path, lines: Path) -> None:
    line = ["rank", "--lines", lines]
    read(*line)
    before = {path: path.stat().st_mtime_ns for path in (out, *out.iterdir())}
    assert len(read(*line).out) == 2 * len(TEXTS)
    assert before == {path: path.stat().st_mtime_ns for path in (out, *out.iterdir())}


@pytest.fixture
def many(tmp_path: Path) -> Path:
    file = tmp_path / "many.txt"
    file.write_text("".join(f"the cat number {n}\n" for n in range(15)))
    return file


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(SCRIPT), *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        preexec_fn=heed_interrupts,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 130),
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
        pytest.param(signal.SIGKILL, -9, marks=pytest.mark.slow),
    ],
)
def test_a_batch_that_was_stopped_goes_on(
    number: signal.Signals, code: int, many: Path, out: Path, tiny_folder: Path
) -> None:
    line = ["rank", "--lines", many, "-m", tiny_folder, "-o", out, "--jobs", "2"]
    line += ["--batch-tokens", "60", "--format", "svg"]
    child = start(*line)
    done = [next_line(child) for _ in range(4)]  # it is well under way
    os.killpg(child.pid, number) if number == signal.SIGINT else os.kill(child.pid, number)
    rest, said = child.communicate(timeout=60)
    assert child.returncode == code
    until(lambda: not alive(child.pid))  # those who draw are gone too
    if number != signal.SIGKILL:
        assert not list(out.glob(".logitlens-*"))
        assert (
            said.splitlines()[-1] == f"logitlens: {'interrupted' if code == 130 else 'terminated'}"
        )
        assert "Traceback" not in said
        ledger = (out / "many.rank.done.jsonl").read_text().splitlines()
        recorded = {json.loads(entry)["name"] for entry in ledger}
        # What was drawn when the end came is recorded.
        assert recorded == {file.name.partition(".")[0] for file in out.glob("*.json")}
    for file in out.glob("*.json"):
        load_dump(file)
    before = {path.strip() for path in (*done, *rest.splitlines())}
    assert before
    stamps = {path: Path(path).stat().st_mtime_ns for path in before}
    again = start(*line, "-q")
    told, said = again.communicate(timeout=120)
    assert (again.returncode, said) == (0, "")
    assert len(list(out.glob("*.json"))) == len(list(out.glob("*.svg"))) == 15
    # What was told is told again and not done again; the rest may be (written, not recorded).
    assert before <= set(told.splitlines())
    assert stamps == {path: Path(path).stat().st_mtime_ns for path in before}


@pytest.mark.slow
def test_four_at_once_on_one_batch_and_one_folder(
    many: Path, out: Path, tiny_folder: Path, logitlens: Shell
) -> None:
    """Each does what it finds undone; some is done twice, nothing is torn."""
    many.write_text("".join(f"the cat number {n}\n" for n in range(6)) + "x" * 65 + "\n")
    line = ["rank", "--lines", many, "-m", tiny_folder, "-o", out, "--format", "svg", "-q"]
    line += ["--jobs", "0"]
    for child in [start(*line) for _ in range(4)]:
        _, said = child.communicate(timeout=120)
        assert (child.returncode, len(said.splitlines())) == (4, 2), said
    ledger = (out / "many.rank.done.jsonl").read_bytes().splitlines()
    names = {f"many-{n}" for n in range(1, 7)}
    assert {json.loads(entry)["name"] for entry in ledger} == names
    assert {(f["line"], f["name"]) for f in failed(out)} == {(7, "many-7")}
    assert len(failed(out)) == 1
    made = [f"{name}.rank.{end}" for name in names for end in ("json", "svg")]
    assert files(out) == sorted(["failures.jsonl", "many.rank.done.jsonl", *made])
    for name in names:
        load_dump(out / f"{name}.rank.json")
        assert (out / f"{name}.rank.svg").read_text().endswith("</svg>\n")
    assert renewed(out, lambda: logitlens(*line)) == ["failures.jsonl"]  # all else is recorded
