"""Texts that share a pass: only at lengths at which it was tried, and with what the head gets."""

from typing import Any

import pytest
from conftest import as_lens_model, tiny_llama
from torch import Tensor

from logitlens_cli.lens.sharing import can_share_pass
from logitlens_cli.lens.spec import ReadSpec

SPEC = ReadSpec(metrics={})


def switching(length: int) -> Any:
    """A model whose embeddings change where a pass is longer, as scaled positions do."""
    model = tiny_llama()
    model.model.embed_tokens.register_forward_hook(
        lambda module, args, output: output * 1.5 if output.shape[1] > length else output
    )
    return model


@pytest.mark.parametrize("length", [4, 30, 50, 64])
def test_a_switch_within_the_shortest_trial(length: int, tokenizer: Any) -> None:
    assert not can_share_pass(as_lens_model(switching(length), tokenizer, context=200), SPEC)


def test_a_switch_beyond_it_is_met_by_longer_texts_only(tokenizer: Any) -> None:
    lens_model = as_lens_model(switching(100), tokenizer, context=300)
    assert can_share_pass(lens_model, SPEC, longest=60)
    assert not can_share_pass(lens_model, SPEC)
    assert not can_share_pass(lens_model, SPEC, longest=90)  # tried up to 130
    assert not can_share_pass(lens_model, SPEC, longest=200)


def test_a_trial_is_made_once(tokenizer: Any) -> None:
    lens_model = as_lens_model(tiny_llama(), tokenizer, context=300)
    assert can_share_pass(lens_model, SPEC, longest=120)
    calls: list[Tensor] = []
    lens_model.model.register_forward_pre_hook(lambda module, args: calls.append(args))
    assert can_share_pass(lens_model, SPEC, longest=110)
    assert not calls


@pytest.mark.parametrize("where", ["embedding", "head"])
def test_a_model_that_mixes_the_texts_of_a_batch(where: str, tokenizer: Any) -> None:
    model = tiny_llama()

    def mix(module: Any, args: Any, output: Tensor) -> Tensor:
        return output + 0.1 * (output.mean(0) - output)

    if where == "embedding":
        model.model.embed_tokens.register_forward_hook(mix)
    else:
        model.model.norm.register_forward_hook(mix)
    assert not can_share_pass(as_lens_model(model, tokenizer), SPEC)


def test_texts_of_unequal_lengths_beside_each_other(tokenizer: Any) -> None:
    assert can_share_pass(as_lens_model(tiny_llama(), tokenizer), SPEC)
