"""Words of a window: in any normal form, several times, or looking like positions."""

import itertools
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitlens_cli.errors import UsageError
from logitlens_cli.model.windows import occurrences, window_notes, words_span

CAFE, CAFE_APART = "caf\u00e9", "cafe\u0301"
HAN, HAN_APART = "\ud55c\uae00", unicodedata.normalize("NFD", "\ud55c\uae00")
TWO_DOGS = "a dog saw the dog at 3:5"


@pytest.mark.parametrize(
    ("words", "text", "span"),
    [
        (CAFE, f"a {CAFE_APART} b", (2, 7)),
        (CAFE_APART, f"a {CAFE} b", (2, 6)),
        (CAFE_APART, f"a {CAFE_APART} b", (2, 7)),
        (CAFE, f"a {CAFE} b", (2, 6)),
        (HAN, f"a {HAN_APART} b", (2, 8)),
        (HAN_APART, f"a {HAN} b", (2, 4)),
        ("\u00c5", "1 \u212b", (2, 3)),  # the sign of the unit is another spelling of the letter
        ("b\u0323\u0307", "a b\u0307\u0323", (2, 5)),  # marks in another order
        ("cafe", f"a {CAFE_APART} b", (2, 6)),  # half a character, as it is written
        ("dog", TWO_DOGS, (2, 5)),
        ("dog#1", TWO_DOGS, (2, 5)),
        ("dog#2", TWO_DOGS, (14, 17)),
        ("3:5#1", TWO_DOGS, (21, 24)),
        (f"{CAFE}#2", f"{CAFE}, {CAFE_APART}", (6, 11)),
        ("dog#2", "a dog#2 and a dog", (2, 7)),  # the text has these very characters
        ("dog#2#2", "dog#2 dog#2", (6, 11)),
        ("aa", "aaaa", (0, 2)),
        ("aa#2", "aaaa", (2, 4)),
        ("a.c", "abc a.c", (4, 7)),
        ("the dog", "saw the\ndog", (4, 11)),
        ("the dog", "saw the\xa0 dog", (4, 12)),
        ("the\ndog", "saw the dog", (4, 11)),
        ("the dog", "the\ndog, the dog", (9, 16)),  # as they are, before other white space
        ("the dog#2", "the\ndog, the\tdog", (9, 16)),
        (" dog", "the \n\tdog", (3, 9)),
        (f"{CAFE} b", f"a {CAFE_APART}\nb", (2, 9)),
        ("dog", " " * 10**6 + "dog", (10**6, 10**6 + 3)),
        (" a dog", " " * 10**6 + "a\ndog", (0, 10**6 + 5)),
    ],
)
def test_the_characters_that_are_meant(words: str, text: str, span: tuple[int, int]) -> None:
    assert words_span(words, text) == span


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("cat", "--window 'cat' does not occur in the text; give words of it, or positions A:B"),
        ("cat#2", "--window 'cat#2' does not occur in the text; give words of it, or posi"),
        ("#1", "--window '#1' does not occur in the text"),
        ("", "--window '' does not occur in the text"),
        ("dog#3", "--window 'dog#3': 'dog' occurs 2 times in the text; give '#1' to '#2'"),
        ("dog#0", "--window 'dog#0': 'dog' occurs 2 times in the text; give '#1' to '#2'"),
        ("thedog", "--window 'thedog' does not occur in the text"),
        ("saw#2", "--window 'saw#2': 'saw' occurs once in the text; give '#1'"),
    ],
)
def test_words_that_do_not_occur(words: str, problem: str) -> None:
    with pytest.raises(UsageError) as caught:
        words_span(words, TWO_DOGS)
    assert str(caught.value).startswith(problem)


@pytest.mark.parametrize(
    ("spec", "notes"),
    [
        (None, []),
        ("saw", []),
        ("dog#2", []),
        ("3:5#1", []),
        ("0:2", []),
        (":", []),
        (
            "dog",
            [
                "--window 'dog' occurs more than once, of which the first is taken; "
                "'dog#2' is the second"
            ],
        ),
        (
            "3:5",
            [
                "--window 3:5 is taken as positions, though the text has these characters too; "
                "'3:5#1' is the words"
            ],
        ),
    ],
)
def test_what_could_have_been_meant(spec: str | None, notes: list[str]) -> None:
    assert window_notes(spec, TWO_DOGS) == notes


@given(st.text(alphabet="ae\u0301\u0323\u00e9 \u1112\u1161\u11ab\ud55c", max_size=12), st.data())
def test_every_part_is_found_in_every_form(text: str, data: st.DataObject) -> None:
    """Where a part begins and ends with whole characters."""
    composed = unicodedata.normalize("NFC", text)
    start = data.draw(st.integers(0, len(composed)))
    stop = data.draw(st.integers(start, len(composed)))
    part = composed[start:stop]
    if part and not unicodedata.combining(part[0]) and part.strip("\u1161\u11ab") == part:
        for form in ("NFC", "NFD"):
            spans = occurrences(unicodedata.normalize(form, part), text)
            assert spans
            assert all(0 <= a < b <= len(text) for a, b in spans)
            assert all(b <= c for (_, b), (c, _) in itertools.pairwise(spans))
