"""Fixtures: a dump of the real command, as a file and as what JSON makes of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from logitlens_cli.cli import app
from logitlens_cli.errors import UsageError
from logitlens_cli.reading.dump import load_dump

Dump = dict[str, Any]


@pytest.fixture(scope="session")
def dump_file(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dump with every metric, and with values that do not exist; not to be changed."""
    out = tmp_path_factory.mktemp("dump")
    options = ["--target", "next", "--color", "entropy", "--window", "1:", "--format", "svg", "-q"]
    where = ["-m", str(tiny_folder), "-o", str(out), "--name", "x"]
    assert app.main(["all", "-t", "the cat\n日", *where, *options]) == 0
    return out / "x.all.json"


@pytest.fixture
def dump(dump_file: Path) -> Dump:
    parsed: Dump = json.loads(dump_file.read_text("utf-8"))
    return parsed


def dump_refusal(path: Path) -> str:
    """What is said of a file that is no dump."""
    with pytest.raises(UsageError) as caught:
        load_dump(path)
    return str(caught.value)
