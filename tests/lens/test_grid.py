"""The engine against the dumb reference, and its refusals."""

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import reference
import torch
from conftest import PLASMA, as_lens_model, tiny_llama
from torch import Tensor

from logitlens_cli.errors import ProofError, WorkError
from logitlens_cli.lens import capture, decoders, direct, grid, norms, output_check
from logitlens_cli.lens.capture import INPUT, resid_post
from logitlens_cli.lens.lens_model import LensModel
from logitlens_cli.lens.spec import Norm
from logitlens_cli.metrics.spec import MetricSpec
from logitlens_cli.metrics.sums import Needs, Sums
from logitlens_cli.metrics.table import METRICS

EVERYTHING = Needs(
    targets=frozenset({"final", "input", "next"}),
    references=frozenset({"final", "input"}),
    mean=True,
    reverse=True,
    js=True,
)


def compute(lens_model: LensModel, ids: list[int], norm: str = "full", k: int = 5) -> Sums:
    rows = (INPUT, *(resid_post(block) for block in range(len(lens_model.parts.blocks))))
    stream = capture.capture(
        lens_model.model, lens_model.parts, [capture.PromptSlice(ids, range(len(ids)), [0])], rows
    )
    targets = {"input": ids, "next": [*ids[1:], -1]}
    decoder = decoders.make_decoder(
        lens_model.model, lens_model.parts, lens_model.route, norm, ids, range(len(ids))
    )
    needs = dataclasses.replace(EVERYTHING, best=k)
    return grid.grid(decoder, stream, grid.GridSpec(rows, k, needs, targets))


def score(sums: Sums, metric: str, **parameters: Any) -> Any:
    return METRICS[metric].formula(sums, MetricSpec(metric=metric, **parameters))


def assert_agrees(sums: Sums, truth: reference.Grid, ids: list[int], k: int, nats: float) -> None:
    """Guesses, ranks, logits and divergences within the stated tolerances."""
    final = truth.final.argmax(-1)
    np.testing.assert_array_equal(sums.final_ids, final)
    ids_, own = truth.guesses(k), truth.logits
    np.testing.assert_array_equal(sums.top_ids, ids_)
    np.testing.assert_allclose(sums.top_logits, own.gather(-1, ids_), atol=1e-3, rtol=1e-6)
    close(score(sums, "overlap", k=k), truth.overlap(k), 1e-12)
    following = score(sums, "rank", target="next")
    assert np.isnan(following[:, -1]).all()
    assert_ranks(
        [score(sums, "rank"), score(sums, "rank", target="input"), following[:, :-1]],
        [
            truth.rank(final),
            truth.rank(torch.tensor(ids)),
            truth.rank(torch.tensor([*ids[1:], 0]))[:, :-1],
        ],
    )
    for metric, q in (("kl-final", truth.final), ("kl-input", truth.entering)):
        close(score(sums, metric), truth.kl(q), nats)
        close(score(sums, metric, direction="reverse"), truth.kl_reverse(q), nats)
    close(score(sums, "js"), truth.jensen_shannon(), nats)
    entering, known = torch.tensor(ids), torch.tensor([*ids[1:], 0])
    one_hot = truth.cross_entropy(entering)
    close(score(sums, "kl-input", one_hot=True), one_hot, nats)
    coming = score(sums, "cross-entropy", target="next")
    assert np.isnan(coming[:, -1]).all()
    close(coming[:, :-1], truth.cross_entropy(known)[:, :-1], nats)
    close(score(sums, "token-prob"), (-truth.cross_entropy(final)).exp(), 1e-3)
    close(score(sums, "logit-diff"), truth.logit_diff(final, entering), 1e-3)
    close(score(sums, "entropy"), truth.entropy(), nats)
    close(score(sums, "prob"), truth.log_p.exp().amax(-1), 1e-3)
    close(score(sums, "final-logit"), own[:, torch.arange(len(ids)), final], 1e-3)


def assert_ranks(mine: list[Any], truth: list[Tensor]) -> None:
    """Equal but for near-ties of float32: at most one cell in 100, by one. How many there are, on
    large logits most of all, depends on the library that multiplies: 1 to 13 of 1922 were seen."""
    off = np.concatenate([np.abs(a - b.numpy()).ravel() for a, b in zip(mine, truth, strict=True)])
    assert off.max() <= 1
    assert (off > 0).sum() <= off.size / 100


def close(mine: Any, truth: Tensor, atol: float) -> None:
    # A relative part for logits of 10 000, which the sink has where no norm tames it.
    np.testing.assert_allclose(mine, truth.numpy(), atol=atol, rtol=1e-6)


@pytest.mark.usefixtures("sums_by")
@pytest.mark.parametrize("norm", list(Norm))
@pytest.mark.parametrize("k", [1, 5])
def test_agrees_with_reference_on_a_tiny_model(tiny: LensModel, norm: str, k: int) -> None:
    ids = [17, 200, 3, 3, 99, 250, 1, 42, 260, 5]
    truth = reference.llama_grid(tiny.model, torch.tensor(ids), norm)
    assert_agrees(compute(tiny, ids, norm, k), truth, ids, k, 1e-4)


# Without any norm its logits reach 11 000, where float32 has near-ties by the dozen.
@pytest.fixture(scope="module", params=["full", "no-affine"])
def plasma(
    request: pytest.FixtureRequest, smollm2: LensModel
) -> tuple[list[int], str, reference.Grid]:
    ids = smollm2.tokenizer(PLASMA)["input_ids"]
    return ids, request.param, reference.llama_grid(smollm2.model, torch.tensor(ids), request.param)


@pytest.mark.xdist_group("plasma")  # so that it is made once
@pytest.mark.usefixtures("sums_by")
def test_agrees_with_reference_on_the_default_model(
    smollm2: LensModel, plasma: tuple[list[int], str, reference.Grid]
) -> None:
    ids, norm, truth = plasma
    assert_agrees(compute(smollm2, ids, norm), truth, ids, 5, 2e-4)


@pytest.mark.parametrize(("rows", "entries", "floats"), [(7, 64, 900), (1, 33, 300), (512, 300, 1)])
def test_tiles_change_nothing(
    tiny: LensModel, monkeypatch: pytest.MonkeyPatch, rows: int, entries: int, floats: int
) -> None:
    ids = [17, 200, 3, 3, 99, 250, 1]
    whole = compute(tiny, ids)
    monkeypatch.setattr(direct, "TILE_ROWS", rows)
    monkeypatch.setattr(direct, "TILE_ENTRIES", entries)
    monkeypatch.setattr(direct, "BLOCK_FLOATS", floats)
    tiled = compute(tiny, ids)
    np.testing.assert_array_equal(tiled.top_ids, whole.top_ids)
    np.testing.assert_array_equal(tiled.targets["input"].above, whole.targets["input"].above)
    np.testing.assert_allclose(tiled.lse, whole.lse, atol=1e-5)
    for metric in ("kl-final", "kl-input"):
        np.testing.assert_allclose(score(tiled, metric), score(whole, metric), atol=1e-4)


@pytest.mark.usefixtures("sums_by")
def test_threads_change_nothing(tiny: LensModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has tiles of its own; torch gets its threads back."""
    ids = [17, 200, 3, 3, 99, 250, 1]
    monkeypatch.setattr(direct, "TILE_ENTRIES", 64)
    alone = compute(tiny, ids)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        shared = compute(tiny, ids)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(shared.top_ids, alone.top_ids)
    for name, target in alone.targets.items():
        np.testing.assert_array_equal(shared.targets[name].above, target.above)
        np.testing.assert_array_equal(shared.targets[name].ties, target.ties)
    np.testing.assert_allclose(shared.lse, alone.lse, atol=1e-6)
    for metric in ("kl-final", "kl-input"):
        np.testing.assert_allclose(score(shared, metric), score(alone, metric), atol=1e-5)


def with_weight(change: Any) -> LensModel:
    """A tiny model with another head, and the tokenizer left out: it is not needed."""
    model = tiny_llama()
    with torch.no_grad():
        change(model.lm_head.weight)
    return as_lens_model(model, None)


@pytest.mark.usefixtures("sums_by")
def test_equal_logits_give_the_lowest_id_and_count_as_ties() -> None:
    def twins(weight: Tensor) -> None:
        weight[150:300] = weight[0:150]

    sums = compute(with_weight(twins), [5, 6, 7], k=4)
    # Every token has a twin 150 further on, so guesses come in pairs, the lower id first.
    np.testing.assert_array_equal(sums.top_ids[..., 1], sums.top_ids[..., 0] + 150)
    np.testing.assert_array_equal(sums.top_ids[..., 3], sums.top_ids[..., 2] + 150)
    np.testing.assert_array_equal(sums.targets["input"].ties, np.ones((5, 3)))
    assert (sums.targets["final"].ties == 1).all()


@pytest.mark.usefixtures("sums_by")
def test_all_logits_equal() -> None:
    sums = compute(with_weight(lambda weight: weight.zero_()), [5, 6, 7], k=3)
    np.testing.assert_array_equal(sums.top_ids, np.broadcast_to([0, 1, 2], (5, 3, 3)))
    assert (score(sums, "rank") == 1).all()
    assert (sums.targets["final"].ties == 299).all()
    np.testing.assert_allclose(score(sums, "entropy"), np.log(300), atol=1e-5)
    np.testing.assert_allclose(score(sums, "kl-final"), 0, atol=1e-5)


def test_not_a_number_is_refused_with_its_place(tiny: LensModel) -> None:
    ids = [5, 6, 7]
    rows = (INPUT, *(resid_post(block) for block in range(4)))
    stream = capture.capture(
        tiny.model, tiny.parts, [capture.PromptSlice(ids, range(3), [0])], rows
    )
    broken = stream.resid.clone()
    broken[2, 1, 4] = torch.nan
    stream = dataclasses.replace(stream, resid=broken)
    with pytest.raises(WorkError, match="layer 1, position 1 of the window"):
        grid.grid(direct.Direct(tiny.parts), stream, grid.GridSpec(rows, 1, Needs(), {}))


def test_check_passes_on_an_honest_model(tiny: LensModel) -> None:
    stream = capture.capture(
        tiny.model, tiny.parts, [capture.PromptSlice([5, 6, 7], range(3), [0, 2])], (resid_post(3),)
    )
    result = output_check.check_output(direct.Direct(tiny.parts), "direct", stream)
    assert result.passed
    assert result.columns == 2
    assert result.max_abs_logit_error < 1e-4
    assert result.max_kl < 1e-6
    assert result.top1_agreement == 1
    output_check.require_agreement(result, tiny.parts)


def test_check_fails_where_the_lens_is_wrong(tiny: LensModel) -> None:
    stream = capture.capture(
        tiny.model, tiny.parts, [capture.PromptSlice([5, 6, 7], range(3), [0, 2])], (resid_post(3),)
    )
    wrong = dataclasses.replace(tiny.parts, chain=())  # the final norm is forgotten
    result = output_check.check_output(direct.Direct(wrong), "direct", stream)
    assert not result.passed
    with pytest.raises(ProofError, match="does not reproduce the model's own logits"):
        output_check.require_agreement(result, wrong)


class LayerNormTwin(torch.nn.Module):
    """A LayerNorm that adds one to its gain, as Gemma's RMSNorm does."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(width))
        self.bias = torch.nn.Parameter(torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.layer_norm(x, x.shape[-1:], 1 + self.weight, self.bias)


@pytest.mark.parametrize("kind", ["layer-norm", "one-plus-gain", "rms-norm", "weightless"])
def test_no_affine_drops_gain_and_bias_only(kind: str) -> None:
    torch.manual_seed(3)
    width = 16
    norm: torch.nn.Module = {
        "layer-norm": torch.nn.LayerNorm(width),
        "one-plus-gain": LayerNormTwin(width),
        "rms-norm": torch.nn.RMSNorm(width, eps=1e-6),
        "weightless": torch.nn.LayerNorm(width, elementwise_affine=False),
    }[kind]
    for parameter in norm.parameters():
        parameter.data.normal_()
    before = copy.deepcopy(norm.state_dict())
    x = 3 * torch.randn(5, width) + 1
    twin = copy.deepcopy(norm)
    norms.change_norm(twin, "no-affine", x)
    made = twin(x)
    centred = x - x.mean(-1, keepdim=True) if kind != "rms-norm" else x
    by_hand = centred / centred.square().mean(-1, keepdim=True).sqrt()
    torch.testing.assert_close(made.detach(), by_hand, atol=1e-4, rtol=1e-4)
    for name, value in norm.state_dict().items():  # the model's own norm is not touched
        assert torch.equal(value, before[name])
