"""All that is held against the model itself in a run, and what of it the record says."""

from collections.abc import Sequence
from dataclasses import replace

from logitlens_cli.lens import output_check, text_proof
from logitlens_cli.lens.capture import Stream, StreamSite
from logitlens_cli.lens.decoder import Decoder
from logitlens_cli.lens.lens_model import LensModel
from logitlens_cli.lens.output_check import OutputCheck
from logitlens_cli.lens.prompt import TokenizedPrompt
from logitlens_cli.lens.spec import ReadSpec
from logitlens_cli.lens.targets import starts_of
from logitlens_cli.metrics.sums import Sums


def proven(
    lens_model: LensModel,
    spec: ReadSpec,
    check: OutputCheck,
    decoder: Decoder,
    stream: Stream,
    prompts: Sequence[TokenizedPrompt],
    spans: Sequence[range],
) -> OutputCheck:
    """The check with what was proven, in words. ``decoder`` has the whole norm.

    Raises ProofError where the last row, or an inner row of the longest text, is not what the
    model itself makes of it.
    """
    output_check.require_agreement(check, lens_model.parts)
    longest = max(range(len(prompts)), key=lambda n: len(prompts[n].ids))
    start, ids = starts_of(spans)[longest], prompts[longest].ids
    columns = slice(start, start + len(spans[longest]))
    if not spec.decoder_blocks:
        text_proof.prove_on_text(lens_model, decoder, ids, stream_of_columns(stream, columns))
    return replace(check, proven=proven_words(lens_model, spec, check, stream, len(ids)))


def stream_of_columns(stream: Stream, columns: slice) -> Stream:
    """The stream of one of several texts that stand side by side."""
    return replace(stream, resid=stream.resid[:, columns])


def require_last_row(
    lens_model: LensModel, spec: ReadSpec, sums: Sums, rows: Sequence[StreamSite], stream: Stream
) -> None:
    """Hold the cells of the last block, as the grid has them, against the model's own logits;
    raises ProofError."""
    last = stream.rows[-1]
    is_output = spec.norm == "full" and not spec.decoder_blocks and last in rows
    row = rows.index(last) if is_output else None
    output_check.require_cells(sums, row, stream, lens_model.parts.weight.dtype)


def proven_words(
    lens_model: LensModel, spec: ReadSpec, check: OutputCheck, stream: Stream, tokens: int
) -> list[str]:
    """What was held against the model itself, a sentence each."""
    route, dtype = lens_model.route, lens_model.record.dtype
    words = [
        f"once a model: inner rows of a probe, {'float32' if route.exact else dtype}, "
        "stacked, alone, in another order"
    ]
    if spec.decoder_blocks or not (route.direct or route.skips):
        words = ["inner rows: decoded by whole passes of the model's own code"]
    else:
        length = lens_model.proven_lengths.get(text_proof.class_of(tokens), tokens)
        words.append(
            f"once a model: inner rows of a text of up to {length} tokens, with its tokens and "
            "positions"
        )
    words.append(
        f"this text: the last row at {check.columns} of {stream.resid.shape[1]} positions, {dtype}"
    )
    if dtype in ("bfloat16", "float16"):
        words.append(
            f"not told apart from the rounding of {dtype} in the last row: "
            f"{check.tolerance:.2g} in a logit, {check.allowed_kl:.2g} nats"
        )
    if remembers := lens_model.parts.remembers:
        words.append(f"put back after each pass: {', '.join(remembers[:4])}")
    return words
