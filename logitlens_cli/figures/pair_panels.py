"""Two readings -> panels: their difference, or one over the other."""

import math
from dataclasses import replace

import numpy as np

from logitlens_cli.figures.page import TEXT_CELL, TEXT_COLUMNS, page_of
from logitlens_cli.figures.pair import Pair
from logitlens_cli.figures.panel import (
    GUESS_IS_FINAL,
    Heading,
    Panel,
    blank_repeats,
    split_columns,
)
from logitlens_cli.figures.reading_panels import (
    guess_texts,
    input_texts,
    next_texts,
    panels,
    signed,
)
from logitlens_cli.figures.scale import limits, scale_columns
from logitlens_cli.figures.style import Colors, FigureStyle
from logitlens_cli.figures.words import (
    CHAT,
    count_of,
    decoded_words,
    lens_words,
    model_words,
    style_notes,
    window_words,
)
from logitlens_cli.metrics.spec import DIFFERENCE_SCALE
from logitlens_cli.metrics.sums import Floats
from logitlens_cli.metrics.table import TOPK
from logitlens_cli.reading.difference import Difference
from logitlens_cli.reading.record import Reading, skips_blocks

ROOM = 16
"""characters of two labels that share a cell or a column"""


def difference_panels(
    pair: Pair, name: str, difference: Difference, style: FigureStyle
) -> list[Panel]:
    """The difference as a figure, in pieces of at most ``style.split`` columns.

    Top guesses are outlined where A and B agree: as in the figure of one reading, the contour
    encloses what is the same, and all outside of it is told in the cells.
    """
    rows = [[np.nan if v is None else v for v in row] for row in difference.values]
    values = np.array(rows, float)
    if name == TOPK:
        texts = paired_guesses(pair, difference, style)
    else:
        texts = [[signed(value, difference.metric) for value in row] for row in values.tolist()]
    divided = pair.a.metrics[difference.metric].scale.kind == "log"
    words = "top guess of every layer, A→B" if name == TOPK else difference.quantity
    # An input row is far from everything, and would leave no colours for the blocks.
    blocks = [layer.kind != "input" for layer in difference.layers]
    scaled = values[blocks] if any(blocks) else values
    panel = Panel(
        values=values,
        texts=blank_repeats(texts) if style.changes_only else texts,
        outlined=np.array(difference.same) & (name == TOPK),
        rows=[layer.label for layer in difference.layers],
        input_labels=input_labels(pair),
        next_labels=next_labels(pair),
        title=comparison_title(pair, words, style),
        notes=side_notes(pair, difference.metric),
        bar_label=f"{difference.quantity} [{difference.unit}]",
        colors=colors_around_zero(scaled[:, scale_columns(pair.a, style)], style),
        next_is_guess=both_right(pair),
        outline_meaning="A and B have the same guess" if name == TOPK else None,
        star_meaning=BOTH_RIGHT,
        more_notes=["below 0: better in B"] if divided else [],
        about=comparison_title(pair, words, replace(style, title=None)),
        guesses=name == TOPK,
        from_input=not blocks[0],
        skips_blocks=skips_blocks(difference.layers, pair.a.model, pair.a.lens.decoder_blocks),
    )
    return pieces_of(panel, pair, style)


def paired_guesses(pair: Pair, difference: Difference, style: FigureStyle) -> list[list[str]]:
    """(row, column) the top guess of A and that of B, where it is another."""
    a, b = (
        guess_texts(reading, rows)
        for reading, rows in zip((pair.a, pair.b), pair.rows(TOPK, style), strict=True)
    )
    return [
        [joint_label(s, t, "→", same) for s, t, same in zip(*row, strict=True)]
        for row in zip(a, b, difference.same, strict=True)
    ]


def colors_around_zero(values: Floats, style: FigureStyle) -> Colors:
    """Limits around 0 as far as the data go. One limit of the user's holds for both sides, two are
    taken as they are."""
    reach = max(style.vmax or 0.0, -(style.vmin or 0.0))
    if reach <= 0:
        reach = rounded_up(float(np.abs(values[np.isfinite(values)]).max(initial=0.0)))
    return limits(replace(DIFFERENCE_SCALE, low=-reach, high=reach), values, style)


def rounded_up(value: float) -> float:
    """``value`` rounded up to two figures, since it is read off the colour bar."""
    if value == 0:
        return value
    digits = 1 - math.floor(math.log10(value))
    return math.ceil(value * 10.0**digits) / 10.0**digits


# ---------------------------------------------------------------------------------------------
# Both on one scale


def over_panels(pair: Pair, name: str, style: FigureStyle) -> list[Panel]:
    """Both grids on one colour scale, each with a line above it that names it: A above B with the
    same columns, in pieces of at most ``style.split`` columns, or beside each other where that
    fits better."""
    key = pair.key(name, style)
    rows, columns = len(pair.rows(name, style)[0]), len(pair.a.tokens)
    whole = replace(style, split=None, vmin=None, vmax=None, skip_first=0)
    a, b = (panels(reading, name, whole)[0] for reading in (pair.a, pair.b))
    scores = pair.a.metrics[key]
    words = "top guess of every layer" if name == TOPK else scores.quantity
    scaled = np.hstack([a.values, b.values])[:, 2 * scale_columns(pair.a, style)]
    panel = replace(
        a,
        title=comparison_title(pair, words, style),
        notes=side_notes(pair, key),
        colors=limits(scores.scale, scaled, style),
        outline_meaning=GUESS_IS_FINAL if name == TOPK else None,
        more_notes=[],
        second_lines=[],
        footer_rows=[],
        about="",
        from_input=False,
        skips_blocks=False,
    )
    if fits_beside(rows, columns, style):
        return pieces_of(beside(panel, a, b, pair), pair, style)
    return pieces_of(above(panel, a, b, pair), pair, style)


def fits_beside(rows: int, columns: int, style: FigureStyle) -> bool:
    """Do two such grids become a figure of better proportions beside each other?"""
    page, both = page_of(style), 2 * columns + 1
    if style.split is not None or both > TEXT_COLUMNS:
        return False
    (narrow, low), (wide, _) = TEXT_CELL
    if page.width is not None:
        return both * narrow * page.scale <= 0.7 * page.width  # beside labels and colour bar
    cell = (narrow + wide) / 2
    return max(both * cell, rows * low) < max(columns * cell, 2 * rows * low)


def above(panel: Panel, a: Panel, b: Panel, pair: Pair) -> Panel:
    """A's grid above B's."""
    columns = len(a.input_labels)
    gap, blank = np.full((1, columns), np.nan), [[""] * columns]
    return replace(
        panel,
        values=np.vstack([b.values, gap, a.values, gap]),
        texts=b.texts + blank + a.texts + blank,
        outlined=np.vstack([b.outlined, gap > 0, a.outlined, gap > 0]),
        rows=[*b.rows, "", *a.rows, ""],
        input_labels=input_labels(pair),
        next_labels=next_labels(pair),
        next_is_guess=both_right(pair),
        star_meaning=BOTH_RIGHT,
        headings=[
            Heading(len(b.rows), 0, columns, f"B: {pair.b_name}"),
            Heading(len(b.rows) + 1 + len(a.rows), 0, columns, f"A: {pair.a_name}"),
        ],
    )


def beside(panel: Panel, a: Panel, b: Panel, pair: Pair) -> Panel:
    """A's grid at the left of B's, each with its own labels."""
    rows, columns = a.values.shape
    gap, line = np.full((rows, 1), np.nan), np.full((1, 2 * columns + 1), np.nan)
    return replace(
        panel,
        values=np.vstack([np.hstack([a.values, gap, b.values]), line]),
        texts=[[*s, "", *t] for s, t in zip(a.texts, b.texts, strict=True)] + [[""] * line.size],
        outlined=np.vstack([np.hstack([a.outlined, gap > 0, b.outlined]), line > 0]),
        rows=[*a.rows, ""],
        input_labels=[*a.input_labels, "", *b.input_labels],
        next_labels=[*a.next_labels, "", *b.next_labels],
        next_is_guess=[*a.next_is_guess, False, *b.next_is_guess],
        headings=[
            Heading(rows, 0, columns, f"A: {pair.a_name}"),
            Heading(rows, columns + 1, columns, f"B: {pair.b_name}"),
        ],
        gap=columns,
    )


# ---------------------------------------------------------------------------------------------
# What both kinds of figures say


def joint_label(a: str, b: str, between: str, same: bool) -> str:
    """One label, or two that share the room of one; the shorter leaves what it does not need."""
    if same:
        return a
    a_room, b_room = (max(ROOM // 2, ROOM - len(other)) for other in (b, a))
    return f"{shortened(a, a_room)}{between}{shortened(b, b_room)}"


def shortened(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 1]}…"


BOTH_RIGHT = "the guesses of A and B are right"


def input_labels(pair: Pair) -> list[str]:
    """By column, the input token; both where they differ."""
    a, b = (input_texts(reading) for reading in (pair.a, pair.b))
    same = [s.id == t.id for s, t in zip(pair.a.tokens, pair.b.tokens, strict=True)]
    return joint_labels(a, b, same)


def next_labels(pair: Pair) -> list[str]:
    """By column, the true next token; both where they differ."""
    a, b = (next_texts(reading) for reading in (pair.a, pair.b))
    same = [s.next_id == t.next_id for s, t in zip(pair.a.tokens, pair.b.tokens, strict=True)]
    return joint_labels(a, b, same)


def joint_labels(a: list[str], b: list[str], same: list[bool]) -> list[str]:
    return [joint_label(s, t, "|", alike) for s, t, alike in zip(a, b, same, strict=True)]


def both_right(pair: Pair) -> list[bool]:
    """By column, is the true next token the top guess of both models?"""
    guesses = zip(pair.a.final_ids, pair.b.final_ids, strict=True)
    return [
        s.next_id is not None and (s.next_id, t.next_id) == final
        for s, t, final in zip(pair.a.tokens, pair.b.tokens, guesses, strict=True)
    ]


def comparison_title(pair: Pair, words: str, style: FigureStyle) -> str:
    if style.title is not None:
        return style.title
    words = f"{words[:1].upper()}{words[1:]}"
    a, b = pair.a.model.name, pair.b.model.name
    return f"{words} – {model_words(pair.a.model, style)}" if a == b else words


def side_notes(pair: Pair, key: str) -> list[str]:
    """Which readings they are, with what is not the same in both; then what is."""
    sides = [f"A: {pair.a_name}"], [f"B: {pair.b_name}"]
    for trait, other in zip(traits(pair.a, pair.b), traits(pair.b, pair.a), strict=True):
        if trait != other:
            sides[0].append(trait)
            sides[1].append(other)
    notes = [", ".join(filter(None, parts)) for parts in sides]
    if decoded_words(pair.a) == decoded_words(pair.b):
        notes.append(decoded_words(pair.a))
    if pair.a.lens.chat and pair.b.lens.chat:
        notes.append(CHAT)
    if parted := sum(s.id != t.id for s, t in zip(pair.a.tokens, pair.b.tokens, strict=True)):
        notes.append(f"A|B: the tokens differ in {count_of(parted, 'column')}")
    guesses = sum(s != t for s, t in zip(pair.a.final_ids, pair.b.final_ids, strict=True))
    if guesses and pair.a.metrics[key].target == "final":
        notes.append(f"the final guess of A is not that of B in {count_of(guesses, 'column')}")
    return notes


def traits(reading: Reading, other: Reading) -> list[str]:
    """What may tell two readings apart; the revision only where the models have one name."""
    model, lens = reading.model, reading.lens
    return [
        model.name,
        (model.revision or "")[:24] if model.name == other.model.name else "",
        model.dtype,
        "no norm" if lens.norm == "none" else f"{lens.norm} norm",
        f"the last {count_of(lens.decoder_blocks, 'block')} decoding",
        "chat template" if lens.chat else "",
        "plain lens" if lens.maps is None else lens_words(lens.maps),
    ]


def pieces_of(panel: Panel, pair: Pair, style: FigureStyle) -> list[Panel]:
    """A panel cut into pieces of at most ``style.split`` columns, with the notes on them."""
    return [
        replace(piece, more_notes=[*piece.more_notes, *column_notes(pair, cut, style)])
        for cut, piece in split_columns(panel, style.split)
    ]


def column_notes(pair: Pair, cut: slice, style: FigureStyle) -> list[str]:
    a, b = (window_words(reading, cut) for reading in (pair.a, pair.b))
    where = [a] if a == b else [f"A: {a}", f"B: {b}"]
    return [*where, *style_notes(style)]
