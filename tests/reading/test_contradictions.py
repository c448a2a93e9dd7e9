"""Dumps of the right shape that contradict themselves are refused by name."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dump_fixtures import Dump, dump_refusal

from logitlens_cli.reading.dump import load_dump


def put(value: Any, *keys: Any) -> Callable[[Dump], None]:
    """Set the value at the end of a path."""

    def change(dump: Any) -> None:
        for key in keys[:-1]:
            dump = dump[key]
        dump[keys[-1]] = value

    return change


def many_guesses(dump: Dump) -> None:
    dump["guesses"] = {
        "ids": [[list(range(301))] * 7] * 5,
        "labels": [[["x"] * 301] * 7] * 5,
        "logits": [[[0.0] * 301] * 7] * 5,
        "probs": [[[0.0] * 301] * 7] * 5,
    }


FOLLOWED = {
    "position": 7,
    "ids": [5, 6],
    "labels": ["a", "b"],
    "ranks": [[1, 2]] * 5,
    "logits": [[2.5, None]] * 5,
    "probs": [[0.5, 0.25]] * 5,
    "chosen": [6],
}
WRONG: dict[str, tuple[Callable[[Dump], object], str]] = {
    "another text": (put("the dog\n日", "text"), "text_sha256 is not the hash of text"),
    "hash of nothing": (put("0" * 64, "text_sha256"), "text_sha256 is not the hash of text"),
    "window backwards": (put([5, 2], "lens", "window"), "lens.window is [5, 2] of a text of 8"),
    "window of nothing": (put([3, 3], "lens", "window"), "lens.window is [3, 3]"),
    "window beyond": (put([1, 9], "lens", "window"), "lens.window is [1, 9] of a text of 8 tokens"),
    "tokens of the text": (
        put(9, "lens", "text_tokens"),
        "lens.text_tokens is 9, text_ids has 8",
    ),
    "equal positions": (
        put(1, "tokens", 1, "position"),
        "the positions of tokens are not those of lens.window [1, 8]",
    ),
    "another window": (put([0, 7], "lens", "window"), "not those of lens.window [0, 7]"),
    "another token": (put(9, "tokens", 2, "id"), "the token at position 3 is not that of text_ids"),
    "another next token": (put(9, "tokens", 2, "next_id"), "the token at position 3"),
    "a token after the last": (put(9, "tokens", 6, "next_id"), "the token at position 7"),
    "a block without a number": (put(None, "layers", 2, "block"), "a block without its number"),
    "an input row with one": (put(0, "layers", 0, "block"), "or an input row with one"),
    "a block too many": (put(3, "model", "blocks"), "layers has block 3, model.blocks is 3"),
    "a block twice": (put(1, "layers", 3, "block"), "does not go from the lowest row to the last"),
    "a k beyond the vocabulary": (many_guesses, "guesses has 301 a cell, model.vocabulary is 300"),
    "an id beyond it": (put(300, "guesses", "ids", 1, 1, 0), "guesses.ids has token 300"),
    "a final id beyond it": (put(300, "final_ids", 0), "final_ids has token 300"),
    "a probability of 7": (put(7.0, "guesses", "probs", 0, 0, 0), "guesses.probs has 7, which is"),
    "a probability below 0": (put(-0.1, "guesses", "probs", 0, 0, 4), "guesses.probs has -0.1"),
    "a probability of 7 alone": (
        put(7.0, "metrics", "prob", "values", 2, 3),
        "metrics.prob.values has 7, which is not within 0 and 1",
    ),
    "probabilities of 5": (
        put([1.0] * 5, "guesses", "probs", 0, 0),
        "guesses.probs has a cell that adds up to 5",
    ),
    "other logarithms": (
        put([-1.0] * 5, "guesses", "log_probs", 0, 0),
        "guesses.log_probs are not the logarithms of guesses.probs",
    ),
    "a worse guess first": (
        put([1.0, 2.0, 0.0, 0.0, 0.0], "guesses", "logits", 0, 0),
        "a cell whose best guess does not come first",
    ),
    "a token twice": (put([5] * 5, "guesses", "ids", 4, 6), "a token twice in a cell"),
    "a rank beyond the vocabulary": (
        put(301, "metrics", "rank", "values", 0, 0),
        "metrics.rank.values has 301, which is not within 1 and 300",
    ),
    "half a rank": (put(1.5, "metrics", "rank", "values", 0, 0), "a rank that is no whole number"),
    "a KL below 0": (
        put(-0.5, "metrics", "kl-final", "values", 0, 0),
        "metrics.kl-final.values has -0.5, which is not within 0 and inf",
    ),
    "a target less": (
        lambda dump: dump["metrics"]["rank"]["target_ids"].pop(),
        "metrics.rank.target_ids is not of 7 positions",
    ),
    "a tie less": (
        lambda dump: dump["metrics"]["rank"]["ties"][1].pop(),
        "metrics.rank.ties is not of 5 layers by 7 positions",
    ),
    "a followed rank of 0": (
        put(FOLLOWED | {"ranks": [[0, 2]] * 5}, "followed"),
        "followed.ranks has 0, which is not within 1 and 300",
    ),
    "a followed probability of 7": (
        put(FOLLOWED | {"probs": [[7.0, 0]] * 5}, "followed"),
        "followed.probs has 7",
    ),
    "other followed logarithms": (
        put(FOLLOWED | {"log_probs": [[-1.0, -2.0]] * 5}, "followed"),
        "followed.log_probs are not the logarithms of followed.probs",
    ),
    "a token followed twice": (put(FOLLOWED | {"ids": [6, 6]}, "followed"), "a token twice"),
    "a next rank of 0": (put([0] + [None] * 6, "next_ranks"), "next_ranks has 0"),
    "lock-in of another text": (
        lambda dump: dump["lock_in"]["since"].pop(),
        "lock_in.since is not of 7 positions",
    ),
    "lock-in nowhere": (put(4, "lock_in", "first", 0), "a block that the model does not have"),
    "a check that failed": (put(False, "check", "passed"), "check has not passed: an error of"),
    "a check that would fail": (
        put(1.0, "check", "max_abs_logit_error"),
        "check has not passed: an error of 1 and a tolerance of",
    ),
}


@pytest.mark.parametrize("how", WRONG)
def test_a_contradiction_is_named(how: str, dump: Dump, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(dump))
    load_dump(path)  # as it was, it can be read
    change, words = WRONG[how]
    change(dump)
    path.write_text(json.dumps(dump))
    said = dump_refusal(path)
    assert said.startswith(f"{path} is not a dump of this version of logitlens (")
    assert words in said


def test_followed_tokens_without_a_fault(dump: Dump, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(dump | {"followed": FOLLOWED, "next_ranks": [1, 300, *[None] * 5]}))
    load_dump(path)


# ---- memory

LOAD = """
import resource, sys
from pathlib import Path
from logitlens_cli.errors import UsageError
from logitlens_cli.figures.reading_panels import panels
from logitlens_cli.figures.style import FigureStyle
from logitlens_cli.reading.dump import load_dump
load_dump(Path(sys.argv[1]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    reading = load_dump(Path(sys.argv[2]))
    for figure in ("topk", "prob"):
        panels(reading, figure, FigureStyle())
    said = "read"
except UsageError as error:
    said = str(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, said)
"""


def loaded(small: Path, path: Path) -> tuple[float, str]:
    """How many times its own length a dump takes to be read and to become panels, and what is said
    of it."""
    ran = subprocess.run(
        [sys.executable, "-c", LOAD, str(small), str(path)],
        capture_output=True, text=True, check=True, timeout=100,
    )  # fmt: skip
    kilobytes, said = ran.stdout.strip().split(" ", 1)
    return int(kilobytes) * 1024 / path.stat().st_size, said


def swollen(dump: Dump, columns: int, cell: Callable[[int], list[Any]], value: Any) -> Dump:
    """The dump with so many columns; ``cell`` gives ids, labels, logits, probs, log_probs."""
    made = dict(dump)
    text = "h" * columns
    made["text"], made["text_ids"] = text, [104] * columns
    made["text_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    token = {"id": 104, "label": "h", "next_id": 104, "next_label": "h"}
    made["tokens"] = [token | {"position": n} for n in range(columns)]
    made["tokens"][-1] |= {"next_id": None, "next_label": None}
    made["lens"] = dump["lens"] | {"window": [0, columns], "text_tokens": columns}
    keys = ("ids", "labels", "logits", "probs", "log_probs")
    made["guesses"] = {key: [[cell(n)] * columns] * 5 for n, key in enumerate(keys)}
    prob = dump["metrics"]["prob"] | {"values": [[value] * columns] * 5}
    own = dump["metrics"]["own-logit"] | {"values": [[value] * columns] * 5}
    made["metrics"] = {"prob": prob, "own-logit": own}
    made["final_ids"], made["lock_in"] = [104] * columns, None
    made["options"] = {}
    return made


@pytest.mark.skipif(not hasattr(os, "fork"), reason="memory is counted in another way")
def test_a_large_dump_takes_memory_in_proportion(
    dump: Dump, dump_file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "large.json"
    cells: list[list[Any]] = [[104], ["<0xE6>"], [17.12345], [0.1234567], [-2.091864]]
    path.write_text(json.dumps(swollen(dump, 30_000, lambda n: cells[n], 0.1234567)))
    assert path.stat().st_size > 10**7
    times, said = loaded(dump_file, path)
    assert said == "read"
    assert times < 20


@pytest.mark.parametrize("kind", ["lists", "guesses", "later", "options"])
def test_a_file_that_swells_in_memory_is_refused(
    kind: str, dump: Dump, dump_file: Path, tmp_path: Path
) -> None:
    path = tmp_path / "swells.json"
    if kind == "lists":
        cells: list[list[Any]] = [[1], ["x"], [1], [1], [0]]
        made = swollen(dump, 50_000, lambda n: cells[n], 1)
    elif kind == "guesses":
        many = 100_000
        dump["model"]["vocabulary"] = many
        numbers: list[list[Any]] = [list(range(many)), ["x"] * many, *[[0] * many] * 3]
        made = swollen(dump, 3, lambda n: numbers[n], 1)
    else:
        empty: list[Any] = [[]] * 2_000_000
        made = dump | ({"later": empty} if kind == "later" else {"options": {"x": empty}})
    path.write_text(json.dumps(made, separators=(",", ":")))
    times, said = loaded(dump_file, path)
    assert times < 20
    if kind == "guesses":
        assert "guesses.log_probs are not the logarithms" in said
    else:
        assert "MB of memory, more than numbers of seven figures do" in said
