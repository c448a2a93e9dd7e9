"""The report of a fit as a table, and the fitted lens as a lens."""

from pathlib import Path

import pytest
from conftest import Shell
from fit_reports import REPORT

from logitlens_cli.commands.fit_result import print_report


def test_the_report_is_a_table_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    print_report(REPORT)
    out, err = capsys.readouterr()
    assert out == ""
    rows = [line.split() for line in err.splitlines()[1:4]]
    assert rows == [
        ["1", "0", "0", "100%", "100%"],
        ["0", "10", "1", "20%", "50%"],
        ["input", "100", "3", "1%", "20%"],
    ]
    assert "4000 positions fitted to, 252 others measured" in err


def test_a_fitted_lens_is_known_by_that_name(
    logitlens: Shell, read: Shell, tiny_folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Without --out it goes where ``--lens fitted`` looks, and says what it was fitted on."""
    monkeypatch.setenv("LOGITLENS_CACHE", str(tmp_path / "cache"))
    lines = tmp_path / "corpus.txt"
    lines.write_text("\n".join(f"the cat number {n} and so on" for n in range(60)))
    ran = logitlens("fit", "--lines", lines, "-m", tiny_folder, "--format", "none")
    lens = tmp_path / "cache" / "tiny-llama.lens.safetensors"
    assert ran.out[0] == str(lens)
    shown = " ".join(" ".join(logitlens("lenses", "show", lens).out).split())
    assert "kind linear model tiny-llama" in shown
    assert "fitted on corpus tokens" in shown
    drawn = read("topk", "the cat", "--lens", "fitted", "--name", "a", "--caption")
    assert drawn.code == 0
    caption = (tmp_path / "out" / "a.topk.txt").read_text()
    assert "linear lens, fitted on corpus (" in caption.replace("Linear", "linear")
