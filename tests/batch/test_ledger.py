"""Which prompts of a batch are done, also where several processes write."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from batches import files
from conftest import tiny_llama

from logitlens_cli.batch.ledger import Ledger, prompt_key
from logitlens_cli.batch.prompts import Prompt
from logitlens_cli.commands.all import All
from logitlens_cli.commands.translate import recipe_of
from logitlens_cli.errors import WorkError


def test_the_ledger_knows_what_is_done(tmp_path: Path) -> None:
    (tmp_path / "a.json").touch()
    Ledger(tmp_path, "set.rank").add("a", "k1", [tmp_path / "a.json"])
    for name in ("gone.json", "other.json"):
        (tmp_path / name).write_bytes(b"{}")
    Ledger(tmp_path, "set.rank").add("b", "k1", [tmp_path / "gone.json"])
    Ledger(tmp_path, "set.rank").add("d", "k1", [tmp_path / "other.json"])
    (tmp_path / "gone.json").unlink()
    (tmp_path / "other.json").write_bytes(b"[]")
    ledger = Ledger(tmp_path, "set.rank")
    assert ledger.has("a", "k1")
    assert not ledger.has("a", "k2")  # another text, or other options
    assert not ledger.has("b", "k1")  # its file is not there
    assert not ledger.has("c", "k1")
    assert not ledger.has("d", "k1")  # its file was written by somebody else
    assert not Ledger(tmp_path, "set.topk").has("a", "k1")


def test_a_line_without_the_files_of_today_is_nothing(tmp_path: Path) -> None:
    for name in ("a.json", "a.png"):
        (tmp_path / name).touch()
    Ledger(tmp_path, "set.rank").add("none", "k", [])
    Ledger(tmp_path, "set.rank").add("a", "k", [tmp_path / "a.json"])
    ledger = Ledger(tmp_path, "set.rank")
    assert not ledger.has("none", "k")
    assert not ledger.has("none", "k", [])
    assert ledger.has("a", "k")
    assert ledger.has("a", "k", [tmp_path / "a.json"])
    assert not ledger.has("a", "k", [tmp_path / "a.json", tmp_path / "a.png"])


def test_a_ledger_that_leads_nowhere_is_told(tmp_path: Path) -> None:
    (tmp_path / "set.rank.done.jsonl").symlink_to(tmp_path / "gone" / "ledger")
    with pytest.raises(WorkError, match=r"set.rank.done.jsonl is a link that leads nowhere; remov"):
        Ledger(tmp_path, "set.rank")


def test_a_ledger_cut_off_loses_its_last_line_only(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).touch()
        Ledger(tmp_path, "set.rank").add(name, "k", [tmp_path / name])
    ledger = tmp_path / "set.rank.done.jsonl"
    ledger.write_bytes(ledger.read_bytes()[:-9])
    again = Ledger(tmp_path, "set.rank")
    assert [again.has(name, "k") for name in ("a", "b")] == [True, False]
    again.add("b", "k", [tmp_path / "b"])
    whole = Ledger(tmp_path, "set.rank")
    assert [whole.has(name, "k") for name in ("a", "b")] == [True, True]


def test_a_key_changes_with_whatever_changes_the_files() -> None:
    keys = {
        prompt_key(prompt, recipe)
        for prompt in (Prompt("a", "x"), Prompt("a", "y"))
        for recipe in ({"k": 5}, {"k": 6}, {"k": 5, "norm": "none"})
    }
    assert len(keys) == 6
    same = prompt_key(Prompt("b", "x", 3), {"norm": "full", "k": 5})
    assert same == prompt_key(Prompt("a", "x"), {"k": 5, "norm": "full"})


def test_the_models_weights_belong_to_the_recipe(tmp_path: Path) -> None:
    tiny_llama().save_pretrained(tmp_path)
    options = All(lines=tmp_path, model=str(tmp_path))
    before = recipe_of(options)
    (tmp_path / "notes").symlink_to(tmp_path / "gone")
    assert recipe_of(options) == before
    os.utime(tmp_path / "model.safetensors", (1, 1))
    assert recipe_of(options) != before


COUNT = """
import sys
from pathlib import Path
from logitlens_cli.reading.lock import folder_lock
folder = Path(sys.argv[1])
file = folder / "count"
for _ in range(100):
    with folder_lock(folder):
        file.write_text(str(int(file.read_text()) + 1))
"""


def test_processes_that_write_to_one_folder_take_turns(tmp_path: Path) -> None:
    """None is lost, though the lock's file comes and goes."""
    (tmp_path / "count").write_text("0")
    line = [sys.executable, "-c", COUNT, str(tmp_path)]
    for child in [subprocess.Popen(line) for _ in range(3)]:
        assert child.wait(timeout=100) == 0
    assert (tmp_path / "count").read_text() == "300"
    assert files(tmp_path) == ["count"]
