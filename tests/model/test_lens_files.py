"""Where a fitted lens is kept, and the files that a lens depends on."""

from pathlib import Path

import pytest

from logitlens_cli.model.lens_files import fitted_path, lens_files


def test_a_fitted_lens_has_a_place_for_each_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGITLENS_CACHE", str(tmp_path / "cache"))
    cache = tmp_path / "cache"
    assert fitted_path("smollm2") == cache / "smollm2.lens.safetensors"
    assert fitted_path("owner/model") == cache / "owner--model.lens.safetensors"
    (tmp_path / "mine").mkdir()
    assert fitted_path(str(tmp_path / "mine")) == cache / "mine.lens.safetensors"


def test_the_files_of_a_lens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGITLENS_CACHE", str(tmp_path))
    assert list(lens_files("fitted", "m")) == []
    (tmp_path / "m.lens.safetensors").touch()
    assert list(lens_files("fitted", "m")) == [tmp_path / "m.lens.safetensors"]
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    (folder / "b").touch()
    (folder / "a").touch()
    assert list(lens_files(str(folder), "m")) == [folder / "a", folder / "b"]
    assert list(lens_files("plain", "m")) == []
