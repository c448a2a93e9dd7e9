"""What a shell offers after --model."""

from pathlib import Path

import pytest
from huggingface_hub import constants

from logitlens_cli.model.at_hand import models_at_hand


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    cache = tmp_path / "cache"
    snapshot = cache / "models--org--small" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text('{"architectures": ["GPT2LMHeadModel"]}', "utf-8")
    (cache / "models--other--begun").mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    work = tmp_path / "work"
    (work / "deep" / "model").mkdir(parents=True)
    (work / "deep" / "model" / "config.json").touch()
    (work / "small").mkdir()
    (work / "small" / "config.json").touch()
    (work / "plain").mkdir()
    (work / "s.gguf").touch()
    (work / "s.txt").touch()
    monkeypatch.chdir(work)
    monkeypatch.setenv("HOME", str(tmp_path))
    return work


def test_models_that_are_there(folder: Path) -> None:
    assert models_at_hand("") == ["org/small", "s.gguf", "small", "smollm2"]
    assert models_at_hand("sm") == ["small", "smollm2"]
    assert models_at_hand("org/") == ["org/small"]
    assert models_at_hand("nothing/of/this") == []


def test_paths_as_they_were_begun(folder: Path) -> None:
    assert models_at_hand("./") == ["./deep/", "./plain/", "./s.gguf", "./small"]
    assert models_at_hand("deep/m") == ["deep/model"]
    assert models_at_hand("~/work/s") == ["~/work/s.gguf", "~/work/small"]
    assert models_at_hand(f"{folder}/de") == [f"{folder}/deep/"]
