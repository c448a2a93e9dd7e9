"""A model in memory, whoever hooked or changed it, is read as it is and left as it was."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tiny_llama

import logitlens_cli
from logitlens_cli.errors import UsageError

TEXT = "the cat and the cat"


def test_read_gives_the_grids_of_all(tokenizer: Any) -> None:
    model = tiny_llama()
    reading = logitlens_cli.read(model, tokenizer, TEXT, every=2, k=3, target=["final", "next"])
    assert [layer.label for layer in reading.layers] == ["input", "0", "2", "3"]
    assert [token.label for token in reading.tokens][:3] == ["t", "h", "e"]
    assert set(reading.metrics) >= {"own-logit", "rank-final", "rank-next", "kl-final", "kl-input"}
    ids = torch.tensor([tokenizer(TEXT)["input_ids"]])
    with torch.no_grad():
        own = model(ids).logits[0]
    assert reading.final_ids == own.argmax(-1).tolist()
    np.testing.assert_array_equal(reading.top()[-1], own.argmax(-1))
    assert reading.check.passed


def test_hooks_of_the_owner_are_part_of_the_model(tokenizer: Any) -> None:
    model = tiny_llama()
    plain = logitlens_cli.read(model, tokenizer, TEXT)

    def steer(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
        return output + 3 * torch.ones_like(output)

    handle = model.model.layers[1].register_forward_hook(steer)
    steered = logitlens_cli.read(model, tokenizer, TEXT)
    handle.remove()
    np.testing.assert_array_equal(steered.values("kl-input")[:2], plain.values("kl-input")[:2])
    assert not np.allclose(steered.values("own-logit")[2:], plain.values("own-logit")[2:])
    ids = torch.tensor([tokenizer(TEXT)["input_ids"]])
    with torch.no_grad():
        assert plain.final_ids == model(ids).logits[0].argmax(-1).tolist()


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was(tokenizer: Any, fails: bool) -> None:
    model = tiny_llama(attention_dropout=0.5)
    model.train()
    model.model.layers[2].eval()
    model.lm_head.weight.requires_grad_(True)
    seen: list[int] = []
    handle = model.model.layers[0].register_forward_hook(lambda *_: seen.append(1))
    flags = [module.training for module in model.modules()]
    state = copy.deepcopy(model.state_dict())
    attention = model.config._attn_implementation
    if fails:
        with pytest.raises(UsageError):
            logitlens_cli.read(model, tokenizer, TEXT, window="nowhere")
    else:
        logitlens_cli.read(model, tokenizer, TEXT)
    assert [module.training for module in model.modules()] == flags
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert model.config._attn_implementation == attention
    assert model.lm_head.weight.requires_grad
    hooks = [(m, list(m._forward_hooks)) for m in model.modules() if m._forward_hooks]
    assert hooks == [(model.model.layers[0], [handle.id])]
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert not any("forward" in module.__dict__ for module in model.modules())
    assert seen


def test_unknown_names_have_no_place() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = logitlens_cli.nonsense
