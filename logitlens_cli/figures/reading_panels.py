"""A reading -> panels: the figures that a dump holds the numbers of."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from logitlens_cli.errors import UsageError
from logitlens_cli.figures.panel import (
    GUESS_IS_FINAL,
    FooterRow,
    Panel,
    blank_repeats,
    split_columns,
)
from logitlens_cli.figures.scale import limits, scale_columns
from logitlens_cli.figures.style import FigureStyle
from logitlens_cli.figures.token_texts import text_after, texts_in_order, token_text
from logitlens_cli.figures.words import (
    CHAT,
    OF_ROWS,
    count_of,
    decoded_words,
    mean_words,
    model_words,
    or_dash,
    style_notes,
    window_words,
)
from logitlens_cli.metrics.spec import DIFFERENCE_SCALE, Scale
from logitlens_cli.metrics.sums import Floats
from logitlens_cli.metrics.table import COLORS, FOLLOWED, METRICS, TOPK, TRACE, metric_of
from logitlens_cli.reading.record import Followed, Reading, Scores, lock_in_of, skips_blocks

SMALLEST = 1e-300
"""a probability that stands for 0 on a logarithmic scale"""


def figures_of(reading: Reading) -> list[str]:
    """The figures that a dump holds the numbers of."""
    if reading.command == TRACE:
        return [TRACE]
    # Beside the logits of guesses, what else may colour guesses is there to colour them.
    guessed = COLORS[0] in reading.metrics
    names = [name for name in reading.metrics if not guessed or name not in COLORS]
    return [TOPK] * guessed + names + ([FOLLOWED] if reading.followed is not None else [])


def panels(reading: Reading, name: str, style: FigureStyle) -> list[Panel]:
    """The figure ``name`` of a reading, in pieces of at most ``style.split`` columns.

    All pieces share one colour scale. Raises UsageError for a figure that the reading has no
    numbers of.
    """
    if name == FOLLOWED and reading.followed is not None:
        return [followed_panel(reading, reading.followed, style)]
    whole = grid_panel(reading, name, style)
    return [
        replace(piece, notes=[decoded_words(reading), window_words(reading, cut)])
        for cut, piece in split_columns(whole, style.split)
    ]


def grid_panel(reading: Reading, name: str, style: FigureStyle) -> Panel:
    """The figure ``name`` of a reading in one piece, without the notes on its columns."""
    key = held_metric(reading, name, style)
    scores = reading.metrics[key]
    shown = drawn_rows(reading, name, style)
    values = reading.values(key)[shown]
    scale, bar = scores.scale, f"{scores.quantity} [{scores.unit}]"
    if style.log and (metric := metric_of(key)) and metric.log_scale is not None:
        scale = metric.log_scale
        values = np.maximum(values, SMALLEST)
    if style.delta:
        values, bar, scale = deltas(values, scale), delta_words(scores), DIFFERENCE_SCALE
    texts = cell_texts(reading, name, shown, values, style)
    footer_rows = footer_rows_of(reading, style)
    colors = limits(scale, values[:, scale_columns(reading, style)], style)
    topk, about = name == TOPK, headline(reading, name, scores, style)
    return Panel(
        values=values,
        texts=blank_repeats(texts) if style.changes_only else texts,
        outlined=(reading.top() == np.array(reading.final_ids))[shown] & topk,
        rows=[reading.layers[i].label for i in shown],
        input_labels=input_texts(reading),
        next_labels=next_texts(reading),
        title=style.title if style.title is not None else about,
        notes=[],
        bar_label=bar,
        colors=style.shared_colors.get(name, colors),
        next_is_guess=next_is_guess(reading),
        outline_meaning=GUESS_IS_FINAL if topk else None,
        star_meaning="the model's guess is right",
        more_notes=[*[CHAT] * reading.lens.chat, *style_notes(style)],
        second_lines=prob_texts(reading, shown) if style.probs and topk else [],
        footer_rows=footer_rows,
        about=about,
        guesses=topk,
        from_input=reading.layers[shown[0]].kind == "input",
        skips_blocks=skips_blocks(reading.layers, reading.model, reading.lens.decoder_blocks),
    )


def held_metric(reading: Reading, name: str, style: FigureStyle) -> str:
    """The metric behind a figure; UsageError where the dump does not hold it."""
    key = color_of(reading, style) if name == TOPK else name
    if key not in reading.metrics:
        held = COLORS if name == TOPK else figures_of(reading)
        raise UsageError(
            f"{key} is not in this dump",
            f"it holds {', '.join(n for n in held if name != TOPK or n in reading.metrics)}",
        )
    return key


def drawn_rows(reading: Reading, name: str, style: FigureStyle) -> list[int]:
    """The rows of a reading that a figure has; UsageError where it has none."""
    rows = [n for n, layer in enumerate(reading.layers) if draws_row(layer.kind, name, style)]
    if not rows:
        raise UsageError("no row but the input row is left", "give --input-row")
    return rows


def cell_texts(
    reading: Reading, name: str, rows: list[int], values: Floats, style: FigureStyle
) -> list[list[str]]:
    """(row, column) what the cells of a figure of these values say."""
    if name == TOPK:
        return guess_texts(reading, rows)
    if style.delta:
        return [[signed(value, name) for value in row] for row in values.tolist()]
    return [number_texts(reading, name, row) for row in rows]


def input_texts(reading: Reading) -> list[str]:
    """By column, the input token."""
    return texts_in_order([token.label for token in reading.tokens])


def next_texts(reading: Reading) -> list[str]:
    """By column, the true next token; "" where the text ends."""
    following = [token.next_label or "" for token in reading.tokens]
    return texts_in_order([reading.tokens[0].label, *following])[1:]


def guess_texts(reading: Reading, rows: list[int]) -> list[list[str]]:
    """(row, column) the top guess."""
    labels = [token.label for token in reading.tokens]
    return [
        [text_after(labels, n, cell[0]) for n, cell in enumerate(reading.guesses.labels[row])]
        for row in rows
    ]


def followed_panel(reading: Reading, followed: Followed, style: FigureStyle) -> Panel:
    """Tokens by layers: the rank of every token that was ever the top guess of one column."""
    shown = drawn_rows(reading, FOLLOWED, style)
    ranks = np.array(followed.ranks, float)[shown]
    texts = [[METRICS["rank"].format_value(value) for value in row] for row in ranks.tolist()]
    scale = METRICS["rank"].scale(METRICS["rank"].spec())
    token = next(t for t in reading.tokens if t.position == followed.position)
    ever = f"Ranks of all that was ever the top guess after {token_text(token.label)}"
    title = f"{ever} – {model_words(reading.model, style)}"
    return Panel(
        values=ranks,
        texts=blank_repeats(texts) if style.changes_only else texts,
        outlined=ranks == 1,
        rows=[reading.layers[i].label for i in shown],
        input_labels=[token_text(label) for label in followed.labels],
        next_labels=[""] * len(followed.labels),
        title=style.title if style.title is not None else title,
        notes=[
            decoded_words(reading),
            f"position {followed.position} of {count_of(reading.lens.text_tokens, 'token')}, "
            "the last column",
        ],
        bar_label="rank of the token [1 is best]",
        colors=limits(scale, ranks, style),
        input_title="token, best rank first",
        next_title="",
        outline_meaning="the layer's top guess",
        about=title,
        from_input=reading.layers[shown[0]].kind == "input",
    )


def color_of(reading: Reading, style: FigureStyle) -> str:
    return style.color or reading.options.get("color") or COLORS[0]


def draws_row(kind: str, name: str, style: FigureStyle) -> bool:
    """Is a row of this kind drawn? The input row distracts but from divergences (the post)."""
    if kind != "input":
        return True
    metric = metric_of(name)
    usual = metric is not None and metric.input_row
    return usual if style.input_row is None else style.input_row


def number_texts(reading: Reading, key: str, row: int) -> list[str]:
    metric = metric_of(key)
    text = str if metric is None else metric.format_value
    return ["" if v is None else text(v) for v in reading.metrics[key].values[row]]


def prob_texts(reading: Reading, rows: list[int]) -> list[list[str]]:
    """(row, column) probability of the top guess: .31, or <.01 where two digits show nothing."""

    def text(prob: float) -> str:
        return "1.0" if prob >= 0.995 else "<.01" if prob < 0.005 else f"{prob:.2f}"[1:]

    return [[text(cell[0]) for cell in reading.guesses.probs[row]] for row in rows]


def deltas(values: Floats, scale: Scale) -> Floats:
    """(row, column) the difference to the row below, on the scale of the colours: of a logarithmic
    one, log10 of the ratio. NaN in the lowest row."""
    with np.errstate(invalid="ignore"):
        steps = np.full_like(values, np.nan)
        steps[1:] = np.diff(np.log10(values) if scale.kind == "log" else values, axis=0)
        return steps


def signed(value: float, key: str) -> str:
    """A difference as its metric is printed, with a sign unless it prints as nothing."""
    if math.isnan(value):
        return ""
    metric = metric_of(key)
    plain = "{:.1f}".format if metric is None or metric.whole else metric.format_value
    text = plain(abs(value))
    return text if float(text) == 0 else f"{'-' if value < 0 else '+'}{text}"


def delta_words(scores: Scores) -> str:
    """What the colour bar says of differences."""
    if scores.scale.kind == "log":
        return f"{scores.quantity}, to the layer below [log10 of the ratio]"
    return f"{scores.quantity}, minus the layer below's [{scores.unit}]"


def footer_rows_of(reading: Reading, style: FigureStyle) -> list[FooterRow]:
    """The rows below the grid that were asked for."""
    rows = []
    if style.lock_in:
        rows += lock_in_rows_of(reading)
    if style.next_ranks:
        if reading.next_ranks is None:
            raise UsageError(
                "this dump holds no ranks of the true next tokens",
                "make it again with --next-ranks",
            )
        meaning = "true rank: of the true next token in the model's output"
        rows.append(FooterRow("true rank", or_dash(reading.next_ranks), meaning))
    return rows


def lock_in_rows_of(reading: Reading) -> list[FooterRow]:
    """From which block on the guess stays the model's, and at which it first is."""
    found = lock_in_of(reading)
    labels = {x.block: x.label for x in reading.layers if x.kind == "block"}
    # A mean of 3.2 must not read as the second run of block 3.
    noun = "layer" if all(label == str(n) for n, label in labels.items()) else "run"
    means = mean_words(found.mean_since), mean_words(found.mean_first)
    meaning = (
        f"the guess stays the model's from {noun} {means[0]} on, first is at {means[1]} (means)"
    )
    since, first = (
        or_dash([None if n is None else labels.get(n, str(n)) for n in numbers])
        for numbers in (found.since, found.first)
    )
    which = "" if found.all_blocks else f"{OF_ROWS}, "
    return [FooterRow("stays from", since, which + meaning), FooterRow("first at", first)]


def next_is_guess(reading: Reading) -> list[bool]:
    """By column, is the model's top guess the true next token? By id, never by text."""
    return [
        token.next_label is not None and token.next_id == guess
        for token, guess in zip(reading.tokens, reading.final_ids, strict=True)
    ]


def headline(reading: Reading, name: str, scores: Scores, style: FigureStyle) -> str:
    words = "Top guess of every layer" if name == TOPK else scores.quantity
    return f"{words[:1].upper()}{words[1:]} – {model_words(reading.model, style)}"
