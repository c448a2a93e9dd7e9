"""One hooked pass: what is kept, and that nothing stays behind."""

from typing import Any

import pytest
import torch
from conftest import as_lens_model, tiny_llama

from logitlens_cli.lens import capture
from logitlens_cli.lens.capture import INPUT, resid_post
from logitlens_cli.lens.lens_model import LensModel

ROWS = (INPUT, *(resid_post(block) for block in range(4)))
IDS = [17, 200, 3, 3, 99, 250, 1]


def hooks(model: Any) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_rows_are_what_enters_and_leaves_the_blocks(tiny: LensModel) -> None:
    stream = capture.capture(
        tiny.model, tiny.parts, [capture.PromptSlice(IDS, range(7), [6])], ROWS
    )
    with torch.no_grad():
        states = tiny.model(torch.tensor([IDS]), output_hidden_states=True).hidden_states
    assert stream.resid.shape == (5, 7, 32)
    # transformers records what enters each block; its last entry is normed and of no use here.
    for row in range(4):
        assert torch.equal(stream.resid[row], states[row][0])
    assert not torch.equal(stream.resid[4], states[4][0])
    assert stream.final is not None
    assert torch.equal(stream.final, states[4][0])


def test_only_the_window_and_the_rows_asked_for_are_kept(tiny: LensModel) -> None:
    whole = capture.capture(tiny.model, tiny.parts, [capture.PromptSlice(IDS, range(7), [6])], ROWS)
    part = capture.capture(
        tiny.model,
        tiny.parts,
        [capture.PromptSlice(IDS, range(2, 5), [0, 2])],
        (resid_post(1), resid_post(3)),
    )
    assert torch.equal(part.resid, whole.resid[[2, 4], 2:5])
    assert part.final is not None
    assert whole.final is not None
    assert torch.equal(part.final, whole.final[2:5])
    assert part.resid._base is None  # a copy, not a view that keeps the whole text


def test_own_logits_at_the_sampled_columns(tiny: LensModel) -> None:
    stream = capture.capture(
        tiny.model, tiny.parts, [capture.PromptSlice(IDS, range(2, 7), [1, 4])], (resid_post(3),)
    )
    with torch.no_grad():
        own = tiny.model(torch.tensor([IDS])).logits[0]
    torch.testing.assert_close(stream.logits, own[[3, 6]])


def test_hooks_are_gone_also_after_an_exception() -> None:
    model = tiny_llama()
    parts = as_lens_model(model, None).parts
    assert hooks(model) == 0
    capture.capture(model, parts, [capture.PromptSlice(IDS, range(7), [6])], ROWS)
    assert hooks(model) == 0

    def fail(*_: Any) -> None:
        raise RuntimeError("on purpose")

    handle = model.model.layers[2].register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="on purpose"):
        capture.capture(model, parts, [capture.PromptSlice(IDS, range(7), [6])], ROWS)
    handle.remove()
    assert hooks(model) == 0
