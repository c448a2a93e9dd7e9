"""The files of a tokenizer: read as they are, or refused."""

from collections.abc import Callable
from pathlib import Path

import pytest
from model_files import edit_json, opened, require_refused_soon

pytestmark = pytest.mark.usefixtures("online")


def vocabulary_elsewhere(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    edit_json(folder / "tokenizer_config.json", vocab_file="/etc/passwd")


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "there is no tokenizer.json"),
    "broken tokenizer": (lambda f: (f / "tokenizer.json").write_text("{"), "the tokenizer"),
    "deep tokenizer": (lambda f: (f / "tokenizer.json").write_text("[" * 10**6), "the tokenizer"),
    "odd tokenizer": (
        lambda f: edit_json(
            f / "tokenizer.json", model={"type": "BPE", "vocab": 3, "merges": None}
        ),
        "the tokenizer",
    ),
    "tokenizer elsewhere": (
        lambda f: edit_json(
            f / "tokenizer_config.json", fast_tokenizer_files=["../tokenizer.9.json"]
        ),
        "reaches outside its folder (fast_tokenizer_files: ../tokenizer.9.json)",
    ),
    "vocabulary elsewhere": (
        vocabulary_elsewhere,
        "reaches outside its folder (vocab_file: /etc/passwd)",
    ),
}


@pytest.mark.parametrize("how", SPOILT)
def test_spoilt_tokenizers(how: str, model_copy: Path, capfd: pytest.CaptureFixture[str]) -> None:
    spoil, word = SPOILT[how]
    spoil(model_copy)
    require_refused_soon(model_copy, word)
    assert capfd.readouterr() == ("", "")


def test_old_paths_of_another_machine_do_not_matter(model_copy: Path) -> None:
    edit_json(
        model_copy / "tokenizer_config.json", special_tokens_map_file="/a/b", tokenizer_file="/c/d"
    )
    assert len(opened(model_copy).tokenizer) == 256
