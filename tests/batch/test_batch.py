"""Many prompts: ledger, failures, passes, workers; and whole batches from the command line."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from conftest import Ran, Shell, heed_interrupts, next_line, tiny_llama
from transformers import GPT2Config, GPT2LMHeadModel

from logitlens_cli.batch import packing, prompts
from logitlens_cli.batch.failures import Failures
from logitlens_cli.batch.ledger import Ledger, prompt_key
from logitlens_cli.batch.prompts import Prompt
from logitlens_cli.batch.session import read_spec_of
from logitlens_cli.batch.workers import Workers, cpu_count
from logitlens_cli.commands.progress import Progress
from logitlens_cli.commands.write import recipe_of
from logitlens_cli.errors import DiskError, UsageError, WorkError
from logitlens_cli.lens.lens_model import LensModel, lens_model_of
from logitlens_cli.lens.prompt import TokenizedPrompt, tokenize_prompt
from logitlens_cli.lens.read import read_prompts
from logitlens_cli.lens.sharing import can_share_pass
from logitlens_cli.model.tokenizer import Encoded
from logitlens_cli.options.groups import All
from logitlens_cli.reading.record import Followed, Reading, load_dump

SCRIPT = Path(sys.executable).with_name("logitlens")
TEXTS = ["the cat", "the dog sat on a mat", "a", "cats and dogs", "the end of it all, says the cat"]


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    file = tmp_path / "set.txt"
    file.write_text("\n".join(TEXTS) + "\n")
    return file


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def written_by(ran: Ran, folder: Path) -> list[str]:
    return sorted(path.removeprefix(f"{folder}/") for path in ran.out)


def failed(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "failures.jsonl").read_text().splitlines()]


# ---- what is done


def test_the_ledger_knows_what_is_done(tmp_path: Path) -> None:
    (tmp_path / "a.json").touch()
    Ledger(tmp_path, "set.rank").add("a", "k1", [tmp_path / "a.json"])
    for name in ("gone.json", "other.json"):
        (tmp_path / name).write_bytes(b"{}")
    Ledger(tmp_path, "set.rank").add("b", "k1", [tmp_path / "gone.json"])
    Ledger(tmp_path, "set.rank").add("d", "k1", [tmp_path / "other.json"])
    (tmp_path / "gone.json").unlink()
    (tmp_path / "other.json").write_bytes(b"[]")
    ledger = Ledger(tmp_path, "set.rank")
    assert ledger.has("a", "k1")
    assert not ledger.has("a", "k2")  # another text, or other options
    assert not ledger.has("b", "k1")  # its file is not there
    assert not ledger.has("c", "k1")
    assert not ledger.has("d", "k1")  # its file was written by somebody else
    assert not Ledger(tmp_path, "set.topk").has("a", "k1")


def test_a_ledger_cut_off_loses_its_last_line_only(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).touch()
        Ledger(tmp_path, "set.rank").add(name, "k", [tmp_path / name])
    ledger = tmp_path / "set.rank.done.jsonl"
    ledger.write_bytes(ledger.read_bytes()[:-9])
    again = Ledger(tmp_path, "set.rank")
    assert [again.has(name, "k") for name in ("a", "b")] == [True, False]
    again.add("b", "k", [tmp_path / "b"])
    whole = Ledger(tmp_path, "set.rank")
    assert [whole.has(name, "k") for name in ("a", "b")] == [True, True]


def test_a_key_changes_with_whatever_changes_the_files() -> None:
    keys = {
        prompt_key(prompt, recipe)
        for prompt in (Prompt("a", "x"), Prompt("a", "y"))
        for recipe in ({"k": 5}, {"k": 6}, {"k": 5, "norm": "none"})
    }
    assert len(keys) == 6
    same = prompt_key(Prompt("b", "x", 3), {"norm": "full", "k": 5})
    assert same == prompt_key(Prompt("a", "x"), {"k": 5, "norm": "full"})


# ---- what failed


def fail(folder: Path, command: str, tried: list[int], failing: list[int], there: int = 3) -> None:
    todo = [Prompt(f"set-{n}", "", n) for n in tried]
    every = [Prompt(f"set-{n}", "", n) for n in range(1, there + 1)]
    failures = Failures(folder, Path("set.txt"), command, every, Progress(quiet=True))
    for prompt in todo:
        failures.settle(prompt)
    for n in failing:
        failures.add(Prompt(f"set-{n}", "", n), UsageError("it is empty", "give some text"))
    failures.save()


def test_a_full_disk_ends_the_batch(tmp_path: Path) -> None:
    prompt = Prompt("a", "", 1)
    failures = Failures(tmp_path, Path("s"), "rank", [], Progress(quiet=True))
    with pytest.raises(DiskError):
        failures.add(prompt, DiskError("full", "free some"))


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


@pytest.mark.parametrize(
    ("command", "limit", "said"),
    [
        ("rank", ["--vmin", "0"], "--vmin 0 on a logarithmic scale"),
        ("all", ["--vmin", "31"], "--vmin makes the colours run backwards, from 31 to 30"),
        ("topk", ["--color", "prob", "--vmin", "2"], "--vmin makes the colours run backwards"),
    ],
)
def test_limits_of_colours_are_refused_before_any_work(
    command: str, limit: list[str], said: str, lines: Path, logitlens: Shell
) -> None:
    assert (
        logitlens(command, "--lines", lines, "-m", "/nowhere", *limit).refusal(2).startswith(said)
    )


# ---- what shares a pass


def of_length(length: int) -> TokenizedPrompt:
    encoded = Encoded((0,) * length, ((0, 0),) * length, bos=False)
    return TokenizedPrompt(name=str(length), text="", encoded=encoded, columns=range(length))


def test_prompts_of_like_length_share_a_pass_within_the_budget() -> None:
    made = packing.packed([of_length(n) for n in (9, 2, 3, 30, 2, 8, 3)], 18)
    assert [[len(p.ids) for p in group] for group in made] == [[2, 2, 3, 3], [8, 9], [30]]


def test_a_long_prompt_is_never_filled_up() -> None:
    made = packing.packed([of_length(n) for n in (1500, 1600, 1024, 1000, 1025)], 1 << 20)
    assert [[len(p.ids) for p in group] for group in made] == [[1000, 1024], [1025], [1500], [1600]]


def with_spec(lens_model: LensModel) -> tuple[LensModel, Any]:
    return lens_model, read_spec_of(All(text="a", k=3, target=["final", "auto"]), lens_model)


def require_same(mine: Reading, own: Reading) -> None:
    """Ids and ranks equal, all else within rounding."""
    assert mine.guesses.ids == own.guesses.ids
    require_same_followed(mine.followed, own.followed)
    assert mine.metrics["rank-final"].values == own.metrics["rank-final"].values
    for metric in mine.metrics:
        np.testing.assert_allclose(mine.values(metric), own.values(metric), rtol=1e-4, atol=1e-4)
    assert (mine.text, mine.tokens, mine.layers, mine.lens) == (
        *(own.text, own.tokens, own.layers, own.lens),
    )


def require_same_followed(mine: Followed | None, own: Followed | None) -> None:
    assert (mine is None) == (own is None)
    if mine is not None and own is not None:
        assert (mine.ids, mine.ranks, mine.position) == (own.ids, own.ranks, own.position)
        for values, others in ((mine.logits, own.logits), (mine.probs, own.probs)):
            made, expected = np.array(values, float), np.array(others, float)
            np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("window", [None, "-1:"])
def test_texts_read_together_are_as_each_alone(tiny: LensModel, window: str | None) -> None:
    request = All(text="a", k=3, target=["final", "auto"], window=window)
    spec = read_spec_of(request, tiny)
    assert can_share_pass(tiny, spec)
    prompts_together = [tokenize_prompt(tiny, spec, text, str(n)) for n, text in enumerate(TEXTS)]
    for mine, planned in zip(
        read_prompts(tiny, spec, prompts_together), prompts_together, strict=True
    ):
        (own,) = read_prompts(tiny, spec, [planned])
        require_same(mine, own)
        assert mine.check.passed


def test_the_default_models_texts_read_together_are_as_each_alone(smollm2: LensModel) -> None:
    _, spec = with_spec(smollm2)
    assert can_share_pass(smollm2, spec)
    prompts_together = [
        tokenize_prompt(smollm2, spec, text, str(n)) for n, text in enumerate(TEXTS)
    ]
    for mine, planned in zip(
        read_prompts(smollm2, spec, prompts_together), prompts_together, strict=True
    ):
        require_same(mine, read_prompts(smollm2, spec, [planned])[0])


class LooksAtLength(GPT2LMHeadModel):  # type: ignore[misc]
    """A model that treats a text otherwise in a longer pass."""

    def forward(self, input_ids: Any = None, **rest: Any) -> Any:
        embeds = self.transformer.wte(input_ids) * (1 + 0.01 * input_ids.shape[1])
        return super().forward(inputs_embeds=embeds, **rest)


class OneText(GPT2LMHeadModel):  # type: ignore[misc]
    """A model that takes two texts at most, as when it was probed."""

    def forward(self, input_ids: Any = None, **rest: Any) -> Any:
        if len(input_ids) > 2:
            raise ValueError("too many")
        return super().forward(input_ids, **rest)


@pytest.mark.parametrize("family", [LooksAtLength, OneText])
def test_a_model_that_fill_would_disturb_reads_each_text_by_itself(
    family: type[GPT2LMHeadModel], tokenizer: Any
) -> None:
    config = GPT2Config(vocab_size=300, n_positions=64, n_embd=32, n_layer=2, n_head=4)
    model = family(config).eval().requires_grad_(False)
    lens_model = lens_model_of(model, tokenizer, name="tiny", context=64)
    assert not can_share_pass(*with_spec(lens_model))


def test_late_blocks_take_a_pass_for_each_text(tiny: LensModel) -> None:
    assert not can_share_pass(tiny, read_spec_of(All(text="a", decoder_blocks=1), tiny))


# ---- workers


def shout(text: str) -> str:
    if text == "bad":
        raise UsageError("bad", "be good")
    if text == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return text.upper()


@pytest.mark.parametrize("jobs", [0, 2])
def test_work_comes_back_in_order_with_its_errors(jobs: int) -> None:
    with Workers(jobs) as workers:
        made = []
        for text in ("a", "bad", "c"):
            workers.hand(text, shout, text)
            made += list(workers.made())
        made += list(workers.made(room=0))
    assert [(m.about, m.result) for m in made] == [("a", "A"), ("bad", None), ("c", "C")]
    error = made[1].error
    assert isinstance(error, UsageError)
    assert (error.problem, error.hint) == ("bad", "be good")


def test_a_killed_worker_is_told() -> None:
    with Workers(1) as workers:
        workers.hand("x", shout, "die")
        with pytest.raises(WorkError, match="was killed; run it again"):
            list(workers.made(room=0))


def test_an_interrupt_while_workers_come_to_rest() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    workers = Workers(1)
    workers.hand("x", time.sleep, 1.5)
    until(workers.waiting[0][1].running)
    (worker,) = multiprocessing.active_children()
    late = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    late.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            workers.__exit__()
    finally:
        late.join()
        signal.signal(signal.SIGINT, before)
    # None goes on without its parent. Asked of the system: two threads wait for the process, and
    # the one that did not get its status first cannot tell.
    assert worker.pid is not None
    assert not psutil.pid_exists(worker.pid)


def test_a_worker_that_starts_does_not_hear_what_its_parent_hears() -> None:
    with Workers(1) as workers:
        workers.hand("x", shout, "a")  # the process is there, and its Python starts
        assert workers.pool is not None
        (worker,) = workers.pool._processes
        os.kill(worker, signal.SIGINT)
        os.kill(worker, signal.SIGTERM)
        assert [made.result for made in workers.made(room=0)] == ["A"]


# ---- from the command line


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
    assert ran.err == [
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
    ran = logitlens(*line, "-q")
    assert (ran.code, ran.out, len(ran.err)) == (4, [], 3)
    texts = ["the cat", "a", "b", "the dog"]
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    ran = logitlens(*line, "-q")
    assert (ran.code, len(ran.out), ran.err) == (0, 4, [])
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
    assert len(read(*line).out) == 2 * len(TEXTS)
    assert read(*line).out == []
    assert len(read(*line, "--norm", "no-affine").out) == 2 * len(TEXTS)
    assert read(*line, "--norm", "no-affine").out == []
    lines.write_text("\n".join([*TEXTS[:2], "another", *TEXTS[3:]]))
    ran = read(*line, "--norm", "no-affine")
    assert written_by(ran, out) == ["set-3.rank.json", "set-3.rank.svg"]
    (out / "set-5.rank.svg").unlink()
    ran = read(*line, "--norm", "no-affine")
    assert written_by(ran, out) == ["set-5.rank.json", "set-5.rank.svg"]


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
    assert read(*line).out == []
    (out / "set-5.rank.2.svg").unlink()
    assert "set-5.rank.2.svg" in written_by(read(*line), out)


def test_shards_are_disjoint_and_complete(read: Shell, out: Path, lines: Path) -> None:
    line = ["rank", "--lines", lines]
    parts = [read(*line, "--shard", f"{n}/3").out for n in (1, 2, 3)]
    assert sorted(path for part in parts for path in part) == sorted(read(*line, "--dry-run").out)
    assert read(*line).out == []  # the whole is done then


def test_no_figure(read: Shell, out: Path, lines: Path) -> None:
    read("rank", "--lines", lines, "--format", "none")
    assert files(out) == [f"set-{n}.rank.json" for n in range(1, 6)] + ["set.rank.done.jsonl"]


def test_figures_are_the_same_from_workers(read: Shell, out: Path, lines: Path) -> None:
    read("all", "--lines", lines, "--name", "x-{n}")
    read("all", "--lines", lines, "--name", "y-{n}", "--jobs", "2")
    for file in out.glob("x-*.svg"):
        assert file.read_bytes() == (out / f"y{file.name[1:]}").read_bytes()


# ---- one process at a time


COUNT = """
import sys
from pathlib import Path
from logitlens_cli.batch import alone
folder = Path(sys.argv[1])
file = folder / "count"
for _ in range(100):
    with alone(folder):
        file.write_text(str(int(file.read_text()) + 1))
"""


def test_processes_that_write_to_one_folder_take_turns(tmp_path: Path) -> None:
    """None is lost, though the lock's file comes and goes."""
    (tmp_path / "count").write_text("0")
    line = [sys.executable, "-c", COUNT, str(tmp_path)]
    for child in [subprocess.Popen(line) for _ in range(3)]:
        assert child.wait(timeout=100) == 0
    assert (tmp_path / "count").read_text() == "300"
    assert files(tmp_path) == ["count"]


def test_a_batch_that_is_done_changes_nothing(read: Shell, out: Path, lines: Path) -> None:
    line = ["rank", "--lines", lines]
    read(*line)
    before = {path: path.stat().st_mtime_ns for path in (out, *out.iterdir())}
    assert read(*line).out == []
    assert before == {path: path.stat().st_mtime_ns for path in (out, *out.iterdir())}


def test_processors_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cpu_count() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(psutil.Process, "cpu_affinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert cpu_count() == 7
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cpu_count() == 1


# ---- stopped at any moment


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


def alive(session: int) -> list[int]:
    """Processes of a session that are still running."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except (OSError, ValueError):
            continue
        if folder.name.isdigit() and int(fields[3]) == session and fields[0] != "Z":
            found.append(int(folder.name))
    return found


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


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
        assert said.splitlines() == [f"logitlens: {'interrupted' if code == 130 else 'terminated'}"]
        ledger = (out / "many.rank.done.jsonl").read_text().splitlines()
        recorded = {json.loads(entry)["name"] for entry in ledger}
        # What was drawn when the end came is recorded, though it was not told any more.
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
    # What was told is not done again; what was not told may be (it was written, not recorded).
    assert not before & set(told.splitlines())
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
    assert logitlens(*line).out == []  # all is recorded


def test_the_parser_of_prompts_gives_text_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": ""}\n')
    assert prompts.from_lines(tmp_path / "a.jsonl", None) == [Prompt("a-1", "", 1)]


def test_the_models_weights_belong_to_the_recipe(tmp_path: Path) -> None:
    tiny_llama().save_pretrained(tmp_path)
    request = All(lines=tmp_path, model=str(tmp_path))
    before = recipe_of(request)
    assert recipe_of(request) == before
    os.utime(tmp_path / "model.safetensors", (1, 1))
    assert recipe_of(request) != before
