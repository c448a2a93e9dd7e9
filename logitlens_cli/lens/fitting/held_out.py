"""Texts that nothing was fitted to, decoded plainly and through the maps."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from logitlens_cli.lens import decoders, grid, output_check
from logitlens_cli.lens.capture import Stream
from logitlens_cli.lens.fitting.passes import fit_sites, stream_of
from logitlens_cli.lens.lens_model import LensModel
from logitlens_cli.lens.maps.lens_maps import LoadedMaps
from logitlens_cli.lens.undisturbed import undisturbed, without_autocast
from logitlens_cli.metrics.sums import Floats
from logitlens_cli.metrics.table import METRICS

KL = METRICS["kl-final"]


@dataclass(frozen=True)
class HeldOut:
    """What layers say of texts, each (row, position); the last row is the model's output."""

    kl: Floats
    """KL(final || layer) in nats"""
    agrees: Floats
    """1 where the layer's top guess is the model's own, else 0"""


def held_out_pass(
    lens_model: LensModel,
    maps: LoadedMaps,
    texts: Sequence[Sequence[int]],
    skip_first: int,
) -> tuple[HeldOut, HeldOut]:
    """One forward pass over some texts, decoded plainly and through ``maps``, without the first
    positions of each.

    Raises ProofError where the last row is not the model's own output.
    """
    with undisturbed(lens_model.model):
        # A tail that looks at other positions needs the whole text.
        stream = stream_of(lens_model, texts, 0)
        starts = np.cumsum([0, *map(len, texts)])
        kept = np.concatenate([np.arange(a + skip_first, b) for a, b in pairwise(starts)])
        with without_autocast():
            plain = decode(lens_model, stream, texts)
            fitted = decode(lens_model, replace(stream, maps=maps), texts)
    return tuple(HeldOut(one.kl[:, kept], one.agrees[:, kept]) for one in (plain, fitted))  # type: ignore[return-value]


def decode(lens_model: LensModel, stream: Stream, texts: Sequence[Sequence[int]]) -> HeldOut:
    """KL and agreement of all rows and positions of a stream."""
    parts, route, ids = lens_model.parts, lens_model.route, texts[0]
    decoder = decoders.make_decoder(lens_model.model, parts, route, "full", ids, range(len(ids)))
    check = output_check.check_output(decoder, route.name, stream)
    output_check.require_agreement(check, parts)
    spec = KL.spec()
    sums = grid.grid(decoder, stream, grid.GridSpec(fit_sites(parts), 1, KL.all_needs(spec), {}))
    agrees = (sums.top_ids[..., 0] == sums.final_ids).astype(np.float64)
    return HeldOut(KL.formula(sums, spec), agrees)
