"""Whose logit or rank: a token for every column."""

from collections.abc import Sequence
from itertools import accumulate

from logitlens_cli.lens.prompt import TokenizedPrompt
from logitlens_cli.metrics.table import target_token_id


def targets_of(
    target: str, prompts: Sequence[TokenizedPrompt], spans: Sequence[range]
) -> list[int]:
    """A target token per position of prompts that stand side by side, -1 where there is none."""
    return [i for p, s in zip(prompts, spans, strict=True) for i in target_ids(target, p.ids, s)]


def starts_of(spans: Sequence[range]) -> list[int]:
    """Where each of several spans begins when they stand side by side."""
    return list(accumulate((len(span) for span in spans[:-1]), initial=0))


def sample_positions(columns: range, most: int) -> list[int]:
    """Positions where the model's own logits are made, spread over the window, the last one in."""
    count = min(len(columns), most)
    return [columns[(n * len(columns)) // count - 1] for n in range(1, count + 1)]


def target_ids(target: str, ids: Sequence[int], columns: range) -> list[int]:
    """A target token per column, -1 where there is none; "final" is found by the lens."""
    if target == "next":
        return [ids[i + 1] if i + 1 < len(ids) else -1 for i in columns]
    if (number := target_token_id(target)) is not None:
        return [number] * len(columns)
    return [ids[i] for i in columns]
