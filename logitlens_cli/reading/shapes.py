"""Do the parts of a dump (``record``) fit each other? ValueError where they do not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from logitlens_cli.metrics.spec import Scale


def require_grids(guesses: Any, metrics: Mapping[str, Any], layers: int, positions: int) -> None:
    """ValueError for a grid of another shape than (layers, positions), or guesses that lack one."""
    grids: dict[str, list[list[Any]]] = {
        "guesses.ids": guesses.ids,
        "guesses.labels": guesses.labels,
        "guesses.logits": guesses.logits,
        "guesses.probs": guesses.probs,
        "guesses.log_probs": guesses.log_probs or guesses.probs,
        **{f"metrics.{name}.values": scores.values for name, scores in metrics.items()},
    }
    for what, grid in grids.items():
        if len(grid) != layers or any(len(row) != positions for row in grid):
            raise ValueError(f"{what} is not of {layers} layers by {positions} positions")
    same_shape = ("labels", "logits", "probs", *(["log_probs"] if guesses.log_probs else []))
    fields: list[list[list[Any]]] = [getattr(guesses, name) for name in same_shape]
    for ids_row, *rows in zip(guesses.ids, *fields, strict=True):
        for ids, *others in zip(ids_row, *rows, strict=True):
            if not ids or any(len(other) != len(ids) for other in others):
                raise ValueError(
                    "a cell without a guess, or a guess without its label, logit or probability"
                )


def require_lock_in(found: Any, positions: int) -> None:
    """ValueError for a lock-in of another number of positions."""
    for name, blocks in (("first", found.first), ("since", found.since)):
        if len(blocks) != positions:
            raise ValueError(f"lock_in.{name} is not of {positions} positions")


def require_scores(what: str, scores: Any) -> None:
    """ValueError for a scale that no colours fit, or values that do not fit it."""
    require_scale(f"{what}.scale", scores.scale)
    values = (value for row in scores.values for value in row if value is not None)
    if scores.scale.kind == "log" and min(values, default=1) <= 0:
        raise ValueError(f"{what} is logarithmic and has a value that is not above 0")


def require_scale(what: str, scale: Scale) -> None:
    """ValueError for limits between which no colour lies."""
    low, high = scale.low, scale.high
    if any(limit is not None and not abs(limit) <= 1e100 for limit in (low, high)):
        raise ValueError(f"{what} has a limit beyond 1e100")
    if low is not None and high is not None and low >= high:
        raise ValueError(f"{what} runs from {low:g} to {high:g}")
    if scale.kind == "log" and any(limit is not None and limit <= 0 for limit in (low, high)):
        raise ValueError(f"{what} is logarithmic and has a limit that is not above 0")


def require_followed(followed: Any, layers: int, positions: set[int]) -> None:
    """ValueError where the parts of it do not fit each other."""
    count = len(followed.ids)
    if not count or len(followed.labels) != count:
        raise ValueError(f"followed has {count} ids and {len(followed.labels)} labels")
    grids: dict[str, list[list[Any]]] = {
        "ranks": followed.ranks,
        "logits": followed.logits or followed.ranks,  # older dumps do not have them
        "probs": followed.probs or followed.ranks,
        "log_probs": followed.log_probs or followed.ranks,
    }
    for name, grid in grids.items():
        if len(grid) != layers or any(len(row) != count for row in grid):
            raise ValueError(f"followed.{name} is not of {layers} layers by {count} tokens")
    for number in followed.chosen:
        if number not in followed.ids:
            raise ValueError(f"followed.chosen {number} is not among its ids")
    if followed.position not in positions:
        raise ValueError(f"followed.position {followed.position} is not a column")
