"""Numbers at the edge: the right result, held against float64, or a named refusal."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
import torch
from conftest import Shell, tiny_llama
from safetensors.torch import load_file, save_file

from logitlens_cli.errors import LogitLensError, ProofError, UsageError, WorkError
from logitlens_cli.figures import style
from logitlens_cli.figures.reading_panels import figures_of, panels
from logitlens_cli.lens import api
from logitlens_cli.reading.dump import dump_to_json, load_dump
from logitlens_cli.reading.record import Reading

TEXT = "the cat"  # t h e ·cat
IDS = torch.tensor([116, 104, 101, 261])


def changed(change: Callable[[Any], object], **config: Any) -> Any:
    model = tiny_llama(**config)
    with torch.no_grad():
        change(model)
    return model


def read(model: Any, tokenizer: Any, text: str = TEXT, **options: Any) -> Reading:
    return api.read(model, tokenizer, text, color="entropy", **options)


def refusal(kind: type[LogitLensError], model: Any, tokenizer: Any, text: str = TEXT) -> str:
    with pytest.raises(kind) as caught:
        read(model, tokenizer, text)
    assert type(caught.value) is kind
    return str(caught.value)


def assert_agrees(made: Reading, model: Any, ids: torch.Tensor, nats: float = 1e-4) -> None:
    """Guesses, ranks, entropies and divergences are those of the dumb reference."""
    truth = reference.llama_grid(model, ids)
    final = truth.final.argmax(-1)
    assert made.final_ids == final.tolist()
    np.testing.assert_array_equal(np.array(made.guesses.ids), truth.guesses(5))
    np.testing.assert_array_equal(made.values("rank"), truth.rank(final))
    for metric, expected in (
        ("entropy", truth.entropy()),
        ("kl-final", truth.kl(truth.final)),
        ("kl-input", truth.kl(truth.entering)),
    ):
        np.testing.assert_allclose(made.values(metric), expected, atol=nats, rtol=1e-6)


def assert_whole(made: Reading, tmp_path: Path) -> None:
    """It goes through a file, and every figure has limits."""
    path = tmp_path / "x.json"
    path.write_bytes(dump_to_json(made))
    again = load_dump(path)
    for name in figures_of(again):
        (panel,) = panels(again, name, style.FigureStyle())
        assert math.isfinite(panel.colors.low)
        assert panel.colors.low < panel.colors.high


# ---- what is no number


@pytest.mark.parametrize(
    ("weight", "place", "value", "layer"),
    [
        ("model.layers.1.mlp.down_proj.weight", 0, torch.nan, "1"),
        ("model.layers.2.self_attn.o_proj.weight", 0, torch.inf, "2"),
        ("model.layers.3.mlp.up_proj.weight", 0, -torch.inf, "3"),
        ("lm_head.weight", 5, torch.nan, "input"),
        ("model.embed_tokens.weight", 101, torch.nan, "input"),  # the letter e
        ("model.norm.weight", 3, torch.inf, "input"),
        ("lm_head.weight", 7, 1e38, "input"),  # overflows
    ],
)
def test_logits_that_are_not_numbers(
    logitlens: Shell,
    tiny_folder: Path,
    tmp_path: Path,
    weight: str,
    place: Any,
    value: float,
    layer: str,
) -> None:
    model, out = tmp_path / "model", tmp_path / "out"
    model.mkdir()
    for path in tiny_folder.iterdir():
        (model / path.name).write_bytes(path.read_bytes())
    weights = load_file(model / "model.safetensors")
    weights[weight][place] = value
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    said = logitlens("topk", "-t", TEXT, "-m", model, "-o", out).refusal(1)
    assert said.startswith(f"a logit is not a number at layer {layer}, position ")
    assert said.endswith("the weights or the dtype overflow: try --dtype float32")
    assert not out.exists()


def test_half_precision_that_overflows(tokenizer: Any) -> None:
    """65504 is the largest number of float16; the second block's stream goes beyond."""

    def swell(model: Any) -> None:
        model.model.layers[1].mlp.down_proj.weight.mul_(8e4)

    model = changed(swell).half()
    said = refusal(WorkError, model, tokenizer)
    assert said.startswith("a logit is not a number at layer 1, position ")
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    model = changed(swell)
    assert_agrees(read(model, tokenizer), model, IDS)


def test_half_precision_within_its_range(tokenizer: Any) -> None:
    """What the body rounds is rounded; what the lens computes of it is float32."""
    model = tiny_llama().half()
    made = read(model, tokenizer)
    assert made.model.dtype == "float16"
    assert made.check.passed
    assert np.isfinite(made.values("kl-final")).all()


# ---- distributions at the edge


def test_all_logits_are_equal(tokenizer: Any, tmp_path: Path) -> None:
    model = changed(lambda m: m.lm_head.weight.zero_())
    made = read(model, tokenizer)
    np.testing.assert_array_equal(made.top(), 0)  # the lowest id
    np.testing.assert_array_equal(made.values("rank"), 1)
    assert made.metrics["rank"].ties == [[299] * 4] * 5
    np.testing.assert_allclose(made.values("entropy"), math.log(300), rtol=1e-6)
    np.testing.assert_allclose(np.array(made.guesses.probs), 1 / 300, rtol=1e-5)
    for metric in ("kl-final", "kl-input"):
        np.testing.assert_allclose(made.values(metric), 0, atol=1e-6)
    assert_whole(made, tmp_path)


class Masked(torch.nn.Linear):
    """A head with a bias that forbids some tokens."""


def with_bias(model: Any, bias: torch.Tensor) -> Any:
    head = Masked(model.lm_head.in_features, len(bias))
    head.weight, head.bias = model.lm_head.weight, torch.nn.Parameter(bias, requires_grad=False)
    model.lm_head = head
    return model.requires_grad_(False)


def test_tokens_that_are_forbidden(tokenizer: Any, tmp_path: Path) -> None:
    """A logit of minus infinity is a probability of zero: the rest is as if it were not there."""
    bias = torch.zeros(300)
    bias[200:] = -torch.inf
    made = read(with_bias(tiny_llama(), bias), tokenizer)
    model = tiny_llama()
    truth = reference.llama_grid(model, IDS)
    allowed = replace(
        truth,
        logits=truth.logits[..., :200],
        final=truth.final[..., :200],
        entering=truth.entering[..., :200],
    )
    final = allowed.final.argmax(-1)
    assert made.final_ids == final.tolist()
    np.testing.assert_array_equal(np.array(made.guesses.ids), allowed.guesses(5))
    np.testing.assert_array_equal(made.values("rank"), allowed.rank(final))
    np.testing.assert_allclose(made.values("entropy"), allowed.entropy(), atol=1e-4)
    for metric, q in (("kl-final", allowed.final), ("kl-input", allowed.entering)):
        np.testing.assert_allclose(made.values(metric), allowed.kl(q), atol=1e-4)
    assert_whole(made, tmp_path)


def test_one_token_that_is_allowed(tokenizer: Any, tmp_path: Path) -> None:
    bias = torch.full((300,), -torch.inf)
    bias[7] = 0
    made = read(with_bias(tiny_llama(), bias), tokenizer)
    np.testing.assert_array_equal(made.top(), 7)
    np.testing.assert_allclose(np.array(made.guesses.probs)[..., 0], 1, atol=2e-7)
    np.testing.assert_array_equal(np.array(made.guesses.probs)[..., 1:], 0)
    np.testing.assert_array_equal(made.values("rank"), 1)
    for metric in ("entropy", "kl-final", "kl-input"):
        np.testing.assert_allclose(made.values(metric), 0, atol=1e-6)
    assert_whole(made, tmp_path)


@pytest.mark.parametrize("bias", [-40, -60, -600, -900])
def test_probabilities_next_to_nothing(tokenizer: Any, tmp_path: Path, bias: int) -> None:
    """Seven figures as far as a float64 goes, and the logarithm beyond."""
    biases = torch.zeros(300)
    biases[5:] = bias
    made = read(with_bias(tiny_llama(), biases), tokenizer, k=8, target="id:7")
    truth = reference.llama_grid(tiny_llama(), IDS)
    logits = truth.logits + biases.double()
    expected = logits.log_softmax(-1)
    ids = torch.tensor(made.guesses.ids)
    log_probs = np.array(made.guesses.log_probs)
    np.testing.assert_allclose(log_probs, expected.gather(-1, ids), rtol=1e-6, atol=1e-4)
    assert log_probs.min() < bias + 60
    probs = np.array(made.guesses.probs)
    normal = probs > 1e-300
    np.testing.assert_allclose(np.log(probs[normal]), log_probs[normal], rtol=1e-6, atol=1e-5)
    assert ((probs > 0) == (log_probs > math.log(5e-324))).all()
    assert (probs == 0).any() == (bias == -900)
    assert_whole(made, tmp_path)


def test_no_token_that_is_allowed(tokenizer: Any) -> None:
    bias = torch.full((300,), -torch.inf)
    with pytest.raises((WorkError, ProofError)):
        read(with_bias(tiny_llama(), bias), tokenizer)


# ---- streams at the edge


def silenced(model: Any) -> None:
    """No block adds anything."""
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()


def test_a_stream_that_never_changes(tokenizer: Any, tmp_path: Path) -> None:
    model = changed(silenced)
    made = read(model, tokenizer)
    np.testing.assert_array_equal(made.values("rank"), 1)
    for metric in ("kl-final", "kl-input"):
        np.testing.assert_allclose(made.values(metric), 0, atol=1e-6)
    assert_agrees(made, model, IDS)
    assert_whole(made, tmp_path)


def test_a_stream_of_zeros(tokenizer: Any, tmp_path: Path) -> None:
    """Where the norm divides by next to nothing."""

    def empty(model: Any) -> None:
        silenced(model)
        model.model.embed_tokens.weight.zero_()

    model = changed(empty)
    made = read(model, tokenizer)
    np.testing.assert_allclose(made.values("entropy"), math.log(300), rtol=1e-6)
    assert_whole(made, tmp_path)


def test_a_single_block(tokenizer: Any, tmp_path: Path) -> None:
    model = tiny_llama()
    model.model.layers = model.model.layers[:1]
    model.config.num_hidden_layers = 1
    made = read(model, tokenizer)
    assert [layer.label for layer in made.layers] == ["input", "0"]
    assert_agrees(made, model, IDS)
    assert_whole(made, tmp_path)


# ---- texts at the edge


def test_a_text_of_a_single_token(tokenizer: Any, tmp_path: Path) -> None:
    model = tiny_llama()
    made = read(model, tokenizer, "t", target=["final", "next"])
    assert [token.next_id for token in made.tokens] == [None]
    assert np.isnan(made.values("rank-next")).all()
    truth = reference.llama_grid(model, IDS[:1])
    np.testing.assert_allclose(made.values("kl-final"), truth.kl(truth.final), atol=1e-4)
    assert_whole(made, tmp_path)


def test_a_text_as_long_as_the_model_takes(tokenizer: Any, tmp_path: Path) -> None:
    model = tiny_llama()
    made = read(model, tokenizer, "x" * 64)
    assert len(made.tokens) == 64
    assert_agrees(made, model, torch.tensor([ord("x")] * 64))
    assert_whole(made, tmp_path)
    assert refusal(UsageError, model, tokenizer, "x" * 65) == (
        f"the text has 65 tokens, {made.model.name} takes 64; shorten it"
    )


def test_the_subject_is_left_as_it_was(tokenizer: Any) -> None:
    """A refusal in the middle of a pass leaves no hook behind."""
    model = changed(lambda m: m.model.layers[1].mlp.down_proj.weight.fill_(torch.nan))
    with pytest.raises((WorkError, ProofError)):
        read(model, tokenizer)
    assert not [m for m in model.modules() if m._forward_hooks or m._forward_pre_hooks]
