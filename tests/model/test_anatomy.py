"""Parts found from data flow, held against a different route on inner rows; and refusals."""

from typing import Any

import families
import pytest
import torch

from logitlens_cli.errors import LogitLensError
from logitlens_cli.lens import capture, decoders, direct, output_check, proof
from logitlens_cli.lens.capture import INPUT, resid_post
from logitlens_cli.lens.decoder import Route
from logitlens_cli.model.anatomy import find

# What must stand in the decode chain after the last block, by family.
CHAINS = {
    "gpt2": ["LayerNorm", "Linear"],
    "llama": ["LlamaRMSNorm", "Linear"],
    "qwen2": ["Qwen2RMSNorm", "Linear"],
    "qwen3": ["Qwen3RMSNorm", "Linear"],
    "mistral": ["MistralRMSNorm", "Linear"],
    "gemma2": ["Gemma2RMSNorm", "Linear", "soft-cap 25"],
    "gemma3_text": ["Gemma3RMSNorm", "Linear", "soft-cap 25"],
    "gemma3": ["Gemma3RMSNorm", "Linear"],
    "gpt_neox": ["LayerNorm", "Linear"],
    "opt": ["LayerNorm", "Linear"],
    "opt-350m": ["project_out (Linear)", "Linear"],  # no final norm
    "phi": ["LayerNorm", "with bias"],
    "bloom": ["ln_f (LayerNorm)", "Linear"],  # not the norm of the embeddings
    "falcon": ["LayerNorm", "Linear"],
    "gptj": ["LayerNorm", "with bias"],
    "cohere": ["CohereLayerNorm", "Linear", "scale 0.25"],
    "granite": ["GraniteRMSNorm", "Linear", "scale 0.166667"],
    "minicpm3": ["MiniCPM3RMSNorm", "scale", "Linear"],  # before the head, and no module
    "openai-gpt": ["Linear"],  # no final norm at all
    "lfm2": ["embedding_norm", "Linear"],
    "nanochat": ["NanoChatRMSNorm", "Linear", "soft-cap"],
}


def build(key: str) -> Any:
    return families.build(key)


@pytest.mark.parametrize("key", CHAINS)
def test_every_row_is_decoded_as_the_models_own_tail_would(key: str) -> None:
    model = build(key)
    ids = families.inputs(key)
    parts = find.find_parts(model)
    chain = parts.describe(direct=True)[1:]
    assert proof.prove(model, parts).direct
    assert len(chain) == len(CHAINS[key])
    for step, expected in zip(chain, CHAINS[key], strict=True):
        assert expected in step
    rows = (INPUT, *(resid_post(block) for block in range(len(parts.blocks))))
    count = ids.shape[1]
    stream = capture.capture(
        model, parts, [capture.PromptSlice(ids[0].tolist(), range(count), range(count))], rows
    )
    decoder = direct.Direct(parts)
    assert output_check.check_output(decoder, "direct", stream).passed
    for row, resid in enumerate(families.reference_stream(model, ids)):
        torch.testing.assert_close(stream.resid[row], resid.reshape(count, -1))
        truth = families.reference_logits(model, ids, resid)[0]
        with torch.inference_mode():
            mine = decoder.logits(decoder.prepare(stream.resid[row]))
        torch.testing.assert_close(mine.double(), truth.double(), atol=2e-4, rtol=0)


@pytest.mark.parametrize("key", families.BIDIRECTIONAL)
def test_models_that_see_later_tokens_are_refused(key: str) -> None:
    with pytest.raises(LogitLensError):
        find.find_parts(families.build(key))


def test_input_row_is_what_enters_the_first_block() -> None:
    """Gemma scales its embedding, so the row of the matrix is not what enters."""
    model = build("gemma2")
    parts = find.find_parts(model)
    stream = capture.capture(
        model, parts, [capture.PromptSlice([3, 4, 5], range(3), [0])], (INPUT, resid_post(3))
    )
    with torch.no_grad():
        matrix = model.get_input_embeddings().weight[[3, 4, 5]]
    assert stream.resid[0].abs().mean() > 3 * matrix.abs().mean()


def test_a_tail_that_cannot_be_followed_is_replayed() -> None:
    model = build("llama")
    inner = model.forward

    def forward(input_ids: torch.Tensor, **rest: Any) -> Any:
        out = inner(input_ids=input_ids, **rest)
        out.logits = out.logits.flip(-1)
        return out

    model.forward = forward
    parts = find.find_parts(model)
    route = proof.prove(model, parts)
    assert route == Route(direct=False)
    decoder = decoders.make_decoder(model, parts, route, "full", [3, 4, 5], range(3))
    rows = (resid_post(1), resid_post(3))
    stream = capture.capture(model, parts, [capture.PromptSlice([3, 4, 5], range(3), [0, 2])], rows)
    assert output_check.check_output(decoder, "replay", stream).passed
    with torch.inference_mode():
        mine = decoder.tile(decoder.prepare(stream.resid), slice(None))[0]
        del model.forward
        plain = direct.Direct(find.find_parts(model))
        torch.testing.assert_close(mine, plain.logits(plain.prepare(stream.resid[0])).flip(-1))


def test_no_hook_stays_behind() -> None:
    model = build("gpt2")
    find.find_parts(model)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
