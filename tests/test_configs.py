"""Every preset in configs/ runs as its own first lines say, and writes what its name says."""

import json
import shlex
from pathlib import Path

import pytest
from conftest import Shell

from logitlens_cli.cli.app import build_app

ROOT = Path(__file__).parent.parent
PRESETS = sorted((ROOT / "configs").rglob("*.toml"))
FAST = ["--model", "smollm2", "--dpi", "50", "--format", "png", "--quiet"]


def command_of(preset: Path) -> list[str]:
    """The command in the comment at the head of a preset."""
    sentence, command = preset.read_text("utf-8").splitlines()[:2]
    assert sentence.startswith("# ")
    assert sentence.endswith((".", "?"))
    assert command.startswith("# logitlens ")
    return shlex.split(command.removeprefix("# logitlens "))


def test_there_are_presets_for_both_models() -> None:
    names = {
        folder: {p.name for p in PRESETS if p.parent.name == folder}
        for folder in ("smollm2", "gpt2-xl")
    }
    assert set().union(*names.values()) == {preset.name for preset in PRESETS}
    # the figures of the post, and the same on the default model
    assert names["gpt2-xl"] <= names["smollm2"]
    assert len(names["gpt2-xl"]) >= 11


@pytest.mark.parametrize(
    "preset", PRESETS, ids=[str(path.relative_to(ROOT / "configs")) for path in PRESETS]
)
def test_preset(
    preset: Path, logitlens: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    name, command, _ = preset.name.rsplit(".", 2)
    assert command_of(preset) == [command, "--config", str(preset.relative_to(ROOT))]
    if preset.parent.name != "smollm2":
        name = f"{preset.parent.name}/{name}"

    options = build_app()(args=command_of(preset), prog_name="logitlens", standalone_mode=False)
    model = {"smollm2": "smollm2", "gpt2-xl": "openai-community/gpt2-xl"}[preset.parent.name]
    assert (options.command, options.model, options.out) == (command, model, Path("outputs"))

    ran = logitlens(*command_of(preset), "--out", tmp_path, *FAST)
    assert (ran.code, ran.err) == (0, [])
    dump = json.loads((tmp_path / f"{name}.{command}.json").read_bytes())
    assert (dump["command"], dump["check"]["passed"]) == (command, True)
    columns = len(dump["tokens"])
    split = getattr(options, "split", None)  # a trace has no columns
    pieces = [f".{n}" for n in range(1, 1 - (-columns // split))] if split else [""]
    figures = [f"{name}.{command}{piece}.png" for piece in pieces]
    assert ran.out == [str(tmp_path / file) for file in (f"{name}.{command}.json", *figures)]
    assert all((tmp_path / figure).stat().st_size > 1000 for figure in figures)
