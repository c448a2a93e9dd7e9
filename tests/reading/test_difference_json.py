"""The numbers of a difference as JSON."""

import json
from pathlib import Path

from logitlens_cli.reading.difference import (
    DIFFERENCE_SCHEMA,
    Difference,
    Side,
    difference_to_json,
)
from logitlens_cli.reading.dump import load_dump


def test_a_difference_as_json(dump_file: Path) -> None:
    reading = load_dump(dump_file)
    side = Side(
        name=reading.name,
        text=reading.text,
        tokens=reading.tokens[:1],
        model=reading.model,
        lens=reading.lens,
    )
    difference = Difference(
        schema=DIFFERENCE_SCHEMA,
        metric="entropy",
        quantity="entropy, B minus A",
        unit="nats",
        a=side,
        b=side,
        layers=reading.layers[:2],
        values=[[0.5], [None]],
        same=[[True], [False]],
    )
    data = difference_to_json(difference)
    assert data == difference_to_json(difference)
    assert data.endswith(b"}\n")
    parsed = json.loads(data)
    assert list(parsed) == [
        *("schema", "metric", "quantity", "unit", "a", "b", "layers", "values", "same")
    ]
    assert (parsed["schema"], parsed["values"]) == ("logitlens-diff/1", [[0.5], [None]])
    assert parsed["same"] == [[True], [False]]
    assert parsed["a"] == parsed["b"]
    # The sides are written as in the dumps that they are of.
    dump = json.loads(dump_file.read_bytes())
    assert parsed["a"]["model"] == dump["model"]
    assert parsed["a"]["tokens"] == dump["tokens"][:1]
    assert parsed["layers"] == dump["layers"][:2]
