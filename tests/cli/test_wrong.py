"""Wrong input: what a user can get wrong, the exit code, and the one line that is said about it."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Ran, Shell
from transformers import BertConfig, T5Config, dynamic_module_utils

from logitlens_cli.batch.workers import Workers
from logitlens_cli.cli import app
from logitlens_cli.commands import write
from logitlens_cli.errors import WorkError, one_line

Change = Callable[[Any], object]
TEXT = "the cat"  # t h e ·cat
FILES: dict[str, bytes] = {
    "empty.txt": b"",
    "line.txt": b"\n",
    "latin.txt": b"caf\xe9",
    "utf16.txt": "cat".encode("utf-16"),
    "long.txt": b"x" * 65,
    "endless.txt": b"x" * 10**5,
    "blank.txt": b" \n\n",
    "good.txt": b"the cat\n",
    "two.txt": b"a\nb\n",
    "bad.jsonl": b'{"text": 3}\n',
    "cut.jsonl": b'{"text": "a"}\n{"text":\n',
    "deep.jsonl": b"[" * 100_000,
    "half.jsonl": b'{"text": "\\ud800"}\n',
    "away.jsonl": b'{"text": "a", "name": "../.."}\n',
    "same.jsonl": b'{"text": "a", "name": "n"}\n{"text": "b", "name": "n"}\n',
    "long.jsonl": b'{"text": "a", "name": "' + b"n" * 300 + b'"}\n',
    "key.toml": b"colour = 3\n",
    "escape.toml": b'"\\u001b[31m" = 3\n',
    "kind.toml": b'every = "x"\n',
    "bool.toml": b"every = true\n",
    "argument.toml": b'given = "x.json"\n',
    "zero.toml": b"every = 0\n",
    "broken.toml": b"every = \n",
    "twice.toml": b"k = 1\nk = 2\n",
    "deep.toml": b"k = " + b"[" * 100_000,
    "digits.toml": b"k = " + b"9" * 5000,
    "nan.toml": b"vmin = nan\n",
    "list.toml": b'title = ["a"]\n',
    "table.toml": b"[k]\nx = 1\n",
    "date.toml": b"title = 2026-01-01\n",
    "latin.toml": b'title = "caf\xe9"\n',
    "large.toml": b"#" * (2**20 + 1),
    "rivals.toml": b'text = "a"\nfile = "b"\n',
    "dump.json": b"{}",
    "deep.json": b"[" * 100_000,
    "bom.json": b"\xef\xbb\xbf{}",
}


def copied(source: Path, target: Path) -> Path:
    return Path(shutil.copytree(source, target))


def edit(folder: Path, file: str = "config.json", **changes: Any) -> None:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def put(value: Any, *keys: Any) -> Change:
    """Set the value at the end of a path."""

    def change(there: Any) -> None:
        for key in keys[:-1]:
            there = there[key]
        there[keys[-1]] = value

    return change


def followed(**changes: Any) -> Change:
    whole = {"position": 3, "ids": [1, 2], "labels": ["a", "b"], "ranks": [[1, 2]] * 5}
    return put(whole | changes, "followed")


def only_the_input_row(dump: Any) -> None:
    grids = [*dump["guesses"].values()]
    for scores in dump["metrics"].values():
        grids += [grid for grid in (scores["values"], scores["ties"]) if grid]
    for grid in (dump["layers"], *grids):
        del grid[1:]
    dump["followed"] = None


# What is done to a dump that was right.
DUMPS: dict[str, Change] = {
    "future": put("logitlens/2", "schema"),
    "away": put("x/../../../evil", "command"),
    "break": put("all\n", "command"),
    "evil": put({"values": []}, "metrics", "../evil"),
    "colour": put(["rank"], "options", "color"),
    "unknown": put("sharpness", "options", "color"),
    "backwards": put(1.0, "metrics", "prob", "scale", "low"),
    "zero": put(0, "metrics", "rank", "scale", "low"),
    "map": put("nope", "metrics", "rank", "scale", "cmap"),
    "huge": put(1e308, "metrics", "kl-final", "values", 1, 0),
    "place": put(-1, "tokens", 0, "position"),
    "far": put(10**400, "tokens", 0, "position"),
    "rows": put([], "layers"),
    "input": only_the_input_row,
    "none": put({}, "metrics"),
    "column": followed(position=77),
    "short": followed(ranks=[[1, 2]] * 3),
    "ragged": followed(ranks=[[1, 2]] * 4 + [[1]]),
    "nothing": followed(ids=[], labels=[], ranks=[[]] * 5),
    "negative": followed(ranks=[[-1, 2]] * 5),
    "labels": followed(labels=["a"]),
}


def renamed(old: str, new: str) -> Callable[[Path], object]:
    return lambda folder: (folder / old).rename(folder / new)


def linked(name: str, target: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return change


def tokenizer_with(**changes: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder, "tokenizer.json", **changes)


def mismatched(folder: Path) -> None:
    tokens = json.loads((folder / "tokenizer.json").read_text())
    tokens["model"]["vocab"] |= {f"more{i}": i for i in range(262, 400)}
    tokens["added_tokens"] = [
        {"id": 399, "content": "<extra>", "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
    ]  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(tokens))
    (folder / "tokenizer_config.json").unlink()


def chatting(template: Any) -> Callable[[Path], None]:
    return lambda folder: edit(folder, "tokenizer_config.json", chat_template=template)


GROWING = {"type": "Replace", "pattern": {"Regex": "."}, "content": "aaaaaaaaaa"}
EMPTYING = GROWING | {"content": ""}
# What is done to a model's folder that was right.
MODELS: dict[str, Callable[[Path], object]] = {
    "tiny": lambda folder: None,
    "cut": lambda folder: os.truncate(folder / "model.safetensors", 9000),
    "deeper": lambda folder: edit(folder, num_hidden_layers=5),
    "mismatch": mismatched,
    "pickled": renamed("model.safetensors", "pytorch_model.bin"),
    "endless": lambda folder: edit(folder, num_hidden_layers=10**9),
    "wide": lambda folder: edit(folder, vocab_size=10**30),
    "flat": lambda folder: edit(folder, num_hidden_layers=0),
    "half": lambda folder: edit(folder, num_hidden_layers=1.5),
    "nested": lambda folder: edit(folder, text_config=3),
    "coded": lambda folder: edit(folder, model_type="own", auto_map={"AutoConfig": "own.C"}),
    "linked": linked("tokenizer.json", "/etc/passwd"),
    "zeros": linked("merges.txt", "/dev/zero"),
    "swollen": lambda folder: os.truncate(touched(folder / "chat_template.jinja"), 10**11),
    "growing": tokenizer_with(normalizer={"type": "Sequence", "normalizers": [GROWING] * 12}),
    "emptying": tokenizer_with(normalizer=EMPTYING),
    "panic": tokenizer_with(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
    "reaching": lambda folder: edit(
        folder, "tokenizer_config.json", fast_tokenizer_files=["../tokenizer.9.json"]
    ),
    "raising": chatting("{{ raise_exception('no') }}"),
    "prying": chatting("{{ ''.__class__.__mro__ }}"),
    "halved": chatting("{{ '\\ud800' }}"),
}


def touched(path: Path) -> Path:
    path.touch()
    return path


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """A folder of files and models, most of them not what they should be."""
    folder = tmp_path_factory.mktemp("things").resolve()
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    (folder / "folder").mkdir()
    for name, change in MODELS.items():
        change(copied(tiny_folder, folder / name))
    T5Config().save_pretrained(folder / "t5")
    BertConfig().save_pretrained(folder / "bert")
    line = ["all", "-t", TEXT, "-m", str(folder / "tiny"), "-o", str(folder), "--name", "x"]
    assert app.main([*line, "--format", "none"]) == 0
    line[0], line[-1] = "trace", "x"
    assert app.main([*line, "--format", "none"]) == 0
    lines = ["stats", "--lines", str(folder / "two.txt"), *line[3:]]
    assert app.main([*lines, "--format", "none"]) == 0
    text = (folder / "x.all.json").read_text()
    for name, spoil in DUMPS.items():
        dump = json.loads(text)
        spoil(dump)
        (folder / f"{name}.json").write_text(json.dumps(dump))
    (folder / "twice.json").write_text(text.replace('"text":', '"text":"b","text":', 1))
    (folder / "nan.json").write_text(text.replace('"vmin":null', '"vmin":NaN', 1))
    (folder / "trail.json").write_text(text + "x")
    os.truncate(touched(folder / "vast.json"), 2**29 + 1)
    (folder / "part.json").write_text('{"schema":"logitlens-stats/2"}')
    return folder


# ---- the table: a command line, its exit code, its message, where … stands for anything.
#
# A command that reads gets the text, the model tiny and a folder for its files, unless the line
# gives them, or begins with "bare". NAME=VALUE before the command is set in the environment.

HELP = "; see logitlens topk --help"
WHOLE = ": Input should be a valid integer, unable to parse string as an integer" + HELP
NO_DUMP = " is not a dump of this version of logitlens (…); make it again with logitlens all"
AGAIN = "; fetch or save the model again…"
HERE = "{}"  # the folder in which all of it happens
Row = tuple[str, int, str]

USAGE: list[Row] = [
    ("topk --window 0:5", 2, "--window 0:5 is outside the text of 4 tokens; stay within 0:4"),
    ("topk --window -9:", 2, "--window -9: is outside the text of 4 tokens; stay within 0:4"),
    ("topk --window 2:2", 2, "--window 2:2 holds no token; write A:B with A before B"),
    ("topk --window 3:1", 2, "--window 3:1 holds no token; write A:B with A before B"),
    (
        "topk --window 'the dog'",
        2,
        "--window 'the dog' does not occur in the text; give words of it, or positions A:B",
    ),
    (
        "topk --every 0",
        2,
        "Invalid value '0' for '--every': Input should be greater than or equal to 1; see "
        "logitlens topk --help",
    ),
    (
        "topk --every x",
        2,
        "Invalid value 'x' for '--every': Input should be a valid integer, unable to parse "
        "string as an integer; see logitlens topk --help",
    ),
    ("topk --layers 4", 2, "--layers 4: there is no block 4; the model's blocks are 0 to 3"),
    ("topk --layers 0-9", 2, "--layers 0-9: there is no block 9; the model's blocks are 0 to 3"),
    ("topk --layers x", 2, "--layers x: 'x' is not a block; write 0,4,8-12"),
    ("topk --layers 3-1", 2, "--layers 3-1: '3-1' runs backwards; write 1-3"),
    ("topk --layers 1 --every 2", 2, "--layers and --every are both given; give one of them"),
    (
        "topk --format gif",
        2,
        "--format 'gif' is unknown; choose from png, svg, pdf, parquet, or none",
    ),
    (
        "topk --format ''",
        2,
        "--format '' names no format; choose from png, svg, pdf, parquet, or none",
    ),
    ("topk --cmap nope", 2, "--cmap 'nope' is unknown; name a map of matplotlib or seaborn"),
    ("topk --vmin 2 --vmax 1", 2, "--vmin 2 is not below --vmax 1; give a range"),
    ("topk --vmax nan", 2, "--vmax nan cannot be a colour limit; give a number"),
    (
        "topk --dpi 5",
        2,
        "Invalid value '5' for '--dpi': Input should be greater than or equal to 30; see "
        "logitlens topk --help",
    ),
    (
        "topk --split 0",
        2,
        "Invalid value '0' for '--split': Input should be greater than or equal to 1; see "
        "logitlens topk --help",
    ),
    (
        "topk --color red",
        2,
        "Invalid value for '--color': 'red' is not one of 'own-logit', 'final-logit', "
        "'prob', 'js', 'entropy'; see logitlens topk --help",
    ),
    (
        "topk --k 1001",
        2,
        "Invalid value '1001' for '--k': Input should be less than or equal to 1000; see "
        "logitlens topk --help",
    ),
    (
        "topk -m ./nowhere",
        2,
        "there is no model './nowhere': no such folder or file, and no hub name; give "
        "smollm2, an existing folder, a .gguf file, or a hub name such as gpt2",
    ),
    (
        "topk -m t5",
        2,
        "the model {}/t5 is an encoder-decoder (t5); give a causal (decoder-only) language model",
    ),
    (
        "topk -m bert",
        2,
        "the model {}/bert is a masked language model (bert); give a causal (decoder-only) "
        "language model",
    ),
    (
        "topk -m good.txt",
        2,
        "the model good.txt is a file that does not end in .gguf; give a .gguf file, a "
        "folder with config.json, or a hub name",
    ),
    (
        "topk --revision main",
        2,
        "--revision main does not go with the model tiny, which is not from the hub; leave "
        "--revision out",
    ),
    ("topk --device tpu", 2, "unknown device 'tpu'; give auto, cpu, cuda, cuda:N or mps"),
    (
        "topk --dtype int8",
        2,
        "Invalid value for '--dtype': 'int8' is not one of 'auto', 'float32', 'bfloat16', "
        "'float16'; see logitlens topk --help",
    ),
    (
        "topk --config key.toml",
        2,
        "--config key.toml: unknown key 'colour'; did you mean color? keys are the options of…",
    ),
    (
        "topk --config kind.toml",
        2,
        "Invalid value 'x' for '--every': Input should be a valid integer, unable to parse "
        "string as an integer; see logitlens topk --help",
    ),
    (
        "topk --config zero.toml",
        2,
        "Invalid value '0' for '--every': Input should be greater than or equal to 1; see "
        "logitlens topk --help",
    ),
    ("topk --config bool.toml", 2, "--config bool.toml: every is a bool; write the value as on…"),
    (
        "render x.all.json --config argument.toml",
        2,
        "--config argument.toml: unknown key 'given'; keys are the options of logitlens render",
    ),
    (
        "topk --decoder-blocks 3 --layers 1",
        2,
        "--decoder-blocks 3 leaves blocks 0 to 0, of which none is chosen; choose some with…",
    ),
    (
        "topk --config none.toml",
        2,
        "--config none.toml: No such file or directory; name a preset file",
    ),
    ("topk --name ..", 2, "--name '..' holds no letter or digit; give another name"),
    (
        "topk --colour prob",
        2,
        "No such option: --colour; did you mean --color? See logitlens topk --help",
    ),
    ("bare topk -m tiny a stray", 2, "Got unexpected extra argument(s) (stray); put a text of…"),
    ("topk stray", 2, "TEXT and --text cannot be combined; give one prompt source"),
    ("bare topk --title", 2, "Option '--title' requires an argument; see logitlens --help"),
    ("topk --window ''", 2, "--window '' does not occur in the text; give words of it, or…"),
    (
        "topk --window 1:9999999999999999999999",
        2,
        "--window '1:99999…' does not occur in the text…",
    ),
    ("topk --window \udcff", 2, "--window '\\udcff' is not valid Unicode at character 0; give it…"),
    ("topk --layers ''", 2, "--layers : '' is not a block; write 0,4,8-12"),
    ("topk --layers 0,", 2, "--layers 0,: '' is not a block; write 0,4,8-12"),
    ("topk --layers 9999999", 2, "--layers 9999999: '9999999' is not a block; write 0,4,8-12"),
    ("topk --every 1e3", 2, "Invalid value '1e3' for '--every'" + WHOLE),
    ("topk --decoder-blocks 4", 2, "--decoder-blocks 4 leaves no row; the model has 4 blocks"),
    ("topk --skip-first 4", 2, "--skip-first 4 leaves no column; the last one is position 3"),
    ("topk --vmin 1e400", 2, "--vmin inf cannot be a colour limit; give a number"),
    ("topk --vmin -1.7e308 --vmax 1.7e308", 2, "--vmin -1.7e+308 cannot be a colour limit; give…"),
    ("topk --vmin x", 2, "Invalid value 'x' for '--vmin': Input should be a valid number…"),
    (
        "topk --vmin 1e90",
        2,
        "--vmin 1e+90 is above the upper colour limit …; give --vmax too",
    ),
    (
        "topk --title \udcff",
        2,
        "--title '\\udcff' is not valid Unicode at character 0; give it as…",
    ),
    ("topk --cmap ''", 2, "--cmap '' is unknown; name a map of matplotlib or seaborn"),
    ("topk --cmap \x1b[31m", 2, "--cmap '\\x1b[31m' is unknown; name a map of matplotlib or…"),
    (
        "topk --format png,none",
        2,
        "--format 'none' is unknown; choose from png, svg, pdf, parquet…",
    ),
    (
        "topk --format none --no-json",
        2,
        "--format none and --no-json leave nothing to write; drop…",
    ),
    ("topk --dpi 99999999999999999999", 2, "Invalid value '99999999999999999999' for '--dpi'…"),
    ("topk --chat", 2, "--chat: the tokenizer has no chat template; leave the option out"),
    ("topk --chat --bos add", 2, "--chat and --bos add are both given; the template has its own…"),
    ("topk --shard 1/2", 2, "--shard 1/2 without --lines; name a file of prompts"),
    (
        "topk --shard 0/2 --lines two.txt",
        2,
        "--shard '0/2' is not a part; write I/N, with I from 1…",
    ),
    (
        f"topk --shard 1/{'9' * 5000} --lines two.txt",
        2,
        "--shard '1/999… is not a part; write I/N…",
    ),
    ("topk --engine ray", 2, "--engine ray without --lines; name a file of prompts"),
    ("topk --workers 2", 2, "--address and --workers are for a cluster; give --engine ray too"),
    ("topk --jobs -1", 2, "Invalid value '-1' for '--jobs': Input should be greater than or…"),
    (
        "topk --batch-tokens 0",
        2,
        "Invalid value '0' for '--batch-tokens': Input should be greater…",
    ),
    (
        "topk --out a\x00b",
        2,
        "Invalid value 'a\\x00b' for '--out' / '-o': embedded null byte" + HELP,
    ),
    ("topk --name /", 2, "--name '/' holds no letter or digit; give another name"),
    (
        f"topk --name {'n' * 201}",
        2,
        "--name 'nnnn…'... is too long (201 characters); give a name of…",
    ),
    (
        f"topk --name {'n/' * 2000}",
        2,
        "--name 'n/n/…'... is too long (4000 characters); give a name…",
    ),
    (
        "topk --revision \x1b[2J",
        2,
        "--revision  [2J does not go with the model tiny, which is not…",
    ),
    (
        "topk -m \udcff",
        2,
        "--model '\\udcff' is not valid Unicode at character 0; give it as UTF-8",
    ),
    (
        "topk -m ''",
        2,
        "there is no model '': no such folder or file, and no hub name; give smollm2…",
    ),
    ("topk -m a\x00b", 2, "there is no model 'a\\x00b': no such folder or file, and no hub name…"),
    ("topk --device cuda:99", 2, "this machine has no device cuda:99; use --device auto or…"),
    (
        "topk --device cuda --device-map auto",
        2,
        "--device cuda and --device-map auto are both given…",
    ),
    ("bogus", 2, "No such command 'bogus'; to see what every layer guesses in a text, write…"),
    ("topkk", 2, "No such command 'topkk'; did you mean topk? See logitlens --help"),
    ("--bogus", 2, "No such option: --bogus; see logitlens --help"),
    ("models bogus", 2, "No such command 'bogus'; see logitlens models --help"),
]
PROMPTS: list[Row] = [
    ("bare rank -m tiny a -f good.txt", 2, "TEXT and --file cannot be combined; give one prompt…"),
    ("bare rank -m tiny", 2, "there is no prompt; give a text in quotes, --file or --lines"),
    ("rank -t ''", 2, "--text: the prompt is empty; give some text"),
    ("rank -t a -f b", 2, "--text and --file cannot be combined; give one prompt source"),
    (
        "rank -t a -f b --lines c",
        2,
        "--text, --file and --lines cannot be combined; give one prompt source",
    ),
    ("rank -f none.txt", 2, "--file none.txt does not exist; name a text file"),
    ("rank -f folder", 2, "--file folder is a folder; name a text file"),
    ("rank -f latin.txt", 2, "--file latin.txt is not UTF-8 (byte 0xE9 at 3); save it as UTF-8"),
    ("rank -f empty.txt", 2, "--file empty.txt: the prompt is empty; give some text"),
    ("rank -f line.txt", 2, "--file line.txt: the prompt is empty; give some text"),
    ("rank -f long.txt", 2, "the text has 65 tokens, tiny takes 64; shorten it"),
    (
        "rank -t 'a\udcff'",
        2,
        "--text: the prompt is not valid Unicode at character 1; give it as UTF-8",
    ),
    ("rank --lines none.txt", 2, "--lines none.txt does not exist; name a text file"),
    (
        "rank --lines blank.txt",
        2,
        "--lines blank.txt has no line with text; write one prompt per line",
    ),
    (
        "rank --lines bad.jsonl",
        2,
        '--lines bad.jsonl, line 1: not an object with a string "text"; write {"text": "...", '
        '"name": "..."}',
    ),
    ("topk -f utf16.txt", 2, "--file utf16.txt is not UTF-8 (byte 0xFF at 0); save it as UTF-8"),
    ("topk -f endless.txt", 2, "the text has 100000 tokens, tiny takes 64; shorten it"),
    ("topk -f a\x00b", 2, "Invalid value 'a\\x00b' for '--file' / '-f': embedded null byte" + HELP),
    (f"topk -f {'a' * 300}", 2, "--file aaa…aaa: File name too long; name a readable file"),
    ("topk -f good.txt/x", 2, "--file good.txt/x: Not a directory; name a readable file"),
    ("topk --lines folder", 2, "--lines folder is a folder; name a text file"),
    ("topk --lines latin.txt", 2, "--lines latin.txt is not UTF-8 (byte 0xE9 at 3); save it as…"),
    (
        "topk --lines cut.jsonl",
        2,
        "--lines cut.jsonl, line 2: not JSON (Input data was truncated)…",
    ),
    ("topk --lines deep.jsonl", 2, "--lines deep.jsonl, line 1: not JSON (maximum recursion…"),
    ("topk --lines half.jsonl", 2, "--lines half.jsonl, line 1: not JSON (…"),
    ("topk --lines away.jsonl", 2, "--lines away.jsonl, line 1: name '../..' holds no letter or…"),
    ("topk --lines same.jsonl", 2, "--lines same.jsonl: lines 1 and 2 would both write 'n'; give…"),
    ("topk --lines long.jsonl", 2, "--lines long.jsonl, line 1: name 'nnn…'... is too long (300…"),
    (
        "topk --lines two.txt --name one",
        2,
        "--name 'one' cannot name 2 prompts; put {n} where…",
    ),
    (
        "topk --lines two.txt -t a",
        2,
        "--text and --lines cannot be combined; give one prompt source",
    ),
]
METRICS: list[Row] = [
    (
        "rank --target cat",
        2,
        "--target 'cat' is not one token but 3: c + a + t; give a single token (a leading "
        "space counts), or use id:N",
    ),
    ("rank --target id:300", 2, "--target id:300 is not a token; ids are 0 to 299"),
    ("rank --target id:-1", 2, "--target id:-1 is not a token; ids are 0 to 299"),
    ("rank --vmin 0", 2, "--vmin 0 on a logarithmic scale; give a limit above 0"),
    (
        "kl-input --one-hot --direction reverse",
        2,
        "--one-hot with --direction reverse: KL(layer || input token) is infinite; use the "
        "forward direction",
    ),
    (
        "kl-final --direction up",
        2,
        "Invalid value for '--direction': 'up' is not one of 'forward', 'reverse'; see "
        "logitlens kl-final --help",
    ),
    (
        "rank --target ''",
        2,
        "--target '' is not one token but 0: nothing; give a single token (a…",
    ),
    (
        "rank --target \udcff",
        2,
        "--target '\\udcff' is not valid Unicode at character 0; give it as…",
    ),
    (
        "rank --target x\x1b[31m",
        2,
        "--target 'x\\x1b[31m' is not one token but 6: x + <U+001B> + [ +…",
    ),
    (f"rank --target id:{'9' * 5000}", 2, "--target id:999… is not a token; ids are 0 to 299"),
    ("rank --target id:", 2, "--target id: is not a token; ids are 0 to 299"),
]
PRESETS: list[Row] = [
    (
        "topk --config escape.toml",
        2,
        "--config escape.toml: unknown key '\\x1b[31m'; keys are the…",
    ),
    ("topk --config broken.toml", 2, "--config broken.toml is not TOML (Invalid value (at line 1…"),
    ("topk --config twice.toml", 2, "--config twice.toml is not TOML (Cannot overwrite a value…"),
    (
        "topk --config deep.toml",
        2,
        "--config deep.toml is not TOML (…recursion…); correct the file",
    ),
    ("topk --config digits.toml", 2, "--config digits.toml is not TOML (Exceeds the limit (4300…"),
    ("topk --config nan.toml", 2, "--vmin nan cannot be a colour limit; give a number"),
    ("topk --config list.toml", 2, "--config list.toml: title is a list; write the value as on…"),
    ("topk --config table.toml", 2, "--config table.toml: k is a dict; write the value as on the…"),
    ("topk --config date.toml", 2, "--config date.toml: title is a date; write the value as on…"),
    ("topk --config latin.toml", 2, "--config latin.toml is not TOML ('utf-8' codec can't decode…"),
    (
        "topk --config large.toml",
        2,
        "--config large.toml is not TOML (it has more than 1 MB); correct…",
    ),
    (
        "topk --config /dev/zero",
        2,
        "--config /dev/zero is not TOML (it has more than 1 MB); correct…",
    ),
    (
        "bare topk --config rivals.toml",
        2,
        "--text and --file cannot be combined; give one prompt source",
    ),
    ("topk --config folder", 2, "--config folder: Is a directory; name a preset file"),
    ("topk --config ''", 2, "--config .: Is a directory; name a preset file"),
    ("LOGITLENS_EVERY=x topk", 2, "Invalid value 'x' for '--every'" + WHOLE),
    (
        "LOGITLENS_QUIET=maybe topk",
        2,
        "Invalid value 'maybe' for '--quiet' / '-q': Input should be…",
    ),
    (
        "LOGITLENS_FORMAT=gif topk --quiet",
        2,
        "--format 'gif' is unknown; choose from png, svg, pdf…",
    ),
    (
        "LOGITLENS_CONFIG=none.toml topk",
        2,
        "--config none.toml: No such file or directory; name a…",
    ),
    (
        "LOGITLENS_OUT=good.txt topk --quiet",
        1,
        "--out good.txt cannot be written: Not a directory…",
    ),
]
DUMPS_AND_SUMMARIES: list[Row] = [
    (
        "render absent.json",
        2,
        "absent.json: No such file or directory; name a JSON dump of logitlens",
    ),
    ("render folder", 2, "folder: Is a directory; name a JSON dump of logitlens"),
    (
        "render dump.json",
        2,
        "dump.json is not a dump of this version of logitlens (Object missing required field "
        "`schema`); make it again with logitlens all",
    ),
    (
        "render good.txt",
        2,
        "good.txt is not a dump of this version of logitlens (JSON is malformed: invalid "
        "character (byte 4)); make it again with logitlens all",
    ),
    ("render ", 2, "Missing argument 'FILE.json... [METRIC]'; see logitlens render --help"),
    (
        "render good.txt/x.json",
        2,
        "good.txt/x.json: Not a directory; name a JSON dump of logitlens",
    ),
    ("render /dev/zero", 2, "/dev/zero: it has more than 512 MB; name a JSON dump of logitlens"),
    ("render vast.json", 2, "vast.json: it has more than 512 MB; name a JSON dump of logitlens"),
    (
        "render /dev/null",
        2,
        "/dev/null is not a dump of this version of logitlens (Input data was…",
    ),
    ("render deep.json", 2, "deep.json" + NO_DUMP),
    ("render bom.json", 2, "bom.json" + NO_DUMP),
    ("render trail.json", 2, "trail.json" + NO_DUMP),
    ("render nan.json", 2, "nan.json" + NO_DUMP),
    (
        "render twice.json",
        2,
        "twice.json…(the key 'text' occurs twice in an object); make it again…",
    ),
    ("render future.json", 2, "future.json…(schema is 'logitlens/2', this version reads…"),
    (
        "render away.json --format parquet",
        2,
        "away.json…(Expected `str` matching regex…`$.command`)…",
    ),
    ("render break.json", 2, "break.json…(Expected `str` matching regex…`$.command`)…"),
    ("render evil.json", 2, "evil.json…(Expected `str` matching regex…in `$.metrics`)…"),
    ("render colour.json", 2, "colour.json…(options.color is not a string)…"),
    (
        "render unknown.json",
        2,
        "sharpness is not in this dump; it holds own-logit, final-logit, prob",
    ),
    ("render backwards.json", 2, "backwards.json…(metrics.prob.scale runs from 1 to 1)…"),
    (
        "render zero.json",
        2,
        "zero.json…(metrics.rank.scale is logarithmic and has a limit that is…",
    ),
    ("render map.json", 2, "the dump's colour map 'nope' is unknown; name another with --cmap"),
    ("render huge.json", 2, "huge.json…(Expected `float` <= 1e+100 - at…"),
    ("render place.json", 2, "place.json…(Expected `int` >= 0 - at `$.tokens[0].position`)…"),
    ("render far.json", 2, "far.json…(Expected `int` <= 2147483647 - at `$.tokens[0].position`)…"),
    ("render rows.json", 2, "rows.json…(a grid of 0 layers and 4 positions)…"),
    ("render input.json", 2, "no row but the input row is left; give --input-row"),
    ("render none.json", 2, "none.json holds no metric; make it again with logitlens all"),
    ("render column.json", 2, "column.json…(followed.position 77 is not a column)…"),
    ("render short.json", 2, "short.json…(followed.ranks is not of 5 layers by 2 tokens)…"),
    ("render ragged.json", 2, "ragged.json…(followed.ranks is not of 5 layers by 2 tokens)…"),
    ("render nothing.json", 2, "nothing.json…(followed has 0 ids and 0 labels)…"),
    (
        "render negative.json",
        2,
        "negative.json…(Expected `int` >= 0 - at `$.followed.ranks[0][0]`)…",
    ),
    ("render labels.json", 2, "labels.json…(followed has 2 ids and 1 labels)…"),
    (
        "render x.all.json zzz",
        2,
        "x.all.json holds no 'zzz'; it holds topk, rank, kl-final, kl-input",
    ),
    (
        "render x.stats.json",
        2,
        "x.stats.json is a summary of many texts, not a dump of a text; logitlens stats --merge…",
    ),
    (
        "render x.trace.json trace --format none --show",
        2,
        "--show has no meaning for a trace, which has no cells; leave it out",
    ),
    (
        "diff x.trace.json x.trace.json",
        2,
        "x.trace.json and x.trace.json share no grid; read both with logitlens all",
    ),
    ("render x.all.json topk extra", 2, "x.all.json holds no 'extra'; it holds topk, rank…"),
    (
        "render x.all.json --format none",
        2,
        "--format none leaves nothing to draw; name a format, or --show",
    ),
    ("render x.all.json --color entropy", 2, "entropy is not in this dump; it holds own-logit…"),
    (
        "render x.all.json rank --vmin -1",
        2,
        "--vmin -1 on a logarithmic scale; give a limit above 0",
    ),
    (
        "render x.all.json --text a",
        2,
        "No such option: --text; it is an option of …; see logitlens render --help",
    ),
    ("render x.all.json -o good.txt", 1, "good.txt/x.topk.png cannot be written: …"),
    ("stats --merge", 2, "--merge and the summaries to merge go together; write logitlens stats…"),
    ("stats --merge absent.json", 2, "absent.json: No such file or directory; name a summary"),
    ("stats --merge x.all.json", 2, "x.all.json is not a summary of logitlens (…); make it with…"),
    (
        "stats --merge part.json",
        2,
        "part.json is not a summary of logitlens (…); make it with logitlens…",
    ),
    ("bare stats -t a", 2, "No such option: -t; it is an option of …; see logitlens stats --help"),
    (
        "bare stats --lines two.txt --split 2",
        2,
        "No such option: --split; it is an option of topk, rank, kl-final, kl-input, ...; see…",
    ),
    (
        "bare stats --lines two.txt --format parquet",
        2,
        "--format 'parquet' is unknown; choose from png, svg, pdf, or none",
    ),
]
FOLDERS_OF_MODELS: list[Row] = [
    ("topk --offline -m folder", 1, "{}/folder has no config.json, so it holds no model; …"),
    ("topk --offline -m cut", 1, "corrupt weights {}/cut/model.safetensors: …"),
    (
        "topk --offline -m deeper",
        1,
        "corrupt weights in {}/deeper: 9 tensors missing, among them model.…",
    ),
    (
        "topk --offline -m mismatch -t <extra>",
        2,
        "the text holds token 400 (<extra>), but mismatch has 300 embeddings (ids 0 to 299); …",
    ),
    (
        "topk --offline -m pickled",
        1,
        "{}/pickled has its weights only as a pickle (pytorch_model.bin), which can …",
    ),
    (
        "topk --offline -m org/unknown",
        1,
        "the model org/unknown is not on this machine and --offline forbids the network; …",
    ),
    (
        "topk -m endless",
        1,
        "{}/endless/config.json says num_hidden_layers: 1e+09, more than 100000" + AGAIN,
    ),
    ("topk -m wide", 1, "cannot read the configuration of {}/wide: …Overflow…" + AGAIN),
    ("topk -q -m flat", 3, "the blocks of LlamaForCausalLM could not be found: …"),
    (
        "topk -m half",
        1,
        "cannot read the configuration of {}/half: …expected int, got float…" + AGAIN,
    ),
    ("topk -m nested", 1, "cannot read the configuration of {}/nested: …" + AGAIN),
    ("topk -m coded", 1, "the model {}/coded brings its own code, which is not run: …"),
    (
        "topk -m linked",
        1,
        "{}/linked/tokenizer.json is a link that leads out of its folder, to /etc…",
    ),
    (
        "topk -m zeros",
        1,
        "{}/zeros/merges.txt is a link that leads out of its folder, to /dev/zero…",
    ),
    ("topk -m swollen", 1, "{}/swollen/chat_template.jinja is larger than 128 MB, which no model…"),
    (
        "topk -m growing",
        1,
        "{}/growing/tokenizer.json makes texts more than 10000 times as long; …",
    ),
    ("topk -m emptying", 2, "the prompt has no token; give some text"),
    ("topk -m panic", 1, "cannot read the tokenizer of {}/panic: Precompiled: …" + AGAIN),
    ("topk -m reaching", 1, "{}/reaching/tokenizer_config.json reaches outside its folder (…"),
    ("topk -m raising --chat", 1, "--chat: the chat template fails: no; leave it out"),
    (
        "topk -m prying --chat",
        1,
        "--chat: the chat template fails: access to attribute '__class__'…",
    ),
    ("topk -m halved --chat", 1, "--chat: the chat template fails: 'utf-8' codec can't encode…"),
    (
        "models check folder",
        1,
        "{}/folder has no config.json, so it holds no model; give the folder…",
    ),
    ("models check", 2, "Missing argument 'NAME'; see logitlens models check --help"),
    (
        "models fetch ./x",
        2,
        "there is no model './x': no such folder or file, and no hub name; give…",
    ),
    ("models fetch smollm2 --revision x", 2, "--revision x does not go with the model smollm2…"),
    (
        "models families x",
        2,
        "Got unexpected extra argument(s) (x); see logitlens models families…",
    ),
    (
        "LOGITLENS_CACHE=folder topk -m smollm2 --offline",
        1,
        "the model smollm2 is not fetched yet and…",
    ),
    (
        "LOGITLENS_CACHE=/proc/none topk -m smollm2",
        1,
        "cannot prepare smollm2 in the cache folder…",
    ),
    ("LOGITLENS_CACHE=good.txt topk -m smollm2", 1, "cannot prepare smollm2 in the cache folder…"),
]
FOLDERS: list[Row] = [
    (
        "topk -o good.txt",
        1,
        "--out good.txt cannot be written: …; choose another folder with --out",
    ),
    (
        "topk -o good.txt/below",
        1,
        "--out good.txt/below cannot be written: …; choose another folder…",
    ),
    (
        "topk -o /proc/none",
        1,
        "--out /proc/none cannot be written: …; choose another folder with --out",
    ),
    (
        f"topk -o {'a' * 300}",
        1,
        "--out aaa…aaa cannot be written: File name too long; choose another…",
    ),
    ("topk -o /dev/null", 1, "--out /dev/null cannot be written: Not a directory; choose another…"),
]
TABLE = [*USAGE, *PROMPTS, *METRICS, *PRESETS, *DUMPS_AND_SUMMARIES, *FOLDERS_OF_MODELS, *FOLDERS]
READS = {"topk", "rank", "kl-final", "kl-input", "all"}


def arguments_of(line: str, out: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The arguments that a row stands for; sets its environment."""
    words = shlex.split(line)
    while "=" in words[0]:
        monkeypatch.setenv(*words.pop(0).split("=", 1))
    if words[0] == "bare":
        return words[1:]
    given = words[1:]
    if words[0] in READS:
        if not {"-t", "--text", "-f", "--file", "--lines"} & set(given):
            words += ["-t", TEXT]
        if "-m" not in given:
            words += ["-m", "tiny"]
        if "LOGITLENS_OUT" in os.environ:
            return words
    if words[0] in READS | {"render"} and not {"-o", "--out"} & set(given):
        words += ["-o", str(out)]
    return words


def everything(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def test_the_table_is_long() -> None:
    assert len(TABLE) >= 120
    assert len({line for line, _, _ in TABLE}) == len(TABLE)


@pytest.mark.parametrize(("line", "code", "said"), TABLE, ids=[ascii(row[0])[:60] for row in TABLE])
def test_wrong(
    logitlens: Shell,
    things: Path,
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(things)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # --offline sets it for the rest of the process
    before = everything(things)
    words = logitlens(*arguments_of(line, out, monkeypatch)).refusal(code)
    pattern = re.escape(said.replace("{}", str(things))).replace("…", ".*")
    assert re.fullmatch(pattern, words), words
    assert words == one_line(words)
    assert len(words) < 2000
    assert everything(things) == before
    assert not [path for path in everything(out) if path.is_file()]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_gpu_where_there_is_none(logitlens: Shell, tiny_folder: Path, out: Path) -> None:
    given = ["topk", "-t", TEXT, "-m", tiny_folder, "-o", out, "--device", "cuda"]
    assert logitlens(*given).refusal(2) == (
        "this machine has no device cuda; use --device auto or --device cpu"
    )


NOISE = """
import torch
from transformers import LlamaConfig, LlamaForCausalLM

class OwnConfig(LlamaConfig):
    model_type = "own"

class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig

    def forward(self, *args, **kwargs):
        made = super().forward(*args, **kwargs)
        made.logits = made.logits + torch.randn_like(made.logits)
        return made
"""


def test_a_lens_that_cannot_prove_itself(
    logitlens: Shell, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that adds noise to its logits: no decoding can reproduce them."""
    model = copied(tiny_folder, tmp_path / "noisy")
    (model / "own.py").write_text(NOISE)
    own = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    edit(model, model_type="own", auto_map=own)
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    line = ["topk", "-t", TEXT, "-m", model, "-o", tmp_path / "out", "--trust-remote-code"]
    logitlens(*line).refusal(3)
    assert not (tmp_path / "out").exists()


# ---- what is nobody's fault but ours, or the machine's


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Let drawing fail as nobody expects."""

    def fail(error: BaseException) -> None:
        def stage_figures(*_: object) -> None:
            raise error

        monkeypatch.setattr(write, "stage_figures", stage_figures)

    return fail


class PanicException(BaseException):
    """As Rust's, which is no Exception."""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            ZeroDivisionError("by\nzero"),
            "internal error: ZeroDivisionError: by zero; LOGITLENS_DEBUG=1 shows the traceback; "
            "please report it",
        ),
        (
            PanicException("rust"),
            "internal error: PanicException: rust; LOGITLENS_DEBUG=1 shows the traceback; "
            "please report it",
        ),
        (
            MemoryError(),
            "there is not enough memory (MemoryError); shorten the text, use --every or "
            "--batch-tokens, or take a smaller model",
        ),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            "there is not enough memory (DefaultCPUAllocator: can't allocate memory); shorten the "
            "text, use --every or --batch-tokens, or take a smaller model",
        ),
    ],
)
def test_what_nobody_expects(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    failing: Callable[[BaseException], None],
    things: Path,
    out: Path,
    error: BaseException,
    said: str,
) -> None:
    failing(error)
    line = ["render", str(things / "x.all.json"), "-o", str(out)]
    assert app.main(line) == 1
    assert capsys.readouterr() == ("", f"logitlens: {said}\n")
    monkeypatch.setenv("LOGITLENS_DEBUG", "1")
    with pytest.raises(type(error)):
        app.main(line)


def test_what_nobody_expects_of_one_prompt(
    capsys: pytest.CaptureFixture[str],
    failing: Callable[[BaseException], None],
    things: Path,
    out: Path,
) -> None:
    """It is a failure of that prompt; the batch goes on, and ends in order."""
    failing(MemoryError("of one"))
    line = ["topk", "-m", str(things / "tiny"), "--lines", str(things / "two.txt"), "-o", str(out)]
    assert app.main([*line, "--jobs", "0"]) == 4
    written, said = capsys.readouterr()
    lines = said.splitlines()[-3:]
    assert (written, len(lines)) == ("", 3)
    assert lines[0].startswith("logitlens: line 1 (two-1): there is not enough memory (of one); ")
    assert lines[1].startswith("logitlens: line 2 (two-2): there is not enough memory (of one); ")
    assert lines[2].startswith("logitlens: 2 of 2 prompts failed: ")
    failures = [json.loads(text) for text in (out / "failures.jsonl").read_text().splitlines()]
    assert [failure["line"] for failure in failures] == [1, 2]


def kaput(*_: object) -> None:
    raise ZeroDivisionError("there")


def test_what_nobody_expects_in_another_process() -> None:
    with Workers(1) as workers:
        workers.submit("this", kaput)
        (finished,) = workers.completed(pending=0)
    assert finished.subject == "this"
    assert isinstance(finished.error, WorkError)
    assert finished.error.problem == "internal error: ZeroDivisionError: there"


@pytest.mark.parametrize("taken", ["two.topk.done.jsonl", "failures.jsonl"])
def test_a_folder_in_the_place_of_a_record(
    logitlens: Shell, things: Path, out: Path, taken: str
) -> None:
    (out / taken).mkdir(parents=True)
    line = ["topk", "-m", things / "tiny", "--lines", things / "two.txt", "-o", out, "-q"]
    ran = logitlens(*line, "--format", "none", "--jobs", "0")
    said = f"logitlens: {out / taken}: Is a directory; check the path and its permissions"
    if taken == "failures.jsonl":
        said = f"logitlens: {out / taken} is a folder, not the file of failures; remove it"
    assert (ran.code, ran.err) == (1, [said])


def test_one_token_without_a_next_one(logitlens: Shell, things: Path, out: Path) -> None:
    """A figure without any value: nothing is complained of."""
    line = ["rank", "-t", "a", "--target", "next", "-m", things / "tiny", "-o", out]
    ran = logitlens(*line, "--format", "svg")
    assert (ran.code, len(ran.out), ran.err) == (0, 2, [])


def test_characters_that_no_font_has(logitlens: Shell, things: Path, out: Path) -> None:
    strange = chr(0x13000)  # a hieroglyph
    line = ["render", things / "x.all.json", "topk", "-o", out, "--format", "svg"]
    ran = logitlens(*line, "--title", f"\x1b[31m\u202e{strange}")
    assert ran.code == 0
    if ran.err:  # else there is such a font
        assert ran.err == [
            f"logitlens: no installed font has 1 of the characters ({strange}: Egyptian "
            "Hieroglyphs), so escapes stand for them; install fonts-noto-core"
        ]
    figure = (out / "x.topk.svg").read_text("utf-8")
    assert "&lt;U+001B&gt;[31m&lt;U+202E&gt;" in figure


# ---- in a process of its own


def process(*arguments: object, shell: str = "", **options: Any) -> Ran:
    """The program; ``shell`` is what a shell does with its streams."""
    words = [sys.executable, "-m", "logitlens_cli", *map(str, arguments)]
    line = f"exec {shlex.join(words)} {shell}"
    done = subprocess.run(
        ["sh", "-c", line],
        capture_output=True,
        text=True,
        timeout=100,
        **({"stdin": subprocess.DEVNULL} | options),
    )
    return Ran(done.returncode, done.stdout.splitlines(), done.stderr.splitlines())


def drawing(things: Path, out: Path) -> list[object]:
    return ["render", things / "x.all.json", "rank", "-o", out, "--format", "svg"]


def test_a_closed_standard_output(things: Path, out: Path) -> None:
    assert process(*drawing(things, out), shell=">&-") == Ran(0, [], [])
    assert (out / "x.rank.svg").is_file()


def test_a_closed_standard_error(things: Path, out: Path) -> None:
    """Standard output is for paths, whatever is closed."""
    ran = process("topk", "-t", TEXT, "-m", things / "cut", "-o", out, shell="2>&-")
    assert ran == Ran(1, [], [])
    assert process(*drawing(things, out), shell="2>&-").code == 0


def test_a_closed_standard_input(things: Path, out: Path) -> None:
    ran = process("topk", "-f", "-", "-m", things / "tiny", "-o", out, shell="<&-")
    assert ran.refusal(2) == "--file -: standard input is closed; name a readable file"


@pytest.mark.parametrize(
    "changes",
    [{"HOME": None}, {"HOME": "/proc/none"}, {"LANG": "C", "LC_ALL": "C"}],
    ids=["no home", "read-only home", "no language"],
)
def test_without_a_home(things: Path, out: Path, changes: dict[str, str | None]) -> None:
    kept = {name: value for name, value in os.environ.items() if name not in changes}
    for name in ("MPLCONFIGDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "HF_HOME"):
        kept.pop(name, None)
    there = {name: value for name, value in changes.items() if value is not None}
    line = ["topk", "-t", TEXT, "-m", things / "tiny", "-o", out, "--format", "svg"]
    ran = process(*line, env=kept | there)
    names = [str(out / f"the-cat.topk.{end}") for end in ("json", "svg")]
    assert ran == Ran(0, names, [])


def test_a_folder_whose_name_is_no_unicode(things: Path, tmp_path: Path) -> None:
    out = tmp_path / "caf\udce9"
    done = subprocess.run(
        [sys.executable, "-m", "logitlens_cli", *map(str, drawing(things, out))],
        capture_output=True, timeout=100, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == os.fsencode(f"{out}/x.rank.svg\n")


@contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    place.mkdir()
    line = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(place)]
    if os.getuid() or subprocess.run(line, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk(logitlens: Shell, things: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as out:
        ran = logitlens("render", things / "x.all.json", "-o", out, "--format", "png")
        assert ran.refusal(1) == (
            f"{out}/x.topk.png cannot be written: No space left on device; free some space, or "
            "choose another folder with --out"
        )
        assert not everything(out)


def test_a_terminal_is_told_the_same(things: Path, out: Path) -> None:
    import pty

    line = ["topk", "-t", TEXT, "-m", str(things / "cut"), "-o", str(out)]
    mine, theirs = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "logitlens_cli", *line],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs, timeout=100, check=False,
    )  # fmt: skip
    os.close(theirs)
    shown = ""
    with suppress(OSError):  # which is how a terminal ends
        while data := os.read(mine, 10**6):
            shown += data.decode()
    os.close(mine)
    last = re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", shown.replace("\r\n", "\n")).rstrip("\n")
    last = last.rpartition("\n")[2].rpartition("\r")[2]
    assert (done.returncode, done.stdout) == (1, b"")
    ran = process(*line)
    assert ran.err == [last]
