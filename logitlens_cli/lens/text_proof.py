"""Inner rows of a text itself against the model's own tail: its tokens, its positions, its length.

Once on an open model for each class of lengths; the probe of ``proof`` has a few tokens only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from logitlens_cli.errors import ProofError
from logitlens_cli.lens.capture import Stream
from logitlens_cli.lens.decoder import BLOCK_FLOATS, Decoder, Route
from logitlens_cli.lens.lens_model import LensModel
from logitlens_cli.lens.proof import MISFITS
from logitlens_cli.lens.replay import tail_logits, tail_parameters
from logitlens_cli.lens.rounding import agreement
from logitlens_cli.lens.targets import sample_positions
from logitlens_cli.model.anatomy import passes
from logitlens_cli.model.anatomy.parts import ModelParts

SHORTEST_CLASS = 32
"""tokens: texts up to here are one class, those up to twice as many the next"""
LONGEST_REPEATED = 1024
"""tokens: a shorter text is repeated up to the end of its class, so that one proof will do"""
COMPARED = 16
"""positions of a text that are compared at least; where the decoder is cheap, as many as their
logits fit into ``BLOCK_FLOATS``"""


@dataclass(frozen=True)
class InnerText:
    """A text with an inner row at every position, each another, as far as there are."""

    ids: Tensor
    """(1, position)"""
    resid: Tensor
    """(1, position, width)"""
    cells: Tensor
    """(2, position) row and column of the stream that each is taken from"""
    compared: Sequence[int]
    """positions"""


@torch.inference_mode()
def prove_on_text(
    lens_model: LensModel, decoder: Decoder, ids: Sequence[int], stream: Stream
) -> None:
    """Hold the inner rows of a text against the model's own tail, unless a text of its class was;
    raises ProofError."""
    top = class_of(len(ids))
    if len(ids) <= lens_model.proven_lengths.get(top, 0):
        return
    if not decoder.per_position or len(stream.rows) < 2:  # it decodes by whole passes anyway
        return
    parts, route = lens_model.parts, lens_model.route
    length = proven_length(len(ids), lens_model.context)
    try:
        decoded, truth = both_of(lens_model, decoder, stream, ids, length)
    except MISFITS:  # some take less than their configuration says
        length = len(ids)
        decoded, truth = both_of(lens_model, decoder, stream, ids, length)
    result = agreement(decoded, truth, None if route.exact else parts.weight.dtype)
    if not result.agrees:
        raise ProofError(
            f"inner rows of a text of {len(ids)} tokens are not decoded as the model's own tail "
            f"decodes them: logits differ by up to {result.error:.3g}, allowed is "
            f"{result.allowed:.3g}; KL is up to {result.kl:.3g} nats "
            f"({' -> '.join(parts.describe(route.direct))})",
            "no figure is drawn of this model, since it would be wrong",
        )
    lens_model.proven_lengths[top] = length


def both_of(
    lens_model: LensModel, decoder: Decoder, stream: Stream, ids: Sequence[int], length: int
) -> tuple[Tensor, Tensor]:
    """The compared cells of a text, repeated up to ``length``: decoded, and by the model's tail."""
    model, parts = lens_model.model, lens_model.parts
    most = COMPARED if decoder.whole_vocabulary else BLOCK_FLOATS // parts.vocabulary
    compared = sample_positions(range(length), max(COMPARED, most))
    text = inner_text(ids, compared, length, stream, passes.device_of(model))
    decoded = decoded_cells(decoder, stream, text)
    return decoded, tail_of(model, parts, lens_model.route, text)


def class_of(length: int) -> int:
    """The longest text of the class of a length."""
    return max(SHORTEST_CLASS, 1 << (length - 1).bit_length())


def proven_length(length: int, context: int | None) -> int:
    """The longest text that is proven along with one of this length: the longest of its class, as
    far as the model takes it and it costs little."""
    top = class_of(length)
    return max(length, min(top, context or length)) if top <= LONGEST_REPEATED else length


def inner_text(
    ids: Sequence[int], compared: Sequence[int], length: int, stream: Stream, device: torch.device
) -> InnerText:
    """The text, repeated up to ``length``. Inner rows go up by one from column to column; the
    smallest and the largest vectors of all are there too."""
    columns = stream.resid.shape[1]
    column = torch.arange(length) % columns
    row = torch.arange(length) % (len(stream.rows) - 1)
    inner = stream.resid[:-1]
    # In the place of others, since which vector stands where does not matter.
    sizes = inner.float().norm(dim=-1).flatten().cpu()
    for position, cell in zip(compared[1:3], (sizes.argmax(), sizes.argmin()), strict=False):
        row[position], column[position] = divmod(int(cell), columns)
    resid = inner[row.to(inner.device), column.to(inner.device)][None]
    repeated = [ids[n % len(ids)] for n in range(length)]
    return InnerText(
        torch.tensor([repeated], device=device), resid, torch.stack([row, column]), compared
    )


def decoded_cells(decoder: Decoder, stream: Stream, text: InnerText) -> Tensor:
    """The logits of the compared cells, (compared, vocabulary), decoded as the grid does: where the
    model's own code decodes, with all the rows and columns beside them."""
    if not decoder.whole_vocabulary:
        prepared = decoder.prepare(text.resid[:, text.compared])
        return torch.cat([decoder.tile(prepared, e)[0] for e in decoder.entries()], -1)
    width, group = decoder.tile_shape(stream.resid.shape[1])
    logits = []
    for row, column in text.cells[:, text.compared].T.tolist():
        first, start = row // group * group, column // width * width
        beside = stream.resid[first : first + group, start : start + width]
        tile = decoder.tile(decoder.prepare(beside), slice(None))
        logits.append(tile[row - first, column - start])
    return torch.stack(logits)


def tail_of(model: Any, parts: ModelParts, route: Route, text: InnerText) -> Tensor:
    """What the model's own tail makes of the compared cells, (compared, vocabulary), where the
    last block leaves them in a whole pass over the text."""
    float32 = route.float32 and route.exact
    resid = text.resid.float() if float32 else text.resid.to(parts.dtype)
    parameters = tail_parameters(parts, float32)
    compared = list(text.compared)
    # The whole text in the head, unless it is long.
    sampled = parts.samples_columns and len(text.ids[0]) * parts.vocabulary > BLOCK_FLOATS
    handles = []
    if sampled:
        handles.append(
            parts.head.register_forward_pre_hook(
                lambda head, args: (args[0][:, compared], *args[1:])
            )
        )
    with passes.hooked(handles):
        logits = tail_logits(model, parts, text.ids, resid, parameters)
    return logits[0] if sampled else logits[0, compared]
