"""A target of which another spelling ranks better in the end is told."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Shell, as_lens_model, tiny_llama

import logitlens_cli
from logitlens_cli.commands.rank import Rank
from logitlens_cli.commands.translate import read_spec
from logitlens_cli.lens.lens_model import LensModel
from logitlens_cli.lens.read import read_text
from logitlens_cli.lens.targets import with_token_ids
from logitlens_cli.reading.record import Reading, Spelling

FRANCE = "The capital of France is"


def of_ranks(lens_model: LensModel, text: str, *targets: str, **more: Any) -> Reading:
    spec = read_spec(Rank(text=text, target=list(targets), **more))
    return read_text(lens_model, with_token_ids(spec, lens_model), text, "x")


def test_paris(smollm2: LensModel) -> None:
    reading = of_ranks(smollm2, FRANCE, "Paris")
    assert reading.values("rank")[-1, -1] == 44
    assert reading.spellings == [
        Spelling(text="Paris", id=38634, rank=44, better_id=7042, better_label="·Paris",
                 better_rank=1)
    ]  # fmt: skip
    assert of_ranks(smollm2, FRANCE, " Paris", "final", "id:38634").spellings == []


def test_it_is_of_the_output_whatever_is_drawn(tokenizer: Any) -> None:
    """At the window's last column; a fake spelling that the vocabulary does not know is none."""
    model = tiny_llama()
    lens_model = as_lens_model(model, tokenizer)
    text = "the cat and the"
    ids = tokenizer(text)["input_ids"]
    with torch.no_grad():
        own = model(torch.tensor([ids])).logits[0, 4]
    ranks = {name: 1 + int((own > own[ord(name)]).sum()) for name in "cC"}
    worse, better = sorted(ranks, key=lambda name: -ranks[name])
    for more in ({"layers": "0"}, {"norm": "no-affine"}, {"decoder_blocks": 1}, {"every": 2}):
        reading = of_ranks(lens_model, text, worse, better, window="1:5", **more)
        assert reading.spellings == [
            Spelling(text=worse, id=ord(worse), rank=ranks[worse], better_id=ord(better),
                     better_label=better, better_rank=ranks[better])
        ]  # fmt: skip


def test_programs_have_it_too(tokenizer: Any) -> None:
    reading = logitlens_cli.read(tiny_llama(), tokenizer, "the cat", target=["c", "C"])
    (found,) = reading.spellings
    assert {found.text, found.better_label} == {"c", "C"}
    assert found.better_rank < found.rank
    np.testing.assert_equal(reading.values(f"rank-{found.text.lower()}").ndim, 2)


@pytest.mark.parametrize("command", ["rank", "token-prob", "trace"])
def test_the_command_line_says_so(
    logitlens: Shell, tiny_folder: Any, tmp_path: Path, command: str
) -> None:
    out = ["--format", "none", "-o", tmp_path / "out"]
    said = {
        target: logitlens(command, "-t", "the cat", "-m", tiny_folder, "--target", target, *out).err
        for target in ("c", "C")
    }
    (worse,) = [target for target, lines in said.items() if lines]
    better = {"c": "C", "C": "c"}[worse]
    assert len(said[worse]) == 1
    assert said[worse][0].startswith(f"logitlens: '{worse}' is token {ord(worse)}, of rank ")
    assert f"; {better} (id:{ord(better)}) has rank " in said[worse][0]


def test_what_is_subtracted_is_a_target_too(
    logitlens: Shell, tiny_folder: Any, tmp_path: Path, tokenizer: Any
) -> None:
    """It was given by another option."""
    ranks = {
        name: of_ranks(as_lens_model(tiny_llama(), tokenizer), "the cat", name) for name in "cC"
    }
    (worse,) = [name for name, reading in ranks.items() if reading.spellings]
    out = ["--format", "none", "-o", tmp_path / "out", "-m", tiny_folder]
    said = logitlens("logit-diff", "-t", "the cat", "--target", "id:7", "--minus", worse, *out).err
    assert len(said) == 1
    assert said[0].startswith(f"logitlens: '{worse}' is token {ord(worse)}, of rank ")
