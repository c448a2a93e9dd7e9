"""Adversarial models read in every way, and what comes of it.

Run as a program it writes the table in the docstring of `test_adversaries`.
"""

import copy
import os
import pickle
import re
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import adversaries
import adversary
import numpy as np
import torch
from adversaries import ADVERSARIES
from adversary import Adversary, Truth
from conftest import byte_tokenizer
from torch import Tensor

import logitlens_cli
from logitlens_cli.errors import ProofError, UsageError, WorkError
from logitlens_cli.lens.lens_model import LensModel, lens_model_of
from logitlens_cli.lens.prompt import tokenize_prompt
from logitlens_cli.lens.read import read_prompts, read_text
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
METRICS = all_metrics("own-logit", ["final"], "forward", False)
SPEC = partial(ReadSpec, metrics=METRICS, k=3)
MARK = "What becomes of each:\n"
KL_ERROR = {torch.float32: 1e-4, torch.bfloat16: 5e-2}
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
    # In low precision the streams of texts that share a pass are rounded in another way.
    error = KL_ERROR[model.dtype] * (5 if shared and model.dtype != torch.float32 else 1)
    require_numbers(reading, truth, error, NEAR[model.dtype])


def require_numbers(reading: Reading, truth: Truth, error: float, near: float) -> None:
    """Hold KL, guesses and ranks of every cell against the truth, whose rows are the reading's;
    ``error`` of a KL, absolute up to 1 and relative above. Raises WrongError."""
    columns = [token.position for token in reading.tokens]
    rows, final = truth.logits[:, columns], truth.final[columns]
    entering = rows[truth.labels.index("input")]
    off: dict[str, float] = {}
    for name, reference in (("kl-final", final), ("kl-input", entering)):
        values, expected = reading.values(name), kl(reference, rows).numpy()
        differences = np.abs(values - expected) / np.maximum(1, np.abs(expected))
        if not differences.max() <= error:  # also where it is not a number
            off[name] = float(np.abs(values - expected).max())
    near *= max(1.0, float(spread(rows)) / 20)
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
    right = adversary.truths(fresh, reading.text_ids)
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
    spec = SPEC()
    shared = can_share_pass(lens_model, spec)
    groups = [[FIRST], [TEXT, LONG, SHORT]] if shared else [[FIRST], [TEXT], [SHORT]]
    for texts in groups:
        group = [tokenize_prompt(lens_model.tokenizer, spec, text, "x") for text in texts]
        for reading in read_prompts(lens_model, spec, group):
            right = adversary.truths(fresh, reading.text_ids)
            require_any(model, reading, right, shared=len(group) > 1)
    require_unchanged(model, before)


@lru_cache(1)
def opened(name: str, tokenizer: Any) -> tuple[LensModel, Adversary]:
    """A model taken apart, and one that nobody has run."""
    model = adversaries.build(name)
    fresh = copy.deepcopy(model)
    return lens_model_of(model, tokenizer, name=name, context=adversary.CONTEXT), fresh


def read_with_norm(name: str, tokenizer: Any, norm: Norm) -> None:
    """One open model for all choices of the norm."""
    lens_model, fresh = opened(name, tokenizer)
    reading = read_text(lens_model, SPEC(norm=norm), TEXT, name)
    require_any(fresh, reading, adversary.truths(fresh, reading.text_ids, norm))


CASES: dict[str, Callable[[str, Any], None]] = {
    "window": lambda name, tokenizer: read_once(name, tokenizer, TEXT, window=WINDOW),
    "long": lambda name, tokenizer: read_once(name, tokenizer, LONG),
    "subblocks": lambda name, tokenizer: read_once(name, tokenizer, TEXT, subblocks=True),
    "together": read_together,
    "no-affine": lambda name, tokenizer: read_with_norm(name, tokenizer, Norm.no_affine),
    "none": lambda name, tokenizer: read_with_norm(name, tokenizer, Norm.none),
}


def outcomes(name: str, tokenizer: Any) -> Iterator[Outcome]:
    for case, read in CASES.items():
        yield outcome_of(case, lambda read=read: read(name, tokenizer))  # type: ignore[misc]


# ---------------------------------------------------------------------------------------------
# The table


def cause(words: str) -> str:
    """What was said, without the details of one text."""
    plain = re.sub(r" \([^()]*\)", "", words)
    return re.split(
        r"; |: they|: logits|: its own|: no list| that both| of a text of| by less than", plain
    )[0]


def table_entry(name: str, found: Sequence[Outcome]) -> str:
    """What became of a model: in most ways of reading it, and in each of the others."""
    cases: dict[str, list[str]] = {}
    for outcome in found:
        kind = outcome.kind + (f", {cause(outcome.words)}" if outcome.kind == "refused" else "")
        cases.setdefault(kind, []).append(outcome.case)
    most = max(cases, key=lambda kind: len(cases[kind]))
    others = [f"{', '.join(cases[kind])}: {kind}" for kind in cases if kind != most]
    entry = "; ".join([f"{name}: {most}", *others])
    return textwrap.fill(entry, 100, subsequent_indent="    ", break_on_hyphens=False)


def expected_right(docstring: str, name: str) -> set[str]:
    """The ways in which a model is read right, as the table in a docstring has it."""
    found = re.search(rf"^{name}: (.*(?:\n    .*)*)", docstring, re.MULTILINE)
    most, *others = " ".join(found[1].split()).split("; ") if found else [""]
    right = set(CASES) if most == "right" else set()
    for other in others:
        names, _, kind = other.partition(": ")
        if most == "right":
            right -= set(names.split(", "))
        elif kind == "right":
            right |= set(names.split(", "))
    return right


def write_table(path: Path) -> None:
    """Replace the table in the docstring of a file."""
    tokenizer = byte_tokenizer()
    entries = [table_entry(name, list(outcomes(name, tokenizer))) for name in ADVERSARIES]
    source = path.read_text(encoding="utf-8")
    head, _, rest = source.partition(MARK)
    code = rest.partition('"""')[2]
    path.write_text(f'{head}{MARK}\n{chr(10).join(entries)}\n"""{code}', encoding="utf-8")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    write_table(Path(__file__).parents[1] / "lens" / "test_adversaries.py")
