"""A report of a fit, by hand."""

from logitlens_cli.reading.fit_report import FIT_SCHEMA, FitReport, LensScores
from logitlens_cli.reading.record import Layer, ModelRecord

REPORT = FitReport(
    schema=FIT_SCHEMA,
    key="k",
    kind="linear",
    model=ModelRecord("tiny$", None, "float32", "cpu", 2, 8, 20, True, "Tiny"),
    corpus="texts",
    skip_first=4,
    ridge=1e-4,
    tokens=4000,
    chunks=16,
    holdout=None,
    held_out_tokens=252,
    held_out_chunks=1,
    layers=[
        Layer("input", "input", None),
        Layer("0", "block", 0),
        Layer("1", "block", 1),
    ],
    plain=LensScores([100.0, 10.0, 0.0], [90.0, 12.0, 0.0], [0.01, 0.2, 1.0]),
    fitted=LensScores([3.0, 1.0, 0.0], [4.0, 1.5, 0.0], [0.2, 0.5, 1.0]),
    versions={},
)
