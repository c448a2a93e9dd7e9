"""config.json: what is no causal model is refused, code is run only when trusted."""

import ast
import fnmatch
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from model_files import edit_json, logits, opened, refusal, require_refused_soon, save_tiny
from transformers import (
    BertConfig,
    GPT2Config,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    XLNetConfig,
)

import logitlens_cli
from logitlens_cli.errors import LogitLensError, UsageError, WorkError
from logitlens_cli.model.config import context_length, require_countable
from logitlens_cli.model.files import READ_FILES

pytestmark = pytest.mark.usefixtures("online")


def test_the_context_of_other_families(tmp_path: Path) -> None:
    assert context_length(GPT2Config(n_positions=77)) == 77
    from transformers import BloomConfig

    assert context_length(BloomConfig()) is None


@pytest.mark.parametrize(
    "odd",
    [
        {"output_hidden_states": "x"},
        {"output_attentions": True},
        {"output_attentions": "x"},
        {"return_dict": False},
        {"torchscript": True},
        {"architectures": [7]},
    ],
    ids=str,
)
def test_what_a_pass_gives_back_is_not_the_files_to_say(
    odd: dict[str, Any], model_copy: Path
) -> None:
    before = logits(opened(model_copy))
    edit_json(model_copy / "config.json", **odd)
    torch.testing.assert_close(logits(opened(model_copy)), before, rtol=0, atol=0)


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "no type": (lambda f: edit_json(f / "config.json", model_type=None), "model_type"),
    "unknown type": (lambda f: edit_json(f / "config.json", model_type="zzz"), "'zzz', unknown"),
    "type of words": (
        lambda f: edit_json(f / "config.json", num_hidden_layers="x"),
        "configuration",
    ),
    "no heads": (lambda f: edit_json(f / "config.json", num_attention_heads=0), "cannot read"),
    "odd dtype": (lambda f: edit_json(f / "config.json", dtype="evil"), "cannot read"),
}


@pytest.mark.parametrize("how", SPOILT)
def test_spoilt_configurations(
    how: str, model_copy: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    spoil, word = SPOILT[how]
    spoil(model_copy)
    require_refused_soon(model_copy, word)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("config", "word"),
    [
        (T5Config(), "an encoder-decoder (t5)"),
        (BertConfig(), "a masked language model (bert)"),
        (XLNetConfig(), "a masked language model (xlnet)"),
        (LlamaConfig(model_type="vit"), "not a causal language model (vit)"),
    ],
    ids=["t5", "bert", "xlnet", "vit"],
)
def test_what_is_no_causal_model(config: Any, word: str, tmp_path: Path) -> None:
    config.save_pretrained(tmp_path)
    if word.endswith("(vit)"):
        (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    said = refusal(UsageError, tmp_path)
    assert word in said
    assert "decoder-only" in said


CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM
(Path({folder!r}) / "ran").touch()

class OwnConfig(LlamaConfig):
    model_type = "own"

class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""


OWN = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}


def add_code(folder: Path, model_type: str) -> None:
    (folder / "own.py").write_text(CODE.format(folder=str(folder)))
    edit_json(folder / "config.json", model_type=model_type, auto_map=OWN)


def test_code_is_not_needed_for_a_known_type(model_copy: Path) -> None:
    add_code(model_copy, "llama")
    assert type(opened(model_copy).model) is LlamaForCausalLM
    assert not (model_copy / "ran").exists()


def test_code_is_run_only_when_trusted(model_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_code(model_copy, "own")
    said = refusal(WorkError, model_copy)
    assert "--trust-remote-code" in said
    assert "'own'" in said
    assert not (model_copy / "ran").exists()

    from transformers import dynamic_module_utils

    monkeypatch.setattr(
        dynamic_module_utils, "HF_MODULES_CACHE", str(model_copy.parent / "modules")
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert type(opened(model_copy, trust_remote_code=True).model).__name__ == "OwnModel"
    assert (model_copy / "ran").exists()


@pytest.mark.parametrize("auto_map", [3, None, "AutoModelForCausalLM", ["AutoConfig"]])
def test_an_odd_auto_map(auto_map: Any, model_copy: Path) -> None:
    edit_json(model_copy / "config.json", model_type="vit", auto_map=auto_map)
    with pytest.raises(LogitLensError):
        opened(model_copy)


def test_no_kernel_is_fetched_for_a_configuration(model_copy: Path) -> None:
    whole = logits(opened(model_copy))
    edit_json(
        model_copy / "config.json",
        attn_implementation="evil/kernel",
        _attn_implementation="evil/two",
    )
    assert torch.equal(logits(opened(model_copy)), whole)


@pytest.mark.parametrize("auto_map", [["own.Tok", None], "own.Tok", 3, {"AutoTokenizer": "x"}])
def test_code_of_a_tokenizer_is_not_run(auto_map: Any, model_copy: Path) -> None:
    add_code(model_copy, "llama")
    edit_json(model_copy / "tokenizer_config.json", auto_map=auto_map, tokenizer_class="Own")
    with pytest.raises(WorkError, match=r"tokenizer"):
        opened(model_copy)
    assert not (model_copy / "ran").exists()


# ---- what is not read may be as it likes


@pytest.mark.parametrize("name", ["data/train.txt", "train.txt", "data/rows.json", "notes.json"])
def test_large_neighbours_that_nobody_reads(model_copy: Path, name: str) -> None:
    path = model_copy / name
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        file.truncate(200 * 2**20)
    assert opened(model_copy).dtype == "float32"


def test_links_that_nobody_reads(model_copy: Path) -> None:
    (model_copy / "data").symlink_to("/usr")
    (model_copy / "corpus.txt").symlink_to("/etc/passwd")
    (model_copy / "checkpoint").mkdir()
    (model_copy / "checkpoint" / "model.safetensors").symlink_to("/etc/passwd")
    assert opened(model_copy).dtype == "float32"


@pytest.mark.parametrize(
    "name", ["vocab.json", "tokenizer.4.0.0.json", "additional_chat_templates/a.jinja"]
)
def test_large_files_that_are_read(model_copy: Path, name: str) -> None:
    path = model_copy / name
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        file.truncate(200 * 2**20)
    assert "is larger than 128 MB, which no model needs" in refusal(WorkError, model_copy)


def test_every_file_of_a_tokenizer_of_transformers_is_checked() -> None:
    """Its modules name them in a table."""
    import transformers

    names = set()
    for path in (Path(transformers.__file__).parent / "models").glob("*/tokenization_*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Dict):
                continue
            if "VOCAB_FILES_NAMES" in ast.unparse(node):
                names |= set(ast.literal_eval(node.value).values())
    assert {"vocab.json", "merges.txt", "spiece.model"} < names
    patterns = [pattern for pattern in READ_FILES if "/" not in pattern]
    unchecked = [n for n in names if not any(fnmatch.fnmatch(n, p) for p in patterns)]
    assert unchecked == []


@pytest.mark.parametrize(
    "generation",
    [
        '{"num_return_sequences": 5, "do_sample": false}',
        '{"temperature": -1, "do_sample": true, "max_new_tokens": "many"}',
        "not JSON",
    ],
)
def test_how_to_generate_is_not_asked(model_copy: Path, saved_model: Path, generation: str) -> None:
    (model_copy / "generation_config.json").write_text(generation)
    assert torch.equal(logits(opened(model_copy)), logits(opened(saved_model)))


def test_a_tokenizer_may_have_tokens_that_the_model_has_not(tmp_path: Path) -> None:
    """As Gemma and CodeLlama have; only a text that holds one is refused."""
    folder = save_tiny(tmp_path / "tiny", vocab_size=256)
    tokens = json.loads((folder / "tokenizer.json").read_text())
    tokens["added_tokens"].append(
        {"id": 256, "content": "<image>", "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
    )  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(tokens))
    it = opened(folder)
    assert it.tokenizer("<image>")["input_ids"] == [256]
    assert it.model.get_input_embeddings().weight.shape[0] == 256
    reading = logitlens_cli.read(it.model, it.tokenizer, "plasma 12")
    assert reading.check.passed
    with pytest.raises(UsageError) as caught:
        logitlens_cli.read(it.model, it.tokenizer, "a <image>")
    assert str(caught.value).startswith(
        f"the text holds token 256 (<image>), but {it.model.config._name_or_path} has 256 "
        "embeddings (ids 0 to 255); leave it out of the text"
    )
    with pytest.raises(UsageError, match="--target id:256 is not a token; ids are 0 to 255"):
        logitlens_cli.read(it.model, it.tokenizer, "a", target="<image>")


@pytest.mark.slow
def test_no_number_of_a_configuration_fills_the_memory() -> None:
    """Numbers of every model type, a billion each: refused before they are read, or harmless."""
    bombs = Path(__file__).parents[1] / "tools" / "bombs.py"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(bombs)], capture_output=True, text=True,
        timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    tried, refused, harmful = json.loads(done.stdout.splitlines()[-1])
    assert harmful == []
    assert refused > tried / 100
    assert tried > 1000


@pytest.mark.parametrize(
    "raw",
    [
        {"num_hidden_layers": 10**9},
        {"n_layers": -(10**9)},
        {"text_config": {"num_labels": 1e9}},
        {"parts": [{"depth": 200_000}]},
    ],
)
def test_counts_beyond_reason_are_refused(raw: dict[str, Any]) -> None:
    with pytest.raises(WorkError, match="more than 100000"):
        require_countable(raw, Path("config.json"))


@pytest.mark.parametrize(
    "raw",
    [
        {"num_hidden_layers": 1000, "vocab_size": 10**6, "rope_theta": 5e8},
        {"num_labels": True, "layers": "many", "max_position_embeddings": 10**7},
        {"label2id": {"a": 10**6}},
    ],
)
def test_other_numbers_are_left_to_their_readers(raw: dict[str, Any]) -> None:
    require_countable(raw, Path("config.json"))
