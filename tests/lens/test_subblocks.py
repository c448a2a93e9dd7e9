"""Rows between attention and MLP, and late blocks in the decoder, against other routes."""

from collections.abc import Callable
from typing import Any

import families
import pytest
import torch
from conftest import as_lens_model
from torch import Tensor

from logitlens_cli.errors import UsageError
from logitlens_cli.lens import capture, decoders
from logitlens_cli.lens.capture import INPUT, resid_mid, resid_post
from logitlens_cli.lens.decoder import Route
from logitlens_cli.lens.rows import rows_of
from logitlens_cli.lens.spec import ReadSpec
from logitlens_cli.model.anatomy import find


def output_of(model: Any, path: str, ids: Tensor) -> Tensor:
    """What a module returns, by its name: the tests may know names, the product does not."""
    kept: list[Tensor] = []

    def keep(module: Any, args: Any, output: Any) -> None:
        kept.append(output if isinstance(output, Tensor) else output[0])

    handle = model.get_submodule(path).register_forward_hook(keep)
    families.forward(model, ids)
    handle.remove()
    return kept[0]


# By family: the module whose result is added to what enters block 1, and the factor it gets.
SUMS: dict[str, tuple[str, Callable[[Any], float]]] = {
    "gpt2": ("transformer.h.1.attn", lambda config: 1.0),
    "llama": ("model.layers.1.self_attn", lambda config: 1.0),
    "opt": ("model.decoder.layers.1.self_attn", lambda config: 1.0),
    "gemma2": ("model.layers.1.post_attention_layernorm", lambda config: 1.0),  # sandwich
    "olmo2": ("model.layers.1.post_attention_layernorm", lambda config: 1.0),  # norm after
    "glm4": ("model.layers.1.post_self_attn_layernorm", lambda config: 1.0),
    "granite": ("model.layers.1.self_attn", lambda config: config.residual_multiplier),
    "mixtral": ("model.layers.1.self_attn", lambda config: 1.0),
}


@pytest.mark.parametrize("key", SUMS)
def test_mid_is_what_enters_plus_what_attention_adds(key: str) -> None:
    model = families.build(key)
    ids = families.inputs(key)
    parts = find.find_parts(model, subblocks=True)
    rows = [resid_post(0), resid_mid(1), resid_post(1), resid_post(3)]
    count = ids.shape[1]
    stream = capture.capture(
        model, parts, [capture.PromptSlice(ids[0].tolist(), range(count), [0])], rows
    )
    path, factor = SUMS[key]
    by_hand = stream.resid[0] + factor(model.config) * output_of(model, path, ids)[0]
    torch.testing.assert_close(stream.resid[1], by_hand)
    assert not torch.equal(stream.resid[1], stream.resid[2])


def test_bloom_adds_inside_its_attention() -> None:
    model = families.build("bloom")
    ids = families.inputs("bloom")
    parts = find.find_parts(model, subblocks=True)
    rows = [resid_mid(1), resid_post(3)]
    stream = capture.capture(
        model, parts, [capture.PromptSlice(ids[0].tolist(), range(9), [0])], rows
    )
    by_hand = output_of(model, "transformer.h.1.self_attention", ids)
    torch.testing.assert_close(stream.resid[0], by_hand[0])


@pytest.mark.parametrize(
    "key", ["gptj", "gpt_neox", "phi", "cohere", "codegen", "falcon", "mamba", "mamba2", "bart"]
)
def test_blocks_without_a_middle_are_refused(key: str) -> None:
    parts = find.find_parts(families.build(key), subblocks=True)
    spec = ReadSpec(command="rank", metrics={}, layers="0,1", subblocks=True)
    with pytest.raises(UsageError, match="no state between attention and MLP"):
        rows_of(parts, spec)


def test_rows_run_from_the_lowest_up() -> None:
    parts = find.find_parts(families.build("llama"), subblocks=True)
    spec = ReadSpec(command="rank", metrics={}, layers="1,3", subblocks=True)
    rows = rows_of(parts, spec)
    assert rows == (INPUT, resid_mid(1), resid_post(1), resid_mid(3), resid_post(3))
    assert [row.label for row in rows] == ["input", "1 mid", "1", "3 mid", "3"]
    assert [row.kind for row in rows] == ["input", "mid", "block", "mid", "block"]


@pytest.mark.parametrize("key", ["llama", "gpt2", "gemma2", "falcon", "roberta"])
@pytest.mark.parametrize("late", [1, 2])
def test_late_blocks_decode_as_the_model_would_go_on(key: str, late: int) -> None:
    model = families.build(key)
    ids = families.inputs(key)
    parts = find.find_parts(model)
    count = len(parts.blocks)
    rows = [INPUT, *(resid_post(block) for block in range(count - late))]
    stream = capture.capture(
        model, parts, [capture.PromptSlice(ids[0].tolist(), range(9), [0, 8])], rows
    )
    decoder = decoders.make_decoder(
        model, parts, Route(direct=True), "full", ids[0].tolist(), range(9), late
    )
    with torch.inference_mode():
        torch.testing.assert_close(decoder.last_layer(stream), stream.logits)
        for resid in stream.resid:
            mine = decoder.tile(decoder.prepare(resid.unsqueeze(0)), slice(None))
            truth = go_on(model, parts.blocks[count - late - 1], ids, resid)
            torch.testing.assert_close(mine.double(), truth, atol=1e-3, rtol=0)


def go_on(model: Any, block: Any, ids: Tensor, resid: Tensor) -> Tensor:
    """float64 logits where ``block`` leaves ``resid``: a whole pass with its output replaced."""
    name = next(n for n, m in model.named_modules() if m is block)
    twin = families.doubled(model)

    def leave(module: Any, args: Any, output: Any) -> Any:
        made = resid.unsqueeze(0).double()
        return made if isinstance(output, Tensor) else (made, *output[1:])

    twin.get_submodule(name).register_forward_hook(leave)
    return families.forward(twin, ids)


def test_too_many_late_blocks_are_refused() -> None:
    parts = as_lens_model(families.build("llama"), None).parts
    spec = ReadSpec(command="rank", metrics={}, layers="0,1", decoder_blocks=4)
    with pytest.raises(UsageError, match="leaves no row"):
        rows_of(parts, spec)
