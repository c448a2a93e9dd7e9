"""How a prompt's files are written: whole, in order, all or none."""

import csv
import gc
import io
import re
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conftest import Shell
from matplotlib.figure import Figure

from logitlens_cli.batch.prompts import Prompt
from logitlens_cli.commands import write
from logitlens_cli.commands.all import All
from logitlens_cli.commands.outputs import Outputs, outputs, prompt_files
from logitlens_cli.commands.trace import Trace
from logitlens_cli.commands.translate import figure_style
from logitlens_cli.commands.write import (
    Comparison,
    stage_drawings,
    write_bytes,
    write_comparisons,
    write_reading,
)
from logitlens_cli.errors import UsageError, WorkError
from logitlens_cli.figures.drawing import Drawing
from logitlens_cli.figures.fonts import fallback
from logitlens_cli.figures.pair import Pair, difference_of
from logitlens_cli.figures.pair_panels import difference_panels
from logitlens_cli.figures.style import FigureStyle
from logitlens_cli.options.reading import TextReadOptions
from logitlens_cli.reading.difference import difference_to_json
from logitlens_cli.reading.dump import dump_to_json, load_dump
from logitlens_cli.reading.record import Reading

PROMPT = Prompt("x", "a", None)
BEGINNINGS = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF", ".json": b'{"schema"'}


@pytest.fixture
def reading(dump_file: Path) -> Reading:
    return load_dump(dump_file)


NO_GLYPH = fallback(["日"])[1]
"""of the reading's pieces of a character; whether there is one depends on the machine"""


def options_in(folder: Path, **options: Any) -> TextReadOptions:
    return All(text="a", target=["next"], out=folder, dpi=40, **options)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_every_file_is_written_and_no_other(reading: Reading, out: Path) -> None:
    options = options_in(out, format="png,svg,pdf", caption=True, table="md,csv")
    files = prompt_files(options, PROMPT, None)
    assert write_reading(reading, files, figure_style(options)) == NO_GLYPH
    assert names(out) == sorted(str(path.relative_to(out)) for path in files.paths())
    for path in files.paths():
        beginning = BEGINNINGS.get(path.suffix, b"")
        assert path.read_bytes().startswith(beginning), path
        assert path.stat().st_size
    assert (out / "x.all.json").read_bytes() == dump_to_json(reading)


def test_figures_do_not_pile_up(reading: Reading, out: Path) -> None:
    """Each holds its pixels, and the command line has no garbage collected while it draws."""
    options = options_in(out, format="png")
    alive = weakref.WeakSet[Figure]()

    def save(stage: object, drawings: list[Drawing], *rest: object) -> frozenset[str]:
        alive.update(drawing.figure for drawing in drawings)
        assert len(alive) == len(drawings) == 1
        return stage_drawings(stage, drawings, *rest)  # type: ignore[arg-type]

    gc.collect()
    gc.disable()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(write, "stage_drawings", save)
            write_reading(reading, prompt_files(options, PROMPT, None), figure_style(options))
    finally:
        gc.enable()
    assert len(names(out)) == 5


def test_texts_tell_of_their_own_figure(reading: Reading, out: Path) -> None:
    options = options_in(out, format="none", json=False, caption=True, table="csv")
    write_reading(reading, prompt_files(options, PROMPT, None), figure_style(options))
    assert "KL(final || layer)" in (out / "x.kl-final.txt").read_text("utf-8")
    assert "rank of the true next token" in (out / "x.rank.txt").read_text("utf-8")
    (rows,) = [list(csv.reader(io.StringIO((out / "x.kl-final.csv").read_text("utf-8"))))]
    assert rows[0][0] == "layer"


def test_a_split_has_a_file_for_every_piece(reading: Reading, out: Path) -> None:
    options = options_in(out, format="svg", json=False, split=4, table="md")
    write_reading(reading, prompt_files(options, PROMPT, 2), figure_style(options))
    figures = ("topk", "rank", "kl-final", "kl-input")
    assert names(out) == sorted(
        f"x.{figure}.{n}.{form}" for figure in figures for n in (1, 2) for form in ("svg", "md")
    )


def test_characters_that_no_font_has_are_those_of_all_figures(
    reading: Reading, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = iter("日本日語")  # of the four figures, one after the other
    monkeypatch.setattr(write, "stage_drawings", lambda *_: frozenset(next(missing)))
    options = options_in(out, format="svg")
    files = prompt_files(options, PROMPT, None)
    assert write_reading(reading, files, figure_style(options)) == frozenset("日本語")


def test_what_fails_leaves_nothing(
    reading: Reading, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise UsageError("odd", "make it even")

    monkeypatch.setattr(write, "stage_texts", fail)
    options = options_in(out, format="svg", caption=True)
    with pytest.raises(UsageError):
        write_reading(reading, prompt_files(options, PROMPT, None), figure_style(options))
    assert not out.exists() or names(out) == []


def test_a_style_that_does_not_fit_is_refused(reading: Reading, out: Path) -> None:
    options = options_in(out, format="svg")
    style = replace(figure_style(options), vmin=1000.0)
    with pytest.raises(UsageError, match=r"^--vmin 1000 is above the upper colour limit"):
        write_reading(reading, prompt_files(options, PROMPT, None), style)
    assert not out.exists() or names(out) == []


def test_a_folder_that_cannot_be_written_is_named(reading: Reading, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file")
    options = options_in(taken, format="none")
    with pytest.raises(WorkError, match=f"^{taken}"):
        write_reading(reading, prompt_files(options, PROMPT, None), figure_style(options))
    assert taken.read_text() == "a file"


def test_lines_are_drawn_of_a_trace(dump_file: Path, out: Path) -> None:
    options = Trace(text="a", metric="kl-final", out=out, format="svg", json=False)
    reading = msgspec.structs.replace(
        load_dump(dump_file), command="trace", options={"metric": "kl-final"}
    )
    write_reading(reading, prompt_files(options, PROMPT, None), figure_style(options))
    assert names(out) == ["x.trace.svg"]
    assert "KL(final || layer)" in (out / "x.trace.svg").read_text("utf-8")


def test_comparisons_are_written_together(reading: Reading, out: Path) -> None:
    style = FigureStyle(dpi=40)
    pair = Pair(reading, reading, "one", "two")
    options = options_in(out, format="svg", caption=True)
    comparisons = []
    for figure in ("kl-final", "topk"):
        numbers = difference_of(pair, figure, style)
        command = f"diff-{figure}"
        comparisons.append(
            Comparison(
                outputs(options, "x", command, (command,), None, json=figure == "topk"),
                difference_panels(pair, figure, numbers, style),
                numbers,
            )
        )
    assert write_comparisons(comparisons, style) == NO_GLYPH
    assert names(out) == [
        *("x.diff-kl-final.svg", "x.diff-kl-final.txt"),
        *("x.diff-topk.json", "x.diff-topk.svg", "x.diff-topk.txt"),
    ]
    written = comparisons[1].numbers
    assert written is not None
    assert (out / "x.diff-topk.json").read_bytes() == difference_to_json(written)


def test_a_comparison_without_numbers_has_no_json(reading: Reading, out: Path) -> None:
    files = Outputs(out / "x.json", None, {}, {})
    assert write_comparisons([Comparison(files, [], None)], FigureStyle()) == frozenset()
    assert not out.exists()


def test_bytes_as_they_are() -> None:
    file = io.BytesIO()
    write_bytes(file, b"\x00a\r\n")
    assert file.getvalue() == b"\x00a\r\n"


@pytest.mark.parametrize("name", ["topk", "trace"])
def test_a_bare_figure_has_its_caption_in_a_file(
    logitlens: Shell, tiny_folder: Path, out: Path, name: str
) -> None:
    line = [name, "the cat", "-m", tiny_folder, "-o", out, "--format", "svg", "--bare", "-q"]
    ran = logitlens(*line, "--name", "x")
    assert ran.code == 0
    assert [Path(path).name for path in ran.out] == [
        *(f"x.{name}.json", f"x.{name}.svg", f"x.{name}.txt")
    ]
    caption = (out / f"x.{name}.txt").read_text()
    assert tiny_folder.name in caption
    assert "decoded with the model's head" in caption.lower()
    svg = (out / f"x.{name}.svg").read_text()
    words = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    assert words
    assert not any("decoded with" in text for text in words)
