"""The commands from end to end: which files appear, what they are called, what is in them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from batches import renewed
from conftest import PLASMA, Ran, Shell, tiny_llama
from transformers import PreTrainedTokenizerFast

TEXT = "the cat sat"  # t h e ·cat · s a t
FIGURES = ("topk", "rank", "kl-final", "kl-input")
UNTIED = (
    "logitlens: the input row of {} decodes to the input token in 0 of 8 columns (the model "
    "does not tie its embeddings); --one-hot measures from the token itself"
)
HEADS = {"png": b"\x89PNG\r\n\x1a\n", "svg": b"<?xml", "pdf": b"%PDF-", "json": b'{"schema":'}
HEADS |= {"txt": b"Top guess of every layer", "md": b"| layer | t | h", "csv": b"layer,t,h,e,"}


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    folder = tmp_path_factory.mktemp("tied") / "tied-llama"
    tiny_llama(tie_word_embeddings=True).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def written(folder: Path) -> dict[str, bytes]:
    """Every file under ``folder``, hidden ones too."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def paths(folder: Path, *names: str) -> list[str]:
    return [str(folder / name) for name in names]


def dump(path: Path) -> Any:
    return json.loads(path.read_bytes())


# ---- the contract of names


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["topk"], ["x.topk.json", "x.topk.png", "x.topk.svg"]),
        (["rank"], ["x.rank.json", "x.rank.png", "x.rank.svg"]),
        (["kl-final"], ["x.kl-final.json", "x.kl-final.png", "x.kl-final.svg"]),
        (["kl-input"], ["x.kl-input.json", "x.kl-input.png", "x.kl-input.svg"]),
        (
            ["all"],
            [
                "x.all.json",
                *(f"x.{figure}.{form}" for figure in FIGURES for form in ("png", "svg")),
            ],
        ),
        (["topk", "--format", "pdf,svg"], ["x.topk.json", "x.topk.pdf", "x.topk.svg"]),
        (["topk", "--no-json", "--format", "png"], ["x.topk.png"]),
        (["topk", "--no-json", "--format", "none", "--caption"], ["x.topk.txt"]),
        (
            ["topk", "--no-json", "--format", "svg", "--table", "md,csv"],
            ["x.topk.svg", "x.topk.md", "x.topk.csv"],
        ),
        (
            ["rank", "--split", "3", "--format", "svg"],
            ["x.rank.json", "x.rank.1.svg", "x.rank.2.svg", "x.rank.3.svg"],
        ),
        (
            ["rank", "--split", "3", "--window", "0:6", "--format", "png,svg"],
            ["x.rank.json", *(f"x.rank.{n}.{form}" for n in (1, 2) for form in ("png", "svg"))],
        ),
        (["topk", "--split", "99", "--format", "svg"], ["x.topk.json", "x.topk.1.svg"]),
        (["topk", "--name", "a/b", "--format", "svg"], ["a/b.topk.json", "a/b.topk.svg"]),
        (["trace"], ["x.trace.json", "x.trace.png", "x.trace.svg"]),
        (["trace", "--metric", "entropy", "--format", "pdf"], ["x.trace.json", "x.trace.pdf"]),
    ],
)
def test_files_are_called_as_promised(
    logitlens: Shell, tiny_folder: Path, out: Path, arguments: list[str], names: list[str]
) -> None:
    arguments = ["-t", TEXT, "-m", str(tiny_folder), "-o", str(out), "--name", "x", *arguments]
    command = next(a for a in arguments if a in (*FIGURES, "all", "trace"))
    arguments.remove(command)
    line = [command, *arguments, "--dpi", "40", "-q"]

    planned = logitlens(*line, "--dry-run")
    assert (planned.code, planned.err, out.exists()) == (0, [], False)
    ran = logitlens(*line)
    assert ran == Ran(0, paths(out, *names), [])
    assert planned.out == ran.out
    files = written(out)
    assert sorted(files) == sorted(names)  # and no temporary one
    for name, data in files.items():
        assert data.startswith(HEADS[name.rpartition(".")[2]]), name


def test_a_dry_run_opens_no_model(logitlens: Shell, tmp_path: Path) -> None:
    ran = logitlens("all", "-t", TEXT, "-m", "/nowhere", "-o", tmp_path, "--dry-run", "-q")
    assert (ran.code, len(ran.out), ran.err) == (0, 9, [])
    assert ran.out[0] == f"{tmp_path}/the-cat-sat.all.json"


def test_a_text_needs_no_flag(
    logitlens: Shell, tiny_folder: Path, out: Path, tmp_path: Path
) -> None:
    """The files are those of --text, byte for byte."""
    line = ["topk", "-m", tiny_folder, "--format", "svg"]
    ran = logitlens(*line, TEXT, "-o", out)
    assert ran == Ran(0, paths(out, "the-cat-sat.topk.json", "the-cat-sat.topk.svg"), [])
    logitlens(*line, "--text", TEXT, "-o", tmp_path / "flag")
    assert written(out) == written(tmp_path / "flag")


@pytest.mark.parametrize("flag", [[], ["-t"]])
def test_a_text_that_is_the_name_of_a_file(
    logitlens: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flag: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("b")
    assert logitlens("topk", *flag, "a.txt", "--dry-run", "--format", "png").err[0] == (
        "logitlens: a.txt is read as the text itself; --file a.txt reads that file"
    )


def test_the_default_folder_is_outputs(
    logitlens: Shell, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = logitlens("topk", "-t", TEXT, "-m", tiny_folder, "--format", "svg")
    assert ran.out == ["outputs/the-cat-sat.topk.json", "outputs/the-cat-sat.topk.svg"]


# ---- what is in the dump


def test_rows_columns_and_guesses(read: Shell, out: Path) -> None:
    read("topk", "-t", TEXT, "--name", "x", "--layers", "0,2", "--window", " cat", "--k", "3")
    made = dump(out / "x.topk.json")
    assert [layer["label"] for layer in made["layers"]] == ["input", "0", "2"]
    assert [token["label"] for token in made["tokens"]] == ["·cat"]
    assert made["lens"]["window"] == [3, 4]
    assert [[len(cell) for cell in row] for row in made["guesses"]["ids"]] == [[3]] * 3


@pytest.mark.parametrize(
    ("arguments", "labels"),
    [
        ([], ["input", "0", "1", "2", "3"]),
        (["--every", "2"], ["input", "0", "2", "3"]),
        (["--no-input-row"], ["0", "1", "2", "3"]),
        (["--input-row"], ["input", "0", "1", "2", "3"]),
    ],
)
def test_layers(read: Shell, out: Path, arguments: list[str], labels: list[str]) -> None:
    read("kl-final", "-t", TEXT, "--name", "x", *arguments)
    assert [layer["label"] for layer in dump(out / "x.kl-final.json")["layers"]] == labels


@pytest.mark.parametrize(
    ("target", "name", "ids"),
    [
        (" cat", "id:261", [261] * 8),
        ("id:007", "id:7", [7] * 8),
        ("input", "input", [116, 104, 101, 261, 32, 115, 97, 116]),
        ("next", "next", [104, 101, 261, 32, 115, 97, 116, None]),
    ],
)
def test_targets(read: Shell, out: Path, target: str, name: str, ids: list[int | None]) -> None:
    read("rank", "-t", TEXT, "--name", "x", "--target", target)
    rank = dump(out / "x.rank.json")["metrics"]["rank"]
    assert (rank["target"], rank["target_ids"]) == (name, ids)


def test_the_final_target_is_the_models_own_guess(read: Shell, out: Path) -> None:
    read("rank", "-t", TEXT, "--name", "x")
    made = dump(out / "x.rank.json")
    assert made["metrics"]["rank"]["target_ids"] == made["final_ids"]
    assert made["metrics"]["rank"]["values"][-1] == [1] * 8


@pytest.mark.parametrize(
    ("arguments", "direction", "reference"),
    [
        (["kl-final"], "forward", "final"),
        (["kl-final", "--direction", "reverse"], "reverse", "final"),
        (["kl-input"], "forward", "input"),
        (["kl-input", "--one-hot"], "forward", "input token"),
    ],
)
def test_divergences(
    read: Shell, out: Path, arguments: list[str], direction: str, reference: str
) -> None:
    command = arguments[0]
    read(*arguments, "-t", TEXT, "--name", "x")
    scores = dump(out / f"x.{command}.json")["metrics"][command]
    assert (scores["direction"], scores["reference"]) == (direction, reference)
    first, last = scores["values"][0], scores["values"][-1]
    # KL is nothing where a layer is compared with itself.
    zero, other = (last, first) if reference == "final" else (first, last)
    assert reference == "input token" or max(zero) < 1e-4
    assert min(other) > 0.1


@pytest.mark.parametrize(
    ("arguments", "about"),
    [
        (["entropy"], {"target": None, "reference": None}),
        (["js"], {"target": None, "reference": "final", "direction": None}),
        (["overlap", "--k", "3"], {"k": 3, "reference": "final"}),
        (["cross-entropy"], {"target": "next", "minus": None, "ties": None}),
        (
            ["token-prob", "--target", " cat"],
            {
                **{"target": "id:261", "target_ids": [261] * 8, "target_labels": ["·cat"] * 8},
                **{"quantity": "probability of token 261 ·cat"},
            },
        ),
        (
            ["logit-diff", "--target", "next", "--minus", "id:007"],
            {
                **{"target": "next", "target_ids": [104, 101, 261, 32, 115, 97, 116, None]},
                **{"minus": "id:7", "minus_ids": [7] * 8, "minus_labels": ["<U+0007>"] * 8},
                "quantity": "logit of the true next token minus that of token 7 <U+0007>",
            },
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_commands_of_one_metric(
    read: Shell, logitlens: Shell, out: Path, arguments: list[str], about: dict[str, object]
) -> None:
    name = arguments[0]
    files = [str(out / f"x.{name}.{form}") for form in ("json", "svg")]
    assert read(*arguments, "-t", TEXT, "--name", "x").out == files
    made = dump(out / f"x.{name}.json")
    assert list(made["metrics"]) == [name]
    scores = made["metrics"][name]
    assert scores | about == scores
    before = (out / f"x.{name}.svg").read_bytes()
    again = logitlens("render", files[0], "-o", out, "--format", "svg", "-q")
    assert again.out == files[1:]
    assert (out / f"x.{name}.svg").read_bytes() == before


def test_an_overlap_is_of_the_guesses_in_the_dump(read: Shell, out: Path) -> None:
    """And of the model's own output, also where that is no row of the grid."""
    rows = ["--norm", "no-affine", "--layers", "1"]
    read("topk", "-t", TEXT, "--name", "x", "--k", "3")
    read("overlap", "-t", TEXT, "--name", "x", "--k", "3", *rows)
    made, whole = dump(out / "x.overlap.json"), dump(out / "x.topk.json")
    output = whole["guesses"]["ids"][-1]
    for values, guesses in zip(
        made["metrics"]["overlap"]["values"], made["guesses"]["ids"], strict=True
    ):
        for value, mine, best in zip(values, guesses, output, strict=True):
            assert value == pytest.approx(len({*mine} & {*best}) / 3, abs=1e-6)


def test_a_token_that_is_subtracted_is_named_in_the_refusal(read: Shell) -> None:
    ran = read("logit-diff", "-t", TEXT, "--minus", "cat")
    assert ran.refusal(2).startswith("--minus 'cat' is not one token but 3: c + a + t; ")
    assert (
        "--minus id:300 is not a token"
        in read("logit-diff", "-t", TEXT, "--minus", "id:300").err[0]
    )


def test_a_start_token(read: Shell, out: Path) -> None:
    read("topk", "-t", TEXT, "--name", "x", "--bos", "add")
    made = dump(out / "x.topk.json")
    assert made["lens"]["bos"] is True
    assert made["tokens"][0] | {"next_id": 0} == {
        "position": 0, "id": 262, "label": "<s>", "next_id": 0, "next_label": "t",
    }  # fmt: skip


def test_norms_change_the_numbers(read: Shell, out: Path) -> None:
    for norm in ("full", "no-affine", "none"):
        read("topk", "-t", TEXT, "--name", norm, "--norm", norm)
    made = {norm: dump(out / f"{norm}.topk.json") for norm in ("full", "no-affine", "none")}
    assert {norm: made[norm]["lens"]["norm"] for norm in made} == {n: n for n in made}
    values = [json.dumps(m["metrics"]["own-logit"]["values"]) for m in made.values()]
    assert len(set(values)) == 3


# ---- in the terminal, captions and tables


def test_showing_writes_nothing(
    logitlens: Shell, tiny_folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    line = ["rank", "-t", TEXT, "-m", tiny_folder, "-o", out, "--show", "-q"]
    none = ["--format", "none", "--no-json"]
    ran = logitlens(*line, *none, "--skip-existing")
    assert (ran.code, ran.err) == (0, [])
    assert ran.out[0] == f"Rank of the final top guess – {tiny_folder.name}"
    assert ran.out[3].split() == ["3", *["1"] * 8]  # the last layer, at the top
    assert ran.out[7].split() == ["layer", "t", "h", "e", "·cat", "␣", "s", "a", "t"]
    assert ran.out[8:] == ["rank of the final top guess [1 is best]", ""]
    assert logitlens(*line, *none, "--dry-run") == Ran(0, [], [])
    assert not out.exists()
    # Where files are written, standard output has their paths only.
    both = logitlens(*line, "--format", "none", "--name", "x")
    assert both == Ran(0, paths(out, "x.rank.json"), ran.out)
    assert sorted(written(out)) == ["x.rank.json"]
    again = logitlens("render", out / "x.rank.json", "--format", "none", "--show")
    assert again == ran


def test_showing_needs_no_folder(logitlens: Shell, tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ran = logitlens("topk", "-t", TEXT, "-m", tiny_folder, "-o", tmp_path / "file" / "x", "--show",
                    "--format", "none", "--no-json", "-q")  # fmt: skip
    assert (ran.code, ran.err) == (0, [])


def test_every_figure_and_piece_is_shown(
    logitlens: Shell, tiny_folder: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    line = ["all", "-t", TEXT, "-m", tiny_folder, "-o", out, "--show", "-q", "--format", "none"]
    ran = logitlens(*line, "--no-json", "--split", "5", "--title", "T")
    assert ran.out.count("T") == 8
    below = ["layer", "t", "h", "e", "·cat", "␣"], ["layer", "s", "a", "t"]
    assert [words for row in ran.out if (words := row.split())[:1] == ["layer"]] == [*below] * 4


def test_texts_are_called_as_promised(
    logitlens: Shell, tiny_folder: Path, out: Path, tmp_path: Path
) -> None:
    line = ["rank", "-t", TEXT, "-m", tiny_folder, "-o", out, "--name", "x", "-q", "--dpi", "40",
            "--split", "5", "--format", "png", "--table", "csv,MARKDOWN", "--caption"]  # fmt: skip
    names = ["x.rank.json", "x.rank.1.png", "x.rank.2.png"]
    names += [f"x.rank.{n}.{form}" for n in (1, 2) for form in ("txt", "csv", "md")]
    assert logitlens(*line, "--dry-run") == Ran(0, paths(out, *names), [])
    assert logitlens(*line) == Ran(0, paths(out, *names), [])
    made = written(out)
    assert sorted(made) == sorted(names)
    ranks = dump(out / "x.rank.json")["metrics"]["rank"]["values"]
    rows = [[str(layer), *map(str, ranks[layer + 1][5:])] for layer in (3, 2, 1, 0)]
    expected = [["layer", "s", "a", "t"], *rows]
    assert made["x.rank.2.csv"].decode().splitlines() == [",".join(row) for row in expected]
    table = [row for row in made["x.rank.2.md"].decode().splitlines() if "---" not in row]
    assert table == [f"| {' | '.join(row)} |" for row in expected]
    assert b"positions 5\xe2\x80\x937 of 8 tokens" in made["x.rank.2.txt"]
    # Nothing of it is recorded in the dump, and all of it can be had from there.
    assert not {"show", "table", "caption"} & set(dump(out / "x.rank.json")["options"])
    ran = logitlens("render", out / "x.rank.json", "-o", tmp_path / "again", "--split", "5",
                    "--format", "none", "--table", "csv,md", "--caption")  # fmt: skip
    assert [Path(path).name for path in ran.out] == names[3:]
    assert written(tmp_path / "again") == {name: made[name] for name in names[3:]}
    assert logitlens(*line, "--skip-existing").out == []
    (out / "x.rank.2.md").unlink()
    assert logitlens(*line, "--skip-existing").out == paths(out, *names)


def test_texts_of_many_prompts(read: Shell, out: Path, tmp_path: Path) -> None:
    (lines := tmp_path / "set.txt").write_text("the cat\nthe dog\n")
    line = ["topk", "--lines", lines, "--name", "p{n}", "--format", "none"]
    names = [f"p{n}.topk.{form}" for n in (1, 2) for form in ("json", "csv")]
    assert read(*line).out == [name for name in paths(out, *names) if name.endswith("json")]
    # A table that is not there yet is made; then all is done.
    assert read(*line, "--table", "csv").out == paths(out, *names)
    assert renewed(out, lambda: read(*line, "--table", "csv")) == []


# ---- the same again


def test_the_same_command_gives_the_same_bytes(
    logitlens: Shell, tiny_folder: Path, tmp_path: Path
) -> None:
    for out in ("one", "two"):
        where = ["-m", tiny_folder, "-o", tmp_path / out, "--dpi", "50", "-q"]
        assert logitlens("all", "-t", TEXT, *where, "--format", "png,svg,pdf").code == 0
    assert len(written(tmp_path / "one")) == 13
    assert written(tmp_path / "one") == written(tmp_path / "two")


@pytest.mark.parametrize(
    ("command", "looks", "lens"),
    [
        ("all", [], []),
        ("all", ["--vmax", "20", "--cmap", "rocket", "--title", "T"], ["--target", "input"]),
        ("topk", [], ["--color", "entropy"]),
        ("topk", ["--changes-only", "--input-row"], ["--norm", "no-affine"]),
        ("rank", ["--split", "3"], ["--every", "2"]),
        ("kl-final", ["--format", "pdf", "--no-input-row"], ["--direction", "reverse"]),
        ("trace", ["--vmax", "0.5", "--title", "T"], ["--target", " cat", "--target", "auto"]),
        ("trace", ["--input-row"], ["--metric", "rank", "--position", "2"]),
        ("trace", [], ["--metric", "kl-final", "--window", "1:"]),
        ("trace", [], ["--log", "--target", "final", "--every", "2"]),
    ],
    ids=[
        "all",
        "looks",
        "entropy",
        "changes",
        "split",
        "reverse",
        *(f"trace{n}" for n in range(4)),
    ],
)
def test_render_draws_the_same_bytes(
    logitlens: Shell,
    tiny_folder: Path,
    tmp_path: Path,
    command: str,
    looks: list[str],
    lens: list[str],
) -> None:
    read_to, drawn_to = tmp_path / "read", tmp_path / "drawn"
    looks = [*looks, "--dpi", "50"]
    where = ["-m", tiny_folder, "-o", read_to, "--name", "x"]
    first = logitlens(command, "-t", TEXT, *where, *looks, *lens, "-q")
    ran = logitlens("render", read_to / f"x.{command}.json", "-o", drawn_to, *looks)
    assert (ran.code, ran.err) == (0, [])
    assert ran.out == [path.replace(str(read_to), str(drawn_to)) for path in first.out[1:]]
    before = written(read_to)
    del before[f"x.{command}.json"]
    assert written(drawn_to) == before


def test_render_one_of_several(read: Shell, logitlens: Shell, out: Path, tmp_path: Path) -> None:
    read("all", "-t", TEXT, "--name", "x")
    drawn = tmp_path / "drawn"
    for metric in ("rank", "topk", "prob"):
        ran = logitlens("render", out / "x.all.json", metric, "-o", drawn, "--format", "svg")
        assert ran == Ran(0, [str(drawn / f"x.{metric}.svg")], [])
    one = logitlens("render", out / "x.all.json", "topk", "-o", drawn, "--color", "prob",
                    "--name", "p", "--format", "svg")  # fmt: skip
    assert one.out == [str(drawn / "p.topk.svg")]
    assert written(drawn)["p.topk.svg"] != written(drawn)["x.topk.svg"]


def test_render_needs_the_numbers(read: Shell, logitlens: Shell, out: Path, tmp_path: Path) -> None:
    read("rank", "-t", TEXT, "--name", "x")
    path = out / "x.rank.json"
    ran = logitlens("render", path, "kl-final", "-o", tmp_path / "drawn")
    assert ran.refusal(2) == f"{path} holds no 'kl-final'; it holds rank"
    ran = logitlens("render", path, "../../x", "-o", tmp_path / "drawn")
    assert ran.refusal(2) == f"{path} holds no '../../x'; it holds rank"
    assert not (tmp_path / "drawn").exists()


def test_render_dry_and_skipping(read: Shell, logitlens: Shell, out: Path, tmp_path: Path) -> None:
    read("rank", "-t", TEXT, "--name", "x")
    line = ["render", out / "x.rank.json", "-o", tmp_path / "drawn", "--format", "svg"]
    name = str(tmp_path / "drawn" / "x.rank.svg")
    assert logitlens(*line, "--dry-run") == Ran(0, [name], [])
    assert not (tmp_path / "drawn").exists()
    assert logitlens(*line) == Ran(0, [name], [])
    note = f"logitlens: {name} and its other files exist already; skipped"
    assert logitlens(*line, "--skip-existing") == Ran(0, [], [note])


# ---- what is there already


def test_what_exists_is_skipped_before_the_model_is_opened(
    read: Shell, logitlens: Shell, out: Path
) -> None:
    read("topk", "-t", TEXT, "--name", "x")
    before = written(out)
    line = ["topk", "-t", "other", "--name", "x", "-m", "/nowhere", "-o", out, "--skip-existing"]
    note = f"logitlens: {out}/x.topk.json and its other files exist already; skipped"
    assert logitlens(*line, "--format", "svg") == Ran(0, [], [note])
    assert logitlens(*line, "--format", "svg", "-q") == Ran(0, [], [])
    assert written(out) == before


@pytest.mark.parametrize("gone", ["x.topk.json", "x.topk.svg"])
def test_what_is_not_whole_is_made_again(read: Shell, out: Path, gone: str) -> None:
    read("topk", "-t", TEXT, "--name", "x")
    before = written(out)
    (out / gone).unlink()
    (out / next(name for name in before if name != gone)).write_bytes(b"old")
    ran = read("topk", "-t", TEXT, "--name", "x", "--skip-existing")
    assert ran.out == paths(out, "x.topk.json", "x.topk.svg")
    assert written(out) == before


def test_what_exists_of_a_split(read: Shell, out: Path) -> None:
    line = ["topk", "-t", TEXT, "--name", "x", "--split", "4"]
    names = ["x.topk.json", "x.topk.1.svg", "x.topk.2.svg"]
    assert read(*line).out == paths(out, *names)
    assert read(*line, "--skip-existing").out == []
    (out / "x.topk.2.svg").unlink()
    assert read(*line, "--skip-existing").out == paths(out, *names)


def test_what_exists_is_replaced_without_the_option(read: Shell, out: Path) -> None:
    out.mkdir()
    (out / "x.topk.svg").write_bytes(b"old")
    read("topk", "-t", TEXT, "--name", "x")
    assert (out / "x.topk.svg").read_bytes() != b"old"


# ---- notes


@pytest.mark.parametrize(
    ("arguments", "notes"),
    [
        (["kl-input"], [UNTIED]),
        (["all"], [UNTIED]),
        (["kl-input", "--one-hot"], []),
        (["kl-input", "-q"], []),
        (["kl-final"], []),
        (["topk"], []),
    ],
)
def test_a_model_whose_embedding_is_not_its_head(
    logitlens: Shell, tiny_folder: Path, out: Path, arguments: list[str], notes: list[str]
) -> None:
    where = ["-m", tiny_folder, "-o", out, "--format", "svg"]
    ran = logitlens(*arguments, "-t", TEXT, *where)
    assert (ran.code, ran.err) == (0, [note.format(tiny_folder.name) for note in notes])


def test_a_model_whose_embedding_is_its_head(logitlens: Shell, tied: Path, out: Path) -> None:
    where = ["-m", tied, "-o", out, "--name", "x", "--format", "svg"]
    ran = logitlens("kl-input", "-t", TEXT, *where)
    assert (ran.code, ran.err) == (0, [])
    assert dump(out / "x.kl-input.json")["model"]["tied"] is True


ODD = "日 $x_1$ \\frac %s <&> \t\u202e\u200b e\u0301 \U0001f600 ⇥·"


def test_any_text_can_be_drawn(read: Shell, out: Path) -> None:
    ran = read("topk", "-t", ODD, "--name", "x", "--format", "png,svg,pdf", "--dpi", "40")
    assert (ran.code, ran.err, len(ran.out)) == (0, [], 4)
    assert dump(out / "x.topk.json")["text"] == ODD


# ---- the default model


def test_the_default_model(logitlens: Shell, out: Path) -> None:
    ran = logitlens("all", "-t", PLASMA, "-o", out, "--name", "plasma", "--dpi", "50")
    figures = [f"plasma.{figure}.{form}" for figure in FIGURES for form in ("png", "svg")]
    note = (
        "logitlens: the input row of smollm2 decodes to the input token in 18 of 21 columns; "
        "--one-hot measures from the token itself"
    )
    assert ran == Ran(0, paths(out, "plasma.all.json", *figures), [note])
    made = dump(out / "plasma.all.json")
    assert (made["model"]["name"], made["model"]["blocks"]) == ("smollm2", 30)
    assert made["model"]["tied"] is True
    assert made["check"]["passed"] is True
    assert len(made["layers"]) == 31
    assert made["tokens"][-1]["next_label"] is None
    assert made["guesses"]["labels"][-1][-1][0] == ","
    assert made["metrics"]["rank"]["values"][-1] == [1] * len(made["tokens"])


def test_a_batch_of_traces_is_as_one_by_one(read: Shell, out: Path, tmp_path: Path) -> None:
    """The last column of each prompt, whatever the lengths of the others."""
    texts = ("the cat sat", "the", "the cat sat on the mat")
    lines = tmp_path / "lines.txt"
    lines.write_text("\n".join(texts) + "\n")
    ran = read("trace", "--lines", lines, "--metric", "logit", "--target", " cat")
    assert ran.code == 0
    for n, text in enumerate(texts, 1):
        assert read("trace", "-t", text, "--name", f"own-{n}", "--metric", "logit",
                    "--target", " cat").code == 0  # fmt: skip
        mine, own = (dump(out / f"{name}-{n}.trace.json") for name in ("lines", "own"))
        assert mine["tokens"] == own["tokens"]
        assert len(mine["tokens"]) == 1
        assert (mine["followed"]["ids"], mine["followed"]["chosen"]) == ([261], [261])
        assert mine["followed"]["ranks"] == own["followed"]["ranks"]
        for key in ("logits", "probs"):
            np.testing.assert_allclose(mine["followed"][key], own["followed"][key], rtol=1e-4)
    # A prompt that is too short for the position fails by itself.
    ran = read("trace", "--lines", lines, "--position", "5", "--name", "p{n}", "--format", "none")
    assert (ran.code, len(ran.out)) == (4, 2)
    assert "--position 5 is outside the text of 3 tokens" in ran.err[0]


def test_a_split_does_not_split_what_has_no_columns(
    logitlens: Shell, tiny_folder: Path, out: Path
) -> None:
    ran = logitlens(
        *("rank", "-t", TEXT, "-m", tiny_folder, "-o", out, "--name", "x", "--format", "png"),
        *("--target", "final", "--target", "auto", "--split", "5", "--dpi", "40"),
    )
    figures = ["x.rank-final.1.png", "x.rank-final.2.png", "x.followed.png"]
    assert ran == Ran(0, paths(out, "x.rank.json", *figures), [])
    ran = logitlens("render", out / "x.rank.json", "followed", "--split", "2", "-o", out / "again")
    assert (ran.code, len(ran.out)) == (0, 2)


def test_a_token_that_is_spelled_like_a_word_of_ours(
    logitlens: Shell, tiny_folder: Path, out: Path
) -> None:
    """The token " cat" and the followed tokens have files of their own."""
    ran = logitlens(
        *("rank", "-t", TEXT, "-m", tiny_folder, "-o", out, "--name", "x", "--format", "png"),
        *("--target", " cat", "--target", "auto", "--target", "id:7", "--dpi", "40"),
    )
    figures = ["x.rank-cat.png", "x.rank-id-7.png", "x.followed.png"]
    assert ran == Ran(0, paths(out, "x.rank.json", *figures), [])


def test_a_model_that_accelerate_places(logitlens: Shell, tiny_folder: Path, out: Path) -> None:
    given = ("rank", "-t", TEXT, "-m", tiny_folder, "-o", out, "--format", "png", "--dpi", "40")
    assert logitlens(*given, "--name", "one").code == 0
    assert logitlens(*given, "--name", "map", "--device-map", "auto").code == 0
    one, spread = (dump(out / f"{name}.rank.json") for name in ("one", "map"))
    assert spread["metrics"] == one["metrics"]
    said = logitlens(*given, "--device", "cpu", "--device-map", "auto").refusal(2)
    assert said == "--device cpu and --device-map auto are both given; give one"


def test_a_dry_run_checks_the_colour_map(logitlens: Shell, tiny_folder: Path, out: Path) -> None:
    given = ("topk", "-t", TEXT, "-m", tiny_folder, "-o", out, "--cmap", "nosuch", "--dry-run")
    assert "--cmap 'nosuch' is unknown" in logitlens(*given).refusal(2)


def test_a_split_counts_the_tokens_of_the_chat_template(logitlens: Shell, out: Path) -> None:
    ran = logitlens(
        *("topk", "-t", "The sky", "--chat", "--split", "10", "-o", out, "--name", "x"),
        *("--format", "png", "--dpi", "40", "--every", "15"),
    )
    pieces = -(-len(dump(out / "x.topk.json")["tokens"]) // 10)
    assert pieces > 1  # the text alone is two tokens
    figures = [f"x.topk.{n}.png" for n in range(1, pieces + 1)]
    assert ran == Ran(0, paths(out, "x.topk.json", *figures), [])


@pytest.mark.parametrize(
    ("text", "notes"),
    [
        ('{"text": "a"}\n{"text": "b"}\n', 1),
        ('{"a": 1}\n', 0),
        ("the cat\n", 0),
    ],
)
def test_a_file_of_json_lines_is_one_text_and_a_note(
    logitlens: Shell, tiny_folder: Path, tmp_path: Path, text: str, notes: int
) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text(text)
    ran = logitlens("topk", "-f", path, "-m", tiny_folder, "-o", tmp_path, "--format", "none")
    assert ran.code == 0
    assert dump(tmp_path / "p.topk.json")["text"] == text.removesuffix("\n")
    assert (
        ran.err
        == [
            f"logitlens: --file {path} looks like JSON lines, and is read as one text; "
            f"--lines {path} reads a prompt of each"
        ]
        * notes
    )
