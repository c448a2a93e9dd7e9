"""``logitlens diff``: which options it has."""

import re
from pathlib import Path
from typing import Any

import pytest
from conftest import Shell
from options_of import parsed, refusal

from logitlens_cli.commands.diff import Diff
from logitlens_cli.options.metric import Color


def test_diff() -> None:
    made = parsed("diff", "a.json", "b.json", "topk", "--over", "--color", "prob", "--no-json")
    assert made == Diff(
        a=Path("a.json"), b=Path("b.json"), metric="topk", over=True, color=Color("prob"),
        json=False,
    )  # fmt: skip
    assert parsed("diff", "a.json", "b.json") == Diff(a=Path("a.json"), b=Path("b.json"))


@pytest.mark.parametrize("option", ["--lock-in", "--next-ranks", "--probs", "--delta"])
def test_what_only_one_reading_has_is_no_option(logitlens: Shell, option: str) -> None:
    said = logitlens("diff", "a.json", "b.json", option).refusal(2)
    others = "it is an option of [^;]+"
    assert re.fullmatch(f"No such option: {option}; {others}; see logitlens diff --help", said), (
        said
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"format": "parquet"},
            "--format 'parquet' is unknown; choose from png, svg, pdf, or none",
        ),
        (
            {"format": "none", "json": False},
            "--format none leaves nothing to write; name a format, or --show",
        ),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    assert refusal(lambda: Diff(a=Path("a"), b=Path("b"), **options)) == message
