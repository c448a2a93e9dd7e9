"""How well a fitted lens does on text that it was not fitted to, beside the plain one."""

import msgspec
import numpy as np

from logitlens_cli.metrics.sums import Floats
from logitlens_cli.reading.record import Layer, ModelRecord, Record
from logitlens_cli.reading.rounding import rounded

FIT_SCHEMA = "logitlens-fit/1"


class LensScores(Record, frozen=True):
    """A lens on the held-out text, by layer; the last one is the model's output."""

    kl_median: list[float]
    """of KL(final || layer), in nats"""
    kl_mean: list[float]
    agrees: list[float]
    """share of the positions whose top guess is the model's own"""


class FitReport(Record, frozen=True):
    """What was fitted to what, and what came of it."""

    schema: str
    key: str
    """changes where the lens would"""
    kind: str
    """"linear" or "jacobian" """
    model: ModelRecord
    corpus: str
    """name of the file"""
    skip_first: int
    """positions of each chunk that were left out"""
    ridge: float | None
    tokens: int
    """positions that were fitted to"""
    chunks: int
    holdout: str | None
    """name of the file of the held-out text; None where it is a part of the corpus"""
    held_out_tokens: int
    held_out_chunks: int
    layers: list[Layer]
    plain: LensScores
    fitted: LensScores
    versions: dict[str, str]


def lens_scores(kl: Floats, agrees: Floats) -> LensScores:
    """Of (row, position) each."""
    return LensScores(
        kl_median=rounded(np.median(kl, 1)),
        kl_mean=rounded(kl.mean(1)),
        agrees=rounded(agrees.mean(1)),
    )


def fit_report_to_json(report: FitReport) -> bytes:
    """The same bytes for the same report; ends with a line feed."""
    return msgspec.json.encode(report) + b"\n"
