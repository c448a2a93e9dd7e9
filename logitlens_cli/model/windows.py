"""Which characters of a text are meant by the words of a window.

Words are found in whatever normal form the text has them (``é`` is one character or two), and, if
they do not occur otherwise, with any white space between them (a line's end, a no-break space).
Where they occur several times ``words#2`` is the second; and ``3:5#1`` are words though they look
like positions.
"""

import re
import unicodedata

from logitlens_cli.errors import UsageError

POSITIONS = re.compile(r"\s*(-?\d{1,18})?\s*:\s*(-?\d{1,18})?\s*")
"""A:B, counted in tokens"""
NUMBERED = re.compile(r"(.+)#(\d{1,9})", re.DOTALL)


def words_span(spec: str, text: str) -> tuple[int, int]:
    """The characters that the words of a window are; UsageError where they do not occur."""
    numbered = NUMBERED.fullmatch(spec)
    spans = occurrences(spec, text)
    if spans or numbered is None:
        words, number = spec, 1
    else:
        words, number = numbered[1], int(numbered[2])
        spans = occurrences(words, text)
    if not spans:
        raise UsageError(
            f"--window {spec!r} does not occur in the text", "give words of it, or positions A:B"
        )
    if not 1 <= number <= len(spans):
        raise UsageError(
            f"--window {spec!r}: {words!r} occurs {times(len(spans))} in the text",
            f"give '#1' to '#{len(spans)}'" if len(spans) > 1 else "give '#1'",
        )
    return spans[number - 1]


def times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def window_notes(spec: str | None, text: str) -> list[str]:
    """What a user ought to know of a window that could mean something else."""
    if spec is None:
        return []
    words = spec.strip()
    if POSITIONS.fullmatch(spec):
        if len(words) < 2 or not occurrences(words, text):
            return []
        return [
            f"--window {words} is taken as positions, though the text has these characters too; "
            f"'{words}#1' is the words"
        ]
    if len(occurrences(spec, text)) < 2:
        return []
    return [
        f"--window {spec!r} occurs more than once, of which the first is taken; "
        f"'{spec}#2' is the second"
    ]


def occurrences(words: str, text: str) -> list[tuple[int, int]]:
    """The characters (start, stop) of ``text`` that are ``words`` in some normal form, from left to
    right, none of them twice; those with other white space only if there are no others."""
    if not words:
        return []
    composed = unicodedata.normalize("NFC", words)
    matches = matches_in if unicodedata.is_normalized("NFC", text) else composed_matches_in
    # As they are last: half a character, such as an e without its accent.
    return (
        matches(re.escape(composed), text)
        or matches(with_any_space(composed), text)
        or matches_in(re.escape(words), text)
    )


def with_any_space(words: str) -> str:
    """A pattern of words between which, in a text, there may be a line's end, or several spaces."""
    pattern = r"\s+".join(map(re.escape, re.split(r"\s+", words)))
    return rf"(?<!\s){pattern}" if words[0].isspace() else pattern  # long runs are tried once only


def matches_in(pattern: str, text: str) -> list[tuple[int, int]]:
    return [match.span() for match in re.finditer(pattern, text)]


def composed_matches_in(pattern: str, text: str) -> list[tuple[int, int]]:
    """The same in a text that is not composed, for a pattern that is."""
    pieces = composed_pieces(text)
    composed = "".join(piece for piece, _, _ in pieces)
    starts = [start for piece, start, _ in pieces for _ in piece]
    stops = [stop for piece, _, stop in pieces for _ in piece]
    return [(starts[a], stops[b - 1]) for a, b in matches_in(pattern, composed)]


def composed_pieces(text: str) -> list[tuple[str, int, int]]:
    """What the characters of a text compose to, each with its (start, stop) there."""
    pieces: list[tuple[str, int, int]] = []
    start = 0
    for n in range(1, len(text) + 1):
        if n == len(text) or not belongs(text[start:n], text[n]):
            pieces.append((unicodedata.normalize("NFC", text[start:n]), start, n))
            start = n
    return pieces


def belongs(before: str, char: str) -> bool:
    """Does a character change, or move, with those before it when they are composed?"""
    if char.isascii():
        return False
    apart = unicodedata.normalize("NFC", before) + unicodedata.normalize("NFC", char)
    return bool(unicodedata.combining(char)) or unicodedata.normalize("NFC", before + char) != apart
