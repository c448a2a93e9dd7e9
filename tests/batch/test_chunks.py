"""Texts cut into chunks; which are taken, and which held out."""

from collections.abc import Sequence

import pytest
from listening import Listening

from logitlens_cli.batch.chunks import Chunk, Chunker, chunk_of, divided, key_of_chunks
from logitlens_cli.batch.prompts import Prompt
from logitlens_cli.errors import UsageError
from logitlens_cli.lens.prompt import TokenizedPrompt
from logitlens_cli.model.tokenizer import Encoded


def tokenized(prompt: Prompt) -> TokenizedPrompt:
    """A token a letter, after a start token where the text begins with ^; ! cannot be read."""
    if "!" in prompt.text:
        raise UsageError("the text has a !", "leave it out")
    ids = tuple(map(ord, prompt.text))
    encoded = Encoded(ids, (), prompt.text.startswith("^"))
    return TokenizedPrompt(name="", text=prompt.text, encoded=encoded, columns=range(len(ids)))


def chunks(texts: Sequence[str], most: int | None = None, skip_first: int = 1) -> list[str]:
    made = Chunker(tokenized, skip_first, 4, Listening()).chunks(
        [Prompt("", text, n) for n, text in enumerate(texts, 1)], most
    )
    return ["".join(map(chr, chunk.ids)) for chunk in made]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("abcdefghij", ["abcd", "efgh", "ij"]),
        ("abcde", ["abcd"]),  # a piece of one letter has nothing left
        ("^abcdefg", ["^abc", "^def", "^g"]),  # each begins as a text does
        ("abcdabcd", ["abcd"]),  # once
    ],
)
def test_a_text_is_cut(text: str, pieces: list[str]) -> None:
    assert chunks([text]) == pieces


def test_the_first_tokens_are_a_sample_of_all_texts() -> None:
    texts = [f"{a}{b}xy" for a in "abcdefghij" for b in "0123456789"]
    some = chunks(texts, 80)
    assert len(some) == 20
    assert some == chunks(texts[::-1], 80)  # wherever they stand in the file
    assert len({text[0] for text in some}) > 5
    assert chunks(texts, 82) == some
    assert chunks(texts, 1) == some[:1]  # one at the least


def test_what_cannot_be_read_is_left_out_and_told() -> None:
    progress = Listening()
    chunker = Chunker(tokenized, 1, 4, progress)
    assert len(chunker.chunks([Prompt("", "ab", 1), Prompt("", "a!", 2), Prompt("", "!", 3)])) == 1
    assert progress.notes in (
        ["2 lines left out, the first one line 2: the text has a !"],
        ["2 lines left out, the first one line 3: the text has a !"],
    )
    with pytest.raises(UsageError, match=r"^no text has more than 1 token, which is what"):
        chunker.chunks([Prompt("", "a", 1)])


def numbered(count: int) -> list[Chunk]:
    return [chunk_of([n, n + 1]) for n in range(count)]


def test_every_twentieth_chunk_is_held_out_whatever_else_there_is() -> None:
    every = numbered(400)
    fitted, held_out = divided(every)
    assert (len(fitted), len(held_out)) == (380, 20)
    assert {c.key for c in fitted}.isdisjoint(c.key for c in held_out)
    assert max(c.key for c in held_out) < min(c.key for c in fitted)
    assert [c.key for c in divided(every[::-1])[1]] == [c.key for c in held_out]
    assert [len(part) for part in divided(numbered(2))] == [1, 1]
    with pytest.raises(UsageError, match=r"^the texts make 1 chunk of up to 256 tokens, of which"):
        divided(numbered(1))


def test_a_key_of_chunks_tells_them_apart() -> None:
    a, b = numbered(2)
    assert len({key_of_chunks(c) for c in ([a], [b], [a, b], [b, a])}) == 4
    assert chunk_of([1, 23]).key != chunk_of([12, 3]).key
