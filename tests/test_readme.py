"""Generated parts of the documents are fresh, the README is short, the Makefile recipe works."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import family_table
import pytest
import reference_docs

README = reference_docs.ROOT / "README.md"
PRESETS = reference_docs.ROOT / "configs" / "README.md"


@pytest.mark.parametrize("document", reference_docs.DOCUMENTS, ids=lambda path: path.parent.name)
def test_generated_parts_are_fresh(document: Path) -> None:
    text = document.read_text()
    assert reference_docs.fresh(text) == text, "run: make docs"


def test_every_generated_part_is_in_a_document() -> None:
    texts = [document.read_text() for document in reference_docs.DOCUMENTS]
    for name in reference_docs.PARTS:
        assert sum(text.count(f"<!-- {name} -->") for text in texts) == 1, name


def test_the_schema_is_fresh() -> None:
    assert reference_docs.SCHEMA.read_text() == reference_docs.schema_text(), "run: make docs"


def test_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 250


@pytest.mark.slow
def test_makefile_recipe(tmp_path: Path, tiny_folder: Path) -> None:
    recipe = re.search(r"<!-- makefile -->\n```make\n(.*?)```", PRESETS.read_text(), re.DOTALL)
    assert recipe is not None
    (tmp_path / "Makefile").write_text(recipe[1])
    (tmp_path / "texts").mkdir()
    for name in ("one", "two"):
        (tmp_path / "texts" / f"{name}.txt").write_text(f"the cat {name}\n")
    make = shutil.which("make")
    assert make is not None
    (tmp_path / "rank.toml").write_text("every = 2\n")
    (tmp_path / "prompts.txt").write_text("the cat\nthe dog\n")
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "LOGITLENS_MODEL": str(tiny_folder),
        "HOME": str(tmp_path),
    }

    def run(target: str = "figures") -> str:
        return subprocess.run(
            [make, "-j2", target], cwd=tmp_path, env=environment, check=True,
            capture_output=True, text=True, timeout=120,
        ).stdout  # fmt: skip

    run()
    folder = tmp_path / "figures"
    made = sorted(p.name for p in folder.iterdir())
    figures = ["one.rank.json", "one.rank.png", "two.rank.json", "two.rank.png"]
    assert made == sorted([".prompts", *figures, "prompts"])
    listed = set(run("list").split())
    assert listed == {
        str(path.relative_to(tmp_path)) for path in (folder / "prompts").glob("*.rank.*[gn]")
    }
    assert len(listed) == 2 * 3
    assert "Nothing to be done" in run() or "up to date" in run()
    (tmp_path / "rank.toml").write_text("every = 3\n")
    run()
    for file in ("one.rank.json", "prompts/prompts-1.rank.json"):
        labels = [layer["label"] for layer in json.loads((folder / file).read_text())["layers"]]
        assert labels == ["input", "0", "3"]


def test_counts_of_families() -> None:
    entries = json.loads(family_table.TABLE.read_text())["families"].values()
    exact = [entry["route"] == "direct" for entry in entries if entry["outcome"] == "exact"]
    text = reference_docs.TESTS.read_text()
    assert f"elementwise tail | {exact.count(True)} |" in text
    assert f"model's own tail | {exact.count(False)} |" in text
    assert f"sees later tokens | {len(entries) - len(exact)} |" in text
    assert "wrong | 0 |" in text
    proven = f"exact on {len(exact)}, refused with a reason on {len(entries) - len(exact)}"
    readme = " ".join(README.read_text().split())
    assert f"{len(entries)} families of causal models" in readme
    assert f"{proven}, wrong on none" in readme


def test_readme_shows_pictures() -> None:
    assert re.search(r"!\[[^]]+\]\(outputs/gallery/[^)]+\)", README.read_text())
