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
from logitlens_cli.anatomy import ModelParts
from logitlens_cli.capture import INPUT, PromptSlice, Stream, StreamSite, resid_mid, resid_post
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
class LensModel:
    """A model in memory whose parts are found, with its tokenizer and its record."""

    model: Any
    tokenizer: Any
    parts: ModelParts
    route: decode.Route
    """how its streams are decoded, as ``decode.prove`` found"""
    record: ModelRecord
    context: int | None
    """the longest text that the model can take, in tokens"""


@dataclass(frozen=True, kw_only=True)
class ReadSpec:
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


def lens_model_of(
    model: Any,
    tokenizer: Any,
    *,
    name: str,
    revision: str | None = None,
    context: int | None = None,
    subblocks: bool = False,
) -> LensModel:
    """Find the parts of a model in memory and prove how its streams are decoded.

    Raises UsageError where it is no causal LM, ProofError where its parts cannot be found.
    """
    parts = anatomy.find_parts(model, subblocks=subblocks)
    embeddings = getattr(model.get_input_embeddings(), "weight", None)
    return LensModel(
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
            tied=embeddings is not None and same_matrix(embeddings, parts.weight),
            class_=type(model).__name__,
        ),
        context=context,
    )


def same_matrix(a: Any, b: Any) -> bool:
    """Are two parameters one matrix? Offloaded ones have no address, so they must be one object."""
    return a is b or (a.data_ptr() == b.data_ptr() and not a.is_meta)


def proof_report(lens_model: LensModel) -> dict[str, list[str]]:
    """The proof on a model, in words by topic: what was found, how exact it is, what does not work.

    Raises ProofError where the last row does not reproduce the model's own logits.
    """
    parts, record, route = lens_model.parts, lens_model.record, lens_model.route
    ids = anatomy.probe_ids(parts.weight.shape[0], anatomy.device_of(lens_model.model))[0].tolist()
    window = range(len(ids))
    sites = [INPUT, resid_post(len(parts.blocks) - 1)]
    stream = capture.capture(lens_model.model, parts, [PromptSlice(ids, window, window)], sites)
    decoder = decode.make_decoder(lens_model.model, parts, route, "full", ids, window)
    last = lens.check_output(decoder, route.name, stream)
    lens.require_agreement(last, parts)
    error, allowed = decode.inner_difference(lens_model.model, parts, route)
    entering = lens.grid(decoder, stream, lens.GridSpec((INPUT,), 1, Needs(), {})).top_ids[0, :, 0]
    matching = sum(a == b for a, b in zip(ids, entering.tolist(), strict=True))
    dtype = "" if route.float32 else f", in {record.dtype}"
    return {
        "model": [f"{record.name} ({record.class_}, {record.dtype}, {record.device})"],
        "blocks": [f"{record.blocks}, width {record.width}, vocabulary {record.vocabulary}"],
        "chain": parts.describe(route.direct),
        "route": [f"{route.name}: {route_words(route)}" + dtype],
        "last row": [
            f"differs from the model's logits by {last.max_abs_logit_error:.2g} at most "
            f"(allowed {last.tolerance:.2g}), KL {last.max_kl:.2g} nats, top guess the same in "
            f"{last.top1_agreement:.0%} of {last.columns} columns"
        ],
        "inner rows": [
            f"differ from the model's own tail by {error:.2g} at most (allowed {allowed:.2g})"
        ],
        "input row": [
            f"decodes to the input token in {matching} of {len(ids)} columns; "
            f"head and embedding are {'one matrix' if record.tied else 'two matrices'}"
        ],
        "mid rows": [mid_words(parts)],
        "norm": ["--norm full, no-affine, none" if route.direct else "--norm full, no-affine"],
    }


def route_words(route: decode.Route) -> str:
    if not route.skips:
        return "its own code, a whole pass for every layer"
    return "its modules, copied" if route.direct else "its own code, with its blocks skipped"


def mid_words(parts: ModelParts) -> str:
    missing = [n for n, mid in enumerate(parts.mids) if mid is None]
    if not missing:
        return "--subblocks works"
    return f"--subblocks does not: no state between the halves of block {missing[0]}"


@dataclass(frozen=True, kw_only=True)
class TokenizedPrompt:
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


def prompt_text(lens_model: LensModel, spec: ReadSpec, text: str) -> str:
    """A text as the model sees it."""
    return tokens.in_template(lens_model.tokenizer, text) if spec.chat else text


def tokenize_prompt(lens_model: LensModel, spec: ReadSpec, text: str, name: str) -> TokenizedPrompt:
    """Tokens and columns of a ``prompt_text``; UsageError for a text or window that does not
    fit."""
    encoded = tokens.encode(lens_model.tokenizer, text, "none" if spec.chat else spec.bos)
    columns = tokens.window(spec.window, text, encoded)
    require_length(len(encoded.ids), lens_model)
    if spec.single:
        columns = tokens.column(spec.position, columns, len(encoded.ids))
    if "next" in spec.chosen and columns.stop == len(encoded.ids):
        raise UsageError(
            f"--target next: nothing follows position {columns[-1]}, the last one",
            "give an earlier --position",
        )
    return TokenizedPrompt(name=name, text=text, encoded=encoded, columns=columns)


def read_text(lens_model: LensModel, spec: ReadSpec, text: str, name: str) -> Reading:
    """One forward pass over ``text``, and everything that ``spec`` asks for from it.

    Raises UsageError for a text or window that does not fit, ProofError where the lens does not
    reproduce the model's own logits, WorkError where a logit is not a number.
    """
    prompt = tokenize_prompt(lens_model, spec, prompt_text(lens_model, spec, text), name)
    return read_prompts(lens_model, spec, [prompt])[0]


def read_prompts(
    lens_model: LensModel, spec: ReadSpec, prompts: Sequence[TokenizedPrompt]
) -> list[Reading]:
    """One forward pass over several prompts; the same as ``read_text`` of each but for rounding,
    where ``can_share_pass`` says so. They share the columns at which the lens is checked.
    """
    parts, route = lens_model.parts, lens_model.route
    # Blocks that decode attend to the whole text, so all of it is needed to decode a part of it.
    spans = [range(len(p.ids)) if spec.decoder_blocks else p.columns for p in prompts]
    stream = capture_prompts(lens_model, spec, prompts, spans)
    output_decoder, decoder = (
        decode.make_decoder(
            lens_model.model, parts, route, norm, prompts[0].ids, spans[0], spec.decoder_blocks
        )
        for norm in ("full", spec.norm)
    )
    check = lens.check_output(output_decoder, route.name, stream)
    grid_spec = grid_spec_of(lens_model, spec, prompts, spans)
    # The grid first: where a logit is not a number, it names the cell.
    grid = lens.grid(decoder, stream, grid_spec)
    lens.require_agreement(check, parts)
    next_ids = targets_of("next", prompts, spans)
    next_ranks = ranks_in_output(output_decoder, stream, next_ids) if spec.next_ranks else []
    readings = []
    for prompt, span, start in zip(prompts, spans, starts_of(spans), strict=True):
        first = start + prompt.columns.start - span.start
        cut = slice(first, first + len(prompt.columns))
        sums = lens.cut_sums(grid, cut)
        extras: dict[str, Any] = {}
        if spec.follow or spec.chosen:
            column = stream_column(decoder, stream, cut.stop - 1)
            extras["followed"] = follow_tokens(lens_model, spec, decoder, column, sums, prompt)
        if spec.next_ranks:
            extras["next_ranks"] = next_ranks[cut]
        targets = {name: ids[cut] for name, ids in grid_spec.targets.items()}
        readings.append(reading_of(lens_model, spec, prompt, sums, targets, check, extras))
    return readings


def capture_prompts(
    lens_model: LensModel,
    spec: ReadSpec,
    prompts: Sequence[TokenizedPrompt],
    spans: Sequence[range],
) -> Stream:
    """The stream of several prompts at all sites that the grid, the references and the check
    need."""
    parts = lens_model.parts
    last = resid_post(len(parts.blocks) - 1 - spec.decoder_blocks)
    share = max(1, CHECKED_COLUMNS // len(prompts))
    slices = [
        PromptSlice(p.ids, span, [i - span.start for i in sample_positions(p.columns, share)])
        for p, span in zip(prompts, spans, strict=True)
    ]
    sites = sorted({INPUT, *rows_of(parts, spec), last})
    return capture.capture(lens_model.model, parts, slices, sites)


def grid_spec_of(
    lens_model: LensModel,
    spec: ReadSpec,
    prompts: Sequence[TokenizedPrompt],
    spans: Sequence[range],
) -> lens.GridSpec:
    """What the metrics of ``spec`` need of every cell."""
    needs = Needs()
    for measure in spec.measures.values():
        needs |= METRICS[measure.metric].needs(measure)
    return lens.GridSpec(
        rows_of(lens_model.parts, spec),
        min(spec.k, lens_model.parts.vocabulary),
        needs,
        {name: targets_of(name, prompts, spans) for name in needs.targets - {"final"}},
    )


def targets_of(
    target: str, prompts: Sequence[TokenizedPrompt], spans: Sequence[range]
) -> list[int]:
    """A target token per position of prompts that stand side by side, -1 where there is none."""
    return [i for p, s in zip(prompts, spans, strict=True) for i in target_ids(target, p.ids, s)]


def starts_of(spans: Sequence[range]) -> list[int]:
    """Where each of several spans begins when they stand side by side."""
    return list(accumulate((len(span) for span in spans[:-1]), initial=0))


def reading_of(
    lens_model: LensModel,
    spec: ReadSpec,
    prompt: TokenizedPrompt,
    sums: Sums,
    targets: Mapping[str, Sequence[int]],
    check: lens.OutputCheck,
    extras: Mapping[str, Any],
) -> Reading:
    """Sums with labels, scores and provenance."""
    layers = [layer(site) for site in rows_of(lens_model.parts, spec)]
    return Reading(
        schema=SCHEMA,
        command=spec.command,
        name=prompt.name,
        text=prompt.text,
        text_sha256=hashlib.sha256(prompt.text.encode()).hexdigest(),
        text_ids=list(prompt.ids),
        tokens=token_columns(lens_model.tokenizer, prompt.ids, prompt.columns),
        layers=layers,
        guesses=guesses(lens_model.tokenizer, sums),
        metrics={
            key: scores(lens_model.tokenizer, measure, sums, targets)
            for key, measure in spec.measures.items()
        },
        final_ids=sums.final_ids.tolist(),
        lock_in=lock_in(layers, sums.top_ids[..., 0], sums.final_ids.tolist()),
        check=check_record(check),
        model=lens_model.record,
        lens=LensRecord(
            norm=spec.norm,
            chain=chain_of(lens_model, spec),
            window=(prompt.columns.start, prompt.columns.stop),
            text_tokens=len(prompt.ids),
            bos=prompt.encoded.bos,
            decoder_blocks=spec.decoder_blocks,
            chat=spec.chat,
        ),
        options=dict(spec.options),
        versions=dict(versions()),
        **extras,
    )


@cache
def versions() -> Mapping[str, str]:
    return {p: version(p) for p in ("logitlens-cli", "torch", "transformers")}


SHARED_PASS_LENGTHS = (3, 61, 40)
"""tokens of the texts that are read side by side and each by itself: some families choose among the
tokens they attend to, but not among a few"""


def can_share_pass(lens_model: LensModel, spec: ReadSpec) -> bool:
    """Does a text give the same numbers beside a longer one as by itself? It is tried.

    Only where every position is decoded by itself: else a text takes a pass to itself anyhow.
    """
    parts = lens_model.parts
    if not lens_model.route.direct or not parts.samples_columns or spec.decoder_blocks:
        return False
    longest = max(SHARED_PASS_LENGTHS)
    longest = min(longest, lens_model.context or longest)
    step = max(1, parts.weight.shape[0] // (longest + 2))
    ids = [step * (n + 1) % parts.weight.shape[0] for n in range(longest)]
    return shared_pass_agrees(lens_model.model, parts, [ids[-n:] for n in SHARED_PASS_LENGTHS])


def shared_pass_agrees(model: Any, parts: ModelParts, texts: Sequence[Sequence[int]]) -> bool:
    """Are the streams of texts that share a pass those of each by itself, but for rounding?"""
    sites = [INPUT, *(resid_post(n) for n in range(len(parts.blocks)))]
    slices = [PromptSlice(ids, range(len(ids)), [len(ids) - 1]) for ids in texts]
    try:
        together = capture.capture(model, parts, slices, sites).resid
    except (RuntimeError, TypeError, ValueError, IndexError):  # it takes one text only
        return False
    singly = [capture.capture(model, parts, [text], sites).resid for text in slices]
    edges = [*starts_of([text.window for text in slices]), together.shape[1]]
    return all(
        streams_agree(together[:, start:stop], resid)
        for (start, stop), resid in zip(pairwise(edges), singly, strict=True)
    )


def streams_agree(a: Any, b: Any) -> bool:
    """Are two streams equal but for rounding?"""
    error, allowed = decode.logit_difference(a, b)
    return error <= allowed


def stream_column(decoder: decode.Decoder, stream: Stream, column: int) -> tuple[Stream, int]:
    """What is needed of a stream to decode one column of it, and the column's number there."""
    if not decoder.per_position:
        return stream, column
    only = slice(column, column + 1)
    final = None if stream.final is None else stream.final[only]
    return replace(stream, resid=stream.resid[:, only], final=final), 0


def follow_tokens(
    lens_model: LensModel,
    spec: ReadSpec,
    decoder: decode.Decoder,
    stream_column: tuple[Stream, int],
    sums: Sums,
    prompt: TokenizedPrompt,
) -> Followed:
    """The chosen tokens, and those that were ever a block's top guess, in the last column of a
    prompt, best rank first; it is the given column of a stream."""
    rows = rows_of(lens_model.parts, spec)
    blocks = [n for n, site in enumerate(rows) if site != INPUT]
    chosen = chosen_ids(spec, sums, prompt)
    guesses = sums.top_ids[blocks, -1, 0].tolist() if spec.follow else []
    ids = sorted({*chosen, *guesses})
    names = {i: token_target(i) for i in ids}
    stream, column = stream_column
    targets = {name: [i] * stream.resid.shape[1] for i, name in names.items()}
    grid_spec = lens.GridSpec(rows, 1, Needs(targets=frozenset(targets)), targets)
    cells = lens.cut_sums(lens.grid(decoder, stream, grid_spec), slice(column, column + 1))
    ranks = {i: 1 + cells.targets[name].above[:, 0] for i, name in names.items()}
    logits = {i: cells.targets[name].logit[:, 0] for i, name in names.items()}

    # Equal best ranks: the token that reaches it in the higher layer comes first, as it lasts.
    def best_rank(i: int) -> tuple[int, int, int]:
        of_blocks = ranks[i][blocks]
        return int(of_blocks.min()), -int(of_blocks.argmin()), i

    order = sorted(ids, key=best_rank)
    ordered_logits = np.stack([logits[i] for i in order], axis=1)
    return Followed(
        position=prompt.columns[-1],
        ids=order,
        labels=tokens.labels(lens_model.tokenizer, order),
        ranks=[[int(ranks[i][row]) for i in order] for row in range(len(rows))],
        logits=rounded(ordered_logits),
        probs=rounded(np.exp(ordered_logits - cells.lse)),
        chosen=chosen,
    )


def chosen_ids(spec: ReadSpec, sums: Sums, prompt: TokenizedPrompt) -> list[int]:
    """The tokens that were asked for, in the last column of a prompt, each once."""
    last = prompt.columns[-1:]
    ids = (
        int(sums.final_ids[-1]) if target == "final" else target_ids(target, prompt.ids, last)[0]
        for target in spec.chosen
    )
    return list(dict.fromkeys(ids))


def ranks_in_output(
    output_decoder: decode.Decoder, stream: Stream, targets: Sequence[int]
) -> list[int | None]:
    """[position] the rank of a token in the model's own output; null for -1."""
    last = (stream.rows[-1],)
    needs = Needs(targets=frozenset({"next"}))
    sums = lens.grid(output_decoder, stream, lens.GridSpec(last, 1, needs, {"next": targets}))
    above = sums.targets["next"].above[-1].tolist()
    return [None if n < 0 else n + 1 for n in above]


def check_record(check: lens.OutputCheck) -> CheckRecord:
    return CheckRecord(
        max_abs_logit_error=rounded(check.max_abs_logit_error),
        passed=check.passed,
        route=check.route,
        columns=check.columns,
        tolerance=rounded(check.tolerance),
        max_kl=rounded(check.max_kl),
        top1_agreement=rounded(check.top1_agreement),
    )


def require_length(count: int, lens_model: LensModel) -> None:
    if not count:
        raise UsageError("the prompt has no token", "give some text")
    if lens_model.context is not None and count > lens_model.context:
        raise UsageError(
            f"the text has {count} tokens, {lens_model.record.name} takes {lens_model.context}",
            "shorten it",
        )


def rows_of(parts: ModelParts, spec: ReadSpec) -> tuple[StreamSite, ...]:
    """The rows of the grid, from the lowest up; UsageError where the model has no such rows."""
    last = len(parts.blocks) - 1 - spec.decoder_blocks
    chosen = [block for block in spec.blocks if block <= last]
    if last < 0:
        raise UsageError(
            f"--decoder-blocks {spec.decoder_blocks} leaves no row",
            f"the model has {len(parts.blocks)} blocks",
        )
    if not chosen:
        raise UsageError(
            f"--decoder-blocks {spec.decoder_blocks} leaves blocks 0 to {last}, of which none is "
            "chosen",
            "choose some with --layers or --every",
        )
    if not spec.subblocks:
        rows = [resid_post(block) for block in chosen]
    else:
        without = [block for block in chosen if parts.mids[block] is None]
        if without:
            name = type(parts.blocks[without[0]]).__name__
            raise UsageError(
                f"--subblocks: block {without[0]} ({name}) has no state between attention and MLP "
                "that both add to (parallel halves, a state-space layer, or norms after the sums)",
                "leave the option out",
            )
        rows = [site(block) for block in chosen for site in (resid_mid, resid_post)]
    return ((INPUT,) if spec.input_row else ()) + tuple(rows)


def chain_of(lens_model: LensModel, spec: ReadSpec) -> list[str]:
    """How the streams were decoded, a step a line."""
    direct = lens_model.route.direct and not spec.decoder_blocks
    chain = lens_model.parts.describe(direct)
    if spec.decoder_blocks:
        return [f"the last {spec.decoder_blocks} blocks", *chain]
    return chain


def sample_positions(columns: range, most: int) -> list[int]:
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


def layer(site: StreamSite) -> Layer:
    return Layer(label=site.label, kind=site.kind, block=None if site == INPUT else site.block)


def guesses(tokenizer: Any, sums: Sums) -> Guesses:
    labels = {i: tokens.label(tokenizer, i) for i in np.unique(sums.top_ids).tolist()}
    ids = sums.top_ids.tolist()
    return Guesses(
        ids=ids,
        labels=[[[labels[i] for i in cell] for cell in row] for row in ids],
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
        quantity=metric.quantity(with_labels(tokenizer, measure)),
        scale=metric.scale(measure),
        **about,
    )


def with_labels(tokenizer: Any, measure: Measure) -> Measure:
    """The measure with the labels of its tokens, for people."""

    def label(target: str) -> str:
        number = target_token_id(target)
        return "" if number is None else tokens.label(tokenizer, number)

    target, minus = label(measure.target), label(measure.minus)
    return replace(measure, target_label=target, minus_label=minus)
