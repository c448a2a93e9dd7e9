"""Labels that tell tokens apart, texts as tokens, windows by position and by words."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import CTRLTokenizer, PreTrainedTokenizerFast

from logitlens_cli.errors import UsageError
from logitlens_cli.model import tokenizer as tokenizer_module
from logitlens_cli.model.tokenizer import Encoded, byte_alphabet, encode, target_id, window_columns

S, EOS = 262, 263  # ids of <s> and </s> in the tokenizer of conftest
TEXT = "the cat the\n"  # t h e ·cat ·the ↵


def byte_level(*pieces: bytes) -> PreTrainedTokenizerFast:
    """A tokenizer that knows these pieces, by ids from 0, written as GPT-2 writes them."""
    written = {byte: char for char, byte in byte_alphabet().items()}
    vocabulary = {"".join(written[b] for b in piece): i for i, piece in enumerate(pieces)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def sentencepiece(scheme: str = "always") -> PreTrainedTokenizerFast:
    """As Llama 2: ▁ for spaces, bytes for what is unknown, a start token before the text."""
    backend = Tokenizer(
        models.Unigram(
            [
                *(("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0)),
                *((f"<0x{byte:02X}>", -9.0) for byte in range(256)),
                *(("▁", -2.0), ("▁the", -1.0), ("▁cat", -1.0), ("cat", -2.0)),
            ],
            unk_id=0,
            byte_fallback=True,
        )
    )
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    backend.decoder = decoders.Sequence([decoders.Metaspace(), decoders.ByteFallback()])
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


@pytest.fixture
def spanless(tmp_path: Path) -> CTRLTokenizer:
    """A tokenizer written in Python, which does not say where its tokens stand."""
    vocabulary = ["<unk>", "the", "cat", "c@@", "at"]
    (tmp_path / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(vocabulary)}))
    merges = ["t h", "th e</w>", "c a", "ca t</w>", "a t</w>"]
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    return CTRLTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"))


# ---- labels


@pytest.mark.parametrize(
    ("piece", "label"),
    [
        ("the", "the"),
        (" the", "·the"),
        ("  ", "··"),
        ("\n", "↵"),
        ("\n\n", "↵↵"),
        ("\r\n", "⏎↵"),
        ("\t", "⇥"),
        # the marks themselves, when they are what the text has
        ("·", "<U+00B7>"),
        ("·the", "<U+00B7>the"),
        (" ·", "·<U+00B7>"),
        ("↵", "<U+21B5>"),
        ("⇥", "<U+21E5>"),
        ("⏎", "<U+23CE>"),
        # whole characters, and parts of them
        ("日", "日"),
        ("日本", "日本"),
        ("😀", "😀"),
        ("é", "é"),
        (b"\xe6", "<0xE6>"),
        (b" \xe6\x97", "·<0xE6><0x97>"),
        (b"\xa5a", "<0xA5>a"),
        (b"\xe6\x97\xa5\xe6", "日<0xE6>"),
        (b"\xc0\x80", "<0xC0><0x80>"),  # an overlong zero
        (b"\xed\xa0\x80", "<0xED><0xA0><0x80>"),  # half a pair of UTF-16
        # what does not show
        ("\0", "<U+0000>"),
        ("\x1b[31m", "<U+001B>[31m"),
        ("\x7f", "<U+007F>"),
        ("\x85", "<U+0085>"),
        ("\xa0", "⊔"),
        ("\xad", "<U+00AD>"),
        ("\u200b", "<U+200B>"),
        ("\u2028", "<U+2028>"),
        ("\u3000", "<U+3000>"),
        ("\ufeff", "<U+FEFF>"),
        ("\ue000", "<U+E000>"),
        ("\U000e0041", "<U+E0041>"),
        ("\u3164", "<U+3164>"),  # a filler, by its category a letter
        *((char, f"<U+{ord(char):04X}>") for char in "\u180b\u180f\ufe00\ufe0f"),  # and a mark
        ("\U000e0100\U000e01ef", "<U+E0100><U+E01EF>"),
        *((char, char) for char in "\u1810\ufe10"),  # their neighbours
        ("❤\ufe0f", "❤<U+FE0F>"),
        ("👩\u200d👧", "👩<U+200D>👧"),
        # what would turn the text around
        ("\u202e", "<U+202E>"),
        ("\u2067", "<U+2067>"),
        ("שלום", "שלום"),
        # marks need something to stand on
        ("\u0301", "◌\u0301"),
        ("a\u0301", "a\u0301"),
        ("\u0e31", "◌\u0e31"),
        ("\u093f", "◌\u093f"),
        # what other programs take for their own
        ("$x_1$", "$x_1$"),
        ("\\frac", "\\frac"),
        ("<&>", "<&>"),
        ("%s", "%s"),
    ],
)
def test_byte_level_pieces(piece: str | bytes, label: str) -> None:
    data = piece if isinstance(piece, bytes) else piece.encode()
    assert tokenizer_module.label(byte_level(b"-", data), 1) == label


def test_all_bytes_have_labels_of_their_own(tokenizer: Any) -> None:
    shown = tokenizer_module.labels(tokenizer, range(256))
    assert len(set(shown)) == 256
    assert [shown[byte] for byte in (0x20, 0x41, 0x7F, 0x80, 0xFF)] == [
        *("·", "A", "<U+007F>", "<0x80>", "<0xFF>")
    ]


def test_the_alphabet_is_that_of_tokenizers() -> None:
    alphabet = byte_alphabet()
    assert set(alphabet) == set(pre_tokenizers.ByteLevel.alphabet())
    assert sorted(alphabet.values()) == list(range(256))
    writer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    for char in map(chr, range(0x800)):
        ((written, _),) = writer.pre_tokenize_str(char)
        assert bytes(alphabet[c] for c in written) == char.encode()


def test_special_and_unused_ids(tokenizer: Any) -> None:
    ids = [S, EOS, 264, 299, 10**6]
    expected = ["<s>", "</s>", "<unused 264>", "<unused 299>", "<unused 1000000>"]
    assert tokenizer_module.labels(tokenizer, ids) == expected


def test_added_tokens_are_not_taken_for_bytes() -> None:
    tokenizer = byte_level(b" the")
    tokenizer.add_tokens(["Ġthe Ġ", "日本"])
    assert tokenizer_module.labels(tokenizer, [0, 1, 2]) == ["·the", "Ġthe·Ġ", "日本"]


def test_ids_with_gaps() -> None:
    backend = Tokenizer(models.BPE(vocab={"a": 0, "é": 7, "Ġc": 20}, merges=[]))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend)
    assert tokenizer_module.labels(tokenizer, [0, 1, 7, 20, 21]) == [
        *("a", "<unused 1>", "é", "Ġc", "<unused 21>")  # not written in bytes
    ]


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("the cat", ["<s>", "·the", "·cat"]),
        ("the\ncat", ["<s>", "·the", "<0x0A>", "cat"]),
        ("日", ["<s>", "·", "<0xE6>", "<0x97>", "<0xA5>"]),
    ],
)
def test_sentencepiece(text: str, labels: list[str]) -> None:
    tokenizer = sentencepiece()
    assert tokenizer_module.labels(tokenizer, encode(tokenizer, text).ids) == labels


def test_emoji_and_cjk_split_over_tokens(tokenizer: Any) -> None:
    made = encode(tokenizer, "日 the😀")
    assert tokenizer_module.labels(tokenizer, made.ids) == [
        *("<0xE6>", "<0x97>", "<0xA5>", "·the", "<0xF0>", "<0x9F>", "<0x98>", "<0x80>")
    ]
    assert made.spans == ((0, 1), (0, 1), (0, 1), (1, 5), (5, 6), (5, 6), (5, 6), (5, 6))


def test_labels_of_a_tokenizer_written_in_python(spanless: Any) -> None:
    assert tokenizer_module.labels(spanless, [0, 1, 3, 5]) == ["<unk>", "the", "c@@", "<unused 5>"]


# ---- encode


@pytest.mark.parametrize(
    ("bos", "ids", "added"),
    [
        ("auto", (1, 260, 261), True),
        ("add", (1, 260, 261), True),
        ("none", (260, 261), False),
    ],
)
def test_start_token_of_a_tokenizer_that_adds_one(
    bos: str, ids: tuple[int, ...], added: bool
) -> None:
    made = encode(sentencepiece(), "the cat", bos)
    assert made == Encoded(ids, ((0, 0), (0, 3), (3, 7))[-len(ids) :], added)


@pytest.mark.parametrize("scheme", ["always", "first", "never"])
def test_a_leading_space_that_is_added_is_no_start_token(scheme: str) -> None:
    assert not encode(sentencepiece(scheme), "日", "none").bos


@pytest.mark.parametrize(
    ("bos", "ids", "added"),
    [("auto", (97,), False), ("add", (S, 97), True), ("none", (97,), False)],
)
def test_start_token_of_a_tokenizer_that_adds_none(
    tokenizer: Any, bos: str, ids: tuple[int, ...], added: bool
) -> None:
    made = encode(tokenizer, "a", bos)
    assert (made.ids, made.bos) == (ids, added)


def test_a_start_token_that_was_typed_was_not_added(tokenizer: Any) -> None:
    assert encode(tokenizer, "<s>a") == Encoded((S, 97), ((0, 3), (3, 4)), False)


@pytest.mark.parametrize("bos", ["auto", "add", "none"])
@pytest.mark.parametrize("start", ["", "<s> "])
def test_what_a_tokenizer_puts_behind_a_text_is_left_out(bos: str, start: str) -> None:
    tokenizer = sentencepiece()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start}$A </s>:0 </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    ids = encode(tokenizer, "the cat", bos).ids
    assert ids[-2:] == (260, 261)
    assert len(ids) - 2 == {"auto": len(start) // 4, "add": 1, "none": 0}[bos]
    typed = encode(tokenizer, "the cat</s>", bos)
    assert typed.ids[-2:] == (261, 2)  # the user's own is the text's
    assert not typed.spans or len(typed.spans) == len(typed.ids)


def test_no_start_token_to_add() -> None:
    with pytest.raises(UsageError) as caught:
        encode(byte_level(b"a"), "a", "add")
    assert str(caught.value) == "--bos add: the tokenizer has no start token; use --bos auto"


def test_a_tokenizer_that_knows_no_spans(spanless: Any) -> None:
    made = encode(spanless, "the cat")
    assert (made.ids, made.spans, made.bos) == ((1, 2), (), False)
    assert window_columns("1:", "the cat", made) == range(1, 2)
    with pytest.raises(UsageError) as caught:
        window_columns("cat", "the cat", made)
    assert str(caught.value) == "--window 'cat' belongs to no token; give positions A:B"
    spanless.bos_token = "<unk>"
    assert encode(spanless, "the", "add") == Encoded((0, 1), (), True)


# ---- windows


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (None, range(6)),
        (":", range(6)),
        ("0:6", range(6)),
        ("2:4", range(2, 4)),
        ("2:", range(2, 6)),
        (":4", range(4)),
        ("-2:", range(4, 6)),
        (":-1", range(5)),
        ("-3:-1", range(3, 5)),
        ("-6:1", range(1)),
        ("5:6", range(5, 6)),
        (" 1 : 3 ", range(1, 3)),
        # words of the text
        (TEXT, range(6)),
        ("the", range(3)),  # the first of two
        (" the", range(4, 5)),
        ("cat", range(3, 4)),
        ("at th", range(3, 5)),  # half of one token and half of the next
        ("e", range(2, 3)),
        (" ", range(3, 4)),
        ("\n", range(5, 6)),
        ("the\n", range(4, 6)),
    ],
)
def test_windows(tokenizer: Any, spec: str | None, expected: range) -> None:
    assert window_columns(spec, TEXT, encode(tokenizer, TEXT)) == expected


OUTSIDE = "--window {} is outside the text of 6 tokens; stay within 0:6"
NOTHING = "--window {} holds no token; write A:B with A before B"
MISSING = "--window {!r} does not occur in the text; give words of it, or positions A:B"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("0:7", OUTSIDE),
        ("6:", OUTSIDE),
        ("-7:", OUTSIDE),
        (":-7", OUTSIDE),
        ("99999999999:", OUTSIDE),
        ("3:3", NOTHING),
        (":0", NOTHING),
        ("4:2", NOTHING),
        ("-1:-2", NOTHING),
        ("dog", MISSING),
        ("The", MISSING),
        ("thecat", MISSING),
        ("", MISSING),
        ("3", MISSING),
        ("1:2:3", MISSING),
        ("a:b", MISSING),
    ],
)
def test_windows_that_cannot_be(tokenizer: Any, spec: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        window_columns(spec, TEXT, encode(tokenizer, TEXT))
    assert str(caught.value) == message.format(spec)


def test_words_of_the_text_leave_the_start_token_out(tokenizer: Any) -> None:
    made = encode(tokenizer, TEXT, "add")
    assert window_columns("the", TEXT, made) == range(1, 4)
    assert window_columns("1:3", TEXT, made) == range(1, 3)


def test_words_within_a_character_of_many_tokens(tokenizer: Any) -> None:
    made = encode(tokenizer, "a日b")
    assert window_columns("日", "a日b", made) == range(1, 4)


# ---- targets


@pytest.mark.parametrize(
    ("text", "expected"), [(" cat", 261), ("c", 99), ("\n", 10), ("</s>", EOS)]
)
def test_targets(tokenizer: Any, text: str, expected: int) -> None:
    assert target_id(tokenizer, text) == expected


def test_a_target_is_found_without_the_start_token() -> None:
    assert target_id(sentencepiece(), "cat") == 261


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("cat", "3: c + a + t"),
        (" the cat", "2: ·the + ·cat"),
        ("日", "3: <0xE6> + <0x97> + <0xA5>"),
        ("", "0: nothing"),
    ],
)
def test_targets_that_are_not_one_token(tokenizer: Any, text: str, pieces: str) -> None:
    with pytest.raises(UsageError) as caught:
        target_id(tokenizer, text)
    hint = "give a single token (a leading space counts), or use id:N"
    assert str(caught.value) == f"--target {text!r} is not one token but {pieces}; {hint}"
