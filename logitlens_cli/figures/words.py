"""What figures say about a reading."""

from __future__ import annotations

from collections.abc import Sequence

from logitlens_cli.figures.style import FigureStyle
from logitlens_cli.reading.record import MapsRecord, ModelRecord, Reading, Token


def or_dash(values: Sequence[object | None]) -> list[str]:
    return ["–" if value is None else str(value) for value in values]


def mean_words(mean: float | None) -> str:
    return "–" if mean is None else f"{mean:.1f}"


NORM_WORDS = {
    "full": "full norm",
    "no-affine": "norm without gain and bias, so the top row is not the output",
    "none": "no norm, so the top row is not the output",
}


CHAT = "in the model's chat template"
OF_ROWS = "of the rows shown"
"""where a layer is named from which something holds, and not every block has a row"""


def decoded_words(reading: Reading) -> str:
    norm = NORM_WORDS[reading.lens.norm]
    count = reading.lens.decoder_blocks
    blocks = f"the last {count_of(count, 'block')} and " if count else ""
    maps = "" if reading.lens.maps is None else f"{lens_words(reading.lens.maps)}, "
    return f"{maps}decoded with {blocks}the model's head, {norm}"


def model_words(model: ModelRecord, style: FigureStyle) -> str:
    """What figures call a model."""
    return model.name if style.model_label is None else style.model_label


def kind_of_lens(maps: MapsRecord) -> str:
    return f"{maps.kind} lens" + f" {maps.name}" * (maps.name != "fitted")


def lens_words(maps: MapsRecord) -> str:
    """Which maps the rows went through, and what they were fitted on."""
    kind = kind_of_lens(maps)
    texts = f" on {maps.corpus}" if maps.corpus else ""
    if maps.tokens is not None:
        return f"{kind}, fitted{texts} ({maps.tokens:,} tokens)"
    if maps.prompts is not None:
        return f"{kind}, fitted{texts} ({count_of(maps.prompts, 'text')})"
    return kind + f", fitted{texts}" * bool(texts)


def position_words(tokens: list[Token]) -> str:
    first, last = tokens[0].position, tokens[-1].position
    return f"position {first}" if first == last else f"positions {first}–{last}"


def count_of(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def window_words(reading: Reading, cut: slice) -> str:
    """Which positions of the text some columns are."""
    tokens = position_words(reading.tokens[cut])
    return f"{tokens} of {count_of(reading.lens.text_tokens, 'token')}"


def style_notes(style: FigureStyle) -> list[str]:
    """What the user's style leaves out."""
    notes = []
    if style.skip_first:
        notes.append(f"colour limits leave out the first {count_of(style.skip_first, 'token')}")
    return notes
