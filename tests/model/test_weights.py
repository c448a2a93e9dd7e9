"""Weights: shards, safetensors and GGUF as they are; corrupt ones and pickles refused."""

import hashlib
import os
import pickle
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from model_files import (
    edit_json,
    logits,
    opened,
    refusal,
    require_refused_soon,
    save_gguf,
    save_tiny,
)
from safetensors.torch import load_file, save_file
from transformers import (
    LlamaForCausalLM,
)

from logitlens_cli.errors import WorkError
from logitlens_cli.model import silence

pytestmark = pytest.mark.usefixtures("online")


def test_the_revision_tells_contents_apart(
    model_copy: Path, saved_model: Path, tmp_path: Path
) -> None:
    first = opened(saved_model).revision
    assert first.startswith("sampled-sha256:")
    assert opened(model_copy).revision == first  # wherever it lies
    assert opened(save_tiny(tmp_path / "other", seed=1)).revision != first  # same header and size
    edit_json(model_copy / "config.json", rms_norm_eps=1e-3)
    assert opened(model_copy).revision != first


def test_shards(model_copy: Path) -> None:
    whole = logits(opened(model_copy))
    with silence.silenced():
        LlamaForCausalLM.from_pretrained(model_copy).save_pretrained(
            model_copy / "s", max_shard_size="20KB"
        )
    (model_copy / "model.safetensors").unlink()
    shards = sorted((model_copy / "s").glob("model*"))
    assert len(shards) > 2
    for shard in shards:
        shard.rename(model_copy / shard.name)
    assert torch.equal(logits(opened(model_copy)), whole)
    (model_copy / shards[0].name).unlink()
    assert f"{shards[0].name} is missing" in refusal(WorkError, model_copy)


def spoil_tensor(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def lie(folder: Path, length: int) -> None:
    """Let the safetensors header claim another length."""
    with (folder / "model.safetensors").open("r+b") as file:
        file.write(struct.pack("<Q", length))


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "endless": (
        lambda f: edit_json(f / "config.json", num_hidden_layers=10**9),
        "num_hidden_layers: 1e+09, more than 100000",
    ),
    "many blocks": (
        lambda f: edit_json(f / "config.json", num_hidden_layers=99_999),
        "99999 blocks",
    ),
    "wide": (lambda f: edit_json(f / "config.json", hidden_size=1_600_000), "corrupt model"),
    "many words": (lambda f: edit_json(f / "config.json", vocab_size=10**9), "corrupt model"),
    "truncated": (lambda f: os.truncate(f / "model.safetensors", 9000), "corrupt weights"),
    "stump": (lambda f: os.truncate(f / "model.safetensors", 3), "corrupt weights"),
    "empty": (lambda f: os.truncate(f / "model.safetensors", 0), "corrupt weights"),
    "long header": (lambda f: lie(f, 2**62), "corrupt weights"),
    "short header": (lambda f: lie(f, 10), "corrupt weights"),
    "missing tensor": (
        lambda f: spoil_tensor(f, lambda t: t.pop("model.norm.weight")),
        "1 tensors missing, among them model.norm.weight",
    ),
    "missing block": (
        lambda f: edit_json(f / "config.json", num_hidden_layers=3),
        "9 tensors missing",
    ),
    "other shape": (
        lambda f: spoil_tensor(f, lambda t: t.update({"lm_head.weight": torch.ones(300, 17)})),
        "1 tensors of another shape",
    ),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "no weights"),
    "adapter": (lambda f: (f / "adapter_config.json").write_text("{}"), "an adapter"),
}


@pytest.mark.parametrize("how", SPOILT)
def test_spoilt_weights(how: str, model_copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    spoil, word = SPOILT[how]
    spoil(model_copy)
    require_refused_soon(model_copy, word)
    assert capfd.readouterr() == ("", "")


class Bomb:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


def test_pickles_are_refused_unless_allowed(model_copy: Path) -> None:
    whole = logits(opened(model_copy))
    torch.save(load_file(model_copy / "model.safetensors"), model_copy / "pytorch_model.bin")
    (model_copy / "model.safetensors").unlink()
    said = refusal(WorkError, model_copy)
    assert "pytorch_model.bin" in said
    assert "--allow-pickle" in said
    it = opened(model_copy, allow_pickle=True)
    assert torch.equal(logits(it), whole)
    assert it.revision.startswith("sampled-sha256:")


@pytest.mark.parametrize("trusted", ["allow_pickle", "trust_remote_code"])
def test_lying_weights_are_refused_even_when_trusted(trusted: str, model_copy: Path) -> None:
    lie(model_copy, 2**62)
    assert "corrupt weights" in refusal(WorkError, model_copy, **{trusted: True})


@pytest.mark.parametrize("allowed", [False, True])
def test_a_pickle_with_code_in_it_never_runs_it(allowed: bool, model_copy: Path) -> None:
    (model_copy / "model.safetensors").unlink()
    mark = model_copy / "ran"
    (model_copy / "pytorch_model.bin").write_bytes(pickle.dumps({"lm_head.weight": Bomb(mark)}))
    refusal(WorkError, model_copy, allow_pickle=allowed)
    assert not mark.exists()


def test_a_pickle_beside_safetensors_is_ignored(model_copy: Path) -> None:
    (model_copy / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(model_copy / "ran")))
    edit_json(model_copy / "config.json", transformers_weights="adapter_model.bin")
    shutil.copy(model_copy / "pytorch_model.bin", model_copy / "adapter_model.bin")
    assert opened(model_copy, allow_pickle=True).dtype == "float32"
    assert not (model_copy / "ran").exists()


def test_a_gguf_file_opens_as_the_model_it_was(
    gguf_file: Path, saved_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    (tmp_path / gguf_file.name).write_bytes(b"not this one")
    monkeypatch.chdir(tmp_path)
    it = opened(gguf_file)
    assert capfd.readouterr() == ("", "")
    assert (it.source, it.context, it.dtype) == (str(gguf_file), 64, "float32")
    assert it.tokenizer.tokenize("cab<|endoftext|>")[:3] == ["c", "ab", "<"]  # of the file's own
    assert len(it.tokenizer) == 300
    assert it.tokenizer.unk_token_id is None
    assert it.revision == "gguf-sha256:" + hashlib.sha256(gguf_file.read_bytes()).hexdigest()
    ids = torch.tensor([[1, 2, 3, 200]])
    with torch.inference_mode():
        difference = it.model(ids).logits - opened(saved_model).model(ids).logits
    assert difference.abs().max() < 1e-6


@pytest.mark.parametrize("part", ["x-00001-of-00002.gguf", "x-00002-of-00002.GGUF"])
def test_a_part_of_a_split_gguf_file(gguf_file: Path, tmp_path: Path, part: str) -> None:
    (tmp_path / part).write_bytes(gguf_file.read_bytes())
    assert refusal(WorkError, tmp_path / part) == (
        f"{tmp_path / part} is one of 2 parts of a model, and transformers reads GGUF models of "
        "one file only; join them with llama.cpp: llama-gguf-split --merge x-00001-of-00002.gguf "
        "x.gguf"
    )


def test_the_only_part_of_a_gguf_file_is_whole(gguf_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "x-00001-of-00001.gguf"
    path.write_bytes(gguf_file.read_bytes())
    assert opened(path).dtype == "float32"


def test_a_part_of_a_split_gguf_file_under_another_name(saved_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "renamed.gguf"
    save_gguf(saved_model, path, parts=3, leave_out="blk.1.")
    assert refusal(WorkError, path).startswith(f"{path} is one of 3 parts of a model, and ")
    save_gguf(saved_model, path, leave_out="blk.1.")
    said = refusal(WorkError, path)
    assert "tensors missing" in said
    assert said.endswith("; fetch the file again")


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
def test_hostile_gguf_files(how: str, gguf_file: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(HOSTILE[how](gguf_file.read_bytes()))
    began = time.monotonic()
    assert str(bad) in refusal(WorkError, bad)
    assert time.monotonic() - began < 5
