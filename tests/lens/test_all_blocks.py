"""The block from which a guess stays the model's does not depend on what is drawn."""

from pathlib import Path
from typing import Any

import pytest
from conftest import Shell, tiny_llama

import logitlens_cli
from logitlens_cli.reading.dump import load_dump

TEXT = "the cat and the cat"
ROWS: list[dict[str, Any]] = [
    {"every": 3},
    {"layers": "0,3"},
    {"layers": "1"},
    {"every": 2, "subblocks": True},
    {"subblocks": True},
    {"every": 4, "window": "3:7"},
    {"every": 4, "input_row": False},
]


@pytest.mark.parametrize("rows", ROWS, ids=str)
def test_lock_in_is_of_all_blocks(tokenizer: Any, rows: dict[str, Any]) -> None:
    model = tiny_llama()
    window = rows.get("window")
    whole = logitlens_cli.read(model, tokenizer, TEXT, window=window).lock_in
    assert whole is not None
    assert whole.all_blocks
    assert len(set(whole.since)) > 1
    reading = logitlens_cli.read(model, tokenizer, TEXT, lock_in=True, **rows)
    assert reading.lock_in == whole
    assert len(reading.layers) == len(logitlens_cli.read(model, tokenizer, TEXT, **rows).layers)


def test_blocks_that_decode_are_no_rows(tokenizer: Any) -> None:
    model = tiny_llama()
    whole = logitlens_cli.read(model, tokenizer, TEXT, decoder_blocks=1)
    some = logitlens_cli.read(model, tokenizer, TEXT, decoder_blocks=1, every=2, lock_in=True)
    assert len(whole.layers) == 1 + 3
    assert [layer.label for layer in some.layers] == ["input", "0", "2"]
    assert some.lock_in == whole.lock_in
    assert whole.lock_in is not None
    assert whole.lock_in.all_blocks


def test_without_the_option_it_is_of_the_rows_and_says_so(tokenizer: Any) -> None:
    reading = logitlens_cli.read(tiny_llama(), tokenizer, TEXT, layers="0,3")
    assert reading.lock_in is not None
    assert not reading.lock_in.all_blocks
    assert set(reading.lock_in.since) <= {0, 3}


def words_of(read: Shell, out: Path, *options: str) -> tuple[str, list[str]]:
    """A caption, and the last lines of the table."""
    ran = read("topk", "-t", TEXT, "--name", "x", "--caption", "--table", "csv", *options)
    assert ran.code == 0, ran
    table = (out / "x.topk.csv").read_text().splitlines()
    return (out / "x.topk.txt").read_text(), table[-2:]


def test_figure_caption_and_table_have_the_same_numbers(read: Shell, out: Path) -> None:
    caption, lines = words_of(read, out, "--lock-in")
    assert "; the guess stays the model's from layer " in caption
    assert "of the rows shown" not in caption
    fewer, same = words_of(read, out, "--lock-in", "--layers", "0,3")
    assert same == lines
    words = "the guess stays the model's from layer "
    assert fewer.partition(words)[2] == caption.partition(words)[2]
    assert ", of the rows shown. " in fewer  # what is to be seen is of the rows
    assert f"of the rows shown, {words}" not in fewer


def test_a_dump_without_all_blocks_says_of_the_rows_shown(
    read: Shell, logitlens: Shell, out: Path
) -> None:
    read("topk", "-t", TEXT, "--name", "x", "--layers", "0,3")
    dump = out / "x.topk.json"
    ran = logitlens("render", dump, "-o", out, "--lock-in", "--format", "svg", "--caption")
    assert ran.code == 0, ran
    words = "of the rows shown, the guess stays the model's from layer "
    assert words in (out / "x.topk.txt").read_text()
    assert words in (out / "x.topk.svg").read_text()
    found = load_dump(dump).lock_in
    assert found is not None
    assert found.all_blocks is False
