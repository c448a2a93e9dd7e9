"""Tokens that differ from one by a leading space or a capital only."""

from typing import Any

from logitlens_cli.model.tokenizer import SENTENCEPIECE_SPACE, byte_alphabet, is_byte_level


def spellings_of(tokenizer: Any, token_id: int) -> list[int]:
    """The other tokens that are a token's text with or without a leading space, with or without a
    capital; by id."""
    text = piece_text(tokenizer, tokenizer.convert_ids_to_tokens(token_id))
    if text is None:
        return []
    bare = text.removeprefix(" ")
    cases = dict.fromkeys([bare, bare[:1].lower() + bare[1:], bare[:1].upper() + bare[1:]])
    vocabulary = tokenizer.get_vocab()
    pieces = [text_piece(tokenizer, space + word) for word in cases for space in ("", " ")]
    return sorted({vocabulary[piece] for piece in pieces if piece in vocabulary} - {token_id})


def piece_text(tokenizer: Any, piece: str | None) -> str | None:
    """The text of a piece of the vocabulary; None where it has no letter."""
    if piece is None:
        return None
    text: str | None = piece.replace(SENTENCEPIECE_SPACE, " ")
    if is_byte_level(tokenizer):
        text = text_of_byte_piece(piece)
    return text if text is not None and any(map(str.isalpha, text)) else None


def text_of_byte_piece(piece: str) -> str | None:
    """None where the bytes are only parts of characters, or it is none of them."""
    alphabet = byte_alphabet()
    try:
        return bytes(alphabet[char] for char in piece).decode()
    except (KeyError, UnicodeDecodeError):
        return None


def text_piece(tokenizer: Any, text: str) -> str:
    """How a vocabulary writes a text."""
    if not is_byte_level(tokenizer):
        return text.replace(" ", SENTENCEPIECE_SPACE)
    chars = {byte: char for char, byte in byte_alphabet().items()}
    return "".join(chars[byte] for byte in text.encode())
