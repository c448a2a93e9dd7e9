"""Chunks of text through the model: the stream of all rows."""

from collections.abc import Sequence

from logitlens_cli.lens.capture import INPUT, PromptSlice, Stream, StreamSite, capture, resid_post
from logitlens_cli.lens.lens_model import LensModel
from logitlens_cli.lens.rows import layer
from logitlens_cli.lens.undisturbed import undisturbed
from logitlens_cli.model.anatomy.parts import ModelParts


def fit_sites(parts: ModelParts) -> tuple[StreamSite, ...]:
    """The input row and what leaves each block; the last of them is what maps are fitted to."""
    return (INPUT, *(resid_post(block) for block in range(len(parts.blocks))))


def row_labels(lens_model: LensModel) -> list[str]:
    """The labels of the rows that get a map: all but the last."""
    return [layer(lens_model.parts, site).label for site in fit_sites(lens_model.parts)[:-1]]


def stream_of(lens_model: LensModel, texts: Sequence[Sequence[int]], skip_first: int) -> Stream:
    """One forward pass over some texts of tokens, each longer than ``skip_first``: the stream of
    all rows at the positions from there on, the texts side by side."""
    slices = [
        PromptSlice(ids, range(skip_first, len(ids)), [len(ids) - skip_first - 1]) for ids in texts
    ]
    with undisturbed(lens_model.model):
        return capture(lens_model.model, lens_model.parts, slices, fit_sites(lens_model.parts))
