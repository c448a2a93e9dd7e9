"""Several lenses of one text: a set of files each, one scale, the model opened once."""

import json
import re
from pathlib import Path

import pytest
from conftest import Shell
from lens_files import tuned_folder

from logitlens_cli.batch import session

TEXT = "the cat and the cat"


@pytest.fixture
def lens(tmp_path: Path) -> Path:
    return tuned_folder(tmp_path / "tuned", 32, 4)


def test_each_lens_has_its_files_and_all_share_a_scale(
    lens: Path, read: Shell, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    open_once = session.open_lens_model

    def counted(*given: object, **named: object) -> object:
        opened.append(1)
        return open_once(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(session, "open_lens_model", counted)
    ran = read("topk", TEXT, "--name", "a", "--lens", "plain", "--lens", lens, "--caption")
    names = [Path(path).name for path in ran.out]
    ends = ("topk.json", "topk.svg", "topk.txt")
    assert names == [f"a.{one}.{end}" for one in ("plain", "tuned") for end in ends]
    assert len(opened) == 1
    captions = [(out / f"a.{one}.topk.txt").read_text() for one in ("plain", "tuned")]
    scales = [re.search(r"Colour: [^;.]*, (-?[\d.]+ to [\d.]*\d)", words) for words in captions]
    assert scales[0] is not None
    assert scales[1] is not None
    assert scales[0][1] == scales[1][1]
    plain, tuned = (json.loads((out / f"a.{n}.topk.json").read_text()) for n in ("plain", "tuned"))
    assert plain["lens"]["maps"] is None
    assert tuned["lens"]["maps"]["kind"] == "tuned"
    drawn = [row for one in (plain, tuned) for row in one["guesses"]["logits"][1:]]  # no input row
    logits = [cell[0] for row in drawn for cell in row]
    low, high = map(float, scales[0][1].split(" to "))
    assert low == pytest.approx(min(logits), rel=0.01)
    assert high == pytest.approx(max(logits), rel=0.01)


def test_each_lens_gives_what_it_gives_alone(lens: Path, read: Shell, out: Path) -> None:
    read("rank", TEXT, "--name", "a", "--lens", lens, "--lens", "plain")
    read("rank", TEXT, "--name", "b", "--lens", lens)
    both, alone = (json.loads((out / f"{n}.rank.json").read_text()) for n in ("a.tuned", "b"))
    assert both["metrics"] == alone["metrics"]
    assert both["guesses"] == alone["guesses"]


def test_what_is_there_is_not_done_again(lens: Path, read: Shell, out: Path) -> None:
    asked = ("trace", TEXT, "--name", "a", "--lens", "plain", "--lens", lens)
    planned = read(*asked, "--dry-run").out
    assert read(*asked).out == planned
    stamps = [path.stat().st_mtime_ns for path in sorted(out.iterdir())]
    assert read(*asked, "--skip-existing").out == []
    assert [path.stat().st_mtime_ns for path in sorted(out.iterdir())] == stamps


def test_splits_have_as_many_files_for_each(lens: Path, read: Shell) -> None:
    asked = ("rank", TEXT, "--name", "a", "--lens", "plain", "--lens", lens, "--split", "6")
    planned = read(*asked, "--dry-run").out
    assert [Path(path).name for path in planned] == [
        f"a.{one}.rank.{end}" for one in ("plain", "tuned") for end in ("json", "1.svg", "2.svg")
    ]
    assert read(*asked).out == planned


def test_lenses_of_one_name_and_files_of_lines_are_refused(
    lens: Path, read: Shell, tmp_path: Path
) -> None:
    same = tuned_folder(tmp_path / "more" / "tuned", 32, 4)
    assert "both called tuned" in read("rank", TEXT, "--lens", lens, "--lens", same).refusal(2)
    lines = tmp_path / "lines.txt"
    lines.write_text("a\nb\n")
    ran = read("rank", "--lines", lines, "--lens", "plain", "--lens", lens)
    assert "cannot share --lines" in ran.refusal(2)
