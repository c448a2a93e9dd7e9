"""What is refused before any work: no model is opened, no file is written."""

import sys
from pathlib import Path

import pytest
from conftest import Shell
from options_of import refusal

from logitlens_cli.commands import checks
from logitlens_cli.commands.all import All
from logitlens_cli.commands.checks import check_extras, check_limits
from logitlens_cli.commands.metric import metric_options
from logitlens_cli.commands.rank import Rank
from logitlens_cli.commands.topk import TopK
from logitlens_cli.commands.trace import Trace
from logitlens_cli.metrics.table import METRICS
from logitlens_cli.options.groups import FigureOptions
from logitlens_cli.options.metric import Color
from logitlens_cli.options.reading import TextReadOptions

LogitDiff = metric_options(METRICS["logit-diff"])
KlFinal = metric_options(METRICS["kl-final"])


def test_a_table_without_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(checks, "find_spec", lambda name: asked.append(name))
    assert refusal(lambda: check_extras(TopK(text="a", format="svg,parquet"))) == (
        '--format parquet needs pyarrow; pip install "logitlens-cli[parquet]"'
    )
    assert asked == ["pyarrow"]
    check_extras(TopK(text="a", format="svg"))  # nobody asks for it here
    assert asked == ["pyarrow"]


def test_an_unknown_color_map() -> None:
    assert refusal(lambda: check_extras(TopK(text="a", cmap="nosuch"))) == (
        "--cmap 'nosuch' is unknown; name a map of matplotlib or seaborn"
    )


@pytest.mark.parametrize(
    "options",
    [
        TopK(text="a"),
        TopK(text="a", cmap="rocket"),
        TopK(text="a", cmap="viridis", format="none"),
        Trace(text="a"),
    ],
)
def test_what_is_there_passes(options: FigureOptions) -> None:
    check_extras(options)


BACKWARDS = "--vmin {} is above the upper colour limit {}; give --vmax too"
DOWN = "--vmax {1} is below the lower colour limit {0}; give --vmin too"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (Rank(text="a", vmin=0), "--vmin 0 on a logarithmic scale; give a limit above 0"),
        (Rank(text="a", vmin=200), BACKWARDS.format(200, 100)),
        (Rank(text="a", vmin=2000, target=["input"]), BACKWARDS.format(2000, 1000)),
        (Rank(text="a", vmax=0.5), DOWN.format(1, 0.5)),
        (KlFinal(text="a", vmin=31), BACKWARDS.format(31, 30)),
        (KlFinal(text="a", vmax=-1), DOWN.format(0, -1)),
        (TopK(text="a", color=Color("prob"), vmin=2), BACKWARDS.format(2, 1)),
        (TopK(text="a", color=Color("js"), vmax=-1), DOWN.format(0, -1)),
        (All(text="a", vmin=31, vmax=None), BACKWARDS.format(31, 30)),
    ],
)
def test_limits_that_no_data_could_make_right(options: TextReadOptions, said: str) -> None:
    assert refusal(lambda: check_limits(options)) == said


@pytest.mark.parametrize(
    "options",
    [
        Rank(text="a"),
        Rank(text="a", vmin=0, format="none"),  # no figure, no colours
        Rank(text="a", vmin=200, vmax=300),
        TopK(text="a", vmin=2),  # logits may be anything
        TopK(text="a", color=Color("entropy"), vmin=2),  # as high as the data
        LogitDiff(text="a", vmin=-3),
        LogitDiff(text="a", vmax=3),
    ],
)
def test_limits_that_may_be_right(options: TextReadOptions) -> None:
    check_limits(options)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["topk", "--cmap", "nosuch"], "--cmap 'nosuch' is unknown; "),
        (["rank", "--vmin", "0"], "--vmin 0 on a logarithmic scale; "),
        (["kl-final", "--vmin", "31"], "--vmin 31 is above the upper colour limit 30; "),
    ],
)
@pytest.mark.parametrize("prompt", [["-t", "the cat"], ["--lines", "lines.txt"]])
def test_no_model_is_opened_before(
    logitlens: Shell,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    words: str,
    prompt: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lines.txt").write_text("the cat\n")
    monkeypatch.setitem(sys.modules, "logitlens_cli.batch.session", None)  # cannot be imported
    out = tmp_path / "out"
    assert logitlens(*arguments, *prompt, "-o", out).refusal(2).startswith(words)
    assert not out.exists()
