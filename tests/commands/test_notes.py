"""What a user ought to know about a result."""

from pathlib import Path

import msgspec
import pytest
from listening import Listening

from logitlens_cli.commands.notes import InputRowNote, TextNotes, note_missing_fonts
from logitlens_cli.metrics.spec import MetricSpec
from logitlens_cli.reading.dump import load_dump
from logitlens_cli.reading.record import Reading, Spelling

FROM_ROW = {"kl-input": MetricSpec(metric="kl-input")}
UNTIED = " (the model does not tie its embeddings)"


@pytest.fixture
def reading(dump_file: Path) -> Reading:
    """7 columns; the input row decodes to another token in each."""
    return load_dump(dump_file)


def with_input_row(reading: Reading, same: int, *, tied: bool) -> Reading:
    """The input row decodes to the input token in so many columns."""
    ids = [[list(cell) for cell in row] for row in reading.guesses.ids]
    for n, token in enumerate(reading.tokens):
        ids[0][n][0] = token.id if n < same else token.id + 1
    return msgspec.structs.replace(
        reading,
        guesses=msgspec.structs.replace(reading.guesses, ids=ids),
        model=msgspec.structs.replace(reading.model, tied=tied),
    )


def without_input_row(reading: Reading, *, tied: bool) -> Reading:
    cut = with_input_row(reading, 0, tied=tied)
    return msgspec.structs.replace(cut, layers=[*cut.layers[1:], cut.layers[0]])


def said_of(metrics: dict[str, MetricSpec], *readings: Reading) -> list[str]:
    progress, note = Listening(), InputRowNote(metrics)
    for reading in readings:
        note.add(reading)
    note.print(progress)
    assert progress.failures == []
    return progress.notes


@pytest.mark.parametrize(
    ("same", "tied", "words"),
    [
        (0, False, f"decodes to the input token in 0 of 7 columns{UNTIED}; "),
        (6, True, "decodes to the input token in 6 of 7 columns; "),
        (7, True, None),
        (7, False, None),
    ],
)
def test_where_kl_input_does_not_measure_from_the_token(
    reading: Reading, same: int, tied: bool, words: str | None
) -> None:
    said = said_of(FROM_ROW, with_input_row(reading, same, tied=tied))
    whole = f"the input row of tiny-llama {words}--one-hot measures from the token itself"
    assert said == ([] if words is None else [whole])


def test_columns_of_several_prompts_add_up(reading: Reading) -> None:
    two = [with_input_row(reading, same, tied=True) for same in (7, 3)]
    assert said_of(FROM_ROW, *two) == [
        "the input row of tiny-llama decodes to the input token in 10 of 14 columns; "
        "--one-hot measures from the token itself"
    ]


def test_where_the_input_row_was_not_read(reading: Reading) -> None:
    assert said_of(FROM_ROW, without_input_row(reading, tied=True)) == []
    assert said_of(FROM_ROW, without_input_row(reading, tied=False)) == [
        "tiny-llama does not tie its embeddings, so the input row need not decode to the input "
        "token; --one-hot measures from the token itself"
    ]


@pytest.mark.parametrize(
    "metrics",
    [
        {},
        {"kl-final": MetricSpec(metric="kl-final")},
        {"kl-input": MetricSpec(metric="kl-input", one_hot=True)},
    ],
)
def test_no_word_where_nothing_measures_from_it(
    reading: Reading, metrics: dict[str, MetricSpec]
) -> None:
    assert said_of(metrics, with_input_row(reading, 0, tied=False)) == []


def test_no_word_of_no_reading() -> None:
    assert said_of(FROM_ROW) == []


def words_about(*readings: Reading) -> list[str]:
    progress, note = Listening(), TextNotes()
    for reading in readings:
        note.add(reading)
    note.print(progress)
    return progress.notes


def spelled(rank: int, better: int) -> Spelling:
    return Spelling(
        text="Paris", id=38634, rank=rank, better_id=7042, better_label="·Paris", better_rank=better
    )


def test_windows_and_targets_that_could_mean_something_else(reading: Reading) -> None:
    change = msgspec.structs.replace
    first = change(reading, notes=["a note"], spellings=[spelled(44, 1)])
    second = change(reading, notes=["a note", "another"], spellings=[spelled(90, 45)])
    paris = "'Paris' is token 38634, of rank 44 in the end; ·Paris (id:7042) has rank 1 there"
    assert words_about(first) == ["a note", paris]
    assert words_about(first, reading, second) == [
        "a note (in 2 of 3 prompts)",
        "another (in 1 of 3 prompts)",
        f"{paris} (another spelling ranks better in 2 of 3 prompts)",
    ]
    assert words_about(reading) == words_about() == []


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("", []),
        ("\x1b\u202e", []),  # escapes are what is wanted
        (
            "日\x1b",
            [
                "no installed font has 1 of the characters (日: Han), so escapes stand for them; "
                "install fonts-noto-cjk"
            ],
        ),
        (
            "\U00013000" + "日本語文字漢国",
            [
                "no installed font has 8 of the characters (国字文日本漢語\U00013000: "
                "Egyptian Hieroglyphs, Han), so escapes stand for them; "
                "install fonts-noto-core, fonts-noto-cjk"
            ],
        ),
        (
            "".join(map(chr, range(0x13000, 0x1300A))),
            [
                f"no installed font has 10 of the characters "
                f"({''.join(map(chr, range(0x13000, 0x13008)))}: Egyptian Hieroglyphs), so "
                "escapes stand for them; install fonts-noto-core"
            ],
        ),
    ],
)
def test_characters_that_no_font_has(missing: str, said: list[str]) -> None:
    progress = Listening()
    note_missing_fonts(frozenset(missing), progress)
    assert progress.notes == said
