"""Tokens followed over all layers in one column."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from logitlens_cli.lens import grid
from logitlens_cli.lens.capture import INPUT, Stream
from logitlens_cli.lens.decoder import Decoder
from logitlens_cli.lens.lens_model import LensModel
from logitlens_cli.lens.prompt import TokenizedPrompt
from logitlens_cli.lens.rows import rows_of
from logitlens_cli.lens.spec import ReadSpec
from logitlens_cli.lens.targets import target_ids
from logitlens_cli.metrics.sums import Needs, Sums, log_probs_of
from logitlens_cli.metrics.target_names import token_target
from logitlens_cli.model import tokenizer
from logitlens_cli.reading.record import Followed
from logitlens_cli.reading.rounding import rounded


def stream_column(decoder: Decoder, stream: Stream, column: int) -> tuple[Stream, int]:
    """What is needed of a stream to decode one column of it, and the column's number there."""
    if not decoder.per_position:
        return stream, column
    only = slice(column, column + 1)
    final = None if stream.final is None else stream.final[only]
    return replace(stream, resid=stream.resid[:, only], final=final), 0


def follow_tokens(
    lens_model: LensModel,
    spec: ReadSpec,
    decoder: Decoder,
    stream_column: tuple[Stream, int],
    sums: Sums,
    prompt: TokenizedPrompt,
) -> Followed:
    """The chosen tokens, and those that were ever a block's top guess, in the last column of a
    prompt, best rank first; it is the given column of a stream."""
    rows = rows_of(lens_model.parts, spec)
    blocks = [n for n, site in enumerate(rows) if site != INPUT]
    chosen = chosen_ids(spec, sums, prompt)
    guesses = sums.top_ids[blocks, -1, 0].tolist() if spec.follow else []
    ids = sorted({*chosen, *guesses})
    names = {i: token_target(i) for i in ids}
    stream, column = stream_column
    targets = {name: [i] * stream.resid.shape[1] for i, name in names.items()}
    grid_spec = grid.GridSpec(rows, 1, Needs(targets=frozenset(targets)), targets)
    cells = grid.cut_sums(grid.grid(decoder, stream, grid_spec), slice(column, column + 1))
    ranks = {i: 1 + cells.targets[name].above[:, 0] for i, name in names.items()}
    logits = {i: cells.targets[name].logit[:, 0] for i, name in names.items()}

    # Equal best ranks: the token that reaches it in the higher layer comes first, as it lasts.
    def best_rank(i: int) -> tuple[int, int, int]:
        of_blocks = ranks[i][blocks]
        return int(of_blocks.min()), -int(of_blocks.argmin()), i

    order = sorted(ids, key=best_rank)
    ordered_logits = np.stack([logits[i] for i in order], axis=1)
    log_probs = log_probs_of(ordered_logits, cells.lse)
    return Followed(
        position=prompt.columns[-1],
        ids=order,
        labels=tokenizer.labels(lens_model.tokenizer, order),
        ranks=[[int(ranks[i][row]) for i in order] for row in range(len(rows))],
        logits=rounded(ordered_logits),
        probs=rounded(np.exp(log_probs)),
        log_probs=rounded(log_probs),
        chosen=chosen,
    )


def chosen_ids(spec: ReadSpec, sums: Sums, prompt: TokenizedPrompt) -> list[int]:
    """The tokens that were asked for, in the last column of a prompt, each once."""
    last = prompt.columns[-1:]
    ids = (
        int(sums.final_ids[-1]) if target == "final" else target_ids(target, prompt.ids, last)[0]
        for target in spec.chosen
    )
    return list(dict.fromkeys(ids))


def ranks_in_output(
    output_decoder: Decoder, stream: Stream, targets: Sequence[int]
) -> list[int | None]:
    """[position] the rank of a token in the model's own output; null for -1."""
    last = (stream.rows[-1],)
    needs = Needs(targets=frozenset({"next"}))
    sums = grid.grid(output_decoder, stream, grid.GridSpec(last, 1, needs, {"next": targets}))
    above = sums.targets["next"].above[-1].tolist()
    return [None if n < 0 else n + 1 for n in above]
