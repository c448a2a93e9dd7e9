"""Which readings can be compared, and the command from end to end."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Ran, Shell
from readings import (
    TEXT,
    changed,
    cut,
    json_like,
    kl,
    lens,
    moved,
    pair,
    reading_of,
    scored,
    without_input,
)

from logitlens_cli.errors import UsageError
from logitlens_cli.figures import pair_panels
from logitlens_cli.figures.pair import difference_of
from logitlens_cli.figures.style import FigureStyle
from logitlens_cli.metrics.spec import Scale
from logitlens_cli.reading.record import Reading


@pytest.mark.parametrize(
    ("b", "words"),
    [
        (
            cut(reading_of(), 2),
            "one has 3 columns and two 2; column 2 is sat at position 6 in one and missing in two; "
            "select the same number of columns with --window, or compare "
            "prompts of one length",
        ),
        (
            cut(reading_of("the dog sat"), 2),
            "one has 3 columns and two 2; column 1 is cat at position 5 in one and dog at "
            "position 5 in two; select the same number of columns with --window, or compare "
            "prompts of one length",
        ),
        (
            reading_of("the dog ran", lens=lens(text_tokens=7)),
            "column 1 is cat at position 5 in one and dog at position 5 in two, and the texts have "
            "20 and 7 tokens; compare one text, or two prompts of one length",
        ),
        (
            moved(reading_of("the dog sat"), 1),
            "column 1 is cat at position 5 in one and dog at position 6 in two; choose the same "
            "positions with --window",
        ),
        (
            reading_of("the dog sat", text=TEXT),
            "the text is the same and column 1 is cat at position 5 in one and dog at position 5 "
            "in two; compare models of one tokenizer",
        ),
        (
            reading_of("the dog sat", model=changed(reading_of().model, vocabulary=120)),
            "the vocabulary has 100 entries in one and 120 in two; compare models of one "
            "tokenizer, or one text",
        ),
        (
            reading_of(labels=[["in", "x", "Y"], ["b", "c", "z"], ["b", "c", "a"]]),
            "token 2 is y in one and Y in two; compare models of one tokenizer",
        ),
    ],
    ids=["fewer", "fewer-and-other", "length", "position", "text", "vocabulary", "label"],
)
def test_columns_that_do_not_fit(b: Reading, words: str) -> None:
    with pytest.raises(UsageError) as refusal:
        pair(reading_of(), b)
    assert str(refusal.value) == words


def test_columns_that_fit() -> None:
    pair(reading_of(), moved(reading_of(), 1))  # the same tokens, after a start token
    pair(
        reading_of(), reading_of(model=changed(reading_of().model, vocabulary=120))
    )  # a padded head, the same text
    pair(reading_of(), reading_of("the dog ran"))


@pytest.mark.parametrize(
    ("b", "name", "words"),
    [
        (
            scored(kl_final=kl([0.0] * 3, [0.0] * 3, [0.0] * 3, direction="reverse")),
            "kl-final",
            "the direction of kl-final is none in one and reverse in two; read both with the same "
            "options",
        ),
        (
            scored(kl_final=kl([0.0] * 3, [0.0] * 3, [0.0] * 3, reference="input token")),
            "kl-final",
            "the reference of kl-final is none in one and input token in two; read both with the "
            "same options",
        ),
        (
            scored(rank=changed(reading_of().metrics["rank"], target="id:5")),
            "rank",
            "the target of rank is none in one and id:5 in two; read both with the same options",
        ),
        (
            scored(own_logit=changed(reading_of().metrics["own-logit"], unit="bits")),
            "topk",
            "the unit of own-logit is logit in one and bits in two; read both with the same "
            "options",
        ),
        (
            scored(rank=changed(reading_of().metrics["rank"], scale=Scale())),
            "rank",
            "the scale of rank is log in one and linear in two; read both with the same options",
        ),
        (
            reading_of(metrics={"rank": reading_of().metrics["rank"]}),
            "kl-final",
            "two holds no 'kl-final'; both hold rank",
        ),
        (
            reading_of(metrics={"prob": reading_of().metrics["own-logit"]}),
            "topk",
            "two holds no 'own-logit'; choose --color of both: none",
        ),
        (
            json_like(reading_of(), without_input),
            "kl-final",
            "row 0 is layer input in one and layer 0 in two; read both with the same --layers, "
            "--every, --subblocks and --input-row",
        ),
        (
            reading_of(
                layers=[
                    *reading_of().layers[:2],
                    changed(reading_of().layers[2], label="5", block=5),
                ]
            ),
            "rank",
            "row 1 is layer 1 in one and layer 5 in two; read both with the same --layers, "
            "--every, --subblocks and --input-row",
        ),
    ],
    ids=["direction", "reference", "target", "unit", "scale", "metric", "color", "input", "layer"],
)
@pytest.mark.parametrize("draw", [difference_of, pair_panels.over_panels])
def test_figures_that_do_not_fit(
    draw: Callable[..., object], b: Reading, name: str, words: str
) -> None:
    with pytest.raises(UsageError) as refusal:
        draw(pair(reading_of(), b), name, FigureStyle())
    assert str(refusal.value) == words


# ---- from end to end


FIGURES = ("topk", "rank", "kl-final", "kl-input")


@pytest.fixture
def dumps(read: Shell, out: Path) -> dict[str, Path]:
    for name, arguments in {
        "cat": ["-t", "the cat sat"],
        "ran": ["-t", "the cat ran"],
        "plain": ["-t", "the cat sat", "--norm", "no-affine"],
        "long": ["-t", "the cat sat on"],
        "every": ["-t", "the cat sat", "--every", "2"],
    }.items():
        assert read("all", *arguments, "--name", name, "--format", "none").code == 0
    return {path.name.partition(".")[0]: path for path in out.iterdir()}


def test_files_numbers_and_names(logitlens: Shell, dumps: dict[str, Path], tmp_path: Path) -> None:
    line = ["diff", dumps["cat"], dumps["plain"], "-o", tmp_path / "d", "--dpi", "40"]
    names = [f"cat-vs-plain.diff-{figure}.{form}" for figure in FIGURES
             for form in ("json", "png", "svg")]  # fmt: skip
    paths = [str(tmp_path / "d" / name) for name in names]
    assert logitlens(*line, "--dry-run") == Ran(0, paths, [])
    assert not (tmp_path / "d").exists()
    assert logitlens(*line) == Ran(0, paths, [])
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == sorted(names)
    made = json.loads((tmp_path / "d" / "cat-vs-plain.diff-kl-final.json").read_text())
    a, b = (json.loads(dumps[name].read_text()) for name in ("cat", "plain"))
    assert made["schema"] == "logitlens-diff/1"
    assert (made["a"]["name"], made["b"]["lens"]["norm"]) == ("cat", "no-affine")
    by_hand = np.subtract(*(d["metrics"]["kl-final"]["values"] for d in (b, a)))
    np.testing.assert_allclose(made["values"], by_hand, rtol=1e-6)
    assert np.abs(by_hand).max() > 1
    rank = json.loads((tmp_path / "d" / "cat-vs-plain.diff-rank.json").read_text())["values"]
    ratio = np.divide(*(d["metrics"]["rank"]["values"] for d in (b, a)))[1:]
    np.testing.assert_allclose(10 ** np.array(rank), ratio, rtol=1e-5)


def test_the_same_command_gives_the_same_bytes(
    logitlens: Shell, dumps: dict[str, Path], tmp_path: Path
) -> None:
    for out in ("one", "two"):
        for more in ([], ["--over"]):
            line = ["diff", dumps["cat"], dumps["ran"], "topk", *more, "--dpi", "40"]
            assert logitlens(*line, "-o", tmp_path / out, "--format", "png,svg,pdf").code == 0
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / out).iterdir()}
                for out in ("one", "two"))  # fmt: skip
    assert one == two
    assert len(one) == 7


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["rank"], ["cat-vs-ran.diff-rank.json", "cat-vs-ran.diff-rank.svg"]),
        (["prob", "--no-json"], ["cat-vs-ran.diff-prob.svg"]),
        (["rank", "--format", "none"], ["cat-vs-ran.diff-rank.json"]),
        (["rank", "--over"], ["cat-vs-ran.over-rank.svg"]),
        (["--over", "topk", "--split", "5"], [f"cat-vs-ran.over-topk.{n}.svg" for n in (1, 2)]),
        (["kl-input", "--name", "a/b", "--no-json"], ["a/b.diff-kl-input.svg"]),
    ],
)
def test_files_of_one_figure(
    logitlens: Shell,
    dumps: dict[str, Path],
    tmp_path: Path,
    arguments: list[str],
    names: list[str],
) -> None:
    form = [] if "--format" in arguments else ["--format", "svg"]
    out = tmp_path / "d"
    ran = logitlens("diff", dumps["cat"], dumps["ran"], *arguments, *form, "-o", out)
    assert ran == Ran(0, [str(out / name) for name in names], [])
    assert all((out / name).stat().st_size > 1000 for name in names)


def test_dumps_of_one_name_are_told_apart_by_their_folders(
    logitlens: Shell, dumps: dict[str, Path], tmp_path: Path
) -> None:
    for folder, name in (("one", "cat"), ("two", "ran")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.all.json").write_bytes(dumps[name].read_bytes())
    line = ["diff", tmp_path / "one/x.all.json", tmp_path / "two/x.all.json", "rank", "-o"]
    ran = logitlens(*line, tmp_path / "d", "--format", "none")
    assert ran.out == [str(tmp_path / "d" / "one-x-vs-two-x.diff-rank.json")]
    assert json.loads(Path(ran.out[0]).read_text())["b"]["name"] == "two/x"


def test_what_is_there_is_skipped(logitlens: Shell, dumps: dict[str, Path], tmp_path: Path) -> None:
    line = ["diff", dumps["cat"], dumps["ran"], "-o", tmp_path / "d", "--format", "svg", "-q"]
    assert logitlens(*line, "rank", "--name", "x").code == 0
    (tmp_path / "d" / "x.diff-rank.svg").write_text("old")
    ran = logitlens(*line, "--name", "x", "--skip-existing", "--no-json")
    names = [f"x.diff-{figure}.svg" for figure in FIGURES if figure != "rank"]
    assert ran == Ran(0, [str(tmp_path / "d" / name) for name in names], [])
    assert (tmp_path / "d" / "x.diff-rank.svg").read_text() == "old"


@pytest.mark.parametrize(
    ("other", "arguments", "words"),
    [
        ("long", [], "cat has 8 columns and long 11; column 8 is missing in cat and "),
        ("every", ["rank"], "row 1 is layer 1 in cat and layer 2 in every; read both with the "),
        ("ran", ["nosuch"], "'nosuch' is not a grid of both "),
        ("ran", ["--cmap", "nosuch"], "--cmap 'nosuch' is unknown; name a map of "),
        (
            "ran",
            ["--format", "parquet"],
            "--format 'parquet' is unknown; choose from png, svg, pdf, or none",
        ),
        ("ran", ["--format", "none", "--over"], "--format none leaves nothing to write; "),
        ("ran", ["--format", "none", "--no-json"], "--format none leaves nothing to write; "),
        ("ran", ["--skip-first", "9"], "--skip-first 9 leaves no column; "),
        ("ran", ["rank", "--vmax", "-9"], "--vmax -9 is below the lower colour limit "),
        ("ran", ["rank", "--over", "--vmin", "0"], "--vmin 0 on a logarithmic scale; "),
    ],
)
def test_refusals_write_nothing(
    logitlens: Shell,
    dumps: dict[str, Path],
    tmp_path: Path,
    other: str,
    arguments: list[str],
    words: str,
) -> None:
    line = ["diff", dumps["cat"], dumps[other], *arguments, "-o", tmp_path / "d"]
    assert logitlens(*line).refusal(2).startswith(words)
    assert logitlens(*line, "--dry-run").refusal(2).startswith(words)
    assert not (tmp_path / "d").exists()


def test_a_dump_that_is_none(logitlens: Shell, dumps: dict[str, Path], tmp_path: Path) -> None:
    line = ["diff", dumps["cat"], "none.json", "rank", "-o", tmp_path / "d"]
    words = "none.json: No such file or directory; name a JSON dump of logitlens"
    assert logitlens(*line).refusal(2) == words
    assert "Missing argument 'B.json'" in logitlens("diff", dumps["cat"]).refusal(2)


def test_followed_tokens_are_no_columns(
    read: Shell, logitlens: Shell, out: Path, tmp_path: Path
) -> None:
    read("rank", "-t", "the cat", "--name", "x", "--target", "auto", "--format", "none")
    path = out / "x.rank.json"
    words = logitlens("diff", path, path, "followed", "-o", tmp_path / "d").refusal(2)
    assert words == f"'followed' is not a grid of both {path} and {path}; they share none"
    words = logitlens("diff", path, path, "-o", tmp_path / "d").refusal(2)
    assert words == f"{path} and {path} share no grid; read both with logitlens all"
