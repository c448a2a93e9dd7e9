"""Which decoder a model needs."""

from collections.abc import Sequence
from typing import Any

from logitlens_cli.lens.decoder import Decoder, Route
from logitlens_cli.lens.direct import Direct
from logitlens_cli.lens.norms import no_norm_error
from logitlens_cli.lens.replay import Replay, ReplayBlocks, bare_norms
from logitlens_cli.model.anatomy.parts import ModelParts


def make_decoder(
    model: Any,
    parts: ModelParts,
    route: Route,
    norm: str,
    ids: Sequence[int],
    window: range,
    decoder_blocks: int = 0,
) -> Decoder:
    """The decoder of a text by a proven route; the last ``decoder_blocks`` blocks are a part of it.

    Raises UsageError where the norm cannot be had as wanted.
    """
    if decoder_blocks:
        return ReplayBlocks(model, parts, norm, ids, decoder_blocks)
    if route.direct:
        direct = Direct(parts, norm)
        if norm != "full" and not direct.norm_names:
            raise no_norm_error(type(model).__name__, norm)
        return direct
    return Replay(model, parts, route, norm, ids, window)


def norm_names(model: Any, parts: ModelParts, route: Route, norm: str) -> list[str]:
    """The norms that a decoder with another than the "full" norm changes, by qualified name."""
    if route.direct:
        return Direct(parts, norm).norm_names
    return [parts.names[norm] for norm in bare_norms(model, parts, route)]
