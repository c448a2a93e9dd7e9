"""Which models are at hand."""

import subprocess
import sys
from pathlib import Path

import pytest
from model_fixtures import Hub

from logitlens_cli.model.inventory import available_models

pytestmark = pytest.mark.usefixtures("online")


def test_what_is_at_hand_before_anything_is_fetched(
    tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGITLENS_CACHE", str(tmp_path / "cache"))
    (row,) = available_models()
    assert (row.name, row.path, row.bytes) == ("smollm2", None, None)
    assert (row.blocks, row.width, row.vocabulary) == (30, 576, 49152)


def test_broken_models_are_not_at_hand(tmp_path: Path, hub: Hub) -> None:
    for name, text in {"a": "{", "b": "[]", "c": "{}", "d": '{"architectures": [1]}'}.items():
        folder = tmp_path / "hub" / f"models--{name}" / "snapshots" / "1"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(text)
    assert [row.name for row in available_models()] == ["smollm2"]


def test_looking_imports_nothing_heavy() -> None:
    code = (
        "import sys; from logitlens_cli.model.inventory import available_models;"
        "available_models();"
        "print(sorted({'torch', 'transformers', 'numpy', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
