"""Fetched models are held against the hashes of what was fetched."""

import hashlib
from pathlib import Path

import pytest
from huggingface_hub import constants
from test_smollm2 import cache, flip_a_byte, pretend_made  # noqa: F401  # a fixture

from logitlens_cli.errors import UsageError, WorkError
from logitlens_cli.model.verify import verified_files

COMMIT = "a" * 40
LARGE, SMALL = b"weights" * 100, b"{}"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache with a model of a large and a small file, as huggingface_hub keeps them."""
    root = tmp_path / "models--some--model"
    folder = root / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    (root / "blobs").mkdir()
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(COMMIT)
    of_git = hashlib.sha1(b"blob 2\0{}").hexdigest()
    for name, digest, content in (
        ("model.safetensors", hashlib.sha256(LARGE).hexdigest(), LARGE),
        ("config.json", of_git, SMALL),
    ):
        (root / "blobs" / digest).write_bytes(content)
        (folder / name).symlink_to(f"../../blobs/{digest}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return folder


def test_gits_name_of_a_known_content() -> None:
    """As ``git hash-object`` names it."""
    assert hashlib.sha1(b"blob 2\0{}").hexdigest() == "9e26dfeeb6e641a33dae4961196235bdb965b21b"


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_model_of_the_hub(hub: Path, name: str) -> None:
    assert verified_files("some/model", None) == ["config.json", "model.safetensors"]
    damaged = (hub / name).resolve()
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    with pytest.raises(WorkError, match=f"some/model is damaged: {name}"):
        verified_files("some/model", None)


def test_the_default_model(cache: Path) -> None:  # noqa: F811
    with pytest.raises(WorkError, match="not fetched yet"):
        verified_files("smollm2", None)
    made = pretend_made(cache)
    assert verified_files("smollm2", None) == ["config.json", "model.safetensors"]
    flip_a_byte(made / "model.safetensors")
    with pytest.raises(WorkError, match=r"smollm2 is damaged: model\.safetensors"):
        verified_files("smollm2", None)


def test_a_folder_of_ones_own_has_nothing_to_be_held_against(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no hash"):
        verified_files(str(tmp_path), None)
