"""Models that were built to fool the lens are read right or refused by name, never read wrong.

OUTCOMES
"""

import copy
import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import adversaries
import adversary
import numpy as np
import pytest
import torch
from adversaries import ADVERSARIES
from adversary import HUGE, Adversary, Truth
from torch import Tensor

import logitlens_cli
from logitlens_cli.errors import LogitLensError, ProofError, UsageError, WorkError
from logitlens_cli.lens.lens_model import lens_model_of
from logitlens_cli.lens.prompt import tokenize_prompt
from logitlens_cli.lens.read import read_prompts
from logitlens_cli.lens.sharing import can_share_pass
from logitlens_cli.lens.spec import Norm, ReadSpec
from logitlens_cli.metrics.sets import all_metrics
from logitlens_cli.reading.record import Reading

FIRST = "the cat and a cow"
"""without the tokens that some models treat in another way"""
SHORT = "a zebra"
TEXT = "the cat saw a zebra?"
LONG = (
    "A quick zebra jumps over the lazy dog, and the cat looks at it; then it goes home in 1 hour, "
    "or two. Zzz"
)
WINDOW = "5:12"
KL_ERROR = {torch.float32: 1e-4, torch.bfloat16: 3e-2}
"""absolute up to a KL of 1, relative above"""
NEAR = {torch.float32: 5e-4, torch.bfloat16: 0.15}
"""Logits that are nearer to each other than this may change places."""


@dataclass(frozen=True)
class Outcome:
    case: str
    kind: Literal["right", "refused", "wrong", "crash"]
    words: str = ""
    """what was said, or what is wrong"""

    @property
    def fails(self) -> bool:
        return self.kind in ("wrong", "crash")


class WrongError(Exception):
    """A reading is not right; says how far it is off."""


# ---------------------------------------------------------------------------------------------
# A reading against the truth


def kl(reference: Tensor, rows: Tensor) -> Tensor:
    """KL(reference || row), (row, position); what is forbidden in the reference counts nothing."""
    log_p, log_q = reference.log_softmax(-1), rows.log_softmax(-1)
    p = log_p.exp()
    return torch.where(p == 0, 0.0, p * (log_p - log_q)).sum(-1)


def shown_labels(model: Adversary, truth: Truth) -> list[list[str]]:
    """The names that the rows may have. Turns may be counted from 0 too."""
    choices = [truth.labels, *([renamed(x, m) for x in truth.labels] for m in model.relabelled)]
    return choices + [[counted_from_0(label) for label in labels] for labels in choices]


def renamed(label: str, names: Mapping[str, str]) -> str:
    block = label.removesuffix(" mid")
    return names.get(block, block) + label.removeprefix(block)


def counted_from_0(label: str) -> str:
    block, dot, turn = label.removesuffix(" mid").partition(".")
    return renamed(label, {f"{block}.{turn}": f"{block}.{int(turn) - 1}"}) if dot else label


def require_right(
    model: Adversary, reading: Reading, truth: Truth, *, mids: bool = False, shared: bool = False
) -> None:
    """Hold every cell of a reading against the truth; raises WrongError."""
    kept = [n for n, label in enumerate(truth.labels) if is_shown(label, mids)]
    truth = Truth([truth.labels[n] for n in kept], truth.logits[kept], truth.final)
    labels = [layer.label for layer in reading.layers]
    if labels not in shown_labels(model, truth):
        raise WrongError(f"rows {' '.join(labels)}, not {' '.join(truth.labels)}")
    columns = [token.position for token in reading.tokens]
    rows, final = truth.logits[:, columns], truth.final[columns]
    # In low precision the streams of texts that share a pass are rounded in another way.
    error = KL_ERROR[model.dtype] * (5 if shared and model.dtype != torch.float32 else 1)
    entering = rows[truth.labels.index("input")]
    off: dict[str, float] = {}
    for name, reference in (("kl-final", final), ("kl-input", entering)):
        values, expected = reading.values(name), kl(reference, rows).numpy()
        differences = np.abs(values - expected) / np.maximum(1, np.abs(expected))
        if not differences.max() <= error:  # also where it is not a number
            off[name] = float(np.abs(values - expected).max())
    near = NEAR[model.dtype] * max(1.0, float(spread(rows)) / 20)
    guesses = wrong_guesses(torch.tensor(reading.guesses.ids), rows, near)
    finals = wrong_guesses(torch.tensor(reading.final_ids)[None, :, None], final[None], near)
    ranks = wrong_ranks(reading, rows, near)
    if off or guesses or finals or ranks:
        raise WrongError(
            ", ".join(f"{name} off by {value:.2g}" for name, value in off.items())
            + f"; {guesses} guesses, {ranks} ranks of {rows[..., 0].numel()}, {finals} final wrong"
        )


def is_shown(label: str, mids: bool) -> bool:
    return mids or not label.endswith(" mid")


def spread(rows: Tensor) -> Tensor:
    """How far the best logit of a cell is from the middle one, at most."""
    return (rows.max(-1).values - rows.median(-1).values).max()


def wrong_guesses(ids: Tensor, logits: Tensor, near: float) -> int:
    """Cells (row, position) whose best tokens ``ids`` (row, position, k) are not the best."""
    best = logits.topk(ids.shape[-1]).values
    return int(((logits.gather(-1, ids) - best).abs() > near).any(-1).sum())


def wrong_ranks(reading: Reading, rows: Tensor, near: float) -> int:
    """Cells where the rank of the final guess is wrong by more than near ties make it."""
    target = torch.tensor(reading.final_ids)[None, :, None].expand(len(rows), -1, 1)
    own = rows.gather(-1, target)
    least = 1 + (rows > own + near).sum(-1)
    most = 1 + (rows > own - near).sum(-1) - 1  # without itself
    ranks = torch.tensor(reading.values("rank"))
    return int(((ranks < least) | (ranks > most.clamp(min=1))).sum())


def require_unchanged(model: Adversary, before: dict[str, Any]) -> None:
    """Is what a model remembers what it was?"""
    after = memory_of(model)
    for name, value in before.items():
        same = (
            torch.equal(value, after[name]) if isinstance(value, Tensor) else value == after[name]
        )
        if not same:
            raise WrongError(f"the model is left changed: {name}")


def memory_of(model: Adversary) -> dict[str, Any]:
    """Copies of parameters, buffers, and all else that a module holds, by name."""
    own = frozenset(vars(torch.nn.Module()))
    plain = {
        f"{name}.{key}": pickle.dumps(value)
        for name, module in model.named_modules()
        for key, value in vars(module).items()
        if key not in own
    }
    return {name: value.clone() for name, value in model.state_dict().items()} | plain


# ---------------------------------------------------------------------------------------------
# The ways in which a model is read


def outcome_of(case: str, attempt: Callable[[], None]) -> Outcome:
    try:
        attempt()
    except WrongError as wrong:
        return Outcome(case, "wrong", str(wrong))
    except (UsageError, ProofError, WorkError) as refusal:
        if "internal error" in str(refusal):
            return Outcome(case, "crash", str(refusal))
        return Outcome(case, "refused", refusal.problem)
    except Exception as error:
        if os.environ.get("ADVERSARIES_DEBUG"):
            raise
        return Outcome(case, "crash", f"{type(error).__name__}: {error}".splitlines()[0])
    return Outcome(case, "right")


def read_once(name: str, tokenizer: Any, text: str, **options: Any) -> None:
    """A fresh model, read through the library's face."""
    model = adversaries.build(name)
    fresh = copy.deepcopy(model)
    before = memory_of(model)
    reading = logitlens_cli.read(model, tokenizer, text, k=3, **options)
    right = adversary.truths(fresh, reading.text_ids, options.get("norm", "full"))
    require_any(model, reading, right, mids=options.get("subblocks", False))
    require_unchanged(model, before)


def require_any(
    model: Adversary, reading: Reading, right: Sequence[Truth], **options: bool
) -> None:
    """Is a reading like one of those that are right?"""
    reasons = ["it should have been refused"]
    for truth in right:
        try:
            require_right(model, reading, truth, **options)
        except WrongError as wrong:
            reasons.append(str(wrong))
        else:
            return
    raise WrongError(reasons[min(1, len(reasons) - 1)])


def read_together(name: str, tokenizer: Any) -> None:
    """Texts of unequal lengths on one open model, after another text: in one pass where the program
    says that they may share it, and else one after the other."""
    model = adversaries.build(name)
    fresh = copy.deepcopy(model)
    before = memory_of(model)
    lens_model = lens_model_of(model, tokenizer, name=name, context=adversary.CONTEXT)
    spec = ReadSpec(metrics=all_metrics("own-logit", ["final"], "forward", False), k=3)
    shared = can_share_pass(lens_model, spec)
    groups = [[FIRST], [TEXT, LONG, SHORT]] if shared else [[FIRST], [TEXT], [SHORT]]
    for texts in groups:
        group = [tokenize_prompt(lens_model, spec, text, "x") for text in texts]
        for reading in read_prompts(lens_model, spec, group):
            right = adversary.truths(fresh, reading.text_ids)
            require_any(model, reading, right, shared=len(group) > 1)
    require_unchanged(model, before)


CASES: dict[str, Callable[[str, Any], None]] = {
    "text": lambda name, tokenizer: read_once(name, tokenizer, TEXT),
    "window": lambda name, tokenizer: read_once(name, tokenizer, TEXT, window=WINDOW),
    "short": lambda name, tokenizer: read_once(name, tokenizer, SHORT),
    "long": lambda name, tokenizer: read_once(name, tokenizer, LONG),
    "together": read_together,
    "no-affine": lambda name, tokenizer: read_once(name, tokenizer, TEXT, norm=Norm.no_affine),
    "none": lambda name, tokenizer: read_once(name, tokenizer, TEXT, norm=Norm.none),
    "subblocks": lambda name, tokenizer: read_once(name, tokenizer, TEXT, subblocks=True),
}


def outcomes(name: str, tokenizer: Any) -> Iterator[Outcome]:
    for case, read in CASES.items():
        yield outcome_of(case, lambda read=read: read(name, tokenizer))  # type: ignore[misc]


@pytest.mark.parametrize("name", ADVERSARIES)
def test_a_model_is_read_right_or_refused(name: str, tokenizer: Any) -> None:
    found = list(outcomes(name, tokenizer))
    assert not [outcome for outcome in found if outcome.fails]


@pytest.mark.parametrize("name", [n for n, kind in ADVERSARIES.items() if kind.has_truth])
def test_the_last_row_of_a_truth_is_what_the_model_says(name: str, tokenizer: Any) -> None:
    model = adversaries.build(name)
    ids = tokenizer(TEXT)["input_ids"]
    right = adversary.truths(model, ids)
    with torch.no_grad():
        own = model(torch.tensor([ids])).logits[0].double()
    own.clamp_(min=HUGE)
    off = 0.3 if model.dtype == torch.bfloat16 else 1e-4
    for truth in right:
        torch.testing.assert_close(truth.final.clamp(min=HUGE), own, atol=off, rtol=off)
        torch.testing.assert_close(truth.logits[-1].clamp(min=HUGE), own, atol=off, rtol=off)


def test_an_ordinary_model_is_read_right_in_every_way(tokenizer: Any) -> None:
    """Else all others might be refused for the same reason."""
    assert {outcome.kind for outcome in outcomes("ordinary-model", tokenizer)} == {"right"}


def test_refusals_are_errors_of_the_package() -> None:
    assert all(issubclass(kind, LogitLensError) for kind in (UsageError, ProofError, WorkError))
