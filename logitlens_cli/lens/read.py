"""Text -> Reading, on a model in memory: tokens, capture, proof, lens, labels, in this order.

What the command line and other programs share. Knows nothing of files.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from logitlens_cli.lens import capture, decoders, grid, output_check, proven
from logitlens_cli.lens.all_blocks import guesses_of_blocks, lock_in_of_blocks, rows_for_lock_in
from logitlens_cli.lens.capture import INPUT, PromptSlice, Stream, resid_post
from logitlens_cli.lens.decoder import BLOCK_FLOATS
from logitlens_cli.lens.followed import follow_tokens, ranks_in_output, stream_column
from logitlens_cli.lens.lens_model import LensModel
from logitlens_cli.lens.prompt import (
    TokenizedPrompt,
    prompt_text,
    require_fits,
    tokenize_prompt,
)
from logitlens_cli.lens.records import compute_record, reading_of
from logitlens_cli.lens.rows import rows_of
from logitlens_cli.lens.spec import ReadSpec
from logitlens_cli.lens.spelled import better_spellings
from logitlens_cli.lens.targets import sample_positions, starts_of, targets_of
from logitlens_cli.lens.undisturbed import undisturbed, without_autocast
from logitlens_cli.metrics.table import needs_of
from logitlens_cli.reading.record import Reading

CHECKED_COLUMNS = 16
"""of a pass at least; all where their logits take no more than ``BLOCK_FLOATS``"""


def read_text(lens_model: LensModel, spec: ReadSpec, text: str, name: str) -> Reading:
    """One forward pass over ``text``, and everything that ``spec`` asks for from it.

    Raises UsageError for a text or window that does not fit, ProofError where the lens does not
    reproduce the model's own logits, WorkError where a logit is not a number.
    """
    tokenizer = lens_model.tokenizer
    prompt = tokenize_prompt(tokenizer, spec, prompt_text(tokenizer, spec, text), name)
    require_fits(prompt, lens_model)
    return read_prompts(lens_model, spec, [prompt])[0]


def read_prompts(
    lens_model: LensModel, spec: ReadSpec, prompts: Sequence[TokenizedPrompt]
) -> list[Reading]:
    """One forward pass over several prompts; the same as ``read_text`` of each but for rounding,
    where ``can_share_pass`` says so. They share the columns at which the lens is checked.
    """
    # Blocks that decode attend to the whole text, so all of it is needed to decode a part of it.
    # So do tails that look beyond their position.
    route = lens_model.route
    is_whole = spec.decoder_blocks or not (route.direct or route.skips)
    spans = [range(len(p.ids)) if is_whole else p.columns for p in prompts]
    with undisturbed(lens_model.model):
        stream = capture_prompts(lens_model, spec, prompts, spans)
        with without_autocast():
            return decode_prompts(lens_model, spec, prompts, spans, stream)


def decode_prompts(
    lens_model: LensModel,
    spec: ReadSpec,
    prompts: Sequence[TokenizedPrompt],
    spans: Sequence[range],
    stream: Stream,
) -> list[Reading]:
    """The readings of prompts whose stream is captured."""
    parts, route = lens_model.parts, lens_model.route
    output_decoder, decoder = (
        decoders.make_decoder(
            lens_model.model, parts, route, norm, prompts[0].ids, spans[0], spec.decoder_blocks
        )
        for norm in ("full", spec.norm)
    )
    check = output_check.check_output(output_decoder, route.name, stream)
    grid_spec = grid_spec_of(lens_model, spec, prompts, spans)
    mapped = replace(stream, maps=lens_model.maps)
    # The grid first: where a logit is not a number, it names the cell.
    cells = grid.grid(decoder, mapped, grid_spec)
    check = proven.proven(lens_model, spec, check, output_decoder, stream, prompts, spans)
    proven.require_last_row(lens_model, spec, cells, grid_spec.rows, stream)
    next_ids = targets_of("next", prompts, spans)
    next_ranks = ranks_in_output(output_decoder, stream, next_ids) if spec.next_ranks else []
    blocks = rows_for_lock_in(parts, spec)
    block_guesses = guesses_of_blocks(decoder, mapped, blocks)
    readings = []
    for prompt, span, start in zip(prompts, spans, starts_of(spans), strict=True):
        first = start + prompt.columns.start - span.start
        cut = slice(first, first + len(prompt.columns))
        sums = grid.cut_sums(cells, cut)
        extras: dict[str, Any] = {"compute": compute_record(decoder, stream, grid_spec)}
        if spec.follow or spec.chosen:
            column = stream_column(decoder, mapped, cut.stop - 1)
            extras["followed"] = follow_tokens(lens_model, spec, decoder, column, sums, prompt)
        if spec.text_targets:
            column = stream_column(output_decoder, stream, cut.stop - 1)
            extras["spellings"] = better_spellings(
                lens_model.tokenizer, spec.text_targets, output_decoder, column
            )
        if spec.next_ranks:
            extras["next_ranks"] = next_ranks[cut]
        if block_guesses is not None:
            final = sums.final_ids.tolist()
            extras["lock_in"] = lock_in_of_blocks(parts, blocks, block_guesses[:, cut], final)
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
    most = max(CHECKED_COLUMNS, BLOCK_FLOATS // parts.vocabulary)
    share = max(1, most // len(prompts))
    slices = [
        PromptSlice(p.ids, span, [i - span.start for i in sample_positions(p.columns, share)])
        for p, span in zip(prompts, spans, strict=True)
    ]
    sites = sorted({INPUT, *rows_of(parts, spec), *rows_for_lock_in(parts, spec), last})
    return capture.capture(lens_model.model, parts, slices, sites)


def grid_spec_of(
    lens_model: LensModel,
    spec: ReadSpec,
    prompts: Sequence[TokenizedPrompt],
    spans: Sequence[range],
) -> grid.GridSpec:
    """What the metrics of ``spec`` need of every cell."""
    needs = needs_of(spec.metrics.values())
    return grid.GridSpec(
        rows_of(lens_model.parts, spec),
        min(spec.k, lens_model.parts.vocabulary),
        needs,
        {name: targets_of(name, prompts, spans) for name in needs.targets - {"final"}},
    )
