"""A last row that is not the model's output is refused, in columns that are not sampled too."""

from typing import Any

import numpy as np
import pytest
import torch
from conftest import as_lens_model, tiny_llama

import logitlens_cli
from logitlens_cli.errors import ProofError
from logitlens_cli.lens.last_row import require_small
from logitlens_cli.lens.targets import sample_positions

LONG = "the cat saw a dog that saw the cat and"
POSITION = 3


def with_an_odd_column() -> Any:
    """A model that does something of its own before its head, at one position of longer texts: the
    probe does not see it."""
    model = tiny_llama()

    def change(module: Any, args: Any) -> Any:
        received = args[0]
        if received.shape[1] > 20:
            received = received.clone()
            received[:, POSITION] *= -1
        return (received,)

    model.lm_head.register_forward_pre_hook(change)
    return model


def test_a_column_that_is_not_sampled_is_refused(tokenizer: Any) -> None:
    assert len(tokenizer(LONG)["input_ids"]) > 20
    assert POSITION not in sample_positions(range(len(tokenizer(LONG)["input_ids"])), 16)
    with pytest.raises(ProofError, match="not the model's own output: KL is up to"):
        logitlens_cli.read(with_an_odd_column(), tokenizer, LONG)
    logitlens_cli.read(with_an_odd_column(), tokenizer, LONG[:12])
    logitlens_cli.read(with_an_odd_column(), tokenizer, LONG, window=f"{POSITION + 1}:")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_rounding_is_not_refused(tokenizer: Any, dtype: torch.dtype) -> None:
    model = tiny_llama().to(dtype)
    reading = logitlens_cli.read(model, tokenizer, LONG)
    assert reading.check.passed
    assert np.nanmax(reading.values("kl-final")[-1]) < {torch.float32: 1e-5}.get(dtype, 0.05)


def test_nothing_is_expected_of_rows_that_are_not_the_output(tokenizer: Any) -> None:
    model = tiny_llama()
    for rows in ({"norm": "no-affine"}, {"norm": "none"}, {"layers": "0,1"}):
        assert logitlens_cli.read(model, tokenizer, LONG, **rows).check.passed  # type: ignore[arg-type]


def test_the_worst_is_told() -> None:
    require_small(np.array([0.0, 1e-6]), np.array([1e-5, 1e-5]))
    with pytest.raises(ProofError, match=r"up to 0\.5 nats, allowed is 0\.1"):
        require_small(np.array([0.0, 0.5, 0.2]), np.array([0.1, 0.1, 0.1]))


def test_models_in_memory_are_taken_apart(tokenizer: Any) -> None:
    assert as_lens_model(tiny_llama(), tokenizer).route.direct
