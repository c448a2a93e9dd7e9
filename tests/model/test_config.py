"""config.json: what is no causal model is refused, code is run only when trusted."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from model_files import edit_json, logits, opened, refusal, require_refused_soon
from transformers import (
    BertConfig,
    GPT2Config,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    XLNetConfig,
)

from logitlens_cli.errors import LogitLensError, UsageError, WorkError
from logitlens_cli.model.config import context_length

pytestmark = pytest.mark.usefixtures("online")


def test_the_context_of_other_families(tmp_path: Path) -> None:
    assert context_length(GPT2Config(n_positions=77)) == 77
    from transformers import BloomConfig

    assert context_length(BloomConfig()) is None


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
