"""Whose logit or rank: words, and tokens by their ids."""

import pytest

from logitlens_cli.metrics.target_names import target_token_id, target_words, token_target


@pytest.mark.parametrize(
    ("target", "number"),
    [
        ("id:0", 0),
        ("id:49151", 49151),
        (f"id:{'9' * 18}", 10**18 - 1),
        (f"id:{'9' * 19}", None),  # more than fits 64 bits
        ("id:", None),
        ("id:-1", None),
        ("id:1.5", None),
        ("id: 1", None),
        ("id:٣", None),  # a digit, but not of ASCII
        ("ID:1", None),
        ("7", None),
        ("final", None),
    ],
)
def test_a_token_by_its_number(target: str, number: int | None) -> None:
    assert target_token_id(target) == number


def test_a_number_as_target_and_back() -> None:
    assert token_target(261) == "id:261"
    assert target_token_id(token_target(261)) == 261


@pytest.mark.parametrize(
    ("target", "label", "words"),
    [
        ("final", "", "the final top guess"),
        ("input", "", "the input token"),
        ("next", "", "the true next token"),
        ("id:7", "", "token 7"),
        ("id:7", "·cat", "token 7 ·cat"),
        (" cat", "", "token  cat"),
    ],
)
def test_a_target_in_words(target: str, label: str, words: str) -> None:
    assert target_words(target, label) == words
