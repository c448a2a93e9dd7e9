"""Models as files: small ones written for a test, spoilt ones, and what opening them comes to."""

import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFWriter
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from logitlens_cli.errors import LogitLensError, WorkError
from logitlens_cli.model import silence
from logitlens_cli.model.open import OpenedModel, open_model
from logitlens_cli.model.progress import Progress
from logitlens_cli.model.source import ModelSource

TEXT = "plasma 12"
# The library behind tokenizers gives up after ten million steps back, but only at each character.
BACKTRACKING = r"(?:.|.){20}[^\s\S]"


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


def save_gguf(folder: Path, file: Path, parts: int = 1, leave_out: str = "\n") -> None:
    """The model of ``folder`` as llama.cpp stores it (q and k with their rows interleaved), or one
    of several parts: without the tensors that ``leave_out`` is in the name of."""
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
    if parts > 1:
        writer.add_uint16("split.count", parts)
    for name, tensor in load_file(folder / "model.safetensors").items():
        if "q_proj" in name or "k_proj" in name:
            tensor = tensor.reshape(heads, 2, -1, tensor.shape[1]).swapaxes(1, 2)
            tensor = tensor.reshape(config["hidden_size"], -1)
        if leave_out not in gguf_name(name):
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


def edit_json(path: Path, **changes: Any) -> None:
    """Change some keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def split_by(pattern: str) -> Callable[[Path], None]:
    """What makes the tokenizer of a folder cut texts by a pattern first."""
    step = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return lambda folder: edit_json(folder / "tokenizer.json", pre_tokenizer=step)


def opened(name: Path | str, **options: Any) -> OpenedModel:
    return open_model(ModelSource(str(name), **({"device": "cpu"} | options)), Progress())


def refusal(kind: type[LogitLensError], name: Path | str, **options: Any) -> str:
    """The one line that opening a model fails with."""
    with pytest.raises(kind) as caught:
        opened(name, **options)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


def require_refused_soon(folder: Path, word: str, *, named: bool = True) -> None:
    """A folder that is wrong is refused, by its path if ``named``, in little time and few words."""
    start = time.monotonic()
    message = refusal(WorkError, folder)
    assert word in message
    assert str(folder) in message or not named
    assert time.monotonic() - start < 5
    assert len(message) < 700


def logits(of: OpenedModel) -> torch.Tensor:
    """Of ``TEXT``."""
    ids = torch.tensor([of.tokenizer.encode(TEXT)])
    with torch.inference_mode():
        output: torch.Tensor = of.model(ids).logits
    return output


def no_network(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Make every attempt to reach another machine fail, and list it."""
    tried: list[Any] = []

    def refuse(*address: Any, **_: Any) -> None:
        tried.append(address)
        raise OSError("the network was touched")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return tried
