"""Targets whose text has a neighbour, with or without a space or a capital, that ranks better."""

from collections.abc import Sequence

from logitlens_cli.lens import grid
from logitlens_cli.lens.capture import Stream
from logitlens_cli.lens.decoder import Decoder
from logitlens_cli.lens.spec import TextTarget
from logitlens_cli.metrics.sums import Needs
from logitlens_cli.metrics.target_names import token_target
from logitlens_cli.model.tokenizer import label
from logitlens_cli.reading.record import Spelling


def better_spellings(
    tokenizer: object,
    targets: Sequence[TextTarget],
    output_decoder: Decoder,
    stream_column: tuple[Stream, int],
) -> list[Spelling]:
    """Of each target the best neighbour in the model's output at a column of a stream, if it ranks
    better there than the target."""
    stream, column = stream_column
    ids = {i for target in targets for i in (target.id, *target.neighbours)}
    names = {i: token_target(i) for i in sorted(ids)}
    positions = stream.resid.shape[1]
    sums = grid.grid(
        output_decoder,
        stream,
        grid.GridSpec(
            (stream.rows[-1],),
            1,
            Needs(targets=frozenset(names.values())),
            {name: [i] * positions for i, name in names.items()},
        ),
    )
    ranks = {i: 1 + int(sums.targets[name].above[-1, column]) for i, name in names.items()}
    found = []
    for target in targets:
        best = min(target.neighbours, key=lambda i: (ranks[i], i), default=target.id)
        if ranks[best] < ranks[target.id]:
            found.append(
                Spelling(
                    text=target.text,
                    id=target.id,
                    rank=ranks[target.id],
                    better_id=best,
                    better_label=label(tokenizer, best),
                    better_rank=ranks[best],
                )
            )
    return found
