"""Parts found from data flow, held against a different route on inner rows; and refusals."""

from typing import Any

import families
import pytest
import torch
from conftest import as_subject

from logitlens_cli import anatomy, capture, lens
from logitlens_cli.errors import LogitLensError, ProofError

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
    parts = anatomy.find(model)
    chain = parts.describe()[1:]
    assert len(chain) == len(CHAINS[key])
    for step, expected in zip(chain, CHAINS[key], strict=True):
        assert expected in step
    rows = range(-1, len(parts.blocks))
    count = ids.shape[1]
    stream = capture.capture(model, parts, ids[0].tolist(), rows, range(count), range(count))
    assert lens.check(parts, stream).passed
    decoder = lens.Decoder(parts)
    for row, resid in enumerate(families.reference_stream(model, ids)):
        torch.testing.assert_close(stream.resid[row], resid.reshape(count, -1))
        truth = families.reference_logits(model, ids, resid)[0]
        with torch.inference_mode():
            mine = decoder.logits(decoder.prepare(stream.resid[row]))
        torch.testing.assert_close(mine.double(), truth.double(), atol=2e-4, rtol=0)


@pytest.mark.parametrize("key", families.BIDIRECTIONAL)
def test_models_that_see_later_tokens_are_refused(key: str) -> None:
    with pytest.raises(LogitLensError):
        anatomy.find(families.build(key))


def test_input_row_is_what_enters_the_first_block() -> None:
    """Gemma scales its embedding, so the row of the matrix is not what enters."""
    model = build("gemma2")
    parts = anatomy.find(model)
    stream = capture.capture(model, parts, [3, 4, 5], (-1, 3), range(3), [0])
    with torch.no_grad():
        matrix = model.get_input_embeddings().weight[[3, 4, 5]]
    assert stream.resid[0].abs().mean() > 3 * matrix.abs().mean()


def test_a_tail_that_is_not_elementwise_is_refused() -> None:
    model = build("llama")

    inner = model.forward

    def forward(**arguments: Any) -> Any:
        out = inner(**arguments)
        out.logits = out.logits.flip(-1)
        return out

    model.forward = forward
    with pytest.raises(ProofError):
        as_subject(model, None)


def test_no_hook_stays_behind() -> None:
    model = build("gpt2")
    anatomy.find(model)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
