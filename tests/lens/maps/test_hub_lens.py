"""Lenses of the hub, from a cache as huggingface_hub keeps it; no network."""

from pathlib import Path

import pytest
from huggingface_hub import constants
from lens_files import jacobian_file, tuned_folder

from logitlens_cli.errors import UsageError, WorkError
from logitlens_cli.lens.maps.find_maps import find_lens, read_lens

COMMIT = "a" * 40


def snapshot(cache: Path, kind: str, repository: str, revision: str = "main") -> Path:
    """The folder of one commit in a hub cache."""
    root = cache / f"{kind}s--{repository.replace('/', '--')}"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / revision).write_text(COMMIT)
    folder = root / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_a_space_keeps_the_lenses_of_many_models(cache: Path) -> None:
    folder = tuned_folder(snapshot(cache, "space", "some/lenses") / "lens" / "gpt2", 4, 2)
    source = find_lens("some/lenses", None, "openai-community/gpt2", offline=True)
    assert source is not None
    assert (source.path, source.revision) == (folder, COMMIT)
    assert read_lens(source).record.source_revision == COMMIT


def test_a_repository_may_be_one_lens_or_name_its_file(cache: Path) -> None:
    folder = snapshot(cache, "model", "some/lens", "v1")
    path = jacobian_file(folder / "j.pt", 4, [0])
    found = find_lens("some/lens", "v1", "tiny", offline=True)
    assert found is not None
    assert found.path == path
    other = jacobian_file(folder / "more" / "k.pt", 4, [0])
    named = find_lens("some/lens/more/k.pt", "v1", "tiny", offline=True)
    assert named is not None
    assert named.path == other


def test_what_is_not_there_is_told_in_one_line(cache: Path) -> None:
    with pytest.raises(WorkError, match="the lens some/lens is not on this machine"):
        find_lens("some/lens", None, "tiny", offline=True)
    tuned_folder(snapshot(cache, "model", "some/lens") / "other-model", 4, 2)
    with pytest.raises(UsageError, match="has nothing for the model tiny"):
        find_lens("some/lens", None, "tiny", offline=True)
    for name in ("lens", "some/../lens", "some/lens/../../x", "--/x"):
        with pytest.raises(UsageError, match="there is no"):
            find_lens(name, None, "tiny", offline=True)
