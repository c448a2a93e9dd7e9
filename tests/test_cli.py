"""The command line: what bad input gets, exit codes, help, and what is kept out of the way."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Ran, Shell, heed_interrupts
from safetensors.torch import load_file, save_file
from transformers import BertConfig, T5Config, dynamic_module_utils

from logitlens_cli import cli, model
from logitlens_cli.errors import WorkError

TEXT = "the cat"  # t h e ·cat
SCRIPT = Path(sys.executable).with_name("logitlens")
FILES: dict[str, bytes] = {
    "empty.txt": b"",
    "line.txt": b"\n",
    "latin.txt": b"caf\xe9",
    "long.txt": b"x" * 65,
    "blank.txt": b" \n\n",
    "good.txt": b"the cat\n",
    "bad.jsonl": b'{"text": 3}\n',
    "key.toml": b"colour = 3\n",
    "kind.toml": b'every = "x"\n',
    "zero.toml": b"every = 0\n",
    "broken.toml": b"every = \n",
    "dump.json": b"{}",
}


def copied(source: Path, target: Path) -> Path:
    return Path(shutil.copytree(source, target))


def edit(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def set_weight(folder: Path, name: str, place: Any, value: float) -> None:
    weights = load_file(folder / "model.safetensors")
    weights[name][place] = value
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """A folder of files and models, most of them not what they should be."""
    folder = tmp_path_factory.mktemp("things")
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    (folder / "nothing").mkdir()
    copied(tiny_folder, folder / "tiny")
    T5Config().save_pretrained(folder / "t5")
    BertConfig().save_pretrained(folder / "bert")
    os.truncate(copied(tiny_folder, folder / "cut") / "model.safetensors", 9000)
    edit(copied(tiny_folder, folder / "deeper"), num_hidden_layers=5)
    mismatch = copied(tiny_folder, folder / "mismatch")
    tokens = json.loads((mismatch / "tokenizer.json").read_text())
    tokens["model"]["vocab"] |= {f"more{i}": i for i in range(262, 400)}
    tokens["added_tokens"] = []
    (mismatch / "tokenizer.json").write_text(json.dumps(tokens))
    (mismatch / "tokenizer_config.json").unlink()
    (copied(tiny_folder, folder / "pickled") / "model.safetensors").unlink()
    (folder / "pickled" / "pytorch_model.bin").write_bytes(b"")
    return folder


@pytest.fixture
def refused(
    logitlens: Shell, things: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Sequence[object], int], str]:
    """Run a command that must fail: the one line it prints. Nothing may be written."""
    monkeypatch.chdir(things)
    before = sorted(things.rglob("*"))

    def run(arguments: Sequence[object], code: int) -> str:
        line = logitlens(*arguments).refusal(code)
        assert sorted(things.rglob("*")) == before
        assert not list(tmp_path.iterdir())
        return line

    return run


# ---- what bad input gets: arguments after the command and a prompt, and the line they end in

HELP = "; see logitlens topk --help"
WHOLE = ": Input should be a valid integer, unable to parse string as an integer" + HELP
USAGE: list[tuple[list[str], str]] = [
    # windows
    (["--window", "0:5"], "--window 0:5 is outside the text of 4 tokens; stay within 0:4"),
    (["--window", "-9:"], "--window -9: is outside the text of 4 tokens; stay within 0:4"),
    (["--window", "2:2"], "--window 2:2 holds no token; write A:B with A before B"),
    (["--window", "3:1"], "--window 3:1 holds no token; write A:B with A before B"),
    (
        ["--window", "the dog"],
        "--window 'the dog' does not occur in the text; give words of it, or positions A:B",
    ),
    # layers
    (
        ["--every", "0"],
        "Invalid value '0' for '--every': Input should be greater than or equal to 1" + HELP,
    ),
    (["--every", "x"], "Invalid value 'x' for '--every'" + WHOLE),
    (["--layers", "4"], "--layers 4: there is no block 4; the model's blocks are 0 to 3"),
    (["--layers", "0-9"], "--layers 0-9: there is no block 9; the model's blocks are 0 to 3"),
    (["--layers", "x"], "--layers x: 'x' is no block; write 0,4,8-12"),
    (["--layers", "3-1"], "--layers 3-1: '3-1' runs backwards; write 1-3"),
    (["--layers", "1", "--every", "2"], "--layers and --every are both given; give one of them"),
    # looks
    (["--format", "gif"], "--format 'gif' is unknown; choose of png, svg, pdf, parquet, or none"),
    (["--format", ""], "--format '' names no format; choose of png, svg, pdf, parquet, or none"),
    (["--cmap", "nope"], "--cmap 'nope' is unknown; name a map of matplotlib or seaborn"),
    (["--vmin", "2", "--vmax", "1"], "--vmin 2 is not below --vmax 1; give a range"),
    (["--vmax", "nan"], "--vmax nan is no limit of colours; give a number"),
    (
        ["--dpi", "5"],
        "Invalid value '5' for '--dpi': Input should be greater than or equal to 30" + HELP,
    ),
    (
        ["--split", "0"],
        "Invalid value '0' for '--split': Input should be greater than or equal to 1" + HELP,
    ),
    (
        ["--color", "red"],
        "Invalid value for '--color': 'red' is not one of 'own-logit', 'final-logit', 'prob', "
        "'entropy', 'js'" + HELP,
    ),
    (
        ["--k", "1001"],
        "Invalid value '1001' for '--k': Input should be less than or equal to 1000" + HELP,
    ),
    # models
    (
        ["-m", "./nowhere"],
        "there is no model './nowhere': no such folder or file, and no hub name; give smollm2, an "
        "existing folder, a .gguf file, or a hub name such as gpt2",
    ),
    (
        ["-m", "t5"],
        "the model {}/t5 is an encoder-decoder (t5); give a causal (decoder-only) language model",
    ),
    (
        ["-m", "bert"],
        "the model {}/bert is a masked language model (bert); give a causal (decoder-only) "
        "language model",
    ),
    (
        ["-m", "good.txt"],
        "the model good.txt is a file that does not end in .gguf; give a .gguf file, a folder "
        "with config.json, or a hub name",
    ),
    (
        ["--revision", "main"],
        "--revision main does not go with the model tiny, which is not from the hub; leave "
        "--revision out",
    ),
    (["--device", "tpu"], "unknown device 'tpu'; give auto, cpu, cuda, cuda:N or mps"),
    (
        ["--dtype", "int8"],
        "Invalid value for '--dtype': 'int8' is not one of 'auto', 'float32', 'bfloat16', "
        "'float16'" + HELP,
    ),
    # texts
    (["--table", "html"], "--table 'html' is unknown; give md, csv, or md,csv"),
    (["--table", ","], "--table ',' names no format; give md, csv, or md,csv"),
    # presets
    (
        ["--config", "key.toml"],
        "--config key.toml: unknown key 'colour'; keys are the options of logitlens topk",
    ),
    (["--config", "kind.toml"], "Invalid value 'x' for '--every'" + WHOLE),
    (
        ["--config", "zero.toml"],
        "Invalid value '0' for '--every': Input should be greater than or equal to 1" + HELP,
    ),
    (
        ["--config", "none.toml"],
        "--config none.toml: No such file or directory; name a preset file",
    ),
    # names
    (["--name", ".."], "--name '..' holds no letter or digit; give another name"),
    # options that are none
    (
        ["--colour", "prob"],
        "No such option: --colour (Possible options: --color, --out)" + HELP,
    ),
    (["stray"], "Got unexpected extra argument(s) (stray)" + HELP),
    (["--title"], "Option '--title' requires an argument; see logitlens --help"),
]


@pytest.mark.parametrize(("arguments", "line"), USAGE, ids=[" ".join(a) for a, _ in USAGE])
def test_wrong_usage(
    refused: Callable[..., str], things: Path, tmp_path: Path, arguments: list[str], line: str
) -> None:
    model = [] if "-m" in arguments else ["-m", "tiny"]
    said = refused(["topk", "-t", TEXT, "-o", tmp_path / "out", *model, *arguments], 2)
    assert said == line.format(things)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "there is no prompt; give --text, --file or --lines"),
        (["-t", ""], "--text: the prompt is empty; give some text"),
        (["-t", "a", "-f", "b"], "--text and --file are both given; give one prompt source"),
        (["-f", "none.txt"], "--file none.txt does not exist; name a text file"),
        (["-f", "nothing"], "--file nothing is a folder; name a text file"),
        (["-f", "latin.txt"], "--file latin.txt is not UTF-8 (byte 0xE9 at 3); save it as UTF-8"),
        (["-f", "empty.txt"], "--file empty.txt: the prompt is empty; give some text"),
        (["-f", "line.txt"], "--file line.txt: the prompt is empty; give some text"),
        (["-f", "long.txt"], "the text has 65 tokens, tiny takes 64; shorten it"),
        (
            ["-t", "a\udcff"],
            "--text: the prompt is not valid Unicode at character 1; give it as UTF-8",
        ),
        (["--lines", "none.txt"], "--lines none.txt does not exist; name a text file"),
        (["--lines", "blank.txt"], "--lines blank.txt has no line with text; give a prompt a line"),
        (
            ["--lines", "bad.jsonl"],
            '--lines bad.jsonl, line 1: no object with a string "text"; write {"text": "...", '
            '"name": "..."}',
        ),
    ],
)
def test_prompts_that_cannot_be(
    refused: Callable[..., str], tmp_path: Path, arguments: list[str], line: str
) -> None:
    assert refused(["rank", "-m", "tiny", "-o", tmp_path / "out", *arguments], 2) == line


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["rank", "--target", "cat"],
            "--target 'cat' is not one token but 3: c + a + t; give one token, mind the leading "
            "space, or use id:N",
        ),
        (["rank", "--target", "id:300"], "--target id:300 is no token; ids are 0 to 299"),
        (["rank", "--target", "id:-1"], "--target id:-1 is no token; ids are 0 to 299"),
        (["rank", "--vmin", "0"], "--vmin 0 on a logarithmic scale; give a limit above 0"),
        (
            ["kl-input", "--one-hot", "--direction", "reverse"],
            "--one-hot with --direction reverse: KL(layer || input token) is infinite; use the "
            "forward direction",
        ),
        (
            ["kl-final", "--direction", "up"],
            "Invalid value for '--direction': 'up' is not one of 'forward', 'reverse'; see "
            "logitlens kl-final --help",
        ),
    ],
)
def test_wrong_usage_of_other_commands(
    refused: Callable[..., str], tmp_path: Path, arguments: list[str], line: str
) -> None:
    given = [*arguments, "-t", TEXT, "-m", "tiny", "-o", tmp_path / "out"]
    assert refused(given, 2) == line


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["none.json"], "none.json: No such file or directory; name a JSON dump of logitlens"),
        (["nothing"], "nothing: Is a directory; name a JSON dump of logitlens"),
        (
            ["dump.json"],
            "dump.json is not a dump of this version of logitlens (Object missing required field "
            "`schema`); make it again with logitlens all",
        ),
        (
            ["good.txt"],
            "good.txt is not a dump of this version of logitlens (JSON is malformed: invalid "
            "character (byte 4)); make it again with logitlens all",
        ),
        ([], "Missing argument 'FILE.json'; see logitlens render --help"),
    ],
)
def test_dumps_that_are_none(
    refused: Callable[..., str], tmp_path: Path, arguments: list[str], line: str
) -> None:
    assert refused(["render", *arguments, "-o", tmp_path / "out"], 2) == line


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["bogus"], "No such command 'bogus'; see logitlens --help"),
        (["topkk"], "No such command 'topkk'. Did you mean 'topk'?; see logitlens --help"),
        (["--bogus"], "No such option: --bogus; see logitlens --help"),
        (["models", "bogus"], "No such command 'bogus'; see logitlens models --help"),
    ],
)
def test_commands_that_are_none(
    refused: Callable[..., str], arguments: list[str], line: str
) -> None:
    assert refused(arguments, 2) == line


@pytest.mark.parametrize(
    ("model", "line"),
    [
        ("nothing", "{}/nothing has no config.json, so it holds no model; "),
        ("cut", "corrupt weights {}/cut/model.safetensors: "),
        ("deeper", "corrupt weights in {}/deeper: 9 tensors missing, among them model."),
        (
            "mismatch",
            "vocabulary mismatch: the tokenizer's ids go up to 399, but the model has 300 "
            "embeddings (ids 0 to 299); ",
        ),
        ("pickled", "{}/pickled has its weights only as a pickle (pytorch_model.bin), which can "),
        ("org/unknown", "the model org/unknown is not at hand and --offline forbids the network; "),
    ],
)
def test_models_that_cannot_be_opened(
    refused: Callable[..., str],
    things: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    model: str,
    line: str,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # --offline sets it for the rest of the process
    given = ["topk", "-t", TEXT, "-m", model, "-o", tmp_path / "out", "--offline"]
    assert refused(given, 1).startswith(line.format(things.resolve()))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_gpu_where_there_is_none(refused: Callable[..., str], tmp_path: Path) -> None:
    given = ["topk", "-t", TEXT, "-m", "tiny", "-o", tmp_path / "out", "--device", "cuda"]
    assert refused(given, 2) == (
        "this machine has no device cuda; use --device auto or --device cpu"
    )


@pytest.mark.parametrize("out", ["good.txt", "good.txt/below", "/proc/none"])
def test_an_output_folder_that_cannot_be(refused: Callable[..., str], out: str) -> None:
    said = refused(["topk", "-t", TEXT, "-m", "tiny", "-o", out], 1)
    assert said.startswith(f"--out {out} cannot be written: ")
    assert said.endswith("; choose another folder with --out")


@pytest.mark.parametrize(
    ("weight", "place", "value", "layer"),
    [
        ("model.layers.1.mlp.down_proj.weight", 0, torch.nan, "1"),
        ("model.layers.2.self_attn.o_proj.weight", 0, torch.inf, "2"),
        ("lm_head.weight", 5, torch.nan, "input"),
        ("model.embed_tokens.weight", 101, torch.nan, "input"),  # the letter e
        ("lm_head.weight", 7, 1e38, "input"),  # overflows
    ],
)
def test_logits_that_are_not_numbers(
    logitlens: Shell,
    tiny_folder: Path,
    tmp_path: Path,
    weight: str,
    place: Any,
    value: float,
    layer: str,
) -> None:
    model = copied(tiny_folder, tmp_path / "model")
    set_weight(model, weight, place, value)
    said = logitlens("topk", "-t", TEXT, "-m", model, "-o", tmp_path / "out").refusal(1)
    assert f"layer {layer}, position " in said
    assert not (tmp_path / "out").exists()


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


# ---- help


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--help"], ["topk", "rank", "kl-final", "js", "logit-diff", "all", "render", "diff"]),
        (["topk", "--help"], ["--text", "--model", "--k", "--color", "--out", "--config"]),
        (["rank", "-h"], ["--target", "--window"]),
        (["kl-final", "--help"], ["--direction"]),
        (["kl-input", "--help"], ["--direction", "--one-hot"]),
        (["overlap", "--help"], ["--k"]),
        (["logit-diff", "--help"], ["--target", "--minus"]),
        (["all", "--help"], ["--k", "--color", "--target", "--direction", "--one-hot"]),
        (["render", "--help"], ["FILE.json", "[METRIC]", "--cmap", "--split"]),
        (["diff", "--help"], ["A.json", "B.json", "[METRIC]", "--over", "--cmap", "--json"]),
        (["models", "--help"], ["fetch"]),
        (["models", "fetch", "--help"], ["--revision", "smollm2"]),
    ],
)
def test_help(logitlens: Shell, arguments: list[str], words: list[str]) -> None:
    ran = logitlens(*arguments)
    assert (ran.code, ran.err) == (0, [])
    assert not [word for word in words if word not in "\n".join(ran.out)]


def test_no_command_shows_the_help(logitlens: Shell) -> None:
    ran = logitlens()
    assert (ran.code, ran.err) == (2, [])
    assert "\n".join(ran.out).strip() == "\n".join(logitlens("--help").out).strip()


def test_version(logitlens: Shell) -> None:
    assert logitlens("--version") == Ran(0, ["logitlens 0.1.0"], [])


def test_models_are_listed(logitlens: Shell) -> None:
    ran = logitlens("models")
    assert (ran.code, ran.err) == (0, [])
    assert ran.out[0].split() == ["name", "blocks", "width", "vocabulary", "size", "path"]
    assert ran.out[1].split()[:4] == ["smollm2", "30", "576", "49152"]


def test_a_model_is_fetched(logitlens: Shell, things: Path) -> None:
    ran = logitlens("models", "fetch", "-q")
    assert (ran.code, len(ran.out), ran.err) == (0, 1, [])
    assert (Path(ran.out[0]) / "config.json").is_file()


# ---- the process


def process(*arguments: object, stdout: Any = subprocess.PIPE, **options: Any) -> Ran:
    """The console script itself."""
    line = [str(SCRIPT), *map(str, arguments)]
    with subprocess.Popen(
        line, stdout=stdout, stderr=subprocess.PIPE, text=True, **options
    ) as child:
        out, err = child.communicate(timeout=120)
    return Ran(child.returncode, (out or "").splitlines(), err.splitlines())


@pytest.fixture(scope="module")
def dump(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    out = tmp_path_factory.mktemp("dump")
    line = ["all", "-t", TEXT, "-m", str(tiny_folder), "-o", str(out), "--name", "x", "-q"]
    assert cli.main([*line, "--format", "svg"]) == 0
    return out / "x.all.json"


def test_the_console_script(tiny_folder: Path, tmp_path: Path) -> None:
    line = ["topk", "-t", TEXT, "-m", tiny_folder, "-o", tmp_path, "--format", "svg"]
    names = [str(tmp_path / "the-cat.topk.json"), str(tmp_path / "the-cat.topk.svg")]
    assert process(*line) == Ran(0, names, [])
    assert process("topk").refusal(2).startswith("there is no prompt; ")


def test_a_reader_that_goes_away(dump: Path, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        ran = process("render", dump, "-o", tmp_path, "--format", "svg", stdout=closed)
    assert ran == Ran(0, [], [])
    assert len(list(tmp_path.iterdir())) == 4


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
def test_a_standard_output_that_is_full(dump: Path, tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        ran = process("render", dump, "rank", "-o", tmp_path, "--format", "svg", stdout=full)
    assert ran.refusal(1) == (
        "standard output cannot be written: No space left on device; "
        f"{tmp_path}/x.rank.svg is there all the same"
    )


def test_an_output_folder_that_is_full(dump: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk; 20 kB are less than a figure."""
    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    out = tmp_path / "out"
    ran = process("render", dump, "-o", out, "--format", "png", preexec_fn=limit)
    assert ran.refusal(1) == (
        f"{out}/x.topk.png cannot be written: File too large; "
        "free some space, or choose another folder with --out"
    )
    assert not list(out.iterdir())


def test_an_interrupt(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "text")
    line = [str(SCRIPT), "topk", "-f", str(tmp_path / "text")]
    with (
        subprocess.Popen(
            line,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            preexec_fn=heed_interrupts,
        ) as child,
        (tmp_path / "text").open("w"),  # waits until the child reads, which then waits for us
    ):
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    assert (child.returncode, out, err) == (130, "", "logitlens: interrupted\n")


SIGNALLED = """
import os, sys
module, number = sys.argv[1], int(sys.argv[2])
del sys.argv[1:3]

class Signal:
    \"\"\"Comes when a module is about to be loaded.\"\"\"

    def find_spec(self, name, path=None, target=None):
        if name == module:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), number)

sys.meta_path.insert(0, Signal())
from logitlens_cli.__main__ import entry
entry()
"""


@pytest.mark.parametrize("module", ["typer", "logitlens_cli.run", "matplotlib.figure"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_while_libraries_load(
    module: str, number: signal.Signals, dump: Path, tmp_path: Path
) -> None:
    line = [SIGNALLED, module, str(int(number)), "render", str(dump), "-o", str(tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-c", *line], capture_output=True, text=True, timeout=120,
        preexec_fn=heed_interrupts,
    )  # fmt: skip
    word = "interrupted" if number == signal.SIGINT else "terminated"
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", f"logitlens: {word}\n")
    assert not (tmp_path / "out").exists()


IN_ORDER = """
import os, signal, sys, time
from logitlens_cli import __main__, run
from logitlens_cli.files import staged

class Late:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)  # where Python lets nothing be raised
        for _ in range(9):
            pass

def render(request):
    with staged() as stage:
        try:
            stage.write(request.out / "x", lambda file: file.write(b"x"))
            late = Late()
            del late
            time.sleep(60)
        finally:
            os.kill(os.getpid(), signal.SIGINT)  # somebody is impatient
            time.sleep(0.1)
    yield request.out / "x"

run.render = render
__main__.entry()
"""


def test_one_signal_is_heard_and_what_follows_does_not_disturb(dump: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IN_ORDER, "render", str(dump), "-o", str(tmp_path)],
        capture_output=True, text=True, timeout=50, preexec_fn=heed_interrupts,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (143, "", "logitlens: terminated\n")
    assert not list(tmp_path.iterdir())


FETCHING = """
import os, signal, time
from logitlens_cli import __main__, model

def fetch_model(name, **options):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)

model.fetch_model = fetch_model
__main__.entry()
"""


def test_an_end_while_fetching() -> None:
    """Typer has its own way with interrupts; which signal it was is known all the same."""
    done = subprocess.run(
        [sys.executable, "-c", FETCHING, "models", "fetch"],
        capture_output=True, text=True, timeout=50,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (143, "", "logitlens: terminated\n")


def test_interrupts_that_a_shell_ignores_stay_ignored(dump: Path, tmp_path: Path) -> None:
    line = [SIGNALLED, "typer", str(int(signal.SIGINT)), "render", str(dump), "-o", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", *line, "rank", "--format", "svg"],
        capture_output=True, text=True, timeout=120,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_an_interrupt_while_fetching(logitlens: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(model, "fetch_model", interrupted)
    assert logitlens("models", "fetch") == Ran(130, [], ["logitlens: interrupted"])


def test_an_unexpected_error_is_shown_whole_on_demand(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LOGITLENS_DEBUG", "1")
    with pytest.raises(WorkError, match="cannot be written"):
        cli.main(["topk", "-t", TEXT, "-o", "/proc/none"])


LOADED = """
import sys
from logitlens_cli import cli, model
code = cli.main(sys.argv[1:])
heavy = {"torch", "transformers", "numpy", "matplotlib", "seaborn", "pandas", "safetensors"}
print(code, *sorted(heavy & set(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("arguments", "loaded"),
    [
        (["--help"], "0"),
        (["all", "--help"], "0"),
        (["--version"], "0"),
        (["topk"], "2"),
        (["topk", "-t", "a", "--dry-run"], "0"),
        (["models"], "0"),
        (["render", "DUMP", "--dry-run"], "0 numpy"),
        (["render", "DUMP", "-o", "OUT"], "0 matplotlib numpy pandas seaborn"),
        (["diff", "DUMP", "DUMP", "--dry-run"], "0 numpy"),
        (["diff", "DUMP", "DUMP", "-o", "OUT"], "0 matplotlib numpy pandas seaborn"),
    ],
)
def test_nothing_heavy_is_loaded_in_vain(
    dump: Path, tmp_path: Path, arguments: list[str], loaded: str
) -> None:
    places = {"DUMP": str(dump), "OUT": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", LOADED, *(places.get(a, a) for a in arguments)],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert done.stderr.splitlines()[-1] == loaded
