"""Figures that would be too large are refused, early and late, with what makes them smaller."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Shell

from logitlens_cli.batch.session import Session
from logitlens_cli.errors import UsageError
from logitlens_cli.figures import page
from logitlens_cli.figures.layout import lay_out
from logitlens_cli.figures.page import PAGES, require_drawable, require_size
from logitlens_cli.figures.panel import Panel
from logitlens_cli.figures.style import Colors, FigureStyle, Width


def panel(rows: int, columns: int) -> Panel:
    """With everything as long as it may be."""
    cell = "W" * 40
    return Panel(
        values=np.zeros((rows, columns)),
        texts=[[cell] * columns] * rows,
        outlined=np.zeros((rows, columns), bool),
        rows=[cell] * rows,
        input_labels=[cell] * columns,
        next_labels=[cell] * columns,
        title="long words of a title " * 20,
        notes=["a note that tells the reader of something"] * 8,
        bar_label="a quantity of many words that goes over lines [unit]",
        colors=Colors("linear", 0, 1, "viridis"),
        next_is_guess=[True] * columns,
        second_lines=[["<.01"] * columns] * rows,
        guesses=True,
    )


def refusal(check: Any, *given: Any) -> UsageError | None:
    try:
        check(*given)
    except UsageError as error:
        return error
    return None


def style_of(width: str, dpi: int = 300) -> FigureStyle:
    return FigureStyle(width=Width(width), dpi=dpi)


def late(rows: int, columns: int, width: str, dpi: int) -> None:
    """What ``heatmap.draw_panels`` asks before it paints."""
    require_drawable(rows, columns, style_of(width, dpi))
    (layout,), _ = lay_out([panel(rows, columns)], style_of(width, dpi))
    texts = rows * columns if layout.words.size else 0
    require_size(layout.width, layout.height, dpi, columns, texts)


def test_limits() -> None:
    require_size(50, 50, 300, 100)  # 225 million pixels
    with pytest.raises(UsageError, match=r"50 x 50 inches, at 1200 dpi 60000 x 60000 pixels; use"):
        require_size(50, 50, 1200, 100)
    # 65535 pixels at 300 dpi are 218.45 inches, 1365 cells of 0.16; at 289 dpi it would fit with
    # 8 inches around: 65535 / 226.56 = 289.3. A split into 65535 / 300 / 0.16 less these: 1315.
    require_drawable(30, 1365, style_of("auto"))
    with pytest.raises(UsageError, match=r"would be at least 219 x 5 inches, at 300 dpi 65568 x"
                       r" 1440 pixels; use --split 1315 or --dpi 289$"):  # fmt: skip
        require_drawable(30, 1366, style_of("auto"))
    # 8192 rows of 30 texts: 24 columns hold 196608. No resolution helps; they are too high too.
    with pytest.raises(UsageError, match=r"with 245760 texts in its cells; use --split 24$"):
        require_size(50, 50, 30, 30, 8192 * 30)
    with pytest.raises(UsageError, match=r"use --dpi 83$"):  # 65535 / 785
        require_size(10, 785, 100)
    with pytest.raises(UsageError, match=r"read fewer layers, with --every$"):
        require_size(10, 10**4, 100)


def test_a_page_has_room_for_so_many_columns() -> None:
    require_drawable(30, 350, style_of("single"))
    with pytest.raises(UsageError, match=r"351 columns need 3\.5 inches, and the page has 3\.5; "
                       r"use --split 105$"):  # fmt: skip
        require_drawable(30, 351, style_of("single"))
    with pytest.raises(UsageError, match=r"300 columns need [3-5]\.\d inches, .* --split 105$"):
        lay_out([panel(3, 300)], style_of("single"))  # labels and colour bar need room too


GRIDS = [(rows, columns) for rows in (3, 60, 400) for columns in (5, 64, 65, 400, 3000)]


@pytest.mark.parametrize("width", PAGES)
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_what_is_named_cures(grid: tuple[int, int], width: str) -> None:
    """Early and late, each option by itself; and what is refused early is refused late."""
    rows, columns = grid
    for dpi in (300, 1200):
        early = refusal(require_drawable, rows, columns, style_of(width, dpi))
        # What needs no layout of 3000 columns to be known.
        error = early or refusal(late, rows, columns, width, dpi)
        if error is None:
            continue
        cures = re.findall(r"--(split|dpi) (\d+)", error.hint)
        assert cures, error
        for option, value in cures:
            split = int(value) if option == "split" else columns
            sharp = int(value) if option == "dpi" else dpi
            assert (split, sharp) != (columns, dpi)
            late(rows, split, width, sharp)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit that the tiny model of 64 tokens can reach: 3 inches, 8 columns."""
    monkeypatch.setattr(page, "PIXELS", 900)
    monkeypatch.setattr(page, "AROUND", 0.2)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the model was given to read."""
    given: list[str] = []
    read_group = Session.read_group

    def watched(session: Session, group: Any) -> Any:
        given.extend(planned.name for planned in group)
        return read_group(session, group)

    monkeypatch.setattr(Session, "read_group", watched)
    monkeypatch.setattr(Session, "read", lambda session, planned: watched(session, [planned])[0])
    return given


@pytest.mark.usefixtures("narrow")
def test_nobody_waits_for_a_refusal(read: Shell, passes: list[str], out: Path) -> None:
    ran = read("rank", "-t", "x" * 40)
    assert re.fullmatch(
        r"the figure would be at least 15 x 1 inches, at 300 dpi 4320 x 252 pixels; "
        r"use --split \d", ran.refusal(2),
    )  # fmt: skip
    assert passes == []
    assert not out.exists() or not list(out.iterdir())


@pytest.mark.usefixtures("narrow")
def test_of_a_batch_one_prompt_fails(read: Shell, passes: list[str], tmp_path: Path) -> None:
    lines = tmp_path / "set.txt"
    lines.write_text("\n".join(["x" * 40, "xx"]))
    ran = read("rank", "--lines", lines)
    assert ran.code == 4
    assert "line 1 (set-1): the figure would be at least 15 x 1 inches" in ran.err[0]
    assert passes == ["set-2"]


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize(
    "line",
    [
        ("rank", "--format", "none"),
        ("rank", "--format", "parquet"),
        ("trace",),
        ("trace", "--metric", "entropy"),
        ("rank", "--window", "3:9"),
    ],
    ids=str,
)
def test_what_draws_no_such_figure_is_not_refused(
    read: Shell, passes: list[str], line: tuple[str, ...]
) -> None:
    if "parquet" in line:
        pytest.importorskip("pyarrow")
    read(*line, "-t", "x" * 40)
    assert len(passes) == 1


def test_a_summary_of_no_sane_number_of_layers(
    read: Shell, logitlens: Shell, tmp_path: Path, out: Path
) -> None:
    """The figure of positions is as high as there are layers."""
    import msgspec

    lines = tmp_path / "set.txt"
    lines.write_text("the cat")
    assert read("stats", "--lines", lines).code == 0
    path = out / "set.stats.json"
    made = msgspec.json.decode(path.read_bytes())
    many = 500
    made["layers"] = made["layers"][-1:] * many
    made["sketches"] = {
        name: rows if name == "lock-in" else rows[-1:] * many
        for name, rows in made["sketches"].items()
    }
    for tally in made["tallies"].values():
        for name, rows in tally.items():
            tally[name] = rows[-1:] * many
    path.write_bytes(msgspec.json.encode(made))
    ran = logitlens("stats", "--merge", path, "-o", tmp_path / "merged", "-q", "--dpi", "1200")
    assert re.fullmatch(
        r"the figure would be 9 x 67 inches, at 1200 dpi \d+ x 79741 pixels; use --dpi \d+",
        ran.refusal(2),
    )
    sharp = ran.err[0].rpartition(" ")[2]
    merged = ("stats", "--merge", path, "-o", tmp_path / "merged", "-q", "--format", "svg")
    assert logitlens(*merged, "--dpi", sharp).code == 0
