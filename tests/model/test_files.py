"""The folder of a model: what is in it, and what is not."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from model_files import (
    refusal,
    require_refused_soon,
)

from logitlens_cli.errors import WorkError

pytestmark = pytest.mark.usefixtures("online")


def shard_elsewhere(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder.parent / "outside.safetensors")
    index = {"weight_map": {"lm_head.weight": "../outside.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), "no config.json"),
    "broken config": (lambda f: (f / "config.json").write_text("{"), "config.json: Expecting"),
    "list config": (lambda f: (f / "config.json").write_text("[]"), "no JSON object"),
    "deep config": (lambda f: (f / "config.json").write_text("[" * 10**6), "recursion"),
    "large config": (lambda f: os.truncate(f / "config.json", 10**10), "larger than 128 MB"),
    "large tokenizer": (lambda f: os.truncate(f / "tokenizer.json", 10**10), "larger than 128"),
    "binary config": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\xfd"), "cannot read"),
    "shard elsewhere": (shard_elsewhere, "no usable weight files"),
}


@pytest.mark.parametrize("how", SPOILT)
def test_spoilt_files(how: str, model_copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    spoil, word = SPOILT[how]
    spoil(model_copy)
    require_refused_soon(model_copy, word)
    assert capfd.readouterr() == ("", "")


def test_a_folder_of_gguf_files_says_so(tmp_path: Path) -> None:
    (tmp_path / "model.Q4.gguf").touch()
    assert f"give the file {tmp_path}/model.Q4.gguf" in refusal(WorkError, tmp_path)
