"""A command's options -> what the library takes, field by field."""

import itertools
from dataclasses import Field, fields
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from logitlens_cli.commands.all import All
from logitlens_cli.commands.metric import metric_options
from logitlens_cli.commands.models import Check
from logitlens_cli.commands.rank import Rank
from logitlens_cli.commands.stats import Stats
from logitlens_cli.commands.table import commands
from logitlens_cli.commands.topk import TopK
from logitlens_cli.commands.trace import Trace
from logitlens_cli.commands.translate import (
    figure_style,
    model_source,
    read_job,
    read_spec,
    recipe_of,
)
from logitlens_cli.figures.style import FigureStyle
from logitlens_cli.lens.spec import Norm, ReadSpec
from logitlens_cli.metrics.table import METRICS
from logitlens_cli.model.source import DeviceMap, Dtype, ModelSource
from logitlens_cli.options.metric import Color
from logitlens_cli.options.option import recorded_options
from logitlens_cli.options.reading import ReadOptions

OVERLAP: Any = metric_options(METRICS["overlap"])
OTHER: dict[str, Any] = {
    "device_map": DeviceMap.balanced,
    "input_row": False,
    "layers": "0,2",
    "split": 3,
    "vmin": -1.5,
    "vmax": 2.5,
    "color": Color("js"),
}
"""values that are none of the defaults, of options whose kind does not give one"""


def other_value(options: type, field: Field[Any]) -> Any:
    """A value of an option that is not its default."""
    if field.name in OTHER:
        return OTHER[field.name]
    hint = get_type_hints(options)[field.name]
    if isinstance(hint, type) and issubclass(hint, Enum):
        return next(value for value in hint if value != field.default)
    if hint is bool:
        return not field.default
    if hint is int:
        return int(getattr(options, field.name)) + 1
    return f"other {field.name}"


def pairs(
    taken: type, *commands: type, without: frozenset[str] = frozenset()
) -> list[tuple[type, Field[Any]]]:
    """Every field of ``taken`` for which a command has an option, with that command."""
    names = {field.name for field in fields(taken)} - without
    return [
        (command, field) for command in commands for field in fields(command) if field.name in names
    ]


def named(value: object) -> str:
    return value.name if isinstance(value, Field) else getattr(value, "__name__", "")


@pytest.mark.parametrize(
    ("command", "field"),
    pairs(ReadSpec, All, Rank, TopK, Trace, without=frozenset({"lens"})),
    ids=named,
)
def test_a_read_spec_is_filled_from_the_option_of_its_name(
    command: type[Any], field: Field[Any]
) -> None:
    value = other_value(command, field)
    usual = read_spec(command(text="a"))
    spec = read_spec(command(text="a", **{field.name: value}))
    assert getattr(spec, field.name) == value != getattr(usual, field.name)


@pytest.mark.parametrize("given", [None, ["mine"], ["mine", "plain", "mine"]])
def test_a_read_spec_has_the_first_of_several_lenses(given: list[str] | None) -> None:
    options = All(text="a", lens=given)
    assert read_spec(options).lens == ("plain" if given is None else "mine")
    assert options.lenses == tuple(dict.fromkeys(given or ["plain"]))


@pytest.mark.parametrize(
    ("command", "field"), pairs(FigureStyle, All, Rank, TopK, Trace), ids=named
)
def test_a_style_is_filled_from_the_option_of_its_name(
    command: type[Any], field: Field[Any]
) -> None:
    value = other_value(command, field)
    beside = {"color": "prob"} if field.name == "log" and command in (All, TopK) else {}
    usual = figure_style(command(text="a"))
    style = figure_style(command(text="a", **beside, **{field.name: value}))
    assert getattr(style, field.name) == value != getattr(usual, field.name)


@pytest.mark.parametrize(("command", "field"), pairs(ModelSource, All, Trace), ids=named)
def test_a_source_is_filled_from_the_option_of_its_name(
    command: type[Any], field: Field[Any]
) -> None:
    value = other_value(command, field)
    usual = model_source(command(text="a"))
    source = model_source(command(text="a", **{field.name: value}))
    assert getattr(source, field.name) == value != getattr(usual, field.name)


def test_a_source_of_a_check() -> None:
    assert model_source(Check(model="x", dtype=Dtype.float16)) == ModelSource(
        "x", dtype=Dtype.float16
    )


def options_of(taken: type, *commands: type) -> set[str]:
    return {field.name for _, field in pairs(taken, *commands)}


def test_which_fields_have_no_option() -> None:
    """They follow from others, or are the library's own."""
    every = [*commands().values()]
    for taken, rest in (
        (
            ReadSpec,
            {"command", "metrics", "follow", "chosen", "single", "column", "options"}
            | {"text_targets"},
        ),
        (FigureStyle, {"shared_colors"}),
        (ModelSource, set()),
    ):
        names = {field.name for field in fields(taken)}
        assert names - options_of(taken, *every) == rest


@pytest.mark.parametrize(
    "name",
    [n for n in commands() if n not in ("render", "diff", "overlay", "tokens", "fit")],
)
def test_defaults_are_the_librarys(name: str) -> None:
    """An option that is not given asks for nothing; but guesses of each cell are some."""
    command: Any = commands()[name]
    options = command(lines=Path("a"))
    asked = {"command", "metrics", "options", "follow", "k", "single", "column", "color"}
    spec, plain = read_spec(options), ReadSpec(metrics={})
    for field in itertools.chain(fields(ReadSpec)):
        if field.name not in asked:
            assert getattr(spec, field.name) == getattr(plain, field.name), field.name
    style = figure_style(options)
    for field in fields(FigureStyle):
        if field.name not in asked:
            assert getattr(style, field.name) == getattr(FigureStyle(), field.name), field.name
    assert model_source(options) == ModelSource()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (
            All(text="a", target=["next", "auto"]),
            {"command": "all", "follow": True, "chosen": (), "single": False, "column": None},
        ),
        (
            Trace(text="a", target=["auto", " cat"], position="-2"),
            {"command": "trace", "follow": True, "chosen": (" cat",), "single": True, "column": -2},
        ),
        (
            Trace(text="a", metric="entropy"),
            {"command": "trace", "follow": False, "chosen": (), "single": False, "column": None},
        ),
        (Stats(lines=Path("a")), {"command": "stats", "k": 1, "follow": False}),
        (OVERLAP(text="a", k=7), {"command": "overlap", "k": 7}),
        (metric_options(METRICS["js"])(text="a"), {"command": "js", "k": 1}),
    ],
    ids=["all", "trace of tokens", "trace of columns", "stats", "overlap", "js"],
)
def test_what_follows_from_others(options: ReadOptions, expected: dict[str, Any]) -> None:
    spec = read_spec(options)
    assert {name: getattr(spec, name) for name in expected} == expected
    assert spec.metrics == options.metrics
    assert spec.options == recorded_options(options)


def test_a_job_draws_cells_only_where_there_are_figures_with_cells() -> None:
    options = TopK(text="a", split=4, dpi=99, batch_tokens=512)
    job = read_job(options)
    assert (job.source, job.spec) == (model_source(options), read_spec(options))
    assert (job.drawn, job.batch_tokens) == (figure_style(options), 512)
    assert read_job(TopK(text="a", format="none")).drawn is None
    assert read_job(Trace(text="a")).drawn is None
    assert read_job(Stats(lines=Path("a"))).drawn is None


def test_a_recipe_is_all_that_files_depend_on(tmp_path: Path) -> None:
    weights = tmp_path / "x.gguf"
    weights.write_bytes(b"abc")
    options = TopK(
        text="a", model=str(weights), format="svg,png", table="csv", json=False, norm=Norm.none
    )
    recipe = recipe_of(options)
    libraries = ("logitlens-cli", "torch", "transformers")
    assert recipe == {
        **recorded_options(options),
        "command": "topk",
        "format": ("svg", "png", "csv"),
        "json": False,
        "weights": [("x.gguf", 3, weights.stat().st_mtime_ns)],
        "versions": [version(name) for name in libraries],
    }
    assert recipe["norm"] == "none"
    assert recipe_of(TopK(text="a"))["weights"] == []  # of the hub, a revision says which


@pytest.mark.parametrize(
    "change",
    [
        {"norm": Norm.none},
        {"k": 7},
        {"format": "svg"},
        {"json": False},
        {"caption": True},
        {"title": "x"},
        {"model": "other"},
    ],
)
def test_a_recipe_changes_with_what_changes_files(change: dict[str, Any]) -> None:
    assert recipe_of(TopK(text="a", **change)) != recipe_of(TopK(text="a"))


@pytest.mark.parametrize(
    "change", [{"out": Path("x")}, {"quiet": True}, {"jobs": 3}, {"device": "cpu"}, {"text": "b"}]
)
def test_a_recipe_stays_with_what_does_not(change: dict[str, Any]) -> None:
    assert recipe_of(TopK(**{"text": "a", **change})) == recipe_of(TopK(text="a"))
