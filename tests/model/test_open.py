"""Opening models: as they were saved, on the device and in the dtype asked for, silently."""

from pathlib import Path

import pytest
import torch
from model_files import TEXT, edit_json, no_network, opened, refusal
from safetensors.torch import load_file, save_file

from logitlens_cli.commands.progress import TerminalProgress
from logitlens_cli.errors import UsageError
from logitlens_cli.model import smollm2
from logitlens_cli.model.open import open_model
from logitlens_cli.model.progress import Progress
from logitlens_cli.model.source import ModelSource

pytestmark = pytest.mark.usefixtures("online")


def test_a_folder_opens_as_saved(saved_model: Path) -> None:
    it = opened(saved_model)
    weights = load_file(saved_model / "model.safetensors")
    assert torch.equal(it.model.state_dict()["lm_head.weight"], weights["lm_head.weight"])
    assert not it.model.training
    assert not any(parameter.requires_grad for parameter in it.model.parameters())
    assert it.tokenizer.decode(it.tokenizer.encode(TEXT)) == TEXT
    assert len(it.tokenizer) == 256
    assert (it.name, it.source, it.context) == (saved_model.name, str(saved_model), 64)
    assert (it.dtype, it.device) == ("float32", "cpu")


def test_a_relative_name_and_a_home_name(
    saved_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(saved_model.parent)
    assert opened("tiny").source == str(saved_model)
    monkeypatch.setenv("HOME", str(saved_model.parent))
    assert opened("~/tiny").source == str(saved_model)


def test_dtypes(model_copy: Path) -> None:
    assert opened(model_copy, dtype="bfloat16").dtype == "bfloat16"
    assert opened(model_copy, dtype="float16").model.dtype == torch.float16
    half = {key: value.half() for key, value in load_file(model_copy / "model.safetensors").items()}
    save_file(half, model_copy / "model.safetensors", metadata={"format": "pt"})
    edit_json(model_copy / "config.json", dtype="float16")
    assert opened(model_copy).dtype == "float32"  # on the cpu


def test_nothing_is_printed(model_copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    # A block too few, an old key and a quantisation of no known method: transformers warns of each.
    edit_json(model_copy / "config.json", num_hidden_layers=1, torch_dtype="float32")
    edit_json(model_copy / "config.json", quantization_config={"quant_method": "none-such"})
    open_model(ModelSource(str(model_copy)), TerminalProgress(quiet=True))
    assert capfd.readouterr() == ("", "")
    open_model(ModelSource(str(model_copy)), TerminalProgress())
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("logitlens: 9 tensors of the weights are not used, among them model.lay")
    assert err.count("\n") == 1


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "cuda:", "", "cpu:0:0", "mps:1:", "cuda:-1"])
def test_unknown_devices(device: str, saved_model: Path) -> None:
    assert "unknown device" in refusal(UsageError, saved_model, device=device)


@pytest.mark.parametrize("device", ["cuda", "cuda:99", "mps", "mps:1"])
def test_devices_that_are_not_here(device: str, saved_model: Path) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is one")
    if device == "mps" and torch.backends.mps.is_available():
        pytest.skip("there is one")
    said = refusal(UsageError, saved_model, device=device)
    assert f"no device {device}" in said
    assert "--device cpu" in said


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_taken_and_keeps_the_checkpoints_dtype(model_copy: Path) -> None:
    half = {
        key: value.bfloat16() for key, value in load_file(model_copy / "model.safetensors").items()
    }
    save_file(half, model_copy / "model.safetensors", metadata={"format": "pt"})
    edit_json(model_copy / "config.json", dtype="bfloat16")
    it = opened(model_copy, device="auto")
    assert (it.device, it.dtype) == ("cuda:0", "bfloat16")


def test_an_unknown_dtype(saved_model: Path) -> None:
    assert "float32, bfloat16, float16" in refusal(UsageError, saved_model, dtype="int8")


def test_the_default_model(monkeypatch: pytest.MonkeyPatch) -> None:
    smollm2.default_model_folder(offline=False, progress=Progress())
    no_network(monkeypatch)
    it = opened("smollm2", offline=True)
    assert (it.name, it.revision, it.context) == ("smollm2", smollm2.REVISION, 8192)
    assert (it.dtype, it.model.get_input_embeddings().weight.shape) == ("float32", (49152, 576))
    ids = it.tokenizer("The capital of France is", return_tensors="pt").input_ids
    with torch.inference_mode():
        guess = it.model(ids).logits[0, -1].argmax()
    assert it.tokenizer.decode(guess) == " Paris"
