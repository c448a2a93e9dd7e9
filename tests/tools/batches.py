"""What batches leave behind, and whether two readings are the same."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from logitlens_cli.reading.record import Followed, Reading

TEXTS = ["the cat", "the dog sat on a mat", "a", "cats and dogs", "the end of it all, says the cat"]


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def renewed(folder: Path, run: Callable[[], object]) -> list[str]:
    """The files of ``folder`` that ``run`` writes, new or anew."""
    before = {name: (folder / name).stat().st_mtime_ns for name in files(folder)}
    run()
    return [n for n in files(folder) if before.get(n) != (folder / n).stat().st_mtime_ns]


def failed(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "failures.jsonl").read_text().splitlines()]


def require_same(mine: Reading, own: Reading, logits: Tensor | None = None) -> None:
    """Ids and ranks equal, all else within rounding.

    ``logits`` in float64, (layer, position, vocabulary), tell near-ties, between which ranks may
    differ; without them none may.
    """
    assert mine.guesses.ids == own.guesses.ids
    require_same_ranks(mine.values("rank-final"), own.values("rank-final"), own.final_ids, logits)
    for metric in mine.metrics:
        if metric != "rank-final":
            close(mine.values(metric), own.values(metric))
    assert (mine.text, mine.tokens, mine.layers, mine.lens) == (
        *(own.text, own.tokens, own.layers, own.lens),
    )
    column = None if logits is None else logits[:, -1:]
    require_same_followed(mine.followed, own.followed, column)


def require_same_followed(
    mine: Followed | None, own: Followed | None, logits: Tensor | None
) -> None:
    """``logits`` of the column where they are followed, (layer, 1, vocabulary)."""
    assert (mine is None) == (own is None)
    if mine is not None and own is not None:
        assert (mine.ids, mine.position) == (own.ids, own.position)
        require_same_ranks(np.array(mine.ranks), np.array(own.ranks), own.ids, logits)
        close(np.array(mine.logits, float), np.array(own.logits, float))
        close(np.array(mine.probs, float), np.array(own.probs, float))
        close(np.array(mine.log_probs), np.array(own.log_probs))


def close(mine: Any, own: Any) -> None:
    np.testing.assert_allclose(mine, own, rtol=1e-4, atol=1e-4)


NEAR = 1e-5
"""of a cell's largest logit: float32 does not order logits that lie closer (sums in another order,
as other shapes and processors have them, move the default model's by a third of this)"""


def require_same_ranks(mine: Any, own: Any, ids: Sequence[int], logits: Tensor | None) -> None:
    """Ranks (layer, token) of ``ids`` are equal, but for near-ties: there each is between those
    that the token has if all logits near its own are below or above it, and few cells are so."""
    if logits is None:
        np.testing.assert_array_equal(mine, own)
        return
    near = NEAR * logits.abs().amax(-1)
    target = logits.expand(-1, len(ids), -1)[:, range(len(ids)), ids]
    best, worst = (
        1 + (logits > (target + shift).unsqueeze(-1)).sum(-1).numpy() for shift in (near, -near)
    )
    worst -= 1  # the token itself
    assert (worst > best).mean() <= 0.15
    for ranks in (mine, own):
        assert (best <= ranks).all()
        assert (ranks <= worst).all()
    assert (mine != own).mean() <= 0.01
