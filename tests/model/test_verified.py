"""Files are read only with the bytes that were written, whatever their size says."""

import json
import os
from pathlib import Path

import pytest

from logitlens_cli.model import verified
from logitlens_cli.model.verified import STAMPS, changed_files, sha256_of_file, write_stamps


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a").write_bytes(b"weights")
    (tmp_path / "b").write_bytes(b"words")
    return tmp_path


def hashes(folder: Path) -> dict[str, str]:
    return {name: sha256_of_file(folder / name) for name in ("a", "b")}


def test_a_hash_of_known_bytes(folder: Path) -> None:
    (folder / "c").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of_file(folder / "c") == known


def test_one_changed_byte_is_found(folder: Path) -> None:
    written = hashes(folder)
    write_stamps(folder, written)
    assert changed_files(folder, written) == []
    (folder / "a").write_bytes(b"weightz")
    assert changed_files(folder, written) == ["a"]
    assert changed_files(folder, written) == ["a"]  # and again: no stamp was noted


def test_a_change_under_the_old_time_is_found(folder: Path) -> None:
    """Whoever sets the time of a file back changes the time of that."""
    written = hashes(folder)
    write_stamps(folder, written)
    before = (folder / "a").stat()
    (folder / "a").write_bytes(b"weightz")
    os.utime(folder / "a", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert changed_files(folder, written) == ["a"]


def test_stamps_spare_the_hashing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = hashes(folder)
    hashed: list[str] = []

    def counted(path: Path) -> str:
        hashed.append(path.name)
        return written[path.name]

    monkeypatch.setattr(verified, "sha256_of_file", counted)
    assert changed_files(folder, written) == []
    assert hashed == ["a", "b"]
    assert changed_files(folder, written) == []
    assert hashed == ["a", "b"]
    assert changed_files(folder, written, always=True) == []
    assert hashed == ["a", "b"] * 2


@pytest.mark.parametrize("stamps", ["", "[]", "[" * 100_000, '{"a": 1}', '{"a": [0, 0, 0, 0]}'])
def test_stamps_that_are_none_count_for_nothing(folder: Path, stamps: str) -> None:
    written = hashes(folder)
    (folder / "a").write_bytes(b"weightz")
    (folder / STAMPS).write_text(stamps)
    assert changed_files(folder, written) == ["a"]


def test_a_copy_is_hashed_once(folder: Path, tmp_path: Path) -> None:
    written = hashes(folder)
    write_stamps(folder, written)
    first = json.loads((folder / STAMPS).read_text())
    for name in written:
        (folder / name).replace(folder / f"{name}.old")
        (folder / name).write_bytes((folder / f"{name}.old").read_bytes())
    assert changed_files(folder, written) == []
    assert json.loads((folder / STAMPS).read_text()) != first
