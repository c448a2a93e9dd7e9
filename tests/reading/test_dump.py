"""A reading as JSON and back, and files that are none."""

import copy
import json
import math
from pathlib import Path

import msgspec
import pytest
from dump_fixtures import Dump, dump_refusal

from logitlens_cli.reading import dump as dump_module
from logitlens_cli.reading.dump import dump_schema, dump_to_json, load_dump


def test_round_trip(dump_file: Path, tmp_path: Path) -> None:
    reading = load_dump(dump_file)
    (tmp_path / "again.json").write_bytes(dump_to_json(reading))
    assert load_dump(tmp_path / "again.json") == reading
    assert dump_to_json(load_dump(dump_file)) == dump_to_json(reading)
    assert dump_file.read_bytes().endswith(b"}\n")


def test_only_numbers_that_json_has(dump_file: Path) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} in the dump")

    json.loads(dump_file.read_bytes(), parse_constant=refuse)


def test_keys_of_a_later_version_are_passed_over(dump: Dump, tmp_path: Path) -> None:
    path = tmp_path / "later.json"
    path.write_text(json.dumps(dump))
    before = load_dump(path)
    later = copy.deepcopy(dump)
    later["later"] = {"anything": 1}
    later["tokens"][0]["later"] = None
    later["metrics"]["rank"]["scale"]["later"] = [1]
    path.write_text(json.dumps(later))
    assert load_dump(path) == before


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{", b"null", b"[]", b'"text"', b"3", b"\xff\xfe", b"not json"),
        *(b"[" * 100_000, b'{"options": ' + b'{"a":' * 100_000, b'{"later": ' + b"[" * 100_000),
        *(b'{"text": "\xff"}', b'{"text": "\\ud800"}', b'{"check": {"tolerance": NaN}}'),
    ],
)
def test_files_that_are_no_dump(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(data)
    assert dump_refusal(path).startswith(f"{path} is not a dump of this version of logitlens (")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_json_does_not_have(dump: Dump, tmp_path: Path, number: str) -> None:
    path = tmp_path / "bad.json"
    dump["metrics"]["rank"]["values"][0][0] = "HERE"
    path.write_text(json.dumps(dump).replace('"HERE"', number))
    assert dump_refusal(path).startswith(f"{path} is not a dump of this version of logitlens (")


def test_a_number_that_is_none_is_dump_file_as_null(dump_file: Path, tmp_path: Path) -> None:
    reading = load_dump(dump_file)
    odd = msgspec.structs.replace(reading, options={"vmax": math.inf, "vmin": math.nan})
    assert b'"options":{"vmax":null,"vmin":null}' in dump_to_json(odd)


@pytest.mark.parametrize(
    ("name", "why"), [("missing.json", "No such file or directory"), (".", "Is a directory")]
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, why: str) -> None:
    path = tmp_path / name
    assert dump_refusal(path) == f"{path}: {why}; name a JSON dump of logitlens"


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        (
            "logitlens-stats/2",
            "a summary of many texts, not a dump of a text; logitlens stats --merge draws it again",
        ),
        (
            "logitlens-diff/1",
            "a difference of two dumps, not a dump of a text; logitlens diff draws it from these",
        ),
    ],
)
def test_other_files_of_ours(schema: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(json.dumps({"schema": schema}))
    assert dump_refusal(path) == f"{path} is {said}"


def test_a_key_that_occurs_twice(dump_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "twice.json"
    path.write_bytes(dump_file.read_bytes().replace(b'"name":"x"', b'"name":"y","name":"x"', 1))
    assert dump_refusal(path) == (
        f"{path} is not a dump of this version of logitlens (the key 'name' occurs twice in an "
        "object); make it again with logitlens all"
    )


def test_a_file_that_is_too_large(
    dump_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dump_module, "LARGEST_DUMP", 2**20)
    path = tmp_path / "large.json"
    path.write_bytes(dump_file.read_bytes().ljust(2**20))
    assert load_dump(path) == load_dump(dump_file)
    path.write_bytes(path.read_bytes() + b" ")
    assert dump_refusal(path) == (f"{path}: it has more than 1 MB; name a JSON dump of logitlens")


def test_the_schema_names_its_version() -> None:
    reading = dump_schema()["$defs"]["Reading"]
    assert "schema" in reading["required"]
    assert set(reading["required"]) <= set(reading["properties"])
