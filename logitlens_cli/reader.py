"""Text -> Reading, on a model in memory: tokens, capture, proof, lens, labels, in this order.

What the command line and other programs share. Knows nothing of files.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from logitlens_cli import anatomy, capture, decode, lens, tokens
from logitlens_cli.anatomy import Anatomy
from logitlens_cli.capture import INPUT, Excerpt, Row, Stream
from logitlens_cli.errors import UsageError
from logitlens_cli.metrics import METRICS, Measure, Needs, Sums, target_token_id, token_target
from logitlens_cli.reading import (
    SCHEMA,
    CheckRecord,
    Followed,
    Guesses,
    Layer,
    LensRecord,
    ModelRecord,
    Reading,
    Scores,
    Token,
    lock_in,
    rounded,
)

CHECKED_COLUMNS = 16
"""of a pass; every text has one at least"""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model in memory that has been taken apart, with its tokenizer and who it is."""

    model: Any
    tokenizer: Any
    parts: Anatomy
    route: decode.Route
    """how its streams are decoded, as ``decode.prove`` found"""
    record: ModelRecord
    context: int | None
    """the longest text that the model can take, in tokens"""


@dataclass(frozen=True, kw_only=True)
class Task:
    """What to read, the same for every text."""

    command: str
    measures: Mapping[str, Measure]
    k: int
    norm: str = "full"
    blocks: Sequence[int]
    """numbers of the blocks, ascending"""
    input_row: bool = True
    subblocks: bool = False
    """also the rows between attention and MLP"""
    decoder_blocks: int = 0
    """the last so many blocks are part of the tail"""
    window: str | None = None
    bos: str = "auto"
    chat: bool = False
    """render the text through the tokenizer's chat template"""
    follow: bool = False
    """also rank every token that was ever a top guess in the last column"""
    next_ranks: bool = False
    """also rank the true next tokens in the model's output"""
    chosen: Sequence[str] = ()
    """targets that are ranked in the last column too"""
    single: bool = False
    """is one column of the window all that is read?"""
    position: int | None = None
    """of the single column; None is the window's last"""
    options: Mapping[str, Any]
    """what the user asked for, for the record"""


def subject_of(
    model: Any,
    tokenizer: Any,
    *,
    name: str,
    revision: str | None = None,
    context: int | None = None,
    subblocks: bool = False,
) -> Subject:
    """Take a model in memory apart and prove how its streams are decoded.

    Raises UsageError where it is no causal LM, ProofError where its parts cannot be found.
    """
    parts = anatomy.find(model, subblocks=subblocks)
    embeddings = getattr(model.get_input_embeddings(), "weight", None)
    return Subject(
        model=model,
        tokenizer=tokenizer,
        parts=parts,
        route=decode.prove(model, parts),
        record=ModelRecord(
            name=name,
            revision=revision,
            dtype=str(model.dtype).removeprefix("torch."),
            device=str(model.device),
            blocks=len(parts.blocks),
            width=parts.layout.width,
            vocabulary=parts.vocabulary,
            tied=embeddings is not None and is_one(embeddings, parts.weight),
            class_=type(model).__name__,
        ),
        context=context,
    )


def is_one(a: Any, b: Any) -> bool:
    """Are two matrices one? Those that are offloaded have no address, so their names must do."""
    return a is b or (a.data_ptr() == b.data_ptr() and not a.is_meta)


def examine(subject: Subject) -> dict[str, list[str]]:
    """The proof on a model, in words: what was found, how exact it is, what cannot be had.

    Raises ProofError where the last row does not reproduce the model's own logits.
    """
    parts, record, route = subject.parts, subject.record, subject.route
    ids = anatomy.probe_ids(parts.weight.shape[0], anatomy.device_of(subject.model))[0].tolist()
    window = range(len(ids))
    rows = [INPUT, Row(len(parts.blocks) - 1, 1)]
    stream = capture.capture(subject.model, parts, [Excerpt(ids, window, window)], rows)
    decoder = decode.decoder(subject.model, parts, route, "full", ids, window)
    last = lens.check(decoder, route.name, stream)
    lens.require(last, parts)
    error, allowed = decode.inner_difference(subject.model, parts, route)
    entering = lens.grid(decoder, stream, lens.Wanted((INPUT,), 1, Needs(), {})).top_ids[0, :, 0]
    same = sum(a == b for a, b in zip(ids, entering.tolist(), strict=True))
    how = {True: "its modules, copied", False: "its own code, with its blocks skipped"}
    replayed = how[route.direct] if route.skips else "its own code, a whole pass for every layer"
    missing = [str(n) for n, mid in enumerate(parts.mids) if mid is None]
    return {
        "model": [f"{record.name} ({record.class_}, {record.dtype}, {record.device})"],
        "blocks": [f"{record.blocks}, width {record.width}, vocabulary {record.vocabulary}"],
        "chain": parts.describe(route.direct),
        "route": [f"{route.name}: {replayed}" + ("" if route.float32 else f", in {record.dtype}")],
        "last row": [
            f"differs from the model's logits by {last.max_abs_logit_error:.2g} at most "
            f"(allowed {last.tolerance:.2g}), KL {last.max_kl:.2g} nats, top guess the same in "
            f"{last.top1_agreement:.0%} of {last.columns} columns"
        ],
        "inner rows": [
            f"differ from the model's own tail by {error:.2g} at most (allowed {allowed:.2g})"
        ],
        "input row": [
            f"decodes to the input token in {same} of {len(ids)} columns; head and embedding are "
            + ("one matrix" if record.tied else "two matrices")
        ],
        "mid rows": [
            "--subblocks works"
            if not missing
            else f"--subblocks does not: no state between the halves of block {missing[0]}"
        ],
        "norm": ["--norm full, no-affine, none" if route.direct else "--norm full, no-affine"],
    }


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A text with its tokens, before the model has seen it."""

    name: str
    """the stem of the files' names"""
    text: str
    """as the model sees it"""
    encoded: tokens.Encoded
    columns: range
    """the positions that become columns"""

    @property
    def ids(self) -> Sequence[int]:
        return self.encoded.ids


def as_read(subject: Subject, task: Task, text: str) -> str:
    """A text as the model sees it."""
    return tokens.in_template(subject.tokenizer, text) if task.chat else text


def plan(subject: Subject, task: Task, text: str, name: str) -> Plan:
    """Tokens and columns of a text ``as_read``; UsageError for a text or window that does not
    fit."""
    encoded = tokens.encode(subject.tokenizer, text, "none" if task.chat else task.bos)
    columns = tokens.window(task.window, text, encoded)
    require_length(len(encoded.ids), subject)
    if task.single:
        columns = tokens.column(task.position, columns, len(encoded.ids))
    if "next" in task.chosen and columns.stop == len(encoded.ids):
        raise UsageError(
            f"--target next: nothing follows position {columns[-1]}, the last one",
            "give an earlier --position",
        )
    return Plan(name=name, text=text, encoded=encoded, columns=columns)


def read(subject: Subject, task: Task, text: str, name: str) -> Reading:
    """One forward pass over ``text``, and everything that ``task`` asks for from it.

    Raises UsageError for a text or window that does not fit, ProofError where the lens does not
    reproduce the model's own logits, WorkError where a logit is not a number.
    """
    planned = plan(subject, task, as_read(subject, task, text), name)
    return read_together(subject, task, [planned])[0]


def read_together(subject: Subject, task: Task, plans: Sequence[Plan]) -> list[Reading]:
    """One forward pass over several texts; the same as ``read`` of each but for rounding, where
    ``reads_together`` says so. Several texts share the columns at which the lens is checked.
    """
    rows = rows_of(subject.parts, task)
    # Late blocks attend to the whole text, so all of it is needed to decode a part of it.
    spans = [range(len(p.ids)) if task.decoder_blocks else p.columns for p in plans]
    last = Row(len(subject.parts.blocks) - 1 - task.decoder_blocks, 1)
    share = max(1, CHECKED_COLUMNS // len(plans))
    excerpts = [
        Excerpt(p.ids, span, [i - span.start for i in sample(p.columns, share)])
        for p, span in zip(plans, spans, strict=True)
    ]
    kept = sorted({INPUT, *rows, last})
    stream = capture.capture(subject.model, subject.parts, excerpts, kept)
    own, decoder = (
        decode.decoder(
            subject.model,
            subject.parts,
            subject.route,
            norm,
            plans[0].ids,
            spans[0],
            task.decoder_blocks,
        )
        for norm in ("full", task.norm)
    )
    check = lens.check(own, subject.route.name, stream)
    needs = Needs()
    for measure in task.measures.values():
        needs |= METRICS[measure.metric].needs(measure)
    wanted = lens.Wanted(
        rows,
        min(task.k, subject.parts.vocabulary),
        needs,
        {
            name: [i for p, s in zip(plans, spans, strict=True) for i in target_ids(name, p.ids, s)]
            for name in needs.targets - {"final"}
        },
    )
    # The grid first: where a logit is not a number, it knows the place.
    grid = lens.grid(decoder, stream, wanted)
    lens.require(check, subject.parts)
    following = [i for p, s in zip(plans, spans, strict=True) for i in target_ids("next", p.ids, s)]
    true_ranks = ranks_in_output(own, stream, following) if task.next_ranks else []
    readings = []
    for p, span, start in zip(plans, spans, starts_of(spans), strict=True):
        first = start + p.columns.start - span.start
        cut = slice(first, first + len(p.columns))
        sums = lens.cut(grid, cut)
        extras: dict[str, Any] = {}
        if task.follow or task.chosen:
            extras["followed"] = follow(
                subject.tokenizer, task, decoder, stream, rows, sums, p, cut.stop - 1
            )
        if task.next_ranks:
            extras["next_ranks"] = true_ranks[cut]
        targets = {name: ids[cut] for name, ids in wanted.targets.items()}
        readings.append(reading_of(subject, task, p, sums, targets, check, extras))
    return readings


def starts_of(spans: Sequence[range]) -> list[int]:
    """Where each of several spans begins when they stand side by side."""
    return list(accumulate((len(span) for span in spans[:-1]), initial=0))


def reading_of(
    subject: Subject,
    task: Task,
    plan: Plan,
    sums: Sums,
    targets: Mapping[str, Sequence[int]],
    check: lens.Check,
    extras: Mapping[str, Any],
) -> Reading:
    """Sums with labels, scores and provenance."""
    layers = [layer(row) for row in rows_of(subject.parts, task)]
    return Reading(
        schema=SCHEMA,
        command=task.command,
        name=plan.name,
        text=plan.text,
        text_sha256=hashlib.sha256(plan.text.encode()).hexdigest(),
        text_ids=list(plan.ids),
        tokens=token_columns(subject.tokenizer, plan.ids, plan.columns),
        layers=layers,
        guesses=guesses(subject.tokenizer, sums),
        metrics={
            key: scores(subject.tokenizer, measure, sums, targets)
            for key, measure in task.measures.items()
        },
        final_ids=sums.final_ids.tolist(),
        lock_in=lock_in(layers, sums.top_ids[..., 0], sums.final_ids.tolist()),
        check=check_record(check),
        model=subject.record,
        lens=LensRecord(
            norm=task.norm,
            chain=chain_of(subject, task),
            window=(plan.columns.start, plan.columns.stop),
            text_tokens=len(plan.ids),
            bos=plan.encoded.bos,
            decoder_blocks=task.decoder_blocks,
            chat=task.chat,
        ),
        options=dict(task.options),
        versions=dict(versions()),
        **extras,
    )


@cache
def versions() -> Mapping[str, str]:
    return {p: version(p) for p in ("logitlens-cli", "torch", "transformers")}


PROBED = (3, 61, 40)
"""tokens of the texts that are read side by side and alone: some families choose among the tokens
they attend to, but not among a few"""


def reads_together(subject: Subject, task: Task) -> bool:
    """Does a text give the same numbers beside a longer one as by itself? It is tried.

    Only where every position is decoded by itself: else a text takes passes of its own anyhow.
    """
    parts = subject.parts
    if not subject.route.direct or not parts.samples or task.decoder_blocks:
        return False
    most = min(max(PROBED), subject.context or max(PROBED))
    step = max(1, parts.weight.shape[0] // (most + 2))
    ids = [step * (n + 1) % parts.weight.shape[0] for n in range(most)]
    return alike(subject.model, parts, [ids[-length:] for length in PROBED])


def alike(model: Any, parts: Anatomy, texts: Sequence[Sequence[int]]) -> bool:
    """Are the streams of texts that share a pass those of each by itself, but for rounding?"""
    rows = [INPUT, *(Row(n, 1) for n in range(len(parts.blocks)))]
    excerpts = [Excerpt(ids, range(len(ids)), [len(ids) - 1]) for ids in texts]
    try:
        beside = capture.capture(model, parts, excerpts, rows).resid
    except (RuntimeError, TypeError, ValueError, IndexError):  # it takes one text only
        return False
    alone = [capture.capture(model, parts, [excerpt], rows).resid for excerpt in excerpts]
    edges = [*starts_of([excerpt.window for excerpt in excerpts]), beside.shape[1]]
    return all(
        same(beside[:, start:stop], own)
        for (start, stop), own in zip(pairwise(edges), alone, strict=True)
    )


def same(mine: Any, own: Any) -> bool:
    """Are two streams equal but for rounding?"""
    error, allowed = decode.difference(mine, own)
    return error <= allowed


def follow(
    tokenizer: Any,
    task: Task,
    decoder: decode.Decoder,
    stream: Stream,
    rows: tuple[Row, ...],
    sums: Sums,
    plan: Plan,
    column: int,
) -> Followed:
    """The chosen tokens, and those that were ever a block's top guess, in the last column of a
    text, best rank first; it is the stream's column ``column``."""
    blocks = [n for n, row in enumerate(rows) if row != INPUT]
    last = plan.columns[-1:]
    chosen = [
        int(sums.final_ids[-1]) if target == "final" else target_ids(target, plan.ids, last)[0]
        for target in task.chosen
    ]
    chosen = list(dict.fromkeys(chosen))
    ever = sums.top_ids[blocks, -1, 0].tolist() if task.follow else []
    ids = sorted({*chosen, *ever})
    names = [token_target(i) for i in ids]
    if decoder.alone:  # then the other columns need not be decoded again
        only = slice(column, column + 1)
        final = None if stream.final is None else stream.final[only]
        stream, column = replace(stream, resid=stream.resid[:, only], final=final), 0
    targets = {name: [i] * stream.resid.shape[1] for name, i in zip(names, ids, strict=True)}
    wanted = lens.Wanted(rows, 1, Needs(targets=frozenset(names)), targets)
    made = lens.cut(lens.grid(decoder, stream, wanted), slice(column, column + 1))
    ranks = {i: 1 + made.targets[name].above[:, 0] for name, i in zip(names, ids, strict=True)}
    logits = {i: made.targets[name].logit[:, 0] for name, i in zip(names, ids, strict=True)}

    # Equal best ranks: the token that reaches it in the higher layer comes first, as it lasts.
    def place(i: int) -> tuple[int, int, int]:
        mine = ranks[i][blocks]
        return int(mine.min()), -int(mine.argmin()), i

    order = sorted(ids, key=place)
    held = np.stack([logits[i] for i in order], axis=1)
    return Followed(
        position=plan.columns[-1],
        ids=order,
        labels=tokens.labels(tokenizer, order),
        ranks=[[int(ranks[i][row]) for i in order] for row in range(len(rows))],
        logits=rounded(held),
        probs=rounded(np.exp(held - made.lse)),
        chosen=chosen,
    )


def ranks_in_output(
    own: decode.Decoder, stream: Stream, targets: Sequence[int]
) -> list[int | None]:
    """[position] the rank of a token in the model's own output; null for -1."""
    last = (stream.rows[-1],)
    needs = Needs(targets=frozenset({"next"}))
    sums = lens.grid(own, stream, lens.Wanted(last, 1, needs, {"next": targets}))
    above = sums.targets["next"].above[-1].tolist()
    return [None if n < 0 else n + 1 for n in above]


def check_record(check: lens.Check) -> CheckRecord:
    return CheckRecord(
        max_abs_logit_error=rounded(check.max_abs_logit_error),
        passed=check.passed,
        route=check.route,
        columns=check.columns,
        tolerance=rounded(check.tolerance),
        max_kl=rounded(check.max_kl),
        top1_agreement=rounded(check.top1_agreement),
    )


def require_length(count: int, subject: Subject) -> None:
    if not count:
        raise UsageError("the prompt has no token", "give some text")
    if subject.context is not None and count > subject.context:
        raise UsageError(
            f"the text has {count} tokens, {subject.record.name} takes {subject.context}",
            "shorten it",
        )


def rows_of(parts: Anatomy, task: Task) -> tuple[Row, ...]:
    """The rows of the grid, from the lowest up; UsageError where the model has no such rows."""
    last = len(parts.blocks) - 1 - task.decoder_blocks
    chosen = [block for block in task.blocks if block <= last]
    if last < 0:
        raise UsageError(
            f"--decoder-blocks {task.decoder_blocks} leaves no row",
            f"the model has {len(parts.blocks)} blocks",
        )
    if not chosen:
        raise UsageError(
            f"--decoder-blocks {task.decoder_blocks} leaves blocks 0 to {last}, of which none is "
            "chosen",
            "choose some with --layers or --every",
        )
    if not task.subblocks:
        rows = [Row(block, 1) for block in chosen]
    else:
        without = [block for block in chosen if parts.mids[block] is None]
        if without:
            name = type(parts.blocks[without[0]]).__name__
            raise UsageError(
                f"--subblocks: block {without[0]} ({name}) has no state between attention and MLP "
                "that both add to (parallel halves, a state-space layer, or norms after the sums)",
                "leave the option out",
            )
        rows = [Row(block, half) for block in chosen for half in (0, 1)]
    return ((INPUT,) if task.input_row else ()) + tuple(rows)


def chain_of(subject: Subject, task: Task) -> list[str]:
    """How the streams were decoded, a step a line."""
    direct = subject.route.direct and not task.decoder_blocks
    chain = subject.parts.describe(direct)
    late = [f"the last {task.decoder_blocks} blocks"] if task.decoder_blocks else []
    return late + chain


def sample(columns: range, most: int) -> list[int]:
    """Positions where the model's own logits are made, spread over the window, the last one in."""
    count = min(len(columns), most)
    return [columns[(n * len(columns)) // count - 1] for n in range(1, count + 1)]


def target_ids(target: str, ids: Sequence[int], columns: range) -> list[int]:
    """A target token per column, -1 where there is none; "final" is found by the lens."""
    if target == "next":
        return [ids[i + 1] if i + 1 < len(ids) else -1 for i in columns]
    if (number := target_token_id(target)) is not None:
        return [number] * len(columns)
    return [ids[i] for i in columns]


def token_columns(tokenizer: Any, ids: Sequence[int], columns: range) -> list[Token]:
    following = [ids[i + 1] if i + 1 < len(ids) else None for i in columns]
    shown = tokens.labels(tokenizer, ids[columns.start : columns.stop + 1])
    return [
        Token(
            position=i,
            id=ids[i],
            label=shown[n],
            next_id=following[n],
            next_label=None if following[n] is None else shown[n + 1],
        )
        for n, i in enumerate(columns)
    ]


def layer(row: Row) -> Layer:
    return Layer(label=row.label, kind=row.kind, block=None if row == INPUT else row.block)


def guesses(tokenizer: Any, sums: Sums) -> Guesses:
    known: dict[int, str] = {}
    for token_id in np.unique(sums.top_ids).tolist():
        known[token_id] = tokens.label(tokenizer, token_id)
    ids = sums.top_ids.tolist()
    return Guesses(
        ids=ids,
        labels=[[[known[i] for i in cell] for cell in row] for row in ids],
        logits=rounded(sums.top_logits),
        probs=rounded(np.exp(sums.top_logits - sums.lse[..., None])),
    )


def scores(
    tokenizer: Any, measure: Measure, sums: Sums, targets: Mapping[str, Sequence[int]]
) -> Scores:
    """One metric for the dump, with whatever says what it is about."""
    metric = METRICS[measure.metric]
    needs = metric.needs(measure)
    # One-hot and final-logit have a target of their own.
    target = measure.target if measure.target in needs.targets else next(iter(needs.targets), None)
    roles = {"target": target} if target is not None else {}
    if measure.metric == "logit-diff":
        roles["minus"] = measure.minus
    about: dict[str, Any] = {}
    for role, token in roles.items():
        ids = sums.final_ids.tolist() if token == "final" else targets[token]
        about |= {
            role: token,
            f"{role}_ids": [None if i < 0 else i for i in ids],
            f"{role}_labels": [None if i < 0 else tokens.label(tokenizer, i) for i in ids],
        }
    if measure.metric == "rank":
        about["ties"] = sums.targets[measure.target].ties.tolist()
    if measure.metric.startswith("kl-"):
        about["direction"] = "reverse" if measure.reverse else "forward"
        about["reference"] = "input token" if measure.one_hot else measure.metric[3:]
    if measure.metric in ("js", "overlap"):
        about["reference"] = "final"
    if measure.metric == "overlap":
        about["k"] = measure.k
    values: list[list[float | None]] = rounded(metric.formula(sums, measure))
    if metric.whole:
        values = [[None if v is None else int(v) for v in row] for row in values]
    return Scores(
        values=values,
        unit=metric.unit,
        quantity=metric.quantity(labelled(tokenizer, measure)),
        scale=metric.scale(measure),
        **about,
    )


def labelled(tokenizer: Any, measure: Measure) -> Measure:
    """The measure with the labels of its tokens, for people."""

    def label(target: str) -> str:
        number = target_token_id(target)
        return "" if number is None else tokens.label(tokenizer, number)

    target, minus = label(measure.target), label(measure.minus)
    return replace(measure, target_label=target, minus_label=minus)
