"""``logitlens overlay``."""

from pathlib import Path

import pytest
from conftest import Shell


@pytest.fixture
def summaries(logitlens: Shell, tiny_folder: Path, tmp_path: Path) -> list[Path]:
    lines = tmp_path / "lines.txt"
    lines.write_text("the cat sat\nthe dog\n")
    made = []
    for norm in ("full", "none"):
        line = ["stats", "--lines", lines, "-m", tiny_folder, "-o", tmp_path, "-q"]
        ran = logitlens(*line, "--norm", norm, "--name", norm, "--format", "none")
        assert ran.code == 0
        made.append(tmp_path / f"{norm}.stats.json")
    return made


def test_figures_are_named_by_their_summaries(
    logitlens: Shell, summaries: list[Path], out: Path
) -> None:
    ran = logitlens("overlay", *summaries, "-o", out, "--format", "svg")
    assert (ran.code, ran.out) == (0, [str(out / "full-vs-none.overlay.svg")])
    ran = logitlens("overlay", *summaries, "kl-final", "-o", out, "--format", "svg", "--bare")
    names = ["full-vs-none.overlay-kl-final.svg", "full-vs-none.overlay-kl-final.txt"]
    assert ran.out == [str(out / name) for name in names]
    caption = (out / names[1]).read_text()
    assert "full norm" in caption
    assert "2 prompts" in caption
    ran = logitlens("overlay", *summaries, "-o", out, "--format", "svg", "--dry-run")
    assert ran.out == [str(out / "full-vs-none.overlay.svg")]
    ran = logitlens("overlay", *summaries, "-o", out, "--format", "svg", "--skip-existing")
    assert (ran.code, ran.out) == (0, [])


def test_refusals(logitlens: Shell, summaries: list[Path], out: Path) -> None:
    for arguments, refused in (
        ([*summaries, "kl-finl"], "'kl-finl' is not in all of these summaries; did you mean"),
        (["kl-final"], "kl-final: No such file or directory; name a summary"),
        ([*summaries, "--label", "a"], "--label names 1 of 2 files; give one"),
        ([*summaries, "--format", "none"], "--format none leaves nothing to draw"),
        ([summaries[0].with_suffix(".csv.json")], "No such file or directory; name a summary"),
    ):
        ran = logitlens("overlay", *arguments, "-o", out)
        assert refused in ran.refusal(2)
    assert not out.exists()
