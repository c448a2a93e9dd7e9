"""Hostile files, in a process that is watched: each is refused soon and in little memory, nothing
is run, nothing is written outside the folder for files, and no network is touched."""

import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from model_files import BACKTRACKING, edit_json, split_by

SECONDS, MEGABYTES = 10.0, 1000

# Runs command lines one after the other. Whatever would act on the world is an event that Python
# tells: what is opened for writing, started, connected to, or looked up by a pickle.
WATCH = """
import json, os, resource, sys, time
from logitlens_cli.cli import app
work, lines = json.loads(sys.argv[1])
assert app.main(lines[0]) == 0  # loads all libraries
seen = []
acts = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect",
        "pickle.find_class", "os.remove", "os.rename", "os.mkdir", "shutil.rmtree")
def watch(event, given):
    if event == "open" and isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR):
        place = os.fsdecode(given[0]) if isinstance(given[0], (str, bytes)) else ""
        if place != os.devnull and not place.startswith(work):
            seen.append([event, place])
    elif event in acts and not (event.startswith("os.") and str(given[0]).startswith(work)):
        seen.append([event, str(given[0])])
sys.addaudithook(watch)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for line in lines[1:]:
    start = time.monotonic()
    code = app.main(line)
    spent = time.monotonic() - start
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print("END", json.dumps([code, spent, more, seen]), flush=True)
    print("END", file=sys.stderr, flush=True)
    seen.clear()
"""


def header(made: Any, data: bytes = b"") -> Callable[[Path], object]:
    """Other weights: this header, and this much data."""
    words = made if isinstance(made, bytes) else json.dumps(made).encode()
    whole = struct.pack("<Q", len(words)) + words + data
    return lambda folder: (folder / "model.safetensors").write_bytes(whole)


def tensor(shape: list[int], *offsets: int) -> dict[str, Any]:
    return {"lm_head.weight": {"dtype": "F32", "shape": shape, "data_offsets": offsets}}


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch ran",)


def with_pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))


def with_code(folder: Path) -> None:
    (folder / "own.py").write_text("open('ran', 'w')\n")
    own = {"AutoConfig": "own.Config", "AutoTokenizer": ["own.Tokenizer", None]}
    edit_json(folder / "config.json", model_type="own", auto_map=own)


def swollen(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).touch()
        os.truncate(folder / name, 10**12)

    return change


def linked(name: str, target: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return change


def fifo(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return change


def templates_elsewhere(folder: Path) -> None:
    """A link to a folder, not to a file."""
    other = folder.parent / "elsewhere"
    other.mkdir(exist_ok=True)
    (other / "tool_use.jinja").write_text("{{ messages }}")
    (folder / "additional_chat_templates").symlink_to(other)


GROWING = {"type": "Replace", "pattern": {"Regex": "."}, "content": "a" * 10}
FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "pickle": (with_pickle, "only as a pickle"),
    "code": (with_code, "brings its own code, which is not run"),
    "tokenizer linked": (linked("tokenizer.json", "/etc/passwd"), "leads out of its folder"),
    "weights linked": (linked("model.safetensors", "/dev/zero"), "leads out of its folder"),
    "template linked": (linked("chat_template.jinja", "/dev/zero"), "leads out of its folder"),
    "templates linked": (templates_elsewhere, "leads out of its folder"),
    "tokenizer that is a model": (
        lambda f: edit_json(f / "tokenizer_config.json", tokenizer_class="AutoModelForCausalLM"),
        "which is no tokenizer",
    ),
    "tokenizer that is any class": (
        lambda f: edit_json(f / "tokenizer_config.json", tokenizer_class="pipeline"),
        "which is no tokenizer",
    ),
    "tokenizer of no name": (
        lambda f: edit_json(f / "tokenizer_config.json", tokenizer_class=["AutoModel"]),
        "which is no tokenizer",
    ),
    "configuration waits": (fifo("config.json"), "no config.json"),
    "weights wait": (fifo("model.safetensors"), "has no weights"),
    "terabyte of words": (swollen("merges.txt"), "larger than 128 MB"),
    "terabyte of tokenizer": (swollen("tokenizer.json"), "larger than 128 MB"),
    "terabyte of weights": (swollen("model.safetensors"), "corrupt weights"),
    "tokenizer grows": (
        lambda f: edit_json(
            f / "tokenizer.json", normalizer={"type": "Sequence", "normalizers": [GROWING] * 15}
        ),
        "as long",
    ),
    "deep configuration": (lambda f: (f / "config.json").write_text("[" * 10**6), "recursion"),
    "deep tokenizer": (lambda f: (f / "tokenizer.json").write_text("[" * 10**6), "tokenizer"),
    "billion blocks": (
        lambda f: edit_json(f / "config.json", num_hidden_layers=10**9),
        "says num_hidden_layers: 1e+09",
    ),
    "billion labels": (
        lambda f: edit_json(f / "config.json", num_labels=10**9),
        "says num_labels: 1e+09",
    ),
    "billion layers within": (
        lambda f: edit_json(f / "config.json", text_config={"num_hidden_layers": 1e9}),
        "says num_hidden_layers: 1e+09",
    ),
    "billion words": (lambda f: edit_json(f / "config.json", vocab_size=10**9), "far larger"),
    "billion wide": (lambda f: edit_json(f / "config.json", hidden_size=2**30), "corrupt model"),
    "billion heads": (lambda f: edit_json(f / "config.json", head_dim=10**9), "far larger"),
    "header of exabytes": (
        lambda f: (f / "model.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}"),
        "corrupt weights",
    ),
    "tensor of exabytes": (header(tensor([2**40, 2**20], 0, 4), bytes(4)), "corrupt weights"),
    "tensor that overflows": (header(tensor([2**63, 4], 0, 0)), "corrupt weights"),
    "tensor elsewhere": (header(tensor([1], 2**60, 2**60 + 4), bytes(4)), "corrupt weights"),
    "tensor backwards": (header(tensor([1], 4, 0), bytes(4)), "corrupt weights"),
    "deep header": (header(b"[" * 10**6), "corrupt weights"),
    "crowd of tensors": (
        header(
            {f"t{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(270000)}
        ),
        "more than any model has",
    ),
}


def replacing(pattern: str) -> Callable[[Path], None]:
    step = {"type": "Replace", "pattern": {"Regex": pattern}, "content": "a"}
    return lambda folder: edit_json(folder / "tokenizer.json", normalizer=step)


def slow_to_read(folder: Path) -> None:
    """What is added is normalized when the tokenizer is read."""
    replacing(BACKTRACKING)(folder)
    token = {"content": "b" * 10**5, "normalized": True, "special": False, "lstrip": False,
             "rstrip": False, "single_word": False, "id": 270}  # fmt: skip
    made = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    edit_json(folder / "tokenizer.json", added_tokens=[*made, token])


def chat(template: str) -> Callable[[Path], object]:
    return lambda folder: (folder / "chat_template.jinja").write_text(template)


LOOP = "{% for i in range(99999) %}"
DOUBLING = "{% set ns = namespace(x='ab') %}{% for i in range(40) %}{% set ns.x = ns.x + ns.x %}"
TRIED = ["subprocess.Popen", sys.executable]
"""what is done of a tokenizer whose normalizer has patterns"""
STUCK: dict[str, tuple[Callable[[Path], object], str]] = {
    "patterns without an end": (split_by(r"(a|a)*$"), "the tokenizer of"),
    "patterns that go back": (
        split_by(BACKTRACKING),
        "needs more than 3 s for a text of 10000 char",
    ),
    "replacements that go back": (
        replacing(BACKTRACKING),
        "needs more than 3 s for a text of 10000 char",
    ),
    "loops": (chat(f"{LOOP}{LOOP}{'{% endfor %}' * 2}"), "template of loops needs more than 2 s"),
    "output": (chat(f"{LOOP}{LOOP}xxxxxxxxx{'{% endfor %}' * 2}"), "the chat template"),
    "range": (chat("{% for i in range(10**9) %}x{% endfor %}"), "Range too big"),
    "powers": (chat("{{ (9**99999999) % 7 }}"), "template of powers needs more than 2 s"),
    "repetition": (chat("{{ 'x' * 10**10 }}"), "the chat template fails: MemoryError"),
    "width": (chat("{{ '%09999999999d' % 1 }}"), "the chat template fails"),
    "padding": (chat("{{ 'x'.center(10**10) }}"), "the chat template fails: MemoryError"),
    "doubling": (chat(DOUBLING + "{% endfor %}"), "the chat template fails: MemoryError"),
}

Dump = dict[str, Any]


def set_label(dump: Dump, length: int) -> None:
    dump["tokens"][0]["label"] = "x" * length


def widen(dump: Dump, times: int) -> None:
    """So many more columns, that contradict nothing else in the dump."""
    tokens = dump["tokens"] * times
    dump["tokens"] = [
        token | {"position": n, "next_id": after.get("id"), "next_label": after.get("label")}
        for n, (token, after) in enumerate(zip(tokens, [*tokens[1:], {}], strict=True))
    ]
    dump["text_ids"] *= times
    dump["lens"].update(window=[0, len(tokens)], text_tokens=len(tokens))
    dump["final_ids"] *= times
    keys = ("target_ids", "target_labels")
    targets = [m[key] for m in dump["metrics"].values() for key in keys if m.get(key)]
    for row in (dump["lock_in"]["first"], dump["lock_in"]["since"], *targets):
        row *= times
    ties = [m["ties"] for m in dump["metrics"].values() if m.get("ties")]
    values = [m["values"] for m in dump["metrics"].values()]
    for grid in (*dump["guesses"].values(), *values, *ties):
        for row in grid:
            row *= times


DUMPS: dict[str, tuple[Callable[[Dump], object] | bytes, int, str]] = {
    "deep": (b"[" * 10**7, 2, "is not a dump"),
    "deep options": (b'{"options":' + b'{"a":' * 10**6, 2, "is not a dump"),
    "number of a million digits": (b'{"later":' + b"9" * 10**6 + b"}", 2, "is not a dump"),
    "path": (lambda d: d.update(command="x/../../../../evil"), 2, "is not a dump"),
    "metric as path": (lambda d: d["metrics"].update({"../evil": 1}), 2, "is not a dump"),
    "long label": (lambda d: set_label(d, 4 * 10**7), 0, ""),
    "long unit": (lambda d: d["metrics"]["rank"].update(unit="x y " * 10**6), 0, ""),
    "long name": (lambda d: d["model"].update(name="x y " * 10**6), 0, ""),
    "wide": (lambda d: widen(d, 4000), 2, "the figure would be"),
}


def watched(
    work: Path, lines: list[list[str]], first: str = ""
) -> list[tuple[int, float, float, list[Any], str]]:
    """Exit code, seconds, more megabytes than a sound model took, deeds, and what was said.
    ``first`` is Python code."""
    done = subprocess.run(
        [sys.executable, "-c", first + WATCH, json.dumps([str(work), lines])],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=work,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    ends = [json.loads(line[4:]) for line in done.stdout.splitlines() if line.startswith("END ")]
    said = done.stderr.split("END\n")[:-1]
    return [(*end, words) for end, words in zip(ends, said, strict=True)]


def test_folders_of_models(tiny_folder: Path, tmp_path: Path) -> None:
    reads = ["topk", "-t", "the cat", "-o", str(tmp_path / "out"), "-q", "--format", "svg", "-m"]
    lines = [[*reads, str(tiny_folder)]]
    for name, (change, _) in FOLDERS.items():
        folder = Path(shutil.copytree(tiny_folder, tmp_path / name))
        change(folder)
        lines.append([*reads, str(folder)])
    for (name, (_, word)), ended in zip(FOLDERS.items(), watched(tmp_path, lines), strict=True):
        code, seconds, megabytes, deeds, said = ended
        assert (code, deeds) == (1, []), (name, ended)
        assert word in said, (name, said)
        assert said.count("\n") == 1, (name, said)
        assert seconds < SECONDS, (name, seconds)
        assert megabytes < MEGABYTES, (name, megabytes)
        print(f"{name}: {seconds:.2f} s, {megabytes:.0f} MB")
    assert not list(tmp_path.rglob("ran"))


@pytest.mark.slow
def test_tokenizers_and_templates(tiny_folder: Path, tmp_path: Path) -> None:
    """Programs that a model brings along: of patterns, and of templates."""
    text, rest = "a" * 9999 + "!", ["-o", str(tmp_path / "out"), "--format", "none", "-q", "-m"]
    lines = [["topk", "-t", "the cat", *rest, str(tiny_folder)]]
    for name, (change, _) in STUCK.items():
        folder = Path(shutil.copytree(tiny_folder, tmp_path / name))
        change(folder)
        option = ["--chat"] * (folder / "chat_template.jinja").exists()
        lines.append(["topk", "-t", text, *rest, str(folder), *option])
    ran = watched(tmp_path, lines, "import logitlens_cli.model.sandbox as s; s.SECONDS = 2.0")
    for (name, (_, word)), ended in zip(STUCK.items(), ran, strict=True):
        code, seconds, megabytes, deeds, said = ended
        print(f"{name}: {seconds:.2f} s, {megabytes:.0f} MB")
        assert code == 1, (name, ended)
        assert all(deed == TRIED for deed in deeds), (name, deeds)
        assert word in said, (name, said)
        assert said.count("\n") == 1, (name, said)
        assert seconds < 4 * SECONDS, (name, seconds)
        assert megabytes < MEGABYTES, (name, megabytes)


@pytest.mark.slow
def test_dumps(tiny_folder: Path, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    lines = [["all", "-t", "the cat", "-o", out, "-m", str(tiny_folder), "--name", "x", "-q"]]
    first = watched(tmp_path, lines)
    assert first == []
    whole = json.loads((tmp_path / "out" / "x.all.json").read_bytes())
    for name, (change, _, _) in DUMPS.items():
        path = tmp_path / f"{name.replace(' ', '-')}.json"
        if isinstance(change, bytes):
            path.write_bytes(change)
        else:
            dump = json.loads(json.dumps(whole))
            change(dump)
            path.write_text(json.dumps(dump))
        lines.append(["render", str(path), "-o", out, "--format", "svg,parquet"])
    for (name, (_, expected, word)), ended in zip(
        DUMPS.items(), watched(tmp_path, lines), strict=True
    ):
        code, seconds, megabytes, deeds, said = ended
        assert (code, deeds) == (expected, []), (name, ended)
        assert word in said, (name, said)
        assert said.count("\n") == (code != 0), (name, said)
        assert seconds < SECONDS, (name, seconds)
        assert megabytes < MEGABYTES, (name, megabytes)
        print(f"{name}: {seconds:.2f} s, {megabytes:.0f} MB")


@pytest.mark.parametrize("length", [10**6, 10**8])
def test_a_text_is_cut_before_it_is_measured(length: int) -> None:
    from logitlens_cli.figures.fonts import BASE, Ruler

    ruler = Ruler([BASE])
    assert ruler.shortened("x" * length, 8, 1.0) == ruler.shortened("x" * 500, 8, 1.0)
    assert max(len(text) for text, _ in ruler.widths) < 1000


@pytest.mark.slow
def test_a_tokenizer_that_cannot_be_read(tiny_folder: Path, tmp_path: Path) -> None:
    """Its reader holds Python's lock, so it is tried in another process, which can be ended."""
    line = ["topk", "-t", "the cat", "-o", str(tmp_path / "out"), "--format", "none", "-q", "-m"]
    hostile, sound = (Path(shutil.copytree(tiny_folder, tmp_path / n)) for n in ("hostile", "odd"))
    slow_to_read(hostile)
    replacing("x{3,}")(sound)
    lines = [[*line, str(folder)] for folder in (tiny_folder, hostile, sound)]
    refused, read = watched(
        tmp_path, lines, "import logitlens_cli.model.tokenizer_files as t; t.READ_SECONDS = 10"
    )
    assert refused[0] == 1
    assert refused[-1].startswith(f"logitlens: the tokenizer of {hostile} cannot be read within 10")
    assert refused[1] < 30
    assert read[0] == 0
    for _, _, _, deeds, _ in (refused, read):
        assert deeds == [TRIED]
