"""``logitlens models``: lists, a fetched model, a proof."""

import json
from importlib.resources import files
from pathlib import Path

import pytest
from conftest import Shell
from options_of import parsed

from logitlens_cli.commands.models import (
    Check,
    Families,
    Fetch,
    print_families,
    print_models,
    print_proof,
)
from logitlens_cli.model.inventory import AvailableModel
from logitlens_cli.model.source import Dtype


def printed(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines of standard output, nothing else being said."""
    out, err = capsys.readouterr()
    assert err == ""
    return [line.rstrip() for line in out.splitlines()]


def test_options() -> None:
    assert parsed("models", "fetch") == Fetch(name="smollm2")
    assert parsed("models", "fetch", "a/b", "--revision", "main", "-q") == Fetch(
        name="a/b", revision="main", quiet=True
    )
    assert parsed("models", "check", "x", "--dtype", "float16", "--offline") == Check(
        model="x", dtype=Dtype.float16, offline=True
    )
    assert parsed("models", "families") == Families()


def test_models_are_listed(logitlens: Shell) -> None:
    ran = logitlens("models")
    assert (ran.code, ran.err) == (0, [])
    assert ran.out[0].split() == ["name", "blocks", "width", "vocabulary", "size", "path"]
    assert ran.out[1].split()[:4] == ["smollm2", "30", "576", "49152"]


def test_a_model_is_fetched(logitlens: Shell) -> None:
    ran = logitlens("models", "fetch", "-q")
    assert (ran.code, len(ran.out), ran.err) == (0, 1, [])
    assert (Path(ran.out[0]) / "config.json").is_file()


def test_the_list_of_models(capsys: pytest.CaptureFixture[str]) -> None:
    print_models(
        [
            AvailableModel(
                name="one", path=Path("/a/b"), bytes=93_400_000, blocks=2, width=32, vocabulary=300
            ),
            AvailableModel(
                name="[b]two", path=None, bytes=None, blocks=None, width=None, vocabulary=None
            ),
        ]
    )
    heading, one, two = printed(capsys)
    assert heading.split() == ["name", "blocks", "width", "vocabulary", "size", "path"]
    assert one.split() == ["one", "2", "32", "300", "93", "MB", "/a/b"]
    assert two.split() == [
        *("[b]two", "?", "?", "?", "not", "fetched;", "logitlens", "models", "fetch")
    ]


def test_the_list_of_families(capsys: pytest.CaptureFixture[str]) -> None:
    exact = {"outcome": "exact", "route": "direct", "mid": True, "model": "OneModel", "reason": ""}
    entries = {
        "one": exact,
        "two": exact | {"mid": False, "route": "replay", "model": "TwoModel"},
        "three": {
            "outcome": "refused", "route": None, "mid": None, "model": None, "reason": "[no] head"
        },
    }  # fmt: skip
    print_families({"transformers": "5.0", "families": entries})
    lines = printed(capsys)
    assert [line.split() for line in lines] == [
        ["family", "outcome", "route", "mid", "rows", "model", "or", "reason"],
        ["one", "exact", "direct", "yes", "OneModel"],
        ["two", "exact", "replay", "no", "TwoModel"],
        ["three", "refused", "[no]", "head"],
        ["transformers", "5.0:", "3", "families,", "2", "exact,", "1", "refused"],
    ]


def test_every_family_is_listed(logitlens: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")  # names stay whole
    table = json.loads((files("logitlens_cli.model") / "families.json").read_text("utf-8"))
    ran = logitlens("models", "families")
    assert (ran.code, ran.err) == (0, [])
    assert ran.out[-1].startswith(
        f"transformers {table['transformers']}: {len(table['families'])} families, "
    )
    assert [line.split()[0] for line in ran.out[1:-1]] == list(table["families"])


def test_a_proof_in_lines(capsys: pytest.CaptureFixture[str]) -> None:
    print_proof({"blocks": ["2"], "decode chain": ["norm", "[head]"]})
    assert [line.split() for line in printed(capsys)] == [
        ["blocks", "2"],
        ["decode", "chain", "norm"],
        ["[head]"],
    ]


def test_a_model_is_proven(logitlens: Shell, tiny_folder: Path) -> None:
    ran = logitlens("models", "check", tiny_folder, "-q")
    assert (ran.code, ran.err) == (0, [])
    words = " ".join(" ".join(ran.out).split())
    assert "model.layers" in words
    assert "lm_head (Linear)" in words


def test_a_model_that_is_not_there(logitlens: Shell) -> None:
    assert "/nowhere" in logitlens("models", "check", "/nowhere", "-q").refusal(2)
