"""``logitlens stats``: which options it has."""

import re
from pathlib import Path

import pytest
from conftest import Shell
from options_of import parsed, refusal

from logitlens_cli.commands.stats import Stats


def test_stats() -> None:
    assert parsed("stats", "--lines", "a.txt", "--cmap", "mako") == Stats(
        lines=Path("a.txt"), cmap="mako"
    )
    merged = parsed("stats", "--merge", "a.json", "b.json")
    assert merged == Stats(merge=True, dumps=[Path("a.json"), Path("b.json")])


@pytest.mark.parametrize(
    "option",
    [
        *("--text=a", "--file=a", "--split=2", "--skip-first=1", "--changes-only", "--show"),
        *("--width=double", "--table=csv", "--caption", "--lock-in", "--next-ranks", "--probs"),
        *("--delta", "--jobs=1"),
    ],
)
def test_what_is_about_one_text_is_no_option(logitlens: Shell, option: str) -> None:
    said = logitlens("stats", "--lines", "a", option).refusal(2)
    name = option.partition("=")[0]
    others = "it is an option of [^;]+"
    assert re.fullmatch(f"No such option: {name}; {others}; see logitlens stats --help", said), said


def test_parquet_is_not_a_format_of_a_summary() -> None:
    said = refusal(lambda: Stats(lines=Path("a"), format="parquet"))
    assert said == "--format 'parquet' is unknown; choose from png, svg, pdf, or none"
