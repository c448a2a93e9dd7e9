"""``logitlens fit``: which options it has."""

from pathlib import Path

from options_of import parsed

from logitlens_cli.commands.fit import Fit
from logitlens_cli.options.fit_options import Kind

LINES = Path("a.txt")


def test_fit() -> None:
    made = parsed(
        *("fit", "--lines", "a.txt", "--out", "o.safetensors", "--kind", "jacobian", "--tokens"),
        *("9", "--ridge", "0.5", "--skip-first", "2", "--holdout", "b.txt", "--format", "pdf"),
    )
    assert made == Fit(
        lines=LINES, out=Path("o.safetensors"), kind=Kind.jacobian, tokens=9, ridge=0.5,
        skip_first=2, holdout=Path("b.txt"), format="pdf",
    )  # fmt: skip
    assert parsed("fit", "--merge", "a.sums", "b.sums") == Fit(
        merge=True, sums=[Path("a.sums"), Path("b.sums")]
    )
    assert (Fit(lines=LINES).kind, Fit(lines=LINES).ridge) == (Kind.linear, 1e-4)
    assert Fit(lines=LINES, format="none").formats == ()
