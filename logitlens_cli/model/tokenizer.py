"""Text -> token ids; ids -> printable labels; which columns a window chooses.

Knows nothing of fonts (a label may hold any script) and nothing of models. A tokenizer is anything
with the interface of transformers' fast tokenizers.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from logitlens_cli.errors import LogitLensError, UsageError, WorkError
from logitlens_cli.model.windows import POSITIONS, words_span
from logitlens_cli.reading.marks import with_marks

SENTENCEPIECE_SPACE = "▁"


@dataclass(frozen=True)
class Encoded:
    """A text as the model sees it."""

    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    """characters of the text that each token stands for, (0, 0) for added tokens; nothing at all
    where the tokenizer does not say"""
    bos: bool
    """does the first token stand for no text, that is, was it added?"""


def encode(tokenizer: Any, text: str, bos: str = "auto") -> Encoded:
    """Tokenize ``text``.

    ``bos``: "auto" is the tokenizer's own habit, "add" and "none" put the start token there or
    take care that none is. What a tokenizer puts behind a text is left out: the last token is the
    text's. Raises UsageError for "add" where the tokenizer has no such token.
    """
    encoding = tokenizer(
        text,
        add_special_tokens=bos == "auto",
        return_offsets_mapping=True,
        return_attention_mask=False,
        return_special_tokens_mask=True,
        verbose=False,
    )
    # Tokenizers written in Python (CTRL, BioGPT) know no spans.
    ids, spans = list(encoding["input_ids"]), [tuple(s) for s in encoding.get("offset_mapping", ())]
    was_added = encoding.get("special_tokens_mask") or [0] * len(ids)
    while ids and was_added[len(ids) - 1]:
        ids.pop()
    spans = spans[: len(ids)]
    if bos == "add":
        if tokenizer.bos_token_id is None:
            raise UsageError("--bos add: the tokenizer has no start token", "use --bos auto")
        ids, spans = [tokenizer.bos_token_id, *ids], [(0, 0), *spans] if spans else []
    added = spans[0] == (0, 0) if spans else ids[:1] == [tokenizer.bos_token_id]
    return Encoded(tuple(ids), tuple(spans), added)


def in_template(tokenizer: Any, text: str) -> str:
    """``text`` as a user's message in the chat template, up to where the answer begins."""
    if not getattr(tokenizer, "chat_template", None):
        raise UsageError("--chat: the tokenizer has no chat template", "leave the option out")
    message = [{"role": "user", "content": text}]
    try:
        rendered = tokenizer.apply_chat_template(
            message, tokenize=False, add_generation_prompt=True
        )
        rendered.encode()
    except LogitLensError:
        raise
    except Exception as error:  # a template is a program that comes with the model
        said = str(error) or type(error).__name__
        raise WorkError(f"--chat: the chat template fails: {said}", "leave it out") from error
    return str(rendered)


def target_id(tokenizer: Any, text: str, option: str = "--target") -> int:
    """The id of a text that is one token; UsageError shows its pieces where it is not."""
    ids = token_ids(tokenizer, text)
    if len(ids) != 1:
        pieces = " + ".join(label(tokenizer, i) for i in ids) or "nothing"
        raise UsageError(
            f"{option} {text!r} is not one token but {len(ids)}: {pieces}",
            "give a single token (a leading space counts), or use id:N",
        )
    return ids[0]


def token_ids(tokenizer: Any, text: str) -> list[int]:
    """The ids of a part of a text, without any token that is added."""
    encoding = tokenizer(text, add_special_tokens=False, verbose=False)
    return [int(i) for i in encoding["input_ids"]]


def spellings(word: str) -> list[str]:
    """How a word may be written: with and without a space before it, in capitals or not."""
    bare = word.strip()
    forms = dict.fromkeys([bare, bare.capitalize(), bare.lower(), bare.upper()])
    return [space + form for form in forms for space in (" ", "")]


def labels(tokenizer: Any, ids: Iterable[int]) -> list[str]:
    """The label of each id; every distinct id is looked up once."""
    ids = list(ids)
    by_id = {i: label(tokenizer, i) for i in set(ids)}
    return [by_id[i] for i in ids]


def label(tokenizer: Any, token_id: int) -> str:
    """One token, readable: spaces and line ends visible, parts of characters as ``<0xE6>``.

    Special tokens keep their name; ids beyond the tokenizer (padding rows of the head) are
    ``<unused N>``.
    """
    # Ids may have gaps, so a large one need not be beyond the last; a tokenizer written in Python
    # answers with its token for the unknown there.
    in_range = tokenizer.is_fast or token_id < len(tokenizer)
    piece = tokenizer.convert_ids_to_tokens(token_id) if in_range else None
    if piece is None:
        return f"<unused {token_id}>"
    if token_id in tokenizer.added_tokens_decoder:
        return with_marks(piece)
    alphabet = byte_alphabet()
    if is_byte_level(tokenizer) and all(char in alphabet for char in piece):
        return with_marks(text_of_bytes(bytes(alphabet[char] for char in piece)))
    return with_marks(piece.replace(SENTENCEPIECE_SPACE, " "))


def is_byte_level(tokenizer: Any) -> bool:
    """Are pieces written in the byte alphabet of GPT-2?"""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return "ByteLevel" in repr(getattr(backend, "decoder", None))


@cache
def byte_alphabet() -> dict[str, int]:
    """GPT-2's printable character for every byte, reversed: printable Latin-1 bytes stand for
    themselves, the other 68 follow from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    return table | {chr(0x100 + n): byte for n, byte in enumerate(others)}


def text_of_bytes(data: bytes) -> str:
    """UTF-8, with every byte that is only a part of a character as ``<0xE6>``."""
    text = data.decode("utf-8", errors="surrogateescape")
    return "".join(
        f"<0x{ord(char) - 0xDC00:02X}>" if 0xDC80 <= ord(char) <= 0xDCFF else char for char in text
    )


def window_columns(spec: str | None, text: str, encoded: Encoded) -> range:
    """The positions that ``spec`` asks for: None is all, "A:B" counts tokens (negatives from the
    end), anything else is a part of the text (see ``windows``)."""
    count = len(encoded.ids)
    if spec is None:
        return range(count)
    match = POSITIONS.fullmatch(spec)
    if match is None:
        return spanned_tokens(spec, text, encoded)
    first, last = int(match[1] or 0), int(match[2]) if match[2] else count
    start, stop = (end + count if end < 0 else end for end in (first, last))
    if not 0 <= start < count or not 0 <= stop <= count:
        raise UsageError(
            f"--window {spec} is outside the text of {count} tokens", f"stay within 0:{count}"
        )
    if start >= stop:
        raise UsageError(f"--window {spec} holds no token", "write A:B with A before B")
    return range(start, stop)


def single_column(position: int | None, columns: range, count: int) -> range:
    """One position of ``columns``, counted in the text of ``count`` tokens, negatives from the end;
    None is the last of them."""
    index = columns[-1] if position is None else position + count * (position < 0)
    if not 0 <= index < count:
        raise UsageError(
            f"--position {position} is outside the text of {count} tokens",
            f"give 0 to {count - 1}, or -{count} to -1",
        )
    if index not in columns:
        raise UsageError(
            f"--position {position} is outside the window {columns.start}:{columns.stop}",
            "leave --window out",
        )
    return range(index, index + 1)


def spanned_tokens(part: str, text: str, encoded: Encoded) -> range:
    """The positions of the tokens that a part of the text touches."""
    start, stop = words_span(part, text)
    touched = [i for i, (a, b) in enumerate(encoded.spans) if a < stop and b > start]
    if not touched:
        raise UsageError(f"--window {part!r} belongs to no token", "give positions A:B")
    return range(touched[0], touched[-1] + 1)
