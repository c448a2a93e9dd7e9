"""Whose logit or rank: what a user wrote -> token ids."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate

from logitlens_cli.errors import UsageError
from logitlens_cli.lens.lens_model import LensModel
from logitlens_cli.lens.prompt import TokenizedPrompt
from logitlens_cli.lens.spec import ReadSpec
from logitlens_cli.metrics.target_names import (
    ID_PREFIX,
    TARGET_WORDS,
    target_token_id,
    token_target,
)
from logitlens_cli.model.tokenizer import target_id


def with_token_ids(spec: ReadSpec, lens_model: LensModel) -> ReadSpec:
    """A spec whose targets are "final", "input", "next" or "id:N" of this model's vocabulary."""
    metrics = {
        key: replace(
            metric,
            target=with_token_id("--target", metric.target, lens_model),
            minus=with_token_id("--minus", metric.minus, lens_model),
        )
        for key, metric in spec.metrics.items()
    }
    chosen = [with_token_id("--target", target, lens_model) for target in spec.chosen]
    return replace(spec, metrics=metrics, chosen=chosen)


def with_token_id(flag: str, target: str, lens_model: LensModel) -> str:
    """One of the words, or "id:N" of a token's text."""
    if target in TARGET_WORDS:
        return target
    if not target.startswith(ID_PREFIX):
        return token_target(target_id(lens_model.tokenizer, target, flag))
    number = target_token_id(target)
    if number is None or number >= lens_model.parts.vocabulary:
        raise UsageError(
            f"{flag} {target} is not a token", f"ids are 0 to {lens_model.parts.vocabulary - 1}"
        )
    return token_target(number)


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
