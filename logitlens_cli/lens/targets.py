"""Whose logit or rank: what a user wrote -> token ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from logitlens_cli.errors import UsageError
from logitlens_cli.lens.spec import ReadSpec, TextTarget
from logitlens_cli.metrics.target_names import (
    ID_PREFIX,
    TARGET_WORDS,
    target_token_id,
    token_target,
)
from logitlens_cli.model.spellings import spellings_of
from logitlens_cli.model.tokenizer import target_id

if TYPE_CHECKING:
    from logitlens_cli.lens.lens_model import LensModel
    from logitlens_cli.lens.prompt import TokenizedPrompt


def with_token_ids(spec: ReadSpec, lens_model: LensModel) -> ReadSpec:
    """A spec whose targets are "final", "input", "next" or "id:N" of this model's vocabulary."""
    named = without_spellings(spec, lens_model.tokenizer)
    vocabulary = lens_model.parts.vocabulary
    require_token_ids(named, vocabulary)
    texts = [
        replace(text, neighbours=tuple(i for i in text.neighbours if i < vocabulary))
        for text in named.text_targets
    ]
    return replace(named, text_targets=[text for text in texts if text.neighbours])


def without_spellings(spec: ReadSpec, tokenizer: Any) -> ReadSpec:
    """A spec whose targets are "final", "input", "next" or "id:N"; UsageError for a text that is
    not one token."""
    metrics = {
        key: replace(
            metric,
            target=with_token_id("--target", metric.target, tokenizer),
            minus=with_token_id("--minus", metric.minus, tokenizer),
        )
        for key, metric in spec.metrics.items()
    }
    chosen = [with_token_id("--target", target, tokenizer) for target in spec.chosen]
    texts = spec.text_targets or text_targets(spec, tokenizer)
    return replace(spec, metrics=metrics, chosen=chosen, text_targets=texts)


def text_targets(spec: ReadSpec, tokenizer: Any) -> list[TextTarget]:
    """The targets that are given as texts, each once, if they have other spellings."""
    metrics = [*spec.metrics.values()]
    given = [*(m.target for m in metrics), *(m.minus for m in metrics), *spec.chosen]
    texts = [t for t in given if t not in TARGET_WORDS and not t.startswith(ID_PREFIX)]
    found = []
    for text in dict.fromkeys(texts):
        number = target_id(tokenizer, text)
        if others := spellings_of(tokenizer, number):
            found.append(TextTarget(text, number, tuple(others)))
    return found


def with_token_id(flag: str, target: str, tokenizer: Any) -> str:
    """One of the words, or "id:N" of a token's text."""
    if target in TARGET_WORDS:
        return target
    if target.startswith(ID_PREFIX):
        number = target_token_id(target)
        return target if number is None else token_target(number)
    return token_target(target_id(tokenizer, target, flag))


def require_token_ids(spec: ReadSpec, vocabulary: int) -> None:
    """UsageError for a target "id:N" that is no row of the head."""
    given = [("--target", target) for target in spec.chosen]
    for metric in spec.metrics.values():
        given += [("--target", metric.target), ("--minus", metric.minus)]
    for flag, target in given:
        number = target_token_id(target)
        if target.startswith(ID_PREFIX) and (number is None or number >= vocabulary):
            raise UsageError(f"{flag} {target} is not a token", f"ids are 0 to {vocabulary - 1}")


def target_ids(target: str, ids: Sequence[int], columns: range) -> list[int]:
    """A target token per column, -1 where there is none; "final" is found by the lens."""
    if target == "next":
        return [ids[i + 1] if i + 1 < len(ids) else -1 for i in columns]
    token = target_token_id(target)
    return [ids[i] for i in columns] if token is None else [token] * len(columns)


def targets_of(
    target: str, prompts: Sequence[TokenizedPrompt], spans: Sequence[range]
) -> list[int]:
    """A target token per position of prompts that stand side by side, -1 where there is none."""
    return [i for p, s in zip(prompts, spans, strict=True) for i in target_ids(target, p.ids, s)]


def starts_of(spans: Sequence[range]) -> list[int]:
    """Where each of several spans begins when they stand side by side."""
    return list(accumulate((len(span) for span in spans[:-1]), initial=0))


def sample_positions(columns: range, most: int) -> list[int]:
    """At most so many positions, spread over the columns: the last one, and the first where more
    than one is wanted."""
    count = min(len(columns), most)
    if count == 1:
        return [columns[-1]]
    return [columns[n * (len(columns) - 1) // (count - 1)] for n in range(count)]
