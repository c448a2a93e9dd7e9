"""Tokens that differ by a leading space or a capital only."""

from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from logitlens_cli.lens.lens_model import LensModel
from logitlens_cli.model.spellings import spellings_of
from logitlens_cli.model.tokenizer import label, target_id


def tokenizer_of(*pieces: str, byte_level: bool = False) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(pieces)}, merges=[]))
    if byte_level:
        backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend)


@pytest.mark.parametrize("byte_level", [True, False])
def test_a_space_and_a_capital(byte_level: bool) -> None:
    space = "Ġ" if byte_level else "▁"
    pieces = ["paris", "Paris", f"{space}paris", f"{space}Paris", "PARIS", f"{space}Parish", "."]
    tokenizer = tokenizer_of(*pieces, f"{space}.", byte_level=byte_level)
    assert [spellings_of(tokenizer, i) for i in range(4)] == [
        [1, 2, 3],
        [0, 2, 3],
        [0, 1, 3],
        [0, 1, 2],
    ]
    assert spellings_of(tokenizer, 4) == []
    assert spellings_of(tokenizer, 6) == []  # a sign is no word
    assert spellings_of(tokenizer, 99) == []


def test_letters_of_several_bytes() -> None:
    """``É`` and ``é`` differ in their second byte."""
    tokenizer = tokenizer_of("Ã©tÃ©", "Ãītà".replace("à", "Ã©"), "ĠÃ©tÃ©", "Ã", byte_level=True)
    assert [label(tokenizer, i) for i in range(3)] == ["été", "Été", "·été"]
    assert spellings_of(tokenizer, 0) == [1, 2]
    assert spellings_of(tokenizer, 3) == []  # a part of a letter


def test_of_the_default_model(smollm2: LensModel) -> None:
    tokenizer: Any = smollm2.tokenizer
    paris = target_id(tokenizer, "Paris")
    others = {label(tokenizer, i): i for i in spellings_of(tokenizer, paris)}
    assert others == {"·Paris": 7042}
