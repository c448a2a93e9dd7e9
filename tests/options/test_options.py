"""argv, environment and presets -> Request."""

import time
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import typer.main
from conftest import Shell

from logitlens_cli.cli import app
from logitlens_cli.errors import UsageError
from logitlens_cli.metrics.spec import MetricSpec
from logitlens_cli.options.groups import (
    All,
    Bos,
    Color,
    CrossEntropy,
    Diff,
    Direction,
    Dtype,
    Entropy,
    Js,
    KlFinal,
    KlInput,
    LogitDiff,
    Norm,
    Overlap,
    Rank,
    Read,
    Render,
    Stats,
    TokenProb,
    TopK,
    Trace,
    Traced,
    Width,
    layer_spec,
)

COMMANDS: dict[str, type[Read]] = {
    "topk": TopK,
    "rank": Rank,
    "kl-final": KlFinal,
    "kl-input": KlInput,
    "js": Js,
    "overlap": Overlap,
    "entropy": Entropy,
    "cross-entropy": CrossEntropy,
    "token-prob": TokenProb,
    "logit-diff": LogitDiff,
    "all": All,
    "trace": Trace,
}


def parsed(*arguments: object) -> Any:
    """What the command line makes of its arguments, before any work."""
    return app.app([str(a) for a in arguments], prog_name="logitlens", standalone_mode=False)


def refusal(make: Callable[[], object]) -> str:
    with pytest.raises(UsageError) as caught:
        make()
    return str(caught.value)


@pytest.fixture
def preset(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "preset.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


# ---- which rows


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("0", (0,)),
        ("3,1", (1, 3)),
        ("0,4,8-12", (0, 4, 8, 9, 10, 11, 12)),
        ("2-4,3-5,4", (2, 3, 4, 5)),
        ("7-7", (7,)),
        ("0-9,3,2-5,9-11", tuple(range(12))),
        (" 1 , 2 - 3 ", (1, 2, 3)),
    ],
)
def test_layers(spec: str, expected: tuple[int, ...]) -> None:
    assert layer_spec(spec) == expected
    assert TopK(text="a", layers=spec).rows(13) == expected


def test_layers_that_are_named_again_take_no_time() -> None:
    start = time.perf_counter()
    assert layer_spec(",".join(["0-999999"] * 500)) == tuple(range(10**6))
    assert time.perf_counter() - start < 10  # it was half a minute


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "--layers : '' is no block; write 0,4,8-12"),
        ("a", "--layers a: 'a' is no block; write 0,4,8-12"),
        ("1,,2", "--layers 1,,2: '' is no block; write 0,4,8-12"),
        ("1.5", "--layers 1.5: '1.5' is no block; write 0,4,8-12"),
        ("-1", "--layers -1: '-1' is no block; write 0,4,8-12"),
        ("3-", "--layers 3-: '3-' is no block; write 0,4,8-12"),
        ("1-2-3", "--layers 1-2-3: '1-2-3' is no block; write 0,4,8-12"),
        ("0,9-8", "--layers 0,9-8: '9-8' runs backwards; write 8-9"),
        ("9999999", "--layers 9999999: '9999999' is no block; write 0,4,8-12"),
    ],
)
def test_layers_that_cannot_be(spec: str, message: str) -> None:
    assert refusal(lambda: TopK(text="a", layers=spec)) == message


@pytest.mark.parametrize(
    ("every", "blocks", "expected"),
    [
        (1, 4, (0, 1, 2, 3)),
        (2, 4, (0, 2, 3)),  # the last is always kept
        (2, 5, (0, 2, 4)),
        (3, 30, (0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 29)),
        (100, 4, (0, 3)),
        (2, 1, (0,)),
    ],
)
def test_every_nth_block(every: int, blocks: int, expected: tuple[int, ...]) -> None:
    assert TopK(text="a", every=every).rows(blocks) == expected


def test_layers_beyond_the_model() -> None:
    said = "--layers 0,4: there is no block 4; the model's blocks are 0 to 3"
    assert refusal(lambda: TopK(text="a", layers="0,4").rows(4)) == said


# ---- what each command asks for


def measure(metric: str, **parameters: Any) -> MetricSpec:
    return MetricSpec(metric=metric, **parameters)


THREE = {name: measure(name) for name in ("own-logit", "final-logit", "prob")}


@pytest.mark.parametrize(
    ("request_", "command", "figures", "measures", "guesses"),
    [
        (TopK(text="a"), "topk", ("topk",), THREE, 5),
        (
            *(TopK(text="a", k=3, color=Color("entropy")), "topk", ("topk",)),
            *(THREE | {"entropy": measure("entropy")}, 3),
        ),
        (
            *(Rank(text="a", target=[" cat"]), "rank", ("rank",)),
            *({"rank": measure("rank", target=" cat")}, 1),
        ),
        (
            *(KlFinal(text="a", direction=Direction.reverse), "kl-final", ("kl-final",)),
            *({"kl-final": measure("kl-final", reverse=True)}, 1),
        ),
        (
            *(KlInput(text="a", one_hot=True), "kl-input", ("kl-input",)),
            *({"kl-input": measure("kl-input", one_hot=True)}, 1),
        ),
        (Js(text="a"), "js", ("js",), {"js": measure("js")}, 1),
        (
            *(Overlap(text="a", k=3), "overlap", ("overlap",)),
            *({"overlap": measure("overlap", k=3)}, 3),
        ),
        (Entropy(text="a"), "entropy", ("entropy",), {"entropy": measure("entropy")}, 1),
        (
            *(CrossEntropy(text="a"), "cross-entropy", ("cross-entropy",)),
            *({"cross-entropy": measure("cross-entropy", target="next")}, 1),
        ),
        (
            *(TokenProb(text="a", target=" cat"), "token-prob", ("token-prob",)),
            *({"token-prob": measure("token-prob", target=" cat")}, 1),
        ),
        (
            *(LogitDiff(text="a", target=" a", minus="id:7"), "logit-diff", ("logit-diff",)),
            *({"logit-diff": measure("logit-diff", target=" a", minus="id:7")}, 1),
        ),
        (
            *(All(text="a", target=["input"]), "all", ("topk", "rank", "kl-final", "kl-input")),
            {
                **THREE,
                "rank": measure("rank", target="input"),
                "kl-final": measure("kl-final"),
                "kl-input": measure("kl-input"),
            },
            5,
        ),
        (Trace(text="a"), "trace", ("trace",), {}, 1),
        (
            *(Trace(text="a", metric=Traced.kl_final, direction=Direction.reverse), "trace"),
            *(("trace",), {"kl-final": measure("kl-final", reverse=True)}, 1),
        ),
    ],
    ids=["topk", "topk-entropy", *(name for name in COMMANDS if name != "topk"), "trace-kl"],
)
def test_commands(
    request_: Read,
    command: str,
    figures: tuple[str, ...],
    measures: dict[str, MetricSpec],
    guesses: int,
) -> None:
    assert request_.command == command
    assert request_.figures == figures
    assert request_.measures == measures
    assert request_.guesses == guesses


@pytest.mark.parametrize(
    ("targets", "names"),
    [
        (["next", "final"], ["rank-next", "rank-final"]),
        (["a", "A", "日"], ["rank-a", "rank-a-2", "rank-3"]),
        (["a 3", "a", "a!"], ["rank-a-3", "rank-a", "rank-a-4"]),  # not the third's number again
    ],
)
def test_every_rank_has_a_name_of_its_own(targets: list[str], names: list[str]) -> None:
    made = Rank(text="a", target=targets)
    assert made.measures == {
        name: measure("rank", target=target) for name, target in zip(names, targets, strict=True)
    }
    assert made.figures == tuple(names)


# What a trace is of: one column (which), followed tokens, chosen ones, target of the metric.
TRACES: dict[str, tuple[dict[str, Any], tuple[Any, ...]]] = {
    "tokens": ({}, (True, None, True, (), None)),
    "chosen": ({"target": [" a", " a", "next"]}, (True, None, False, (" a", "next"), None)),
    "both": ({"target": ["auto", " a"], "position": "-2"}, (True, -2, True, (" a",), None)),
    "rank": ({"metric": Traced.rank}, (True, None, True, (), None)),
    "all ranks": (
        {"metric": Traced.rank, "position": "all"},
        (False, None, False, (), measure("rank", target="final")),
    ),
    "losses": (
        {"metric": Traced.cross_entropy},
        (False, None, False, (), measure("cross-entropy", target="next")),
    ),
    "loss": (
        {"metric": Traced.cross_entropy, "position": "3", "target": ["id:4"]},
        (True, 3, False, (), measure("cross-entropy", target="id:4")),
    ),
    "kl": ({"metric": Traced.kl_input}, (False, None, False, (), measure("kl-input"))),
}


@pytest.mark.parametrize("name", TRACES)
def test_traces(name: str) -> None:
    options, (single, column, follows, chosen, measured) = TRACES[name]
    made = Trace(text="a", **options)
    assert (made.single, made.column, made.follows, made.chosen) == (
        single,
        column,
        follows,
        chosen,
    )
    assert made.measures == ({} if measured is None else {made.metric.value: measured})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"position": "two"}, "--position 'two' is none; give a number, or all"),
        ({"position": "1.5"}, "--position '1.5' is none; give a number, or all"),
        (
            {"position": "all"},
            "--metric prob is of tokens at one position; over all, take cross-entropy",
        ),
        ({"metric": Traced.entropy, "target": [" a"]}, "--target is not of entropy; leave it out"),
        (
            {"metric": Traced.rank, "position": "all", "target": ["auto"]},
            "--target 'auto': rank has one line here; give one token, or final, input, next",
        ),
        (
            {"metric": Traced.cross_entropy, "target": [" a", " b"]},
            "--target ' a', ' b': cross-entropy has one line here; give one token, or final, ",
        ),
        (
            {"target": [f"id:{n}" for n in range(9)]},
            "--target is given 9 times; 8 lines can be told apart",
        ),
        ({"log": True, "metric": Traced.rank}, "--log is not of rank; ranks have it anyhow, the "),
        ({"one_hot": True}, "--one-hot is not of prob; take --metric kl-input"),
        ({"direction": Direction.reverse}, "--direction is not of prob; take kl-final or kl-input"),
        ({"format": "parquet"}, "--format parquet is of cells, not of lines; use rank or all"),
        ({"split": 4}, "--split has no meaning for a trace, which has no cells; leave it out"),
        ({"cmap": "rocket"}, "--cmap has no meaning for a trace, which has no cells; leave it out"),
        (
            {"skip_first": 1},
            "--skip-first has no meaning for a trace, which has no cells; leave it out",
        ),
        (
            {"changes_only": True},
            "--changes-only has no meaning for a trace, which has no cells; leave it out",
        ),
    ],
)
def test_what_no_trace_is_of(options: dict[str, Any], words: str) -> None:
    assert refusal(lambda: Trace(text="a", **options)).startswith(words)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_line_builds_the_request(command: str) -> None:
    assert parsed(command, "-t", "a") == COMMANDS[command](text="a")


def test_every_option_of_the_command_line() -> None:
    made = parsed(
        *("all", "--file", "t.txt", "--model", "gpt2", "--revision", "main", "--device", "cuda:1"),
        *("--dtype", "bfloat16", "--offline", "--trust-remote-code", "--allow-pickle"),
        *("--norm", "no-affine", "--layers", "0,2", "--input-row", "--window", "-3:"),
        *("--subblocks", "--decoder-blocks", "2", "--skip-first", "1"),
        *("--split", "7", "--bos", "add", "--k", "9", "--color", "prob", "--target", "next"),
        *("--jobs", "3", "--batch-tokens", "99", "--width", "double", "--lock-in", "--next-ranks"),
        *("--probs", "--delta"),
        *("--direction", "reverse", "--format", "pdf", "--vmin", "-1.5", "--vmax", "2e1"),
        *("--cmap", "rocket", "--dpi", "90", "--title", "T", "--changes-only", "--out", "o"),
        *("--name", "n", "--no-json", "--skip-existing", "--dry-run", "--quiet"),
        *("--show", "--table", "md", "--caption"),
    )
    assert made == All(
        file=Path("t.txt"), model="gpt2", revision="main", device="cuda:1",
        dtype=Dtype.bfloat16, offline=True, trust_remote_code=True, allow_pickle=True,
        norm=Norm.no_affine, layers="0,2", input_row=True, window="-3:",
        subblocks=True, decoder_blocks=2, skip_first=1,
        split=7, bos=Bos.add, k=9, color=Color("prob"), target=["next"],
        direction=Direction.reverse, format="pdf", vmin=-1.5, vmax=20.0,
        cmap="rocket", dpi=90, title="T", changes_only=True, out=Path("o"),
        name="n", json=False, skip_existing=True, dry_run=True, quiet=True,
        jobs=3, batch_tokens=99, width=Width.double, lock_in=True, next_ranks=True, probs=True,
        delta=True, show=True, table="md", caption=True,
    )  # fmt: skip
    same = {field.name for field in fields(All) if getattr(made, field.name) == field.default}
    absent = {
        "text",
        "lines",
        "every",
        "one_hot",
        "config",
        "chat",
        "device_map",
        "shard",
        "engine",
        "address",
        "workers",
    }
    assert same == absent  # what cannot go with the rest


def test_short_options() -> None:
    made = parsed("topk", "-t", "a", "-m", "gpt2", "-o", "o", "-q")
    assert made == TopK(text="a", model="gpt2", out=Path("o"), quiet=True)
    assert parsed("topk", "-f", "-") == TopK(file=Path("-"))


def test_render() -> None:
    made = parsed("render", "d.json", "rank", "--color", "prob", "--split", "3", "--no-input-row")
    assert made == Render(given=["d.json", "rank"], color=Color("prob"), split=3, input_row=False)


def test_diff() -> None:
    made = parsed("diff", "a.json", "b.json", "topk", "--over", "--color", "prob", "--no-json")
    assert made == Diff(
        a=Path("a.json"), b=Path("b.json"), metric="topk", over=True, color=Color("prob"),
        json=False,
    )  # fmt: skip
    assert parsed("diff", "a.json", "b.json") == Diff(a=Path("a.json"), b=Path("b.json"))


def test_every_option_can_come_from_the_environment() -> None:
    for name, command in typer.main.get_command(app.app).commands.items():  # type: ignore[attr-defined]
        if name != "models":
            for option in command.params:
                if option.param_type_name == "option" and option.name != "help":
                    assert option.envvar == f"LOGITLENS_{option.name.upper()}", (name, option.name)


# ---- requests that cannot be


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TopK(), "there is no prompt; give --text, --file or --lines"),
        (
            lambda: TopK(text="a", lines=Path("b")),
            "--text and --lines are both given; give one prompt source",
        ),
        (
            lambda: TopK(text="a", layers="1", every=2),
            "--layers and --every are both given; give one of them",
        ),
        (
            lambda: TopK(text="a", format="png,gif"),
            "--format 'gif' is unknown; choose of png, svg, pdf, parquet, or none",
        ),
        (
            lambda: TopK(text="a", format=" ,"),
            "--format ' ,' names no format; choose of png, svg, pdf, parquet, or none",
        ),
        (
            lambda: TopK(text="a", table="md,html"),
            "--table 'html' is unknown; give md, csv, or md,csv",
        ),
        (
            lambda: TopK(lines=Path("a"), show=True),
            "--show is of one text, not of --lines; give --text or --file, or show a dump with "
            "logitlens render --show",
        ),
        (
            lambda: TopK(text="a", format="none", json=False),
            "--format none and --no-json leave nothing to write; drop one, or --show",
        ),
        (
            lambda: Render(given=["d"], format="none"),
            "--format none leaves nothing to draw; name a format, or --show",
        ),
        (
            lambda: Stats(lines=Path("a"), caption=True),
            "--caption has no meaning for a summary, which is of no one text; leave it out",
        ),
        (
            lambda: Stats(lines=Path("a"), table="csv"),
            "--table has no meaning for a summary, which is of no one text; leave it out",
        ),
        (
            lambda: TopK(text="a", vmin=2, vmax=2),
            "--vmin 2 is not below --vmax 2; give a range",
        ),
        (
            lambda: TopK(text="a", vmax=float("nan")),
            "--vmax nan is no limit of colours; give a number",
        ),
        (
            lambda: Render(given=["d"], vmin=float("-inf")),
            "--vmin -inf is no limit of colours; give a number",
        ),
        (
            lambda: KlInput(text="a", one_hot=True, direction=Direction.reverse),
            "--one-hot with --direction reverse: KL(layer || input token) is infinite; "
            "use the forward direction",
        ),
        (
            lambda: LogitDiff(text="a", target=" a", minus=" a"),
            "--target and --minus are both ' a', which differ by 0; name two tokens",
        ),
        (
            lambda: LogitDiff(text="a", minus="auto"),
            "--minus auto is of ranks; name one token; one that is spelled so is id:N",
        ),
        (
            lambda: TokenProb(text="a", target="auto"),
            "--target auto is of ranks; name one token; one that is spelled so is id:N",
        ),
    ],
)
def test_requests_that_cannot_be(make: Callable[[], object], message: str) -> None:
    assert refusal(make) == message


@pytest.mark.parametrize("looks", [{"show": True}, {"table": "csv"}, {"caption": True}])
def test_a_request_need_not_draw(looks: dict[str, Any]) -> None:
    assert TopK(text="a", format="none", json=False, **looks).writes == ("show" not in looks)
    assert Render(given=["d"], format="none", **looks).writes == ("show" not in looks)


def test_texts_about_a_figure() -> None:
    assert TopK(text="a").texts == ()
    assert TopK(text="a", table=" CSV,markdown,md,", caption=True).texts == ("txt", "csv", "md")


@pytest.mark.parametrize(
    ("given", "formats"),
    [
        ("png", ("png",)),
        ("svg,png", ("svg", "png")),
        (" PDF , png,pdf,", ("pdf", "png")),
    ],
)
def test_formats(given: str, formats: tuple[str, ...]) -> None:
    assert TopK(text="a", format=given).formats == formats


# ---- flags > environment > file > defaults

# option, its values in a preset, in the environment, as flags; what becomes of each, and of none
SOURCES: list[tuple[str, str, str, list[str], list[object]]] = [
    ("title", '"file"', "env", ["--title", "flag"], ["flag", "env", "file", None]),
    ("dpi", "50", "60", ["--dpi", "70"], [70, 60, 50, 300]),
    ("k", "2", "3", ["--k", "4"], [4, 3, 2, 5]),
    ("vmax", "2.5", "3.5", ["--vmax", "4"], [4.0, 3.5, 2.5, None]),
    ("json", "false", "1", ["--no-json"], [False, True, False, True]),
    ("input-row", "true", "0", ["--input-row"], [True, False, True, None]),
    ("changes-only", "true", "no", ["--changes-only"], [True, False, True, False]),
    ("norm", '"none"', "no-affine", ["--norm", "full"], ["full", "no-affine", "none", "full"]),
    ("out", '"file"', "env", ["-o", "flag"], [Path("flag"), Path("env"), Path("file"), None]),
    ("every", "2", "3", ["--every", "4"], [4, 3, 2, 1]),
    ("layers", '"2"', "3", ["--layers", "4"], ["4", "3", "2", None]),
    ("window", '"1:"', "2:", ["--window", "3:"], ["3:", "2:", "1:", None]),
]


@pytest.mark.parametrize(
    ("key", "in_file", "in_env", "flags", "expected"), SOURCES, ids=[row[0] for row in SOURCES]
)
def test_the_stronger_source_wins(
    preset: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    in_file: str,
    in_env: str,
    flags: list[str],
    expected: list[object],
) -> None:
    flag, env, file, default = expected
    config = ["--config", preset(f"{key} = {in_file}\n")]
    variable, name = f"LOGITLENS_{key.upper().replace('-', '_')}", key.replace("-", "_")
    default = Path("outputs") if name == "out" else default

    assert getattr(parsed("all", "-t", "a"), name) == default
    assert getattr(parsed("all", "-t", "a", *config), name) == file
    assert getattr(parsed("all", "-t", "a", *config, *flags), name) == flag
    monkeypatch.setenv(variable, in_env)
    assert getattr(parsed("all", "-t", "a"), name) == env
    assert getattr(parsed("all", "-t", "a", *config), name) == env
    assert getattr(parsed("all", *flags, *config, "-t", "a"), name) == flag


def test_a_value_of_the_environment_keeps_its_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOGITLENS_TARGET", " Paris is")
    made = parsed("rank", "-t", "a")
    assert isinstance(made, Rank)
    assert made.target == [" Paris is"]


def test_a_preset_named_by_the_environment(
    preset: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOGITLENS_CONFIG", str(preset('text = "a"\nk = 3\n')))
    assert replace(parsed("topk"), config=None) == TopK(text="a", k=3)


@pytest.mark.parametrize(
    ("in_file", "in_env", "flags", "expected"),
    [
        ('text = "file"', {}, ["-f", "flag"], (None, Path("flag"), None)),
        ('lines = "/file"', {}, ["-t", "flag"], ("flag", None, None)),
        ('text = "file"', {"FILE": "env"}, [], (None, Path("env"), None)),
        ("", {"TEXT": "env"}, ["--lines", "flag"], (None, None, Path("flag"))),
        ("", {"LINES": "env"}, ["-t", "flag"], ("flag", None, None)),
        ('text = "x"', {"LINES": "y"}, ["-f", "flag"], (None, Path("flag"), None)),
    ],
)
def test_a_prompt_from_a_stronger_source_replaces_the_weaker_ones(
    preset: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    in_file: str,
    in_env: dict[str, str],
    flags: list[str],
    expected: tuple[object, ...],
) -> None:
    for key, value in in_env.items():
        monkeypatch.setenv(f"LOGITLENS_{key}", value)
    made = parsed("topk", "--config", preset(in_file), *flags)
    assert (made.text, made.file, made.lines) == expected


def test_layers_replace_every_of_a_preset_and_the_other_way_round(
    preset: Callable[[str], Path],
) -> None:
    made = parsed("topk", "-t", "a", "--config", preset("every = 2"), "--layers", "3")
    assert (made.every, made.layers) == (1, "3")
    made = parsed("topk", "-t", "a", "--config", preset('layers = "3"'), "--every", "2")
    assert (made.every, made.layers) == (2, None)


def test_rivals_of_the_same_strength_are_refused(
    preset: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = preset('text = "a"\nfile = "b"\n')
    assert "--text and --file are both given" in refusal(lambda: parsed("topk", "--config", config))
    monkeypatch.setenv("LOGITLENS_TEXT", "a")
    monkeypatch.setenv("LOGITLENS_LINES", "b")
    assert "--text and --lines are both given" in refusal(lambda: parsed("topk"))


# ---- presets


def test_keys_have_hyphens_or_underscores(preset: Callable[[str], Path]) -> None:
    for text in ("input-row = true\nskip-existing = true", "input_row = true\nskip_existing=true"):
        made = parsed("topk", "-t", "a", "--config", preset(text))
        assert (made.input_row, made.skip_existing) == (True, True)


def test_a_target_may_be_one_or_several(preset: Callable[[str], Path]) -> None:
    one, several = 'target = "input"', 'target = ["input", " cat"]'
    assert parsed("rank", "-t", "a", "--config", preset(one)).target == ["input"]
    assert parsed("rank", "-t", "a", "--config", preset(several)).target == ["input", " cat"]
    assert parsed("token-prob", "-t", "a", "--config", preset(one)).target == "input"
    said = refusal(lambda: parsed("token-prob", "-t", "a", "--config", preset(several)))
    assert said.endswith("target is a list; write the value as on the command line")


def test_a_preset_with_a_byte_order_mark_and_any_script(preset: Callable[[str], Path]) -> None:
    made = parsed("topk", "--config", preset('\ufefftext = "日本"\ntitle = """a\nb"""\n'))
    assert (made.text, made.title) == ("日本", "a\nb")


def test_files_are_named_beside_the_preset(
    preset: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    logitlens: Shell,
) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "cats.txt").write_text("the cat")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    preset('file = "texts/cats.txt"')
    ran = logitlens("topk", "--config", "../preset.toml", "--dry-run", "--format", "svg")
    assert (ran.code, ran.err) == (0, [])
    assert ran.out == ["outputs/cats.topk.json", "outputs/cats.topk.svg"]
    preset(f'lines = "{tmp_path}/texts/cats.txt"')  # a whole path stays
    ran = logitlens("topk", "--config", "../preset.toml", "--dry-run", "--no-json")
    assert ran.out == ["outputs/cats-1.topk.png", "outputs/cats-1.topk.svg"]


def test_standard_input_stays_standard_input(preset: Callable[[str], Path]) -> None:
    assert parsed("topk", "--config", preset('file = "-"')).file == Path("-")


BEFORE = "--config {}: "


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "colour = 3",
            BEFORE + "unknown key 'colour'; keys are the options of logitlens topk",
        ),
        (
            'target = "next"',  # an option of rank
            BEFORE + "unknown key 'target'; keys are the options of logitlens topk",
        ),
        (
            "no-json = true",
            BEFORE + "unknown key 'no-json'; keys are the options of logitlens topk",
        ),
        ('config = "x"', BEFORE + "unknown key 'config'; keys are the options of logitlens topk"),
        ("help = true", BEFORE + "unknown key 'help'; keys are the options of logitlens topk"),
        ("every = [1]", BEFORE + "every is a list; write the value as on the command line"),
        ("[every]\nx = 1", BEFORE + "every is a dict; write the value as on the command line"),
        ("title = 2026-01-01", BEFORE + "title is a date; write the value as on the command line"),
    ],
)
def test_presets_that_cannot_be(preset: Callable[[str], Path], text: str, message: str) -> None:
    path = preset(text)
    said = refusal(lambda: parsed("topk", "-t", "a", "--config", path))
    assert said == message.format(path)


@pytest.mark.parametrize("key", ["every", "k", "dpi", "split"])
def test_a_value_of_the_wrong_kind_names_key_and_value(
    preset: Callable[[str], Path], logitlens: Shell, key: str
) -> None:
    ran = logitlens("topk", "-t", "a", "--config", preset(f'{key} = "many"'))
    assert ran.refusal(2) == (
        f"Invalid value 'many' for '--{key}': Input should be a valid integer, "
        "unable to parse string as an integer; see logitlens topk --help"
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing.toml", "No such file or directory; name a preset file"),
        (".", "Is a directory; name a preset file"),
    ],
)
def test_presets_that_cannot_be_read(tmp_path: Path, name: str, said: str) -> None:
    path = tmp_path / name
    message = refusal(lambda: parsed("topk", "-t", "a", "--config", path))
    assert message == f"--config {path}: {said}"


@pytest.mark.parametrize(
    "data",
    [b"every = ", b"k = 1\nk = 2", b"\xff\xfe\xfd", b"[" * 100_000, b"a = " + b"[" * 100_000],
)
def test_presets_that_are_no_toml(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "p.toml").write_bytes(data)
    message = refusal(lambda: parsed("topk", "-t", "a", "--config", tmp_path / "p.toml"))
    assert message.startswith(f"--config {tmp_path}/p.toml is not TOML (")
