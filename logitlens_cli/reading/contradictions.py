"""Dumps of the right shape whose parts contradict each other: each check names what is wrong."""

import hashlib
from collections.abc import Sequence

import numpy as np

from logitlens_cli.metrics.sums import Floats
from logitlens_cli.metrics.table import METRICS
from logitlens_cli.reading.record import CheckRecord, Followed, Guesses, Layer, Reading, Scores

RANK = METRICS["rank"].unit
RANGES = {
    "probability": (0.0, 1.0),
    "share": (0.0, 1.0),
    "nats": (0.0, np.inf),
}
"""least and largest value, by unit"""
ROUNDING = 1e-3
"""more than seven figures of a logarithm move a probability"""


def require_consistent(reading: Reading) -> None:
    """ValueError for the first contradiction."""
    require_text_hash(reading)
    require_columns(reading)
    require_row_order(reading.layers, reading.model.blocks)
    require_guess_values(reading.guesses, reading.model.vocabulary)
    require_ids("final_ids", reading.final_ids, reading.model.vocabulary)
    for name, scores in reading.metrics.items():
        require_score_values(f"metrics.{name}", scores, reading)
    if reading.followed is not None:
        require_followed_values(reading.followed, reading.model.vocabulary)
    require_ranks("next_ranks", reading.next_ranks or [], reading.model.vocabulary)
    require_blocks_of_lock_in(reading)
    require_check(reading.check)


def require_text_hash(reading: Reading) -> None:
    if hashlib.sha256(reading.text.encode()).hexdigest() != reading.text_sha256:
        raise ValueError("text_sha256 is not the hash of text")


def require_columns(reading: Reading) -> None:
    """The columns are those of the window, with the tokens that the text has there."""
    (start, stop), count = reading.lens.window, reading.lens.text_tokens
    if not start < stop <= count:
        raise ValueError(f"lens.window is {[start, stop]} of a text of {count} tokens")
    if len(reading.text_ids) != count:
        raise ValueError(f"lens.text_tokens is {count}, text_ids has {len(reading.text_ids)}")
    if [token.position for token in reading.tokens] != list(range(start, stop)):
        raise ValueError(f"the positions of tokens are not those of lens.window {[start, stop]}")
    following = [*reading.text_ids[1:], None]
    for token in reading.tokens:
        at = token.position
        if (token.id, token.next_id) != (reading.text_ids[at], following[at]):
            raise ValueError(f"the token at position {at} is not that of text_ids, or its next one")


def require_row_order(layers: Sequence[Layer], blocks: int) -> None:
    """Rows go up, through blocks that the model has."""
    kinds = {"input": 0, "mid": 1, "block": 2}
    if any((layer.kind == "input") != (layer.block is None) for layer in layers):
        raise ValueError("layers has a block without its number, or an input row with one")
    numbers = [layer.block or 0 for layer in layers]
    if max(numbers) >= blocks:
        raise ValueError(f"layers has block {max(numbers)}, model.blocks is {blocks}")
    rows = [(number, kinds[layer.kind]) for number, layer in zip(numbers, layers, strict=True)]
    if sorted(set(rows)) != rows:
        raise ValueError("layers does not go from the lowest row to the last")


def require_guess_values(guesses: Guesses, vocabulary: int) -> None:
    """Guesses are tokens that there are, best first, with their probabilities."""
    counts = {len(cell) for row in guesses.ids for cell in row}
    if len(counts) > 1:
        raise ValueError(f"guesses has cells of {min(counts)} and of {max(counts)} guesses")
    if max(counts) > vocabulary:
        raise ValueError(f"guesses has {max(counts)} a cell, model.vocabulary is {vocabulary}")
    for row in guesses.ids:
        ids = np.sort(np.array(row), axis=-1)
        require_ids("guesses.ids", ids[:, -1].tolist(), vocabulary)
        if not np.diff(ids, axis=-1).all():
            raise ValueError("guesses.ids has a token twice in a cell")
    for n, (logits_row, probs_row) in enumerate(zip(guesses.logits, guesses.probs, strict=True)):
        probs = np.array(probs_row)
        require_range("guesses.probs", probs, *RANGES["probability"])
        if probs.sum(-1).max() > 1 + ROUNDING:
            raise ValueError(f"guesses.probs has a cell that adds up to {probs.sum(-1).max():g}")
        if (np.diff(np.array(logits_row)) > 0).any() or (np.diff(probs) > 0).any():
            raise ValueError("guesses has a cell whose best guess does not come first")
        if guesses.log_probs:
            require_logarithms("guesses", np.array(guesses.log_probs[n]), probs)


def require_logarithms(what: str, log_probs: Floats, probs: Floats) -> None:
    if not np.allclose(np.exp(log_probs), probs, rtol=ROUNDING, atol=1e-300):
        raise ValueError(f"{what}.log_probs are not the logarithms of {what}.probs")


def require_score_values(what: str, scores: Scores, reading: Reading) -> None:
    """Values lie where their unit allows, and what they are about is said of every column."""
    columns = len(reading.tokens)
    for name in ("target_ids", "target_labels", "minus_ids", "minus_labels"):
        about = getattr(scores, name)
        if about is not None and len(about) != columns:
            raise ValueError(f"{what}.{name} is not of {columns} positions")
    ties = scores.ties
    if ties is not None and [len(row) for row in ties] != [columns] * len(reading.layers):
        raise ValueError(
            f"{what}.ties is not of {len(reading.layers)} layers by {columns} positions"
        )
    values = np.array(scores.values, float)
    low, high = RANGES.get(scores.unit, (-np.inf, np.inf))
    require_range(f"{what}.values", values, low, high)
    if scores.unit == RANK:
        require_ranks(f"{what}.values", values[np.isfinite(values)], reading.model.vocabulary)


def require_followed_values(followed: Followed, vocabulary: int) -> None:
    require_ids("followed.ids", followed.ids, vocabulary)
    if len(set(followed.ids)) != len(followed.ids):
        raise ValueError("followed.ids has a token twice")
    require_ranks("followed.ranks", followed.ranks, vocabulary)
    if followed.probs:
        require_range("followed.probs", np.array(followed.probs), *RANGES["probability"])
    if followed.probs and followed.log_probs:
        require_logarithms("followed", np.array(followed.log_probs), np.array(followed.probs))


def require_blocks_of_lock_in(reading: Reading) -> None:
    """Blocks that the model has."""
    if reading.lock_in is None:
        return
    blocks = reading.model.blocks
    for name in ("first", "since"):
        numbers = getattr(reading.lock_in, name)
        if any(number is not None and not 0 <= number < blocks for number in numbers):
            raise ValueError(f"lock_in.{name} has a block that the model does not have")


def require_check(check: CheckRecord) -> None:
    if not check.passed or not 0 <= check.max_abs_logit_error <= check.tolerance:
        raise ValueError(
            f"check has not passed: an error of {check.max_abs_logit_error:g} and a tolerance of "
            f"{check.tolerance:g}"
        )


def require_ids(what: str, ids: Sequence[int], vocabulary: int) -> None:
    if max(ids) >= vocabulary:
        raise ValueError(f"{what} has token {max(ids)}, model.vocabulary is {vocabulary}")


def require_ranks(what: str, ranks: object, vocabulary: int) -> None:
    """``ranks`` in any shape, None where there is none."""
    values = np.array(ranks, float)
    require_range(what, values, 1, vocabulary)
    if (values % 1 > 0).any():
        raise ValueError(f"{what} has a rank that is no whole number")


def require_range(what: str, values: Floats, low: float, high: float) -> None:
    outside = values[(values < low) | (values > high)]
    if len(outside):
        raise ValueError(f"{what} has {outside[0]:g}, which is not within {low:g} and {high:g}")
