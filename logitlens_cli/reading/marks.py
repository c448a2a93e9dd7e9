"""How characters that one cannot see are shown, and which may not be shown at all."""

import unicodedata
from functools import cache

SPACE, NEWLINE, TAB, RETURN, FIRM_SPACE = "·", "↵", "⇥", "⏎", "⊔"
LONE_SPACE = "␣"
"""what figures write for a space with no word behind it"""
MARKS = {" ": SPACE, "\n": NEWLINE, "\t": TAB, "\r": RETURN, "\u00a0": FIRM_SPACE}
"""every mark is in the font that comes with matplotlib"""
RESERVED = {*MARKS.values(), LONE_SPACE}
"""characters that labels and figures give a meaning; in a text they are escaped"""
UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"}  # categories of Unicode
# Marks, letters and symbols that draw nothing: joiners, fillers, selectors of variants.
BLANK = {
    *"\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0",
    *map(chr, [*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)]),
}


def with_marks(text: str) -> str:
    """Make every character of ``text`` show: marks for white space, ``<U+200B>`` for the unseen."""
    shown = "".join(map(mark_of, text))
    # A mark that combines with the character before it gets one to combine with.
    return "◌" + shown if shown and unicodedata.category(shown[0]).startswith("M") else shown


def harmless(text: str) -> str:
    """``text`` without what a terminal would obey and XML forbids: labels stay as they are, but a
    foreign dump may hold anything."""
    return "".join(c if c == " " or c in RESERVED else mark_of(c) for c in text)


@cache
def mark_of(char: str) -> str:
    if char in MARKS:
        return MARKS[char]
    unseen = unicodedata.category(char) in UNSEEN or char in BLANK
    return f"<U+{ord(char):04X}>" if unseen or char in RESERVED else char
