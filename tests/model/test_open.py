"""Opening models: what is right opens as it is, what is wrong is refused with one clear line."""

import hashlib
import json
import os
import pickle
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from gguf import GGUFWriter
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    BertConfig,
    GPT2Config,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    XLNetConfig,
)

from logitlens_cli.commands.progress import Progress
from logitlens_cli.errors import LogitLensError, UsageError, WorkError
from logitlens_cli.model import silence, smollm2
from logitlens_cli.model.config import context_length
from logitlens_cli.model.inventory import available_models
from logitlens_cli.model.open import OpenedModel, open_model

QUIET = Progress(quiet=True)
TEXT = "plasma 12"


def save_tiny(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """A Llama of two blocks with random weights, and a tokenizer of the 256 bytes."""
    torch.manual_seed(seed)
    shape = {"hidden_size": 16, "intermediate_size": 32, "vocab_size": 300}
    heads = {"num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2}
    config = LlamaConfig(**(shape | heads | {"max_position_embeddings": 64} | changes))
    with silence.silenced():
        LlamaForCausalLM(config).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def save_tokenizer(folder: Path) -> None:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={b: i for i, b in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def tiny(saved: Path, tmp_path: Path) -> Path:
    """A copy that the test may spoil."""
    return Path(shutil.copytree(saved, tmp_path / "tiny"))


@pytest.fixture(autouse=True)
def _online_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # open_model(offline=True) sets it


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def opened(name: Path | str, **options: Any) -> OpenedModel:
    return open_model(str(name), progress=QUIET, device="cpu", **options)


def refusal(kind: type[LogitLensError], name: Path | str, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        open_model(str(name), progress=QUIET, **({"device": "cpu"} | options))
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


def logits(of: OpenedModel) -> torch.Tensor:
    ids = torch.tensor([of.tokenizer.encode(TEXT)])
    with torch.inference_mode():
        found: torch.Tensor = of.model(ids).logits
    return found


# ---- a folder


def test_a_folder_opens_as_saved(saved: Path) -> None:
    it = opened(saved)
    weights = load_file(saved / "model.safetensors")
    assert torch.equal(it.model.state_dict()["lm_head.weight"], weights["lm_head.weight"])
    assert not it.model.training
    assert not any(parameter.requires_grad for parameter in it.model.parameters())
    assert it.tokenizer.decode(it.tokenizer.encode(TEXT)) == TEXT
    assert len(it.tokenizer) == 256
    assert (it.name, it.source, it.context) == (saved.name, str(saved), 64)
    assert (it.dtype, it.device) == ("float32", "cpu")


def test_a_relative_name_and_a_home_name(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(saved.parent)
    assert opened("tiny").source == str(saved)
    monkeypatch.setenv("HOME", str(saved.parent))
    assert opened("~/tiny").source == str(saved)


def test_dtypes(tiny: Path) -> None:
    assert opened(tiny, dtype="bfloat16").dtype == "bfloat16"
    assert opened(tiny, dtype="float16").model.dtype == torch.float16
    half = {key: value.half() for key, value in load_file(tiny / "model.safetensors").items()}
    save_file(half, tiny / "model.safetensors", metadata={"format": "pt"})
    edit(tiny / "config.json", dtype="float16")
    assert opened(tiny).dtype == "float32"  # on the cpu


def test_the_revision_tells_contents_apart(tiny: Path, saved: Path, tmp_path: Path) -> None:
    first = opened(saved).revision
    assert first.startswith("sampled-sha256:")
    assert opened(tiny).revision == first  # wherever it lies
    assert opened(save_tiny(tmp_path / "other", seed=1)).revision != first  # same header and size
    edit(tiny / "config.json", rms_norm_eps=1e-3)
    assert opened(tiny).revision != first


def test_shards(tiny: Path) -> None:
    whole = logits(opened(tiny))
    with silence.silenced():
        LlamaForCausalLM.from_pretrained(tiny).save_pretrained(tiny / "s", max_shard_size="20KB")
    (tiny / "model.safetensors").unlink()
    shards = sorted((tiny / "s").glob("model*"))
    assert len(shards) > 2
    for shard in shards:
        shard.rename(tiny / shard.name)
    assert torch.equal(logits(opened(tiny)), whole)
    (tiny / shards[0].name).unlink()
    assert f"{shards[0].name} is missing" in refusal(WorkError, tiny)


def test_the_context_of_other_families(tmp_path: Path) -> None:
    assert context_length(GPT2Config(n_positions=77)) == 77
    from transformers import BloomConfig

    assert context_length(BloomConfig()) is None


def test_nothing_is_printed(tiny: Path, capfd: pytest.CaptureFixture[str]) -> None:
    # A block too few, an old key and a quantisation of no known method: transformers warns of each.
    edit(tiny / "config.json", num_hidden_layers=1, torch_dtype="float32")
    edit(tiny / "config.json", quantization_config={"quant_method": "none-such"})
    open_model(str(tiny), progress=QUIET)
    assert capfd.readouterr() == ("", "")
    open_model(str(tiny), progress=Progress())
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("logitlens: 9 tensors of the weights are not used, among them model.lay")
    assert err.count("\n") == 1


# ---- names, devices, dtypes


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("", "no such folder or file"),
        ("./missing", "no such folder or file"),
        ("/missing/model", "no such folder or file"),
        ("~/missing", "no such folder or file"),
        ("missing.gguf", "no such folder or file"),
        ("a/b/c", "no such folder or file"),
        ("a b", "no hub name"),
        ("a--b", "no hub name"),
        ("..", "config.json"),
        ("../../etc/passwd", "no such folder or file"),
        ("-x", "no hub name"),
        ("gpt\x002", "no hub name"),
        ("gpt2\n", "no hub name"),
    ],
)
def test_names_that_are_none(
    name: str, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    monkeypatch.chdir(tmp_path / "a")
    assert word in refusal(WorkError if name == ".." else UsageError, name)


def test_a_name_that_the_system_refuses() -> None:
    assert "File name too long" in refusal(WorkError, "a" * 5000)


def test_old_paths_of_another_machine_do_not_matter(tiny: Path) -> None:
    edit(tiny / "tokenizer_config.json", special_tokens_map_file="/a/b", tokenizer_file="/c/d")
    assert len(opened(tiny).tokenizer) == 256


def test_a_file_that_is_no_gguf(saved: Path) -> None:
    assert "does not end in .gguf" in refusal(UsageError, saved / "model.safetensors")


@pytest.mark.parametrize("name", ["smollm2", "FOLDER"])
def test_a_revision_is_for_hub_models(name: str, saved: Path) -> None:
    said = refusal(UsageError, saved if name == "FOLDER" else name, revision="main")
    assert "--revision main" in said


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "cuda:", "", "cpu:0:0", "mps:1:", "cuda:-1"])
def test_unknown_devices(device: str, saved: Path) -> None:
    assert "unknown device" in refusal(UsageError, saved, device=device)


@pytest.mark.parametrize("device", ["cuda", "cuda:99", "mps", "mps:1"])
def test_devices_that_are_not_here(device: str, saved: Path) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is one")
    if device == "mps" and torch.backends.mps.is_available():
        pytest.skip("there is one")
    said = refusal(UsageError, saved, device=device)
    assert f"no device {device}" in said
    assert "--device cpu" in said


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_taken_and_keeps_the_checkpoints_dtype(tiny: Path) -> None:
    half = {key: value.bfloat16() for key, value in load_file(tiny / "model.safetensors").items()}
    save_file(half, tiny / "model.safetensors", metadata={"format": "pt"})
    edit(tiny / "config.json", dtype="bfloat16")
    it = open_model(str(tiny), progress=QUIET)
    assert (it.device, it.dtype) == ("cuda:0", "bfloat16")


def test_an_unknown_dtype(saved: Path) -> None:
    assert "float32, bfloat16, float16" in refusal(UsageError, saved, dtype="int8")


# ---- spoilt folders


def spoil_tensor(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def lie(folder: Path, length: int) -> None:
    """Let the safetensors header claim another length."""
    with (folder / "model.safetensors").open("r+b") as file:
        file.write(struct.pack("<Q", length))


def shard_elsewhere(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "outside.safetensors")
    index = {"weight_map": {"lm_head.weight": "../outside.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def vocabulary_elsewhere(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    edit(folder / "tokenizer_config.json", vocab_file="/etc/passwd")


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), "no config.json"),
    "broken config": (lambda f: (f / "config.json").write_text("{"), "config.json: Expecting"),
    "list config": (lambda f: (f / "config.json").write_text("[]"), "no JSON object"),
    "deep config": (lambda f: (f / "config.json").write_text("[" * 10**6), "recursion"),
    "large config": (lambda f: os.truncate(f / "config.json", 10**10), "larger than 128 MB"),
    "large tokenizer": (lambda f: os.truncate(f / "tokenizer.json", 10**10), "larger than 128"),
    "binary config": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\xfd"), "cannot read"),
    "no type": (lambda f: edit(f / "config.json", model_type=None), "model_type"),
    "unknown type": (lambda f: edit(f / "config.json", model_type="zzz"), "'zzz', unknown"),
    "type of words": (lambda f: edit(f / "config.json", num_hidden_layers="x"), "configuration"),
    "no heads": (lambda f: edit(f / "config.json", num_attention_heads=0), "cannot read"),
    "odd dtype": (lambda f: edit(f / "config.json", dtype="evil"), "cannot read"),
    "endless": (lambda f: edit(f / "config.json", num_hidden_layers=10**9), "1000000000 blocks"),
    "wide": (lambda f: edit(f / "config.json", hidden_size=1_600_000), "corrupt model"),
    "many words": (lambda f: edit(f / "config.json", vocab_size=10**9), "corrupt model"),
    "truncated": (lambda f: os.truncate(f / "model.safetensors", 9000), "corrupt weights"),
    "stump": (lambda f: os.truncate(f / "model.safetensors", 3), "corrupt weights"),
    "empty": (lambda f: os.truncate(f / "model.safetensors", 0), "corrupt weights"),
    "long header": (lambda f: lie(f, 2**62), "corrupt weights"),
    "short header": (lambda f: lie(f, 10), "corrupt weights"),
    "missing tensor": (
        lambda f: spoil_tensor(f, lambda t: t.pop("model.norm.weight")),
        "1 tensors missing, among them model.norm.weight",
    ),
    "missing block": (lambda f: edit(f / "config.json", num_hidden_layers=3), "9 tensors missing"),
    "other shape": (
        lambda f: spoil_tensor(f, lambda t: t.update({"lm_head.weight": torch.ones(300, 17)})),
        "1 tensors of another shape",
    ),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "no weights"),
    "shard elsewhere": (shard_elsewhere, "no usable weight files"),
    "adapter": (lambda f: (f / "adapter_config.json").write_text("{}"), "an adapter"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "there is no tokenizer.json"),
    "broken tokenizer": (lambda f: (f / "tokenizer.json").write_text("{"), "the tokenizer"),
    "deep tokenizer": (lambda f: (f / "tokenizer.json").write_text("[" * 10**6), "the tokenizer"),
    "odd tokenizer": (
        lambda f: edit(f / "tokenizer.json", model={"type": "BPE", "vocab": 3, "merges": None}),
        "the tokenizer",
    ),
    "tokenizer elsewhere": (
        lambda f: edit(f / "tokenizer_config.json", fast_tokenizer_files=["../tokenizer.9.json"]),
        "reaches outside its folder (fast_tokenizer_files: ../tokenizer.9.json)",
    ),
    "vocabulary elsewhere": (
        vocabulary_elsewhere,
        "reaches outside its folder (vocab_file: /etc/passwd)",
    ),
    "few embeddings": (
        lambda f: save_tiny(f, vocab_size=200),
        "go up to 255, but the model has 200",
    ),
}


@pytest.mark.parametrize("how", SPOILT)
def test_spoilt_folders(how: str, tiny: Path, capfd: pytest.CaptureFixture[str]) -> None:
    spoil, word = SPOILT[how]
    spoil(tiny)
    began = time.monotonic()
    said = refusal(WorkError, tiny)
    assert word in said
    assert str(tiny) in said or how == "few embeddings"
    assert time.monotonic() - began < 5
    assert len(said) < 700
    assert capfd.readouterr() == ("", "")


def test_a_folder_of_gguf_files_says_so(tmp_path: Path) -> None:
    (tmp_path / "model.Q4.gguf").touch()
    assert f"give the file {tmp_path}/model.Q4.gguf" in refusal(WorkError, tmp_path)


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


# ---- pickles and code: nothing runs


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


def test_pickles_are_refused_unless_allowed(tiny: Path) -> None:
    whole = logits(opened(tiny))
    torch.save(load_file(tiny / "model.safetensors"), tiny / "pytorch_model.bin")
    (tiny / "model.safetensors").unlink()
    said = refusal(WorkError, tiny)
    assert "pytorch_model.bin" in said
    assert "--allow-pickle" in said
    it = opened(tiny, allow_pickle=True)
    assert torch.equal(logits(it), whole)
    assert it.revision.startswith("sampled-sha256:")


@pytest.mark.parametrize("trusted", ["allow_pickle", "trust_remote_code"])
def test_lying_weights_are_refused_even_when_trusted(trusted: str, tiny: Path) -> None:
    lie(tiny, 2**62)
    assert "corrupt weights" in refusal(WorkError, tiny, **{trusted: True})


@pytest.mark.parametrize("allowed", [False, True])
def test_a_pickle_with_code_in_it_never_runs_it(allowed: bool, tiny: Path) -> None:
    (tiny / "model.safetensors").unlink()
    mark = tiny / "ran"
    (tiny / "pytorch_model.bin").write_bytes(pickle.dumps({"lm_head.weight": Bomb(mark)}))
    refusal(WorkError, tiny, allow_pickle=allowed)
    assert not mark.exists()


def test_a_pickle_beside_safetensors_is_ignored(tiny: Path) -> None:
    (tiny / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(tiny / "ran")))
    edit(tiny / "config.json", transformers_weights="adapter_model.bin")
    shutil.copy(tiny / "pytorch_model.bin", tiny / "adapter_model.bin")
    assert opened(tiny, allow_pickle=True).dtype == "float32"
    assert not (tiny / "ran").exists()


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
    edit(folder / "config.json", model_type=model_type, auto_map=OWN)


def test_code_is_not_needed_for_a_known_type(tiny: Path) -> None:
    add_code(tiny, "llama")
    assert type(opened(tiny).model) is LlamaForCausalLM
    assert not (tiny / "ran").exists()


def test_code_is_run_only_when_trusted(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add_code(tiny, "own")
    said = refusal(WorkError, tiny)
    assert "--trust-remote-code" in said
    assert "'own'" in said
    assert not (tiny / "ran").exists()

    from transformers import dynamic_module_utils

    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tiny.parent / "modules"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert type(opened(tiny, trust_remote_code=True).model).__name__ == "OwnModel"
    assert (tiny / "ran").exists()


@pytest.mark.parametrize("auto_map", [["own.Tok", None], "own.Tok", 3, {"AutoTokenizer": "x"}])
def test_code_of_a_tokenizer_is_not_run(auto_map: Any, tiny: Path) -> None:
    add_code(tiny, "llama")
    edit(tiny / "tokenizer_config.json", auto_map=auto_map, tokenizer_class="Own")
    with pytest.raises(WorkError, match=r"tokenizer"):
        opened(tiny)
    assert not (tiny / "ran").exists()


@pytest.mark.parametrize("auto_map", [3, None, "AutoModelForCausalLM", ["AutoConfig"]])
def test_an_odd_auto_map(auto_map: Any, tiny: Path) -> None:
    edit(tiny / "config.json", model_type="vit", auto_map=auto_map)
    with pytest.raises(LogitLensError):
        opened(tiny)


def test_no_kernel_is_fetched_for_a_configuration(tiny: Path) -> None:
    whole = logits(opened(tiny))
    edit(tiny / "config.json", attn_implementation="evil/kernel", _attn_implementation="evil/two")
    assert torch.equal(logits(opened(tiny)), whole)


# ---- GGUF


def save_gguf(folder: Path, file: Path) -> None:
    """The model of ``folder`` as llama.cpp stores it (q and k with their rows interleaved)."""
    config = json.loads((folder / "config.json").read_text())
    heads = config["num_attention_heads"]
    writer = GGUFWriter(file, "llama")
    writer.add_name("tiny")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config["vocab_size"])
    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    writer.add_tokenizer_model("gpt2")
    spare = [f"spare{i}" for i in range(config["vocab_size"] - 257)]
    writer.add_token_list([*bytes_, "ab", *spare])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    for name, tensor in load_file(folder / "model.safetensors").items():
        if "q_proj" in name or "k_proj" in name:
            tensor = tensor.reshape(heads, 2, -1, tensor.shape[1]).swapaxes(1, 2)
            tensor = tensor.reshape(config["hidden_size"], -1)
        writer.add_tensor(gguf_name(name), tensor.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_name(name: str) -> str:
    for theirs, ours in {
        "model.layers": "blk",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "post_attention_layernorm": "ffn_norm",
        "input_layernorm": "attn_norm",
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "lm_head": "output",
    }.items():
        name = name.replace(theirs, ours)
    return name


@pytest.fixture(scope="module")
def gguf(saved: Path) -> Path:
    save_gguf(saved, saved.parent / "tiny.gguf")
    return saved.parent / "tiny.gguf"


def test_a_gguf_file_opens_as_the_model_it_was(
    gguf: Path, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    (tmp_path / gguf.name).write_bytes(b"not this one")
    monkeypatch.chdir(tmp_path)
    it = opened(gguf)
    assert capfd.readouterr() == ("", "")
    assert (it.source, it.context, it.dtype) == (str(gguf), 64, "float32")
    assert it.tokenizer.tokenize("cab<|endoftext|>")[:3] == ["c", "ab", "<"]  # of the file's own
    assert len(it.tokenizer) == 300
    assert it.tokenizer.unk_token_id is None
    assert it.revision == "gguf-sha256:" + hashlib.sha256(gguf.read_bytes()).hexdigest()
    ids = torch.tensor([[1, 2, 3, 200]])
    with torch.inference_mode():
        difference = it.model(ids).logits - opened(saved).model(ids).logits
    assert difference.abs().max() < 1e-6


def put(at: int, form: str, value: int) -> Callable[[bytes], bytes]:
    size = struct.calcsize(form)
    return lambda data: data[:at] + struct.pack(form, value) + data[at + size :]


def put_after(word: bytes, skip: int, form: str, value: int) -> Callable[[bytes], bytes]:
    return lambda data: put(data.index(word) + len(word) + skip, form, value)(data)


HOSTILE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "short": lambda data: data[:10],
    "no gguf": lambda data: b"GGML" + data[4:],
    "version": put(4, "<I", 77),
    "big-endian": put(4, ">I", 3),
    "endless tensors": put(8, "<Q", 2**62),
    "endless pairs": put(16, "<Q", 2**62),
    "endless key": put(24, "<Q", 2**62),
    "overflowing key": put(24, "<Q", 2**64 - 8),
    "unknown type": put_after(b"general.architecture", 0, "<I", 99),
    "endless string": put_after(b"general.architecture", 4, "<Q", 2**62),
    "endless array": put_after(b"tokenizer.ggml.tokens", 8, "<Q", 2**62),
    "array of arrays": put_after(b"tokenizer.ggml.tokens", 4, "<I", 9),
    "array of bytes": put_after(b"tokenizer.ggml.tokens", 4, "<I", 0),
    "dimensions": put_after(b"output_norm.weight", 0, "<I", 2**32 - 1),
    "other shape": put_after(b"output_norm.weight", 4, "<Q", 2**40),
    "unknown quant": put_after(b"output_norm.weight", 12, "<I", 999),
    "tensor elsewhere": put_after(b"output_norm.weight", 16, "<Q", 2**60),
    "blocks": put_after(b"llama.block_count", 4, "<I", 2**31),
    "width": put_after(b"llama.embedding_length", 4, "<I", 2**31),
    "truncated header": lambda data: data[:2000],
    "truncated data": lambda data: data[:-500],
    "another family": lambda data: data.replace(b"llama", b"lloma"),
}


@pytest.mark.parametrize("how", HOSTILE)
def test_hostile_gguf_files(how: str, gguf: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(HOSTILE[how](gguf.read_bytes()))
    began = time.monotonic()
    assert str(bad) in refusal(WorkError, bad)
    assert time.monotonic() - began < 5


# ---- the default model


def test_the_default_model(monkeypatch: pytest.MonkeyPatch) -> None:
    smollm2.default_model_folder(offline=False, progress=QUIET)
    no_network(monkeypatch)
    it = opened("smollm2", offline=True)
    assert (it.name, it.revision, it.context) == ("smollm2", smollm2.REVISION, 8192)
    assert (it.dtype, it.model.get_input_embeddings().weight.shape) == ("float32", (49152, 576))
    ids = it.tokenizer("The capital of France is", return_tensors="pt").input_ids
    with torch.inference_mode():
        guess = it.model(ids).logits[0, -1].argmax()
    assert it.tokenizer.decode(guess) == " Paris"


# ---- the network


def no_network(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Make every attempt to reach another machine fail, and list it."""
    tried: list[Any] = []

    def refuse(*address: Any, **_: Any) -> None:
        tried.append(address)
        raise OSError("the network was touched")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return tried


def test_offline_touches_no_network(
    tiny: Path, gguf: Path, hub: "Hub", monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = no_network(monkeypatch)
    opened(tiny, offline=True)
    opened(gguf, offline=True)
    assert "--offline forbids the network" in refusal(WorkError, "org/tiny", offline=True)
    assert tried == []
    refusal(WorkError, "org/tiny")
    assert tried != []  # the fence of this test stands


class Hub:
    """A hub of this machine's own: one repository at one commit."""

    commit = "c" * 40

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.files: dict[str, bytes] = {}
        self.trouble: tuple[int, str] | None = None

    def hold(self, folder: Path) -> None:
        self.files = {path.name: path.read_bytes() for path in folder.iterdir()}

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        self.asked.append(path)
        if self.trouble:
            return self.trouble[0], {"X-Error-Code": self.trouble[1]}, b"{}"
        name = path.rpartition("/")[2]
        if "/resolve/" in path:
            body = self.files[name]
            return 200, {"ETag": f'"{hash(body):x}"', "X-Repo-Commit": self.commit}, body
        if "/tree/" in path:
            kept = [
                {"type": "file", "path": key, "size": len(body), "oid": "0" * 40}
                for key, body in self.files.items()
            ]
            return 200, {}, json.dumps(kept).encode()
        if "/revision/" in path and not path.endswith(("/main", self.commit)):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
        kept = [{"rfilename": key} for key in self.files]
        return 200, {}, json.dumps({"id": "x", "sha": self.commit, "siblings": kept}).encode()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    own = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = own.answer(self.path.partition("?")[0])
            self.send_response(status)
            for key, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    constants = huggingface_hub.constants
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield own
    server.shutdown()
    server.server_close()


def test_a_hub_model_is_fetched_once_and_named_by_its_commit(
    hub: Hub, tiny: Path, saved: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tiny / "own.py").write_text("raise SystemExit")
    (tiny / "pytorch_model.bin").write_bytes(b"not wanted")
    (tiny / "README.md").write_text("not wanted")
    hub.hold(tiny)
    it = opened("org/tiny")
    assert it.revision == hub.commit
    assert torch.equal(logits(it), logits(opened(saved)))
    fetched = {path.rpartition("/")[2] for path in hub.asked if "/resolve/" in path}
    assert "model.safetensors" in fetched
    assert not fetched & {"own.py", "pytorch_model.bin", "README.md"}

    weights = Path(it.source) / "model.safetensors"
    weights.rename(tiny / "aside")
    assert "without --offline" in refusal(WorkError, "org/tiny", offline=True)
    (tiny / "aside").rename(weights)

    hub.asked.clear()
    assert opened("org/tiny", offline=True).revision == hub.commit
    assert hub.asked == []
    hub.trouble = (503, "")
    assert opened("org/tiny").revision == hub.commit  # a hub that is down does not matter now
    assert capfd.readouterr() == ("", "")

    (row,) = [row for row in available_models() if row.name == "org/tiny"]
    assert (row.blocks, row.width, row.vocabulary) == (2, 16, 300)
    assert row.path == Path(it.source)
    assert row.bytes == sum(path.stat().st_size for path in Path(it.source).iterdir())


def test_a_hub_model_that_is_no_causal_one_is_refused_before_its_weights(
    hub: Hub, tmp_path: Path
) -> None:
    BertConfig().save_pretrained(tmp_path / "bert")
    (tmp_path / "bert" / "model.safetensors").write_bytes(b"large")
    hub.hold(tmp_path / "bert")
    assert "org/bert is a masked language model" in refusal(UsageError, "org/bert")
    assert not [path for path in hub.asked if path.endswith(".safetensors")]
    assert [row.name for row in available_models()] == ["smollm2"]


def test_a_hub_model_of_pickles(hub: Hub, tiny: Path) -> None:
    torch.save(load_file(tiny / "model.safetensors"), tiny / "pytorch_model.bin")
    (tiny / "model.safetensors").unlink()
    hub.hold(tiny)
    said = refusal(WorkError, "org/tiny")
    assert "org/tiny has its weights only as a pickle (pytorch_model.bin)" in said
    assert not [path for path in hub.asked if path.endswith("/pytorch_model.bin")]
    assert opened("org/tiny", allow_pickle=True).revision == hub.commit


@pytest.mark.parametrize(
    ("status", "code", "word"),
    [
        (404, "RepoNotFound", "the hub has no model org/tiny"),
        (401, "RepoNotFound", "the hub has no model org/tiny"),
        (401, "", "cannot fetch the model org/tiny: Client error '401 Unauthorized'"),
        (403, "GatedRepo", "accepted its terms"),
        (500, "", "the hub cannot be reached"),
    ],
)
def test_a_hub_that_gives_nothing(hub: Hub, status: int, code: str, word: str) -> None:
    hub.trouble = (status, code)
    said = refusal(WorkError, "org/tiny")
    assert word in said
    assert "--model smollm2" in said


def test_a_revision_that_does_not_exist(hub: Hub, saved: Path) -> None:
    hub.hold(saved)
    assert "no revision v9" in refusal(WorkError, "org/tiny", revision="v9")
    assert opened("org/tiny", revision=hub.commit).revision == hub.commit


def test_no_hub_at_all(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "not at hand and the hub cannot be reached" in refusal(WorkError, "gpt2")


# ---- what is at hand


def test_what_is_at_hand_before_anything_is_fetched(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGITLENS_CACHE", str(tmp_path / "cache"))
    (row,) = available_models()
    assert (row.name, row.path, row.bytes) == ("smollm2", None, None)
    assert (row.blocks, row.width, row.vocabulary) == (30, 576, 49152)


def test_broken_models_are_not_at_hand(tmp_path: Path, hub: Hub) -> None:
    for name, text in {"a": "{", "b": "[]", "c": "{}", "d": '{"architectures": [1]}'}.items():
        folder = tmp_path / "hub" / f"models--{name}" / "snapshots" / "1"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(text)
    assert [row.name for row in available_models()] == ["smollm2"]


def test_looking_imports_nothing_heavy() -> None:
    code = (
        "import sys; from logitlens_cli import model; model.available_models();"
        "print(sorted({'torch', 'transformers', 'numpy', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
