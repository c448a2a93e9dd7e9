"""Maps as a file of safetensors."""

import json
from pathlib import Path

import torch
from safetensors import safe_open

from logitlens_cli.lens.fitting.lens_file import write_lens


def test_a_tensor_for_each_row(tmp_path: Path) -> None:
    weights, biases = torch.randn(3, 4, 4), torch.randn(3, 4)
    with (tmp_path / "a").open("wb") as file:
        write_lens(file, "linear", weights, biases, {"ridge": 0.5})
    with safe_open(tmp_path / "a", "pt") as lens:
        assert json.loads(lens.metadata()["logitlens"]) == {"kind": "linear", "ridge": 0.5}
        for n, row in enumerate(("input", "0", "1")):
            assert torch.equal(lens.get_tensor(f"{row}.weight"), weights[n])
            assert torch.equal(lens.get_tensor(f"{row}.bias"), biases[n])
