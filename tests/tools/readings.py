"""Readings made by hand, one or two, for tests of what is made of them."""

import hashlib
import itertools
import json
from collections.abc import Callable
from typing import Any

import msgspec

from logitlens_cli.figures import pair_panels
from logitlens_cli.figures.pair import Pair, difference_of
from logitlens_cli.figures.panel import Panel
from logitlens_cli.figures.style import FigureStyle
from logitlens_cli.metrics.spec import Scale
from logitlens_cli.reading import difference
from logitlens_cli.reading.dump import dump_to_json
from logitlens_cli.reading.record import (
    DUMP_SCHEMA,
    CheckRecord,
    Followed,
    Guesses,
    Layer,
    LensRecord,
    ModelRecord,
    Reading,
    Scores,
    Token,
)


def make(labels: list[list[str]] | None = None, **metrics: Any) -> Reading:
    """A reading by hand: input row and blocks; ids number the labels as they appear."""
    labels = labels or [["in", "x", "y"], ["b", "c", "z"], ["b", "c", "a"]]
    ids = {label: n for n, label in enumerate(dict.fromkeys(itertools.chain(*labels)))}
    layers = [Layer(label="input", kind="input", block=None)] + [
        Layer(label=str(n), kind="block", block=n) for n in range(len(labels) - 1)
    ]
    columns = len(labels[0])
    tokens = [
        Token(position=i + 4, id=i, label=f"t{i}", next_id=ids[labels[-1][i]] if i < 2 else 77,
              next_label=f"t{i + 1}")
        for i in range(columns - 1)
    ]  # fmt: skip
    tokens.append(Token(position=columns + 3, id=9, label="last", next_id=None, next_label=None))
    values: list[list[float | None]] = [
        [float(10 * r + c) for c in range(columns)] for r in range(len(labels))
    ]
    return Reading(
        schema=DUMP_SCHEMA, command="all", name="hand",
        text="text", text_sha256="0" * 64, text_ids=[],
        tokens=tokens, layers=layers,
        guesses=Guesses(
            ids=[[[ids[t]] for t in row] for row in labels],
            labels=[[[t] for t in row] for row in labels],
            logits=[[[float(10 * r + c)] for c in range(columns)] for r in range(len(labels))],
            probs=[[[0.5] for _ in row] for row in values],
            log_probs=[[[-0.6931472] for _ in row] for row in values],
        ),
        metrics=metrics or {"own-logit": Scores(values=values, unit="logit", quantity="own logit")}
        if columns != 3 or len(labels) != 3 else {
            "own-logit": Scores(values=values, unit="logit", quantity="own logit"),
            "rank": Scores(values=[[1, 50, 500], [1, 1, 101], [1, 1, 1]], unit="1 is best",
                           quantity="rank of the final top guess",
                           scale=Scale("log", 1, 100, "mako_r")),
            "kl-final": Scores(values=[[40.0, 50.0, 2.0], [7.25, 0.0, 31.0], [0.0, 0.0, 0.0]],
                               unit="nats", quantity="KL(final || layer)",
                               scale=Scale("linear", 0, 30, "mako_r")),
        },
        final_ids=[ids[t] for t in labels[-1]],
        check=CheckRecord(max_abs_logit_error=0.0, passed=True, route="direct", columns=1,
                          tolerance=1.0, max_kl=0.0, top1_agreement=1.0),
        model=ModelRecord(name="hand-made", revision=None, dtype="float32", device="cpu",
                          blocks=len(labels) - 1, width=4, vocabulary=100, tied=True,
                          class_="None"),
        lens=LensRecord(norm="full", chain=[], window=(4, 4 + columns), text_tokens=20, bos=False),
        options={}, versions={},
    )  # fmt: skip


def as_dump(reading: Reading) -> bytes:
    """A reading by hand as a file, with a text and tokens that fit each other."""
    first, count = reading.tokens[0].position, len(reading.tokens)
    ids = [reading.tokens[0].id, *(token.next_id or 0 for token in reading.tokens[:-1])]
    tokens = [
        msgspec.structs.replace(token, id=token_id)
        for token, token_id in zip(reading.tokens, ids, strict=True)
    ]
    lens = msgspec.structs.replace(
        reading.lens, window=(first, first + count), text_tokens=first + count
    )
    return dump_to_json(
        msgspec.structs.replace(
            reading,
            tokens=tokens,
            text_ids=[0] * first + ids,
            text_sha256=hashlib.sha256(reading.text.encode()).hexdigest(),
            lens=lens,
            model=msgspec.structs.replace(reading.model, vocabulary=1000),
        )
    )


# Layers: input, 0, 1.
FOLLOWED = Followed(
    position=6,
    ids=[5, 3, 8],
    labels=["·yes", "no", "maybe"],
    ranks=[[9, 40, 3], [2, 1, 7], [1, 3, 2]],
    logits=[[0.0, -1.0, 2.0], [4.0, 5.0, -3.0], [9.0, 6.0, 7.0]],
    probs=[[0.001, 0.0001, 0.9], [0.2, 0.6, 0.01], [0.75, 0.05, 0.1]],
    chosen=[8],
)


def column(reading: Reading, n: int) -> Reading:
    """One column of a reading."""
    cut = slice(n, n + 1)
    return msgspec.structs.replace(
        reading,
        tokens=reading.tokens[cut],
        final_ids=reading.final_ids[cut],
        guesses=msgspec.structs.replace(
            reading.guesses,
            **{
                name: [row[cut] for row in getattr(reading.guesses, name)]
                for name in ("ids", "labels", "logits", "probs", "log_probs")
            },
        ),
        metrics={
            name: msgspec.structs.replace(scores, values=[row[cut] for row in scores.values])
            for name, scores in reading.metrics.items()
        },
    )


def traced(metric: str, *, followed: Followed | None = FOLLOWED, **options: Any) -> Reading:
    return msgspec.structs.replace(
        column(make(), 2),
        command="trace",
        options={"metric": metric, **options},
        followed=followed,
    )


IDS = {"the": 50, "cat": 51, "sat": 52, "dog": 53, "ran": 54}
TEXT = "the cat sat"


def reading_of(words: str = TEXT, labels: list[list[str]] | None = None, **changes: Any) -> Reading:
    """A reading of a text whose tokens are its words, from position 4 on."""
    reading, row = make(labels), words.split()
    tokens = [
        Token(position=4 + n, id=IDS[word], label=word, next_id=IDS.get(following),
              next_label=following)
        for n, (word, following) in enumerate(itertools.zip_longest(row, row[1:]))
    ]  # fmt: skip
    known = {"text": words, "tokens": tokens, "text_ids": [token.id for token in tokens]}
    return msgspec.structs.replace(reading, **(known | changes))


def scored(**metrics: Scores) -> Reading:
    reading = reading_of()
    made = {name.replace("_", "-"): scores for name, scores in metrics.items()}
    return msgspec.structs.replace(reading, metrics=reading.metrics | made)


def kl(*values: list[float | None], **changes: Any) -> Scores:
    usual = reading_of().metrics["kl-final"]
    return msgspec.structs.replace(usual, values=list(values), **changes)


OTHER = kl([30.0, 50.0, None], [7.0, 2.5, 1.0], [0.0, 0.04, 0.0])
"""against the usual [[40, 50, 2], [7.25, 0, 31], [0, 0, 0]]"""


def pair(a: Reading, b: Reading) -> Pair:
    return Pair(a, b, "one", "two")


def compared(
    a: Reading, b: Reading, name: str, **style: Any
) -> tuple[difference.Difference, Panel]:
    both, chosen = pair(a, b), FigureStyle(**style)
    made = difference_of(both, name, chosen)
    return made, pair_panels.difference_panels(both, name, made, chosen)[0]


def changed(record: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(record, **changes)


def moved(reading: Reading, by: int) -> Reading:
    tokens = [changed(token, position=token.position + by) for token in reading.tokens]
    return msgspec.structs.replace(reading, tokens=tokens)


def lens(**changes: Any) -> LensRecord:
    made: LensRecord = changed(reading_of().lens, **changes)
    return made


def cut(reading: Reading, count: int) -> Reading:
    return json_like(reading, lambda made: narrowed(made, count))


def json_like(reading: Reading, change: Callable[[Any], None]) -> Reading:
    made = json.loads(msgspec.json.encode(reading))
    change(made)
    return msgspec.json.decode(json.dumps(made), type=Reading)


def narrowed(made: Any, count: int) -> None:
    made["tokens"], made["final_ids"] = made["tokens"][:count], made["final_ids"][:count]
    for grid in (*made["guesses"].values(), *(s["values"] for s in made["metrics"].values())):
        grid[:] = [row[:count] for row in grid]


def without_input(made: Any) -> None:
    del made["layers"][0]
    for grid in (*made["guesses"].values(), *(s["values"] for s in made["metrics"].values())):
        del grid[0]
