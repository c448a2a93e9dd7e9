"""--config: a file of options."""

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Shell
from options_of import parsed, refusal


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
            BEFORE
            + "unknown key 'colour'; did you mean color? keys are the options of logitlens topk",
        ),
        (
            'target = "next"',  # an option of rank
            BEFORE + "unknown key 'target'; keys are the options of logitlens topk",
        ),
        (
            "no-json = true",
            BEFORE
            + "unknown key 'no-json'; did you mean json? keys are the options of logitlens topk",
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
