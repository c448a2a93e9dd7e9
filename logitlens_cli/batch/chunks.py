"""Texts -> chunks of tokens to fit a lens to, and those that are held out.

Texts are taken in an order that their hashes say, so that the first so many tokens are a sample of
them all; and so are the chunks that are held out: the same ones whatever else is in the file.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from logitlens_cli.batch.prompts import Prompt, counted
from logitlens_cli.errors import LogitLensError, UsageError, as_known_error
from logitlens_cli.model.progress import Progress

if TYPE_CHECKING:
    from logitlens_cli.lens.prompt import TokenizedPrompt

LONGEST = 256
"""tokens of a chunk"""
HELD_OUT = 0.05
"""share of the chunks"""


@dataclass(frozen=True)
class Chunk:
    """A text, or a part of one, that takes a place in a pass."""

    ids: Sequence[int]
    key: bytes
    """hash of the tokens"""


def short_hash(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def chunk_of(ids: Sequence[int]) -> Chunk:
    held = array("i", ids)
    return Chunk(held, short_hash(",".join(map(str, held)).encode()))


class Chunker:
    """How texts become tokens, and how these are cut."""

    def __init__(
        self,
        tokenize: Callable[[Prompt], TokenizedPrompt],
        skip_first: int,
        longest: int,
        progress: Progress,
    ) -> None:
        self.tokenize, self.progress = tokenize, progress
        self.skip_first, self.longest = skip_first, longest
        self.wrong: list[tuple[Prompt, LogitLensError]] = []

    def chunks(self, prompts: Sequence[Prompt], most: int | None = None) -> list[Chunk]:
        """The chunks of texts, with ``most`` tokens at most; texts that cannot be tokenized are
        left out, and that is told. UsageError where none is left."""
        found: dict[bytes, Chunk] = {}  # equal ones count once
        tokens = 0
        for prompt in sorted(prompts, key=lambda p: short_hash(p.text.encode("utf-8", "replace"))):
            for chunk in self.chunks_of(prompt):
                tokens += len(chunk.ids)
                if most is not None and tokens > most and found:
                    self.note_wrong()
                    return list(found.values())
                found[chunk.key] = chunk
        self.note_wrong()
        if not found:
            raise UsageError(
                f"no text has more than {counted(self.skip_first, 'token')}, which is what "
                "--skip-first leaves out",
                "give longer texts, or a smaller --skip-first",
            )
        return list(found.values())

    def chunks_of(self, prompt: Prompt) -> Iterator[Chunk]:
        """The chunks of a text that have a position to fit to."""
        try:
            text = self.tokenize(prompt)
        except Exception as error:  # a tokenizer may raise anything
            self.wrong.append((prompt, as_known_error(error)))
            return
        for ids in self.cut(text):
            if len(ids) > self.skip_first:
                yield chunk_of(ids)

    def cut(self, text: TokenizedPrompt) -> Iterator[Sequence[int]]:
        """Pieces of a text, each with the start token if the text has one."""
        start = list(text.ids[: int(text.encoded.bos)])
        step = max(1, self.longest - len(start))
        for n in range(len(start), len(text.ids), step):
            yield [*start, *text.ids[n : n + step]]

    def note_wrong(self) -> None:
        """Say which texts are left out."""
        if self.wrong:
            first, error = self.wrong[0]
            self.progress.note(
                f"{counted(len(self.wrong), 'line')} left out, the first one line {first.line}: "
                f"{error.problem}"
            )


def divided(chunks: Sequence[Chunk]) -> tuple[list[Chunk], list[Chunk]]:
    """The chunks that are fitted to, and those held out: the share with the lowest hashes, one at
    the least. UsageError where nothing is left to fit to."""
    keys = sorted(chunk.key for chunk in chunks)
    last = keys[max(1, round(HELD_OUT * len(keys))) - 1]
    fitted = [chunk for chunk in chunks if chunk.key > last]
    if not fitted:
        raise UsageError(
            f"the texts make {counted(len(chunks), 'chunk')} of up to {LONGEST} tokens, of which "
            "one has to be held out",
            "give more text, or other text with --holdout",
        )
    return fitted, sorted((c for c in chunks if c.key <= last), key=lambda c: c.key)


def key_of_chunks(chunks: Sequence[Chunk]) -> str:
    """Changes where the chunks do, or their order."""
    return short_hash(b"".join(chunk.key for chunk in chunks)).hex()
