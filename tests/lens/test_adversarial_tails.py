"""Tails that depend on what a short probe does not vary: read right, or refused by name.

The truth of a cell: the model's own logits at its position, where a hook has the last block leave
the stream of that row for the whole text, alone in its batch.

| what the tail does | becomes |
|---|---|
| clamps the stream in place, changes small vectors only | right |
| scales by position; mixes positions; mixes the texts of a batch | right, by whole passes |
| reads what enters the blocks | right, by whole passes |
| scales the stream of late positions, of long texts, of one token | refused |
| scales the logits by up to one percent, in bfloat16 | right, by its own code |
| counts its passes in a buffer, an attribute, a list, and adds to them | right; left as it was |
| writes to its parameters | refused |
"""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from conftest import as_lens_model, tiny_llama
from torch import Tensor, nn

from logitlens_cli.errors import LogitLensError, ProofError, UsageError
from logitlens_cli.lens.read import read_text
from logitlens_cli.lens.spec import Norm, ReadSpec
from logitlens_cli.metrics.sets import all_metrics

TEXT = "the cat sat on the mat, and then"


class Tail(nn.Module):
    """The final norm with something before it or after it."""

    def __init__(self, norm: nn.Module, before: Any = None, after: Any = None) -> None:
        super().__init__()
        self.norm, self.before, self.after = norm, before, after

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x if self.before is None else self.before(x))
        return x if self.after is None else self.after(x)


def with_tail(model: Any = None, **changes: Any) -> Any:
    model = tiny_llama() if model is None else model
    model.model.norm = Tail(model.model.norm, **changes)
    return model


def spec(**changes: Any) -> ReadSpec:
    metrics = all_metrics("own-logit", ["final"], "forward", False)
    return ReadSpec(metrics=metrics, **changes)


def truths(model: Any, ids: list[int]) -> Tensor:
    """(row, position, vocabulary) log-probabilities."""
    state = copy.deepcopy(model)
    layers, streams = model.model.layers, []
    hooks = [
        layer.register_forward_pre_hook(lambda m, a: streams.append(a[0].clone()))
        for layer in layers
    ]
    hooks.append(layers[-1].register_forward_hook(lambda m, a, o: streams.append(o.clone())))
    with torch.no_grad():
        model(input_ids=torch.tensor([ids]))
    for hook in hooks:
        hook.remove()
    rows = []
    for stream in streams:
        twin = copy.deepcopy(state)
        twin.model.layers[-1].register_forward_hook(lambda m, a, o, s=stream: s.clone())
        with torch.no_grad():
            rows.append(twin(input_ids=torch.tensor([ids])).logits[0].double())
    return torch.stack(rows).log_softmax(-1)


def require_right_or_refused(model: Any, tokenizer: Any, text: str = TEXT, **changes: Any) -> str:
    """What became of it."""
    state = copy.deepcopy(model.state_dict())
    try:
        reading = read_text(as_lens_model(model, tokenizer), spec(**changes), text, "t")
    except LogitLensError as error:
        return f"refused: {error.problem}"
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    truth = truths(copy.deepcopy(model), reading.text_ids)
    columns = slice(*reading.lens.window)
    log_p = truth[:, columns]
    kl = (log_p[-1].exp() * (log_p[-1] - log_p)).sum(-1).numpy()
    np.testing.assert_allclose(reading.values("kl-final"), kl, atol=2e-3, rtol=1e-4)
    best = log_p.max(-1).values
    mine = log_p.gather(-1, torch.from_numpy(reading.top())[..., None])[..., 0]
    assert (best - mine).max() < 1e-3
    return f"right: {reading.check.route}"


def per_position(x: Tensor) -> Tensor:
    return x + torch.linspace(0, 3, x.shape[1])[:, None]


def late(x: Tensor) -> Tensor:
    scale = torch.ones(x.shape[1], 1)
    scale[15:] = 1.3
    return x * scale


def in_long_texts(x: Tensor) -> Tensor:
    return x * 1.3 if x.shape[1] > 20 else x


def mixes_positions(x: Tensor) -> Tensor:
    return x + 0.5 * nn.functional.pad(x, (0, 0, 1, 0))[:, :-1]


def mixes_texts(x: Tensor) -> Tensor:
    return x + 0.5 * (x.mean(0) - x)


IN_PLACE: dict[str, Callable[[Tensor], Tensor]] = {
    "clamp": lambda x: x.clamp_(-0.7, 0.7),
    "shift": lambda x: x.add_(torch.linspace(-1, 1, x.shape[-1])),
}


@pytest.mark.parametrize("name", IN_PLACE)
def test_tails_that_work_in_place(name: str, tokenizer: Any) -> None:
    result = require_right_or_refused(with_tail(before=IN_PLACE[name]), tokenizer)
    assert result.startswith("right: ")


@pytest.mark.parametrize("window", [None, "5:20"])
@pytest.mark.parametrize("change", [per_position, mixes_positions, mixes_texts])
def test_tails_that_depend_on_place(change: Any, window: str | None, tokenizer: Any) -> None:
    model = with_tail(before=change)
    assert require_right_or_refused(model, tokenizer, window=window) == "right: replay"


@pytest.mark.parametrize("masked", [False, True])
def test_a_tail_that_reads_the_input(masked: bool, tokenizer: Any) -> None:
    """Masked: entries with a bias of -1e9, which must not widen a tolerance."""
    model = tiny_llama()
    if masked:
        model.lm_head.bias = nn.Parameter(torch.zeros(300), requires_grad=False)
        model.lm_head.bias[-5:] = -1e9
    entering: list[Tensor] = []

    class Late(nn.Module):
        def __init__(self, norm: nn.Module) -> None:
            super().__init__()
            self.norm = norm

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(x + 0.1 * x0(x))  # type: ignore[no-any-return]

    def x0(like: Tensor) -> Tensor:
        return entering[-1][: len(like), : like.shape[1]]

    model.model.norm = Late(model.model.norm)
    lens_of = model.model.embed_tokens
    lens_of.register_forward_hook(lambda m, a, o: entering.append(o.clone()))
    result = require_right_or_refused_without_copies(model, tokenizer)
    assert result.startswith(("right: replay", "refused"))


def require_right_or_refused_without_copies(model: Any, tokenizer: Any) -> str:
    """The last row only, of a model whose hooks hold on to each other."""
    try:
        reading = read_text(as_lens_model(model, tokenizer), spec(), TEXT, "t")
    except LogitLensError as error:
        return f"refused: {error.problem}"
    return f"right: {reading.check.route}"


@pytest.mark.parametrize("change", [late, in_long_texts])
def test_tails_that_change_beyond_the_probe(change: Any, tokenizer: Any) -> None:
    """The norm undoes a scale, so it comes after."""
    result = require_right_or_refused(with_tail(after=change), tokenizer)
    assert result.startswith("refused: "), result


def test_a_tail_that_changes_small_vectors_only(tokenizer: Any) -> None:
    """Its last row is right at every position."""
    model = with_tail(
        before=lambda x: torch.where(x.norm(dim=-1, keepdim=True) < 2, x.roll(1, -1), x)
    )
    result = require_right_or_refused(model, tokenizer)
    assert result.startswith("right: ")


def test_a_norm_for_one_token(tokenizer: Any) -> None:
    model = tiny_llama()
    seen: list[Tensor] = []
    model.model.embed_tokens.register_forward_pre_hook(lambda m, a: seen.append(a[0]))

    def own(x: Tensor) -> Tensor:
        special = seen[-1] == ord("m")
        return torch.where(special[: len(x), : x.shape[1], None], x.flip(-1), x)

    model = with_tail(model, after=own)
    try:
        reading = read_text(as_lens_model(model, tokenizer), spec(), TEXT, "t")
    except ProofError:
        return
    raise AssertionError(reading.check)


def test_a_small_scale_in_half_precision(tokenizer: Any) -> None:
    """One percent after the head, which no module does and no configuration names."""
    model = tiny_llama().to(torch.bfloat16)
    inner = model.forward

    def forward(**arguments: Any) -> Any:
        out = inner(**arguments)
        out.logits = out.logits * (1 + 0.01 * torch.linspace(0, 1, 300).to(out.logits.dtype))
        return out

    model.forward = forward
    lens_model = as_lens_model(model, tokenizer)
    assert lens_model.route.exact
    assert lens_model.route.float32
    assert not lens_model.route.direct
    proven = read_text(lens_model, spec(), TEXT, "t").check.proven
    assert any("not told apart from the rounding of bfloat16" in line for line in proven)


class Remembering(nn.Module):
    """Adds what it has counted."""

    count: Tensor

    def __init__(self, norm: nn.Module, kind: str) -> None:
        super().__init__()
        self.norm, self.kind = norm, kind
        self.register_buffer("count", torch.zeros(1))
        self.number = 0.0
        self.calls: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        if self.kind == "buffer":
            self.count += 0.3
        elif self.kind == "new buffer":
            self.count = self.count + 0.3
        elif self.kind == "number":
            self.number += 0.3
        else:
            self.calls.append(torch.tensor(0.3))
        past = self.count + self.number + sum(self.calls)
        return y + past * torch.linspace(0, 1, y.shape[-1])  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", ["buffer", "new buffer", "number", "list"])
def test_a_model_that_remembers_is_left_as_it_was(kind: str, tokenizer: Any) -> None:
    model = tiny_llama()
    model.model.norm = Remembering(model.model.norm, kind)
    with torch.no_grad():
        model(input_ids=torch.tensor([[3, 4]]))
    assert require_right_or_refused(model, tokenizer).startswith("right: ")
    norm = model.model.norm
    memory = float(norm.count) + norm.number + float(sum(norm.calls))
    assert memory == pytest.approx(0.3)
    words = read_text(as_lens_model(model, tokenizer), spec(), TEXT, "t").check.proven[-1]
    assert words.startswith("put back after each pass: model.norm.")


def test_a_model_that_learns_is_refused(tokenizer: Any) -> None:
    model = tiny_llama()

    def learn(x: Tensor) -> Tensor:
        with torch.no_grad():
            model.lm_head.weight.mul_(1.01)
        return x

    model = with_tail(model, after=learn)
    with pytest.raises(ProofError, match=r"changes its parameter lm_head.weight while it runs"):
        as_lens_model(model, tokenizer)


class Wide(nn.Module):
    """A norm whose gain has another shape."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(1 + torch.rand(1, 1, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * nn.functional.rms_norm(x, x.shape[-1:])


@pytest.mark.parametrize("kind", ["wrapper", "shape", "after a projection"])
@pytest.mark.parametrize("norm", [Norm.no_affine, Norm.none])
def test_norms_in_other_forms_are_stripped(kind: str, norm: Norm, tokenizer: Any) -> None:
    torch.manual_seed(1)
    model = tiny_llama()
    weight = model.lm_head.weight.double()
    projection = torch.eye(32)
    if kind == "wrapper":
        model.model.norm = Tail(model.model.norm)
    elif kind == "shape":
        model.model.norm = Wide(32)
    else:
        layer = nn.Linear(32, 32, bias=False).requires_grad_(False)
        projection = layer.weight.clone()
        model.model.norm = nn.Sequential(layer, model.model.norm)
    reading = read_text(as_lens_model(model, tokenizer), spec(norm=norm), TEXT, "t")
    streams: list[Tensor] = []
    model.model.layers[1].register_forward_hook(lambda m, a, o: streams.append(o.double()))
    with torch.no_grad():
        model(input_ids=torch.tensor([reading.text_ids]))
        x = streams[0][0] @ projection.double().T
        if norm == "no-affine":
            x = x / x.square().mean(-1, keepdim=True).sqrt()
        expected = (x @ weight.T).argmax(-1)
    assert reading.top()[2].tolist() == expected.tolist()
    done = "without gain and bias" if norm == "no-affine" else "left out"
    assert any(done in line for line in reading.lens.chain)


@pytest.mark.parametrize("norm", [Norm.no_affine, Norm.none])
def test_what_is_no_norm_is_neither_stripped_nor_dropped(norm: Norm, tokenizer: Any) -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(1 + torch.rand(32))

        def forward(self, x: Tensor) -> Tensor:
            return self.gain * x

    model = tiny_llama()
    model.model.norm = Scale()
    with pytest.raises(UsageError, match=f"--norm {norm} is not possible for LlamaForCausalLM"):
        read_text(as_lens_model(model, tokenizer), spec(norm=norm), TEXT, "t")
