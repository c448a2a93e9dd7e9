"""Options of a fit that cannot be."""

from collections.abc import Callable
from pathlib import Path

import pytest
from options_of import refusal

from logitlens_cli.commands.fit import Fit

LINES = Path("a.txt")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            Fit,
            "there is no text; give --lines, a file with one text per line",
        ),
        (
            lambda: Fit(merge=True),
            "--merge and the sums to merge go together; write logitlens fit --merge FILE.sums "
            "FILE.sums --out FILE.safetensors",
        ),
        (
            lambda: Fit(merge=True, sums=[Path("a.sums")], lines=LINES),
            "--merge reads no text, so --lines counts for nothing; leave it out",
        ),
        (
            lambda: Fit(lines=LINES, out=Path("lens.pt")),
            "--out lens.pt is no name of a lens; give FILE.safetensors",
        ),
        (
            lambda: Fit(lines=LINES, ridge=float("nan")),
            "--ridge nan is no number to add; give one such as 1e-4",
        ),
        (
            lambda: Fit(lines=LINES, format="pngs"),
            "--format 'pngs' is unknown; did you mean png? choose from png, svg, pdf, or none",
        ),
        (
            lambda: Fit(lines=LINES, format=","),
            "--format ',' names no format; choose from png, svg, pdf, or none",
        ),
        (
            lambda: Fit(lines=LINES, shard="3/2"),
            "--shard '3/2' is not a part; write I/N, with I from 1 to N",
        ),
        (
            lambda: Fit(lines=LINES, workers=2),
            "--address and --workers are for a cluster; give --engine ray too",
        ),
    ],
)
def test_options_that_cannot_be(make: Callable[[], object], message: str) -> None:
    assert refusal(make) == message
