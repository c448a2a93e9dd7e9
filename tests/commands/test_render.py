"""Several dumps at once: one scale of colours, files that meet."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Shell
from drawn import mesh_of
from options_of import parsed, refusal
from readings import as_dump, make

from logitlens_cli.commands.render import Render
from logitlens_cli.figures import heatmap
from logitlens_cli.figures.fonts import scripts_of
from logitlens_cli.figures.reading_panels import figures_of
from logitlens_cli.figures.shared_scale import shared_colors
from logitlens_cli.figures.style import FigureStyle
from logitlens_cli.options.metric import Color
from logitlens_cli.reading.dump import load_dump


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """The hand-made reading with logits of 10 to 22 in its blocks, and with those 100 higher."""
    first, second = tmp_path / "a.all.json", tmp_path / "b.all.json"
    first.write_bytes(as_dump(make()))
    dump = json.loads(first.read_text())
    rows = dump["metrics"]["own-logit"]["values"]
    dump["metrics"]["own-logit"]["values"] = [[v + 100 for v in row] for row in rows]
    second.write_text(json.dumps(dump))
    return [first, second]


def given(*words: object) -> list[str]:
    return [str(word) for word in words]


def test_colours_of_several_dumps_reach_as_far_as_any(two: list[Path]) -> None:
    readings = [load_dump(path) for path in two]
    made = shared_colors([(r.name, r, figures_of(r)) for r in readings], FigureStyle())
    assert sorted(made) == ["kl-final", "rank", "topk"]
    assert (made["topk"].low, made["topk"].high) == (10, 122)
    assert (made["rank"].low, made["rank"].high) == (1, 100)  # the metric's own
    mesh = mesh_of(heatmap.draw_heatmaps(make(), "topk", FigureStyle(shared_colors=made))[0].figure)
    assert (mesh.norm.vmin, mesh.norm.vmax) == (10, 122)


def test_one_scale_on_the_command_line(two: list[Path], logitlens: Shell, tmp_path: Path) -> None:
    line = ("render", *two, "topk", "--format", "svg", "-q", "-o")
    ran = logitlens(*line, tmp_path / "own")
    assert [Path(path).name for path in ran.out] == ["a.topk.svg", "b.topk.svg"]
    shared = logitlens(*line, tmp_path / "one", "--share-scale")
    assert shared.code == 0
    for path, own in zip(shared.out, ran.out, strict=True):
        assert Path(path).read_bytes() != Path(own).read_bytes()
        assert ">120</text>" in Path(path).read_text()  # a tick of the shared colour bar
    assert ">120</text>" not in Path(ran.out[0]).read_text()


def test_different_quantities_share_no_scale(two: list[Path], logitlens: Shell) -> None:
    dump = json.loads(two[1].read_text())
    dump["metrics"]["rank"]["quantity"] = "rank of the input token"
    two[1].write_text(json.dumps(dump))
    said = logitlens("render", *two, "rank", "--share-scale").refusal(2)
    assert "rank is rank of the final top guess [1 is best] in" in said
    assert said.endswith("only one quantity can share a scale")


def test_what_would_write_one_file_twice_is_refused(
    two: list[Path], logitlens: Shell, tmp_path: Path
) -> None:
    twin = tmp_path / "x" / "a.all.json"
    twin.parent.mkdir()
    twin.write_bytes(two[0].read_bytes())
    ran = logitlens("render", two[0], twin, "rank", "--dry-run", "-o", tmp_path / "o")
    assert ran.code == 2
    assert "would both write" in ran.err[0]
    said = logitlens("render", *two, "--name", "x").refusal(2)
    assert said == "--name 'x' cannot name 2 dumps; leave it out"


def test_the_last_word_is_a_metric_unless_it_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "rank").touch()
    assert Render(given=["a.json", "rank"]).metric == "rank"
    assert Render(given=["a.json", "b.json"]).metric is None
    assert Render(given=["rank"]).metric is None  # then there is no dump
    assert Render(given=given("a.json", tmp_path / "rank")).metric is None
    assert Render(given=["a.json", "topk"], color=Color("prob")).dumps == [Path("a.json")]


def test_options() -> None:
    made = parsed("render", "d.json", "rank", "--color", "prob", "--split", "3", "--no-input-row")
    assert made == Render(given=["d.json", "rank"], color=Color("prob"), split=3, input_row=False)


def test_nothing_to_draw() -> None:
    said = refusal(lambda: Render(given=["d"], format="none"))
    assert said == "--format none leaves nothing to draw; name a format, or --show"


@pytest.mark.parametrize("looks", [{"show": True}, {"table": "csv"}, {"caption": True}])
def test_a_dump_need_not_be_drawn(looks: dict[str, Any]) -> None:
    assert Render(given=["d"], format="none", **looks).writes == ("show" not in looks)


def test_scripts_are_named_with_what_brings_their_fonts() -> None:
    assert scripts_of("漢あ한ก") == {
        "Han": "fonts-noto-cjk",
        "Hangul": "fonts-noto-cjk",
        "Hiragana": "fonts-noto-cjk",
        "Thai": "fonts-noto-core",
    }
    assert scripts_of("。ー、") == {"Han": "fonts-noto-cjk"}  # of several scripts
    assert scripts_of("😀🏽🇫") == {"emoji": "fonts-symbola"}
    assert scripts_of("①") == {"symbols": "fonts-noto-core"}
    assert scripts_of("\U000e0000") == {"Unknown": "fonts-noto-core"}
