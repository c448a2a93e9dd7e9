"""Labels of tokens -> what figures write: signs for white space that nothing else resembles, and
short names for bytes that are only a part of a character."""

from collections.abc import Iterable, Sequence
from functools import cache

import regex

from logitlens_cli.reading.marks import (
    FIRM_SPACE,
    LONE_SPACE,
    NEWLINE,
    RETURN,
    SPACE,
    TAB,
)

# A dot stands well before a word; alone, or before a full stop, it would be one more full stop.
LONE = regex.compile(rf"{SPACE}++(?=[\p{{P}}\s{NEWLINE}{TAB}{RETURN}{FIRM_SPACE}]|$)")
BYTES = regex.compile(r"(?:<0x[0-9A-F]{2}>)+")
LONGEST_TEXT = 1000
"""characters of a text that may be drawn; no room takes as many"""
SUPERSCRIPTS = "¹²³⁴"
SHORT_BYTES = regex.compile(r"‹[0-9A-F]{2}(?: [0-9A-F]{2})*›")
PIECE = regex.compile(r"(?:[^\x00-\x7F¹²³⁴]|<U\+[0-9A-F]+>)[¹²³⁴]")
"""which a text's own m² or note¹ is not: what is one byte comes in one piece"""
MOST_PIECES = 3
"""of a character, before its last one"""
LENGTHS: dict[str | int, int] = {
    **dict.fromkeys(range(0xC2, 0xE0), 2),
    **dict.fromkeys(range(0xE0, 0xF0), 3),
}
LENGTHS |= dict.fromkeys(range(0xF0, 0xF5), 4)
"""bytes of a character in UTF-8, by its first byte"""
SIGNS = {
    SPACE: "space",
    LONE_SPACE: "space",
    FIRM_SPACE: "no-break space",
    NEWLINE: "line end",
    TAB: "tab",
    RETURN: "carriage return",
}


@cache
def token_text(label: str) -> str:
    """A label as figures write it: ``␣`` for a space with no word behind it, ``‹E6 9D›`` for
    ``<0xE6><0x9D>``."""
    if "<0x" in label:
        label = BYTES.sub(lambda found: short_bytes(bytes_of(found[0])), label)
    return LONE.sub(lambda found: LONE_SPACE * len(found[0]), label) if SPACE in label else label


def key_of(texts: Iterable[str]) -> str:
    """What the signs in some texts mean; "" where there are none."""
    texts = {text[:LONGEST_TEXT] for text in texts}
    used = {char for text in texts for char in text}
    meanings: dict[str, list[str]] = {}
    for sign, meaning in SIGNS.items():
        if sign in used:
            meanings.setdefault(meaning, []).append(sign)
    parts = [f"{meaning} {' or '.join(signs)}" for meaning, signs in meanings.items()]
    parts += ["bytes of a character ‹E6 9D›"] * any(map(SHORT_BYTES.search, texts))
    parts += ["piece of a character ¹ ² ³"] * any(map(PIECE.search, texts))
    return f"signs: {', '.join(parts)}" if parts else ""


def texts_in_order(labels: Sequence[str]) -> list[str]:
    """The labels of tokens that follow each other, as figures write them: where they make up a
    character together, ``東²`` for its second piece."""
    if not any("<0x" in label for label in labels):
        return [token_text(label) for label in labels]
    items = [(token, item) for token, label in enumerate(labels) for item in texts_and_bytes(label)]
    pieces: list[list[tuple[str, str | int]]] = [[] for _ in labels]
    start = 0
    while start < len(items):
        token, item = items[start]
        character = character_at(items, start)
        if character is None:
            pieces[token].append(("", item))
            start += 1
        else:
            count = len(character.encode())
            tokens = dict.fromkeys(token for token, _ in items[start : start + count])
            for n, token in enumerate(tokens):
                pieces[token].append((character, SUPERSCRIPTS[n]))
            start += count
    return [named(parts) for parts in pieces]


def text_after(labels: Sequence[str], column: int, guess: str) -> str:
    """A guess of what follows one of these labels; where it makes a character whole that the text
    up to there has begun, a piece of that."""
    if not guess.startswith("<0x"):
        return token_text(guess)
    before = labels[max(0, column + 1 - MOST_PIECES) : column + 1]
    return texts_in_order([*before, guess])[-1]


def texts_and_bytes(label: str) -> list[str | int]:
    """A label as texts and single bytes."""
    if "<0x" not in label:
        return [label]
    items: list[str | int] = []
    end = 0
    for found in BYTES.finditer(label):
        items += [label[end : found.start()]] * (found.start() > end)
        items += bytes_of(found[0])
        end = found.end()
    return items + [label[end:]] * (end < len(label))


def character_at(items: list[tuple[int, str | int]], start: int) -> str | None:
    """The character whose bytes begin at an item; None where they make up none."""
    length = LENGTHS.get(items[start][1], 0)
    data = [item for _, item in items[start : start + length]]
    try:
        return bytes(b for b in data if isinstance(b, int)).decode() or None
    except UnicodeDecodeError:
        return None


def named(parts: list[tuple[str, str | int]]) -> str:
    """Pieces of characters and texts, and the bytes between them."""
    text, loose = "", bytearray()
    for character, item in parts:
        if isinstance(item, int):
            loose.append(item)
            continue
        text += short_bytes(loose) + (character + item if character else token_text(item))
        loose.clear()
    return text + short_bytes(loose)


def bytes_of(escapes: str) -> bytes:
    """``<0xE6><0x9D>`` -> the two bytes."""
    return bytes.fromhex(escapes.replace("<0x", "").replace(">", ""))


def short_bytes(data: bytes | bytearray) -> str:
    return f"‹{data.hex(' ').upper()}›" if data else ""
