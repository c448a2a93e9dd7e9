"""Options of the commands that run a model: rows, the prompt, many prompts."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from options_of import refusal

from logitlens_cli.commands.topk import TopK
from logitlens_cli.commands.translate import read_spec
from logitlens_cli.lens.spec import Bos, layer_numbers
from logitlens_cli.options.reading import Engine

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
    assert layer_numbers(spec) == expected
    assert read_spec(TopK(text="a", layers=spec)).blocks(13) == expected


def test_layers_that_are_named_again_take_no_time() -> None:
    start = time.perf_counter()
    assert layer_numbers(",".join(["0-999999"] * 500)) == tuple(range(10**6))
    assert time.perf_counter() - start < 10  # it was half a minute


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "--layers : '' is not a block; write 0,4,8-12"),
        ("a", "--layers a: 'a' is not a block; write 0,4,8-12"),
        ("1,,2", "--layers 1,,2: '' is not a block; write 0,4,8-12"),
        ("1.5", "--layers 1.5: '1.5' is not a block; write 0,4,8-12"),
        ("-1", "--layers -1: '-1' is not a block; write 0,4,8-12"),
        ("3-", "--layers 3-: '3-' is not a block; write 0,4,8-12"),
        ("1-2-3", "--layers 1-2-3: '1-2-3' is not a block; write 0,4,8-12"),
        ("0,9-8", "--layers 0,9-8: '9-8' runs backwards; write 8-9"),
        ("9999999", "--layers 9999999: '9999999' is not a block; write 0,4,8-12"),
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
    assert read_spec(TopK(text="a", every=every)).blocks(blocks) == expected


def test_layers_beyond_the_model() -> None:
    said = "--layers 0,4: there is no block 4; the model's blocks are 0 to 3"
    assert refusal(lambda: read_spec(TopK(text="a", layers="0,4")).blocks(4)) == said


# ---- what cannot be


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TopK(), "there is no prompt; give a text in quotes, --file or --lines"),
        (
            lambda: TopK(text="a", lines=Path("b")),
            "--text and --lines cannot be combined; give one prompt source",
        ),
        (
            lambda: TopK(text="a", layers="1", every=2),
            "--layers and --every are both given; give one of them",
        ),
        (
            lambda: TopK(text="a", shard="1/2"),
            "--shard 1/2 without --lines; name a file of prompts",
        ),
        (
            lambda: TopK(lines=Path("a"), shard="3/2"),
            "--shard '3/2' is not a part; write I/N, with I from 1 to N",
        ),
        (
            lambda: TopK(text="a", engine=Engine.ray),
            "--engine ray without --lines; name a file of prompts",
        ),
        (
            lambda: TopK(lines=Path("a"), workers=2),
            "--address and --workers are for a cluster; give --engine ray too",
        ),
        (
            lambda: TopK(text="a", chat=True, bos=Bos.add),
            "--chat and --bos add are both given; the template has its own start token",
        ),
        (
            lambda: TopK(lines=Path("a"), show=True),
            "--show is for one text, not for --lines; give --text or --file, or show a dump with "
            "logitlens render --show",
        ),
        (
            lambda: TopK(text="a", format="none", json=False),
            "--format none and --no-json leave nothing to write; drop one, or give --show",
        ),
    ],
)
def test_options_that_cannot_be(make: Callable[[], object], message: str) -> None:
    assert refusal(make) == message


@pytest.mark.parametrize("looks", [{"show": True}, {"table": "csv"}, {"caption": True}])
def test_a_reading_need_not_be_drawn(looks: dict[str, Any]) -> None:
    assert TopK(text="a", format="none", json=False, **looks).writes == ("show" not in looks)


def test_a_part_of_the_lines() -> None:
    assert TopK(lines=Path("a")).part == (0, 1)
    assert TopK(lines=Path("a"), shard="2/8").part == (1, 8)
