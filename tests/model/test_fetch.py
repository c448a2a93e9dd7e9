"""What a name stands for, and how files come from the hub."""

from pathlib import Path

import huggingface_hub
import pytest
import torch
from model_files import logits, no_network, opened, refusal
from model_fixtures import Hub
from safetensors.torch import load_file
from transformers import BertConfig

from logitlens_cli.errors import UsageError, WorkError
from logitlens_cli.model.inventory import available_models

pytestmark = pytest.mark.usefixtures("online")


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


def test_a_file_that_is_no_gguf(saved_model: Path) -> None:
    assert "does not end in .gguf" in refusal(UsageError, saved_model / "model.safetensors")


@pytest.mark.parametrize("name", ["smollm2", "FOLDER"])
def test_a_revision_is_for_hub_models(name: str, saved_model: Path) -> None:
    said = refusal(UsageError, saved_model if name == "FOLDER" else name, revision="main")
    assert "--revision main" in said


def test_offline_touches_no_network(
    model_copy: Path, gguf_file: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = no_network(monkeypatch)
    opened(model_copy, offline=True)
    opened(gguf_file, offline=True)
    assert "--offline forbids the network" in refusal(WorkError, "org/tiny", offline=True)
    assert tried == []
    refusal(WorkError, "org/tiny")
    assert tried != []  # the fence of this test stands


def test_a_hub_model_is_fetched_once_and_named_by_its_commit(
    hub: Hub, model_copy: Path, saved_model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (model_copy / "own.py").write_text("raise SystemExit")
    (model_copy / "pytorch_model.bin").write_bytes(b"not wanted")
    (model_copy / "README.md").write_text("not wanted")
    hub.hold(model_copy)
    it = opened("org/tiny")
    assert it.revision == hub.commit
    assert torch.equal(logits(it), logits(opened(saved_model)))
    fetched = {path.rpartition("/")[2] for path in hub.asked if "/resolve/" in path}
    assert "model.safetensors" in fetched
    assert not fetched & {"own.py", "pytorch_model.bin", "README.md"}

    weights = Path(it.source) / "model.safetensors"
    weights.rename(model_copy / "aside")
    assert "without --offline" in refusal(WorkError, "org/tiny", offline=True)
    (model_copy / "aside").rename(weights)

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


def test_a_hub_model_of_pickles(hub: Hub, model_copy: Path) -> None:
    torch.save(load_file(model_copy / "model.safetensors"), model_copy / "pytorch_model.bin")
    (model_copy / "model.safetensors").unlink()
    hub.hold(model_copy)
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


def test_a_revision_that_does_not_exist(hub: Hub, saved_model: Path) -> None:
    hub.hold(saved_model)
    assert "no revision v9" in refusal(WorkError, "org/tiny", revision="v9")
    assert opened("org/tiny", revision=hub.commit).revision == hub.commit


def test_no_hub_at_all(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    assert "not on this machine and the hub cannot be reached" in refusal(WorkError, "gpt2")
