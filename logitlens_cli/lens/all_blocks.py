"""Top guesses of all blocks, where not all are rows: from which one on the guess is the model's
does not depend on what is drawn."""

from __future__ import annotations

from collections.abc import Sequence

from logitlens_cli.lens import grid
from logitlens_cli.lens.capture import Stream, StreamSite, resid_post
from logitlens_cli.lens.decoder import Decoder
from logitlens_cli.lens.rows import layer, rows_of
from logitlens_cli.lens.spec import ReadSpec
from logitlens_cli.metrics.sums import Ints, Needs
from logitlens_cli.model.anatomy.parts import ModelParts
from logitlens_cli.reading.record import LockIn, lock_in


def block_count(parts: ModelParts, spec: ReadSpec) -> int:
    """How many blocks can be rows."""
    return len(parts.blocks) - spec.decoder_blocks


def rows_for_lock_in(parts: ModelParts, spec: ReadSpec) -> tuple[StreamSite, ...]:
    """All blocks, where their guesses are asked for and not all of them are rows; else none.

    Nor of a model whose blocks run more than once: a run is named by the label of its row.
    """
    sites = tuple(resid_post(block) for block in range(block_count(parts, spec)))
    is_looped = any(label != str(n) for n, label in enumerate(parts.labels))
    asked = spec.lock_in and not is_looped and not {*sites} <= {*rows_of(parts, spec)}
    return sites if asked else ()


def guesses_of_blocks(
    decoder: Decoder, stream: Stream, sites: tuple[StreamSite, ...]
) -> Ints | None:
    """(block, position) top guesses; None of no block."""
    if not sites:
        return None
    top: Ints = grid.grid(decoder, stream, grid.GridSpec(sites, 1, Needs(), {})).top_ids[..., 0]
    return top


def lock_in_of_blocks(
    parts: ModelParts, sites: tuple[StreamSite, ...], top: Ints, final: Sequence[int]
) -> LockIn:
    """The lock-in of some columns; ``top`` (block, position)."""
    return lock_in([layer(parts, site) for site in sites], top, final, len(sites))
