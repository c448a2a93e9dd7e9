"""Characters that one cannot see, one by one."""

import pytest

from logitlens_cli.reading.marks import harmless, with_marks


@pytest.mark.parametrize(
    ("text", "marked", "safe"),
    [
        ("cat", "cat", "cat"),
        ("", "", ""),
        (" cat", "·cat", " cat"),
        ("a\nb", "a↵b", "a↵b"),
        ("\t\r\u00a0", "⇥⏎⊔", "⇥⏎⊔"),
        # A mark in the text itself is escaped in a label, and stays in what is a label already.
        ("·", "<U+00B7>", "·"),
        ("\u200b", "<U+200B>", "<U+200B>"),
        ("\x1b[31m", "<U+001B>[31m", "<U+001B>[31m"),
        ("\ud800", "<U+D800>", "<U+D800>"),
        ("\ufe0f", "<U+FE0F>", "<U+FE0F>"),
        ("\u3000", "<U+3000>", "<U+3000>"),
        # A sign that combines gets a circle to combine with, but only where nothing is before it.
        ("\u0301", "◌\u0301", "\u0301"),
        ("e\u0301", "e\u0301", "e\u0301"),
        ("日", "日", "日"),
        ("<&>", "<&>", "<&>"),
    ],
)
def test_characters(text: str, marked: str, safe: str) -> None:
    assert with_marks(text) == marked
    assert harmless(text) == safe
    assert harmless(marked) == marked  # a label stays as it is
