"""Which files come of what, known before any work."""

from pathlib import Path
from typing import Any

import pytest
from listening import Listening

from logitlens_cli.batch.prompts import Prompt
from logitlens_cli.commands.all import All
from logitlens_cli.commands.outputs import (
    Outputs,
    dump_stem,
    is_skipped,
    outputs,
    piece_count,
    prompt_files,
)
from logitlens_cli.commands.rank import Rank
from logitlens_cli.commands.topk import TopK
from logitlens_cli.commands.trace import Trace
from logitlens_cli.options.reading import TextReadOptions


def names(files: Outputs, folder: str = "o") -> list[str]:
    return [str(path.relative_to(folder)) for path in files.paths()]


@pytest.mark.parametrize(
    ("options", "pieces", "expected"),
    [
        (TopK(text="a", out=Path("o")), None, ["x.topk.json", "x.topk.png", "x.topk.svg"]),
        (
            TopK(text="a", out=Path("o"), json=False, format="pdf,svg"),
            None,
            ["x.topk.pdf", "x.topk.svg"],
        ),
        (
            TopK(text="a", out=Path("o"), format="svg", caption=True, table="csv,md"),
            None,
            ["x.topk.json", "x.topk.svg", "x.topk.txt", "x.topk.csv", "x.topk.md"],
        ),
        (
            TopK(text="a", out=Path("o"), format="none", table="md", split=4),
            2,
            ["x.topk.json", "x.topk.1.md", "x.topk.2.md"],
        ),
        (
            Rank(text="a", out=Path("o"), format="png,svg", json=False),
            2,
            ["x.rank.1.png", "x.rank.1.svg", "x.rank.2.png", "x.rank.2.svg"],
        ),
        (
            All(text="a", out=Path("o"), format="png"),
            None,
            [
                *("x.all.json", "x.topk.png", "x.rank.png", "x.kl-final.png", "x.kl-input.png"),
            ],
        ),
        # What has no columns is not split.
        (
            Rank(text="a", out=Path("o"), format="png", target=["next", "auto"]),
            2,
            ["x.rank.json", "x.rank-next.1.png", "x.rank-next.2.png", "x.followed.png"],
        ),
        (
            Trace(text="a", out=Path("o"), format="svg"),
            None,
            ["x.trace.json", "x.trace.svg"],
        ),
        # A table is a file, of the prompts of a file it is one in a folder.
        (
            TopK(text="a", out=Path("o"), format="parquet,svg"),
            None,
            ["x.topk.json", "x.topk.parquet", "x.topk.svg"],
        ),
        (
            TopK(lines=Path("d/set.v2.txt"), out=Path("o"), format="parquet"),
            None,
            ["x.topk.json", "set.v2.topk.parquet/x.parquet"],
        ),
    ],
)
def test_files_of_a_prompt(
    options: TextReadOptions, pieces: int | None, expected: list[str]
) -> None:
    assert names(prompt_files(options, Prompt("x", "a", None), pieces)) == expected


def test_a_name_may_have_folders_and_dots() -> None:
    options = TopK(text="a", out=Path("o"), format="svg")
    files = prompt_files(options, Prompt("a.b/c.d", "a", None), None)
    assert names(files) == ["a.b/c.d.topk.json", "a.b/c.d.topk.svg"]


def test_figures_and_texts_by_figure_and_piece() -> None:
    options = TopK(text="a", out=Path("o"), format="svg,png", caption=True)
    files = outputs(options, "x", "topk", ("topk", "rank"), 1, json=False)
    assert (files.json, files.parquet) == (None, None)
    assert files.figures == {
        figure: [{form: Path(f"o/x.{figure}.1.{form}") for form in ("svg", "png")}]
        for figure in ("topk", "rank")
    }
    assert files.texts == {figure: [{"txt": Path(f"o/x.{figure}.1.txt")}] for figure in files.texts}
    assert list(files.texts) == ["topk", "rank"]


@pytest.mark.parametrize(
    ("columns", "split", "pieces"),
    [(11, None, None), (11, 3, 4), (12, 3, 4), (1, 3, 1), (3, 3, 1), (4, 3, 2)],
)
def test_pieces(columns: int, split: int | None, pieces: int | None) -> None:
    assert piece_count([0] * columns, split) == pieces


@pytest.mark.parametrize(
    ("name", "command", "stem"),
    [
        ("x.topk.json", "topk", "x"),
        ("a.b.all.json", "all", "a.b"),
        ("x.json", "topk", "x"),
        ("x.topk", "topk", "x"),
        ("x.rank.json", "topk", "x.rank"),
    ],
)
def test_the_stem_of_a_dump(name: str, command: str, stem: str) -> None:
    assert dump_stem(Path("folder") / name, command) == stem


def files_in(folder: Path, **options: Any) -> Outputs:
    return prompt_files(TopK(text="a", out=folder, **options), Prompt("x", "a", None), None)


def test_what_is_there_whole_is_skipped_and_said_so(tmp_path: Path) -> None:
    files, progress = files_in(tmp_path), Listening()
    for path in files.paths():
        assert not is_skipped(files, progress)
        path.write_bytes(b"")
    assert progress.notes == []
    assert is_skipped(files, progress)
    assert progress.notes == [f"{tmp_path}/x.topk.json and its other files exist already; skipped"]


def test_where_there_is_no_file_nothing_is_skipped(tmp_path: Path) -> None:
    """What is shown only has no files, and is to be shown."""
    files = files_in(tmp_path, format="none", json=False, show=True)
    assert list(files.paths()) == []
    assert not files.exist()
