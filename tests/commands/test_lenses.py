"""Lenses with maps on the command line: shown, converted, used, refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Shell
from lens_files import jacobian_file, tuned_folder

WIDTH, BLOCKS = 32, 4
TEXT = "the cat and the cat"


def test_show_says_what_a_lens_is(logitlens: Shell, tmp_path: Path) -> None:
    folder = tuned_folder(tmp_path / "lens", WIDTH, BLOCKS)
    ran = logitlens("lenses", "show", folder)
    facts = dict(line.rstrip().split(maxsplit=1) for line in ran.out)
    assert ran.code == 0
    assert (facts["kind"], facts["width"]) == ("tuned", str(WIDTH))
    assert facts["model"] == "somebody/tiny-llama"
    assert facts["layers"] == "input, 0-2"
    assert len(facts["sha256"]) == 64
    gaps = jacobian_file(tmp_path / "lens.pt", WIDTH, [0, 1, 2, 5, 7, 8])
    assert any(line.split() == ["layers", "0-2,", "5,", "7-8"] for line in
               logitlens("lenses", "show", gaps).out)  # fmt: skip


@pytest.mark.parametrize("kind", ["tuned", "jacobian"])
def test_a_converted_lens_gives_the_same_numbers(
    kind: str, logitlens: Shell, read: Shell, tmp_path: Path, out: Path
) -> None:
    if kind == "tuned":
        lens = tuned_folder(tmp_path / "lens", WIDTH, BLOCKS)
    else:
        lens = jacobian_file(tmp_path / "lens.pt", WIDTH, [0, 1, 2])
    own = tmp_path / "own.safetensors"
    assert logitlens("lenses", "convert", lens, own).out == [str(own)]
    dumps = []
    for name, given in (("theirs", lens), ("own", own)):
        assert read("all", TEXT, "--lens", given, "--name", name).code == 0
        dumps.append(json.loads((out / f"{name}.all.json").read_text()))
    theirs, ours = dumps
    assert theirs["guesses"] == ours["guesses"]
    assert theirs["metrics"] == ours["metrics"]
    assert theirs["lens"]["maps"]["kind"] == ours["lens"]["maps"]["kind"] == kind
    assert theirs["lens"]["maps"]["sha256"] != ours["lens"]["maps"]["sha256"]


def test_figures_and_captions_name_the_lens(read: Shell, tmp_path: Path, out: Path) -> None:
    lens = jacobian_file(tmp_path / "lens.pt", WIDTH, [0, 1, 2], metadata={"corpus": "web"})
    assert read("topk", TEXT, "--lens", lens, "--name", "a", "--caption").code == 0
    words = "acobian lens lens.pt, fitted on web (100 texts)"
    assert words in (out / "a.topk.txt").read_text()
    assert words in (out / "a.topk.svg").read_text()  # in its description, if not on one line


def test_every_kind_of_command_takes_a_lens(read: Shell, tmp_path: Path, out: Path) -> None:
    lens = tuned_folder(tmp_path / "lens", WIDTH, BLOCKS)
    lines = tmp_path / "lines.txt"
    lines.write_text("the cat\nand the dog\n")
    assert read("trace", TEXT, "--lens", lens, "--name", "a").code == 0
    assert read("rank", "--lines", lines, "--lens", lens).code == 0
    assert read("stats", "--lines", lines, "--lens", lens, "--name", "s").code == 0
    summary = json.loads((out / "s.stats.json").read_text())
    assert summary["lens"]["maps"]["kind"] == "tuned"
    assert "tuned lens lens" in (out / "s.stats.svg").read_text()
    for dump in [*out.glob("*.rank.json"), out / "a.trace.json"]:
        assert json.loads(dump.read_text())["lens"]["maps"]["kind"] == "tuned"


def test_two_lenses_are_compared(read: Shell, logitlens: Shell, tmp_path: Path, out: Path) -> None:
    lens = tuned_folder(tmp_path / "lens", WIDTH, BLOCKS)
    read("all", TEXT, "--name", "plain")
    read("all", TEXT, "--name", "tuned", "--lens", lens)
    ran = logitlens("diff", out / "plain.all.json", out / "tuned.all.json", "kl-final",
                    "-o", out, "--format", "svg", "-q")  # fmt: skip
    assert ran.code == 0
    figure = next(path for path in ran.out if path.endswith(".svg"))
    assert "plain lens" in Path(figure).read_text()


def test_a_batch_notices_another_lens(read: Shell, tmp_path: Path, out: Path) -> None:
    lens = jacobian_file(tmp_path / "lens.pt", WIDTH, [0, 1, 2])
    lines = tmp_path / "lines.txt"
    lines.write_text("the cat\n")
    asked = ("rank", "--lines", lines, "--lens", lens, "--no-json")
    read(*asked)
    (figure,) = out.glob("*.rank.svg")
    first = figure.read_bytes()
    read(*asked)
    assert figure.read_bytes() == first
    matrices = {n: 3 * torch.eye(WIDTH).roll(1, 0) for n in range(3)}
    jacobian_file(lens, WIDTH, [0, 1, 2], J=matrices)
    read(*asked)
    assert figure.read_bytes() != first


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--lens", "fitted"], "no lens is fitted to"),
        (["--lens", "nothing"], "there is no lens 'nothing'"),
        (["--lens", "a/../b"], "there is no lens 'a/../b'"),
        (["--lens-revision", "main"], "--lens-revision main does not go with --lens plain"),
    ],
)
def test_what_is_no_lens_is_refused(
    arguments: list[str],
    said: str,
    read: Shell,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("LOGITLENS_CACHE", str(tmp_path / "cache"))
    assert said in read("rank", TEXT, *arguments).refusal(2)


def test_lenses_show_and_convert_refuse_in_one_line(logitlens: Shell, tmp_path: Path) -> None:
    lens = tuned_folder(tmp_path / "lens", WIDTH, BLOCKS)
    absent = tmp_path / "absent"
    assert "there is no lens" in logitlens("lenses", "show", absent).refusal(2)
    assert "no name of a lens" in logitlens("lenses", "convert", lens, absent).refusal(2)
    empty: Any = tmp_path / "empty"
    empty.mkdir()
    assert "holds no lens" in logitlens("lenses", "show", empty).refusal(2)
