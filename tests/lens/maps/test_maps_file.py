"""The project's own file of maps, both ways."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from logitlens_cli.errors import WorkError
from logitlens_cli.lens.maps.lens_maps import LensMaps
from logitlens_cli.lens.maps.maps_file import FORMAT, MapsHeader, read_maps, write_maps
from logitlens_cli.reading.record import MapsRecord

HEADER = MapsHeader(
    format=FORMAT, kind="linear", model="tiny", blocks=3, width=2, corpus="words", tokens=7
)
RECORD = MapsRecord(name="a", kind="linear", sha256="")
WEIGHTS = {-1: torch.tensor([[1.0, 2], [3, 4]]), 1: torch.eye(2)}
BIASES = {1: torch.tensor([5.0, 6])}


def written(path: Path) -> Path:
    file = io.BytesIO()
    write_maps(file, LensMaps(RECORD, WEIGHTS, BIASES), HEADER)
    path.write_bytes(file.getvalue())
    return path


def test_maps_come_back(tmp_path: Path) -> None:
    maps = read_maps(written(tmp_path / "a.safetensors"), "a")
    assert maps.weights.keys() == WEIGHTS.keys()
    assert maps.biases.keys() == BIASES.keys()
    assert all(torch.equal(maps.weights[row], weight) for row, weight in WEIGHTS.items())
    assert torch.equal(maps.biases[1], BIASES[1])
    assert (maps.record.kind, maps.record.model, maps.blocks) == ("linear", "tiny", 3)
    assert (maps.record.corpus, maps.record.tokens, maps.record.target) == ("words", 7, -1)


def test_the_same_maps_have_the_same_bytes(tmp_path: Path) -> None:
    one, two = (written(tmp_path / name).read_bytes() for name in ("a", "b"))
    assert one == two


@pytest.mark.parametrize(
    ("metadata", "tensors", "said"),
    [
        ({}, {}, "its header has no 'logitlens'"),
        ({"logitlens": "{"}, {}, "cannot read the lens"),
        ({"logitlens": "[]"}, {}, "cannot read the lens"),
        ({"format": "logitlens-maps/2"}, {}, "its format is 'logitlens-maps/2'"),
        ({"tokens": "many"}, {}, "cannot read the lens"),
        ({}, {"0.norm": torch.eye(2)}, "'0.norm'"),
        ({}, {"-1.weight": torch.eye(2)}, "'-1.weight'"),
        ({}, {"9" * 30 + ".weight": torch.eye(2)}, "cannot read the lens"),
    ],
)
def test_other_files_are_refused(metadata: Any, tensors: Any, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    words = {"format": FORMAT, "kind": "linear"} | metadata
    header = metadata if "logitlens" in metadata else {"logitlens": json.dumps(words)}
    save_file(tensors or {"0.weight": torch.eye(2)}, path, header if metadata or tensors else None)
    with pytest.raises(WorkError) as refused:
        read_maps(path, "a")
    assert said in str(refused.value)
