"""argv, environment and presets -> a command's options: flags > environment > file > defaults."""

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest
from options_of import parsed, refusal

from logitlens_cli.commands.all import All
from logitlens_cli.commands.rank import Rank
from logitlens_cli.commands.topk import TopK
from logitlens_cli.figures.style import Width
from logitlens_cli.lens.spec import Bos, Norm
from logitlens_cli.metrics.spec import Direction
from logitlens_cli.model.source import Dtype
from logitlens_cli.options.metric import Color


@pytest.mark.parametrize("how", ["flags", "environment", "preset"])
def test_the_users_own_folder_is_found_in_every_path(
    how: str, preset: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A shell does it only at the beginning of a word."""
    monkeypatch.setenv("HOME", str(tmp_path))
    given = {"model": "~/model", "out": "~/out", "lines": "~/set.txt"}
    words: list[str] = []
    if how == "flags":
        words = [f"--{name}={value}" for name, value in given.items()]
    elif how == "environment":
        for name, value in given.items():
            monkeypatch.setenv(f"LOGITLENS_{name.upper()}", value)
    else:
        preset("".join(f'{name} = "{value}"\n' for name, value in given.items()))
        words = ["--config=~/preset.toml"]
    made = parsed("rank", *words)
    assert (made.model, made.out) == (str(tmp_path / "model"), tmp_path / "out")
    assert made.lines == tmp_path / "set.txt"


def test_dumps_and_models_by_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert parsed("render", "~/a.json", "topk").given == ["/home/me/a.json", "topk"]
    assert parsed("diff", "~/a.json", "b.json").a == Path("/home/me/a.json")
    assert parsed("stats", "--merge", "~/a.json").dumps == [Path("/home/me/a.json")]
    assert parsed("models", "check", "~/model").model == "/home/me/model"
    assert parsed("rank", "--text", "~/text").text == "~/text"


@pytest.mark.parametrize("weaker", ["file", "lines", "text"])
def test_a_text_without_a_flag(
    weaker: str, monkeypatch: pytest.MonkeyPatch, preset: Callable[[str], Path]
) -> None:
    """It goes before what the environment or a preset says, as --text does."""
    made = parsed("topk", "The capital of France is")
    assert made == TopK(given_text="The capital of France is")
    assert parsed("topk", "--config", preset(f"{weaker} = 'x'"), "a").one_text == {
        "TEXT": "a", "--text": None, "--file": None
    }  # fmt: skip
    monkeypatch.setenv(f"LOGITLENS_{weaker.upper()}", "x")
    assert parsed("topk", "a").one_text == {"TEXT": "a", "--text": None, "--file": None}


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
        *("--show", "--table", "md", "--caption", "--lens", "plain", "--lens", "a/b"),
        *("--lens-revision", "v1", "--font", "DejaVu Serif", "--font-size", "6.5"),
        *("--height", "4", "--bare", "--model-label", "step 512", "--log"),
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
        delta=True, show=True, table="md", caption=True, lens=["plain", "a/b"], lens_revision="v1",
        font="DejaVu Serif", font_size=6.5, height=4.0, bare=True,
        model_label="step 512", log=True,
    )  # fmt: skip
    same = {field.name for field in fields(All) if getattr(made, field.name) == field.default}
    absent = {
        "given_text",
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
    assert "--text and --file cannot be combined" in refusal(
        lambda: parsed("topk", "--config", config)
    )
    monkeypatch.setenv("LOGITLENS_TEXT", "a")
    monkeypatch.setenv("LOGITLENS_LINES", "b")
    assert "--text and --lines cannot be combined" in refusal(lambda: parsed("topk"))
