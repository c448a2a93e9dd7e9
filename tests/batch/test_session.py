"""Texts that are read together are as each by itself; where they would not be, each is."""

from typing import Any

import pytest
import reference
import torch
from batches import TEXTS, require_same
from transformers import GPT2Config, GPT2LMHeadModel

from logitlens_cli.commands.all import All
from logitlens_cli.commands.translate import read_spec
from logitlens_cli.lens.lens_model import LensModel, lens_model_of
from logitlens_cli.lens.prompt import tokenize_prompt
from logitlens_cli.lens.read import read_prompts
from logitlens_cli.lens.sharing import can_share_pass
from logitlens_cli.lens.spec import ReadSpec
from logitlens_cli.lens.targets import with_token_ids


def with_spec(lens_model: LensModel, **options: Any) -> tuple[LensModel, ReadSpec]:
    return lens_model, with_token_ids(read_spec(All(text="a", **options)), lens_model)


@pytest.mark.parametrize("window", [None, "-1:"])
def test_texts_read_together_are_as_each_alone(tiny: LensModel, window: str | None) -> None:
    _, spec = with_spec(tiny, k=3, target=["final", "auto"], window=window)
    assert can_share_pass(tiny, spec)
    group = [tokenize_prompt(tiny.tokenizer, spec, text, str(n)) for n, text in enumerate(TEXTS)]
    for mine, prompt in zip(read_prompts(tiny, spec, group), group, strict=True):
        (own,) = read_prompts(tiny, spec, [prompt])
        require_same(mine, own)
        assert mine.check.passed


@pytest.mark.slow
def test_the_default_models_texts_read_together_are_as_each_alone(smollm2: LensModel) -> None:
    _, spec = with_spec(smollm2, k=3, target=["final", "auto"])
    assert can_share_pass(smollm2, spec)
    group = [tokenize_prompt(smollm2.tokenizer, spec, text, str(n)) for n, text in enumerate(TEXTS)]
    for mine, prompt in zip(read_prompts(smollm2, spec, group), group, strict=True):
        (own,) = read_prompts(smollm2, spec, [prompt])
        # Of 49152 logits some are nearer to another than float32 can tell.
        require_same(
            mine, own, reference.llama_grid(smollm2.model, torch.tensor(prompt.ids)).logits
        )


class LooksAtLength(GPT2LMHeadModel):  # type: ignore[misc]
    """A model that treats a text otherwise in a longer pass."""

    def forward(self, input_ids: Any = None, **rest: Any) -> Any:
        embeds = self.transformer.wte(input_ids) * (1 + 0.01 * input_ids.shape[1])
        return super().forward(inputs_embeds=embeds, **rest)


class OneText(GPT2LMHeadModel):  # type: ignore[misc]
    """A model that takes two texts at most, as when it was probed."""

    def forward(self, input_ids: Any = None, **rest: Any) -> Any:
        if len(input_ids) > 2:
            raise ValueError("too many")
        return super().forward(input_ids, **rest)


@pytest.mark.parametrize("family", [LooksAtLength, OneText])
def test_a_model_that_fill_would_disturb_reads_each_text_by_itself(
    family: type[GPT2LMHeadModel], tokenizer: Any
) -> None:
    config = GPT2Config(vocab_size=300, n_positions=64, n_embd=32, n_layer=2, n_head=4)
    model = family(config).eval().requires_grad_(False)
    lens_model = lens_model_of(model, tokenizer, name="tiny", context=64)
    assert not can_share_pass(*with_spec(lens_model))


def test_late_blocks_take_a_pass_for_each_text(tiny: LensModel) -> None:
    assert not can_share_pass(*with_spec(tiny, decoder_blocks=1))
