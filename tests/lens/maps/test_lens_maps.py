"""Maps of rows, on both routes and several families, against float64."""

from dataclasses import replace
from typing import Any

import families
import numpy as np
import pytest
import torch
from adversary import Truth
from adversary_readings import KL_ERROR, METRICS, NEAR, require_numbers
from conftest import as_lens_model, tiny_llama
from family_readings import CONTEXT, reference_of, text_of, word_tokenizer
from torch import Tensor

from logitlens_cli.lens import capture
from logitlens_cli.lens.lens_model import LensModel, lens_model_of
from logitlens_cli.lens.maps.lens_maps import LensMaps
from logitlens_cli.lens.read import read_text
from logitlens_cli.lens.spec import ReadSpec
from logitlens_cli.metrics.sets import all_metrics
from logitlens_cli.reading.record import MapsRecord, Reading

TEXT = "the cat and the cat"
RECORD = MapsRecord(name="mine", kind="linear", sha256="0" * 64)
FAMILIES = ["gpt2", "llama", "gemma2", "cohere", "roberta"]
"""plain, RMS norm, soft-cap, scaled logits, and one by replay"""


def random_maps(width: int, blocks: int, biased: bool = True) -> LensMaps:
    """Maps of the input row and of all blocks but the last."""
    draw = torch.Generator().manual_seed(3)
    rows = range(-1, blocks - 1)
    eye = torch.eye(width)
    weights = {n: eye + 0.3 * torch.randn(width, width, generator=draw) for n in rows}
    biases = {n: torch.randn(width, generator=draw) for n in rows} if biased else {}
    return LensMaps(RECORD, weights, biases)


def read(lens_model: LensModel, maps: LensMaps | None, **options: Any) -> Reading:
    metrics = all_metrics("own-logit", ["final"], "forward", False)
    spec = ReadSpec(metrics=metrics, k=3, **options)
    loaded = None if maps is None else maps.on("cpu")
    return read_text(replace(lens_model, maps=loaded), spec, TEXT, "text")


@pytest.mark.parametrize("window", [None, "4:9"])
def test_identity_is_the_plain_lens_bit_for_bit(tiny: LensModel, window: str | None) -> None:
    width, blocks = tiny.record.width, tiny.record.blocks
    weights = {row: torch.eye(width) for row in range(-1, blocks - 1)}
    plain = read(tiny, None, window=window)
    mapped = read(tiny, LensMaps(RECORD, weights, {}), window=window)
    assert mapped.guesses == plain.guesses
    assert mapped.metrics == plain.metrics
    assert mapped.lens.maps == RECORD
    assert plain.lens.maps is None


@pytest.mark.parametrize("options", [{}, {"every": 2}, {"window": "4:9"}, {"lock_in": True}])
def test_a_small_stream_is_mapped_at_once_to_the_same_bits(
    tiny: LensModel, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    maps = random_maps(tiny.record.width, tiny.record.blocks)
    at_once = read(tiny, maps, **options)
    monkeypatch.setattr(capture, "MAPPED_AT_ONCE", 0)
    by_blocks = read(tiny, maps, **options)
    assert at_once.guesses == by_blocks.guesses
    assert at_once.metrics == by_blocks.metrics
    assert at_once.lock_in == by_blocks.lock_in


def test_the_last_row_is_never_mapped(tiny: LensModel) -> None:
    maps = random_maps(tiny.record.width, tiny.record.blocks)
    plain, mapped = read(tiny, None), read(tiny, maps)
    assert mapped.guesses.ids[-1] == plain.guesses.ids[-1]
    assert mapped.guesses.logits[-1] == plain.guesses.logits[-1]
    assert mapped.final_ids == plain.final_ids
    assert all(
        mapped.guesses.logits[row] != plain.guesses.logits[row]
        for row in range(len(plain.layers) - 1)
    )


def test_one_column_has_the_numbers_that_it_has_among_all(tiny: LensModel) -> None:
    maps = random_maps(tiny.record.width, tiny.record.blocks)
    whole, one = read(tiny, maps), read(tiny, maps, window="7:8")
    for name in whole.metrics:
        np.testing.assert_array_equal(whole.values(name)[:, 7:8], one.values(name))


def test_half_precision_bodies_are_mapped_in_float32(tokenizer: Any) -> None:
    model = tiny_llama().bfloat16()
    lens_model = as_lens_model(model, tokenizer)
    maps = random_maps(lens_model.record.width, lens_model.record.blocks)
    mapped = read(lens_model, maps)
    ids = torch.tensor([tokenizer(TEXT)["input_ids"]])
    resid: list[Tensor] = []
    hook = model.model.layers[1].register_forward_hook(lambda m, a, output: resid.append(output))
    with torch.no_grad():
        model(ids)
    hook.remove()
    h = resid[0][0].double() @ maps.weights[1].double().T + maps.biases[1].double()
    h = h / (h.square().mean(-1, keepdim=True) + model.model.norm.variance_epsilon).sqrt()
    logits = (h * model.model.norm.weight.double()) @ model.lm_head.weight.double().T
    np.testing.assert_allclose(mapped.values("own-logit")[2], logits.amax(-1).detach(), atol=1e-4)


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("key", FAMILIES)
def test_families_agree_with_float64(key: str, biased: bool) -> None:
    """Logits, ranks and KL of every row against the model's own tail in float64."""
    model = families.build(key)
    reference = reference_of(model)
    lens_model = lens_model_of(model, word_tokenizer(), name=key, context=CONTEXT)
    assert lens_model.route.direct is (key != FAMILIES[-1])
    maps = random_maps(lens_model.record.width, lens_model.record.blocks, biased)
    ids = families.inputs("", 12)
    rows = [row.double() for row in families.reference_stream(model, ids)]
    for row, weight in maps.weights.items():
        shift = maps.biases[row].double() if biased else 0
        rows[row + 1] = rows[row + 1] @ weight.double().T + shift
    dtype = next(reference.twin.parameters()).dtype
    logits = [families.decode(reference.twin, ids, row.to(dtype))[0].double() for row in rows]
    labels = ["input", *(str(n) for n in range(len(rows) - 1))]
    spec = ReadSpec(metrics=METRICS, k=3)
    reading = read_text(replace(lens_model, maps=maps.on("cpu")), spec, text_of(ids), "x")
    truth = Truth(labels, torch.stack(logits), logits[-1])
    require_numbers(reading, truth, KL_ERROR[torch.float32], NEAR[torch.float32])
