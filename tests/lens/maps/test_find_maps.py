"""What ``--lens`` names: a word, a file, a folder."""

from pathlib import Path

import pytest
from lens_files import jacobian_file, tuned_folder

from logitlens_cli.errors import UsageError
from logitlens_cli.lens.maps.find_maps import LensSource, find_lens, lens_in


def test_the_plain_lens_has_no_file() -> None:
    assert find_lens("plain", None, "tiny") is None


def test_fitted_is_the_lens_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGITLENS_CACHE", str(tmp_path))
    with pytest.raises(UsageError, match="no lens is fitted to owner/tiny yet"):
        find_lens("fitted", None, "owner/tiny")
    path = tmp_path / "owner--tiny.lens.safetensors"
    path.write_bytes(b"")
    assert find_lens("fitted", None, "owner/tiny") == LensSource(path, "fitted")


def test_files_and_folders_are_called_by_their_last_part(tmp_path: Path) -> None:
    folder = tuned_folder(tmp_path / "some" / "lens", 4, 2)
    assert find_lens(str(folder), None, "tiny") == LensSource(folder, "lens")
    path = jacobian_file(tmp_path / "j.pt", 4, [0])
    assert find_lens(str(path), None, "tiny") == LensSource(path, "j.pt")


def test_a_folder_with_one_file_is_that_file(tmp_path: Path) -> None:
    path = jacobian_file(tmp_path / "j.pt", 4, [0])
    assert lens_in(tmp_path, "x") == path
    jacobian_file(tmp_path / "k.pt", 4, [0])
    with pytest.raises(UsageError, match="holds several lenses"):
        lens_in(tmp_path, "x")


def test_a_revision_is_for_the_hub(tmp_path: Path) -> None:
    path = jacobian_file(tmp_path / "j.pt", 4, [0])
    with pytest.raises(UsageError, match="--lens-revision main does not go with"):
        find_lens(str(path), "main", "tiny")
