"""Texts whose every character shows."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from logitlens_cli.reading import marks


@given(st.text())
def test_a_label_shows_every_character(text: str) -> None:
    shown = marks.with_marks(text)
    assert not [c for c in shown if unicodedata.category(c)[0] in "CZ"]
    assert len(shown) >= len(text)


@given(st.lists(st.text(min_size=1, max_size=3), min_size=2, max_size=2, unique=True))
def test_texts_that_differ_get_labels_that_differ(texts: list[str]) -> None:
    # An escape can be spelled out with ASCII; marks put on a circle may have stood on one.
    if not any(char in "<◌" for text in texts for char in text):
        assert marks.with_marks(texts[0]) != marks.with_marks(texts[1])
