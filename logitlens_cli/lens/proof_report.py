"""The proof on a model, in words."""

from logitlens_cli.lens import capture, decoders, grid, output_check, proof
from logitlens_cli.lens.capture import INPUT, PromptSlice, resid_post
from logitlens_cli.lens.decoder import Route
from logitlens_cli.lens.lens_model import LensModel
from logitlens_cli.metrics.sums import Needs
from logitlens_cli.model.anatomy import passes
from logitlens_cli.model.anatomy.parts import ModelParts


def proof_report(lens_model: LensModel) -> dict[str, list[str]]:
    """The proof on a model, in words by topic: what was found, how exact it is, what does not work.

    Raises ProofError where the last row does not reproduce the model's own logits.
    """
    parts, record, route = lens_model.parts, lens_model.record, lens_model.route
    ids = passes.probe_ids(parts.weight.shape[0], passes.device_of(lens_model.model))[0].tolist()
    window = range(len(ids))
    sites = [INPUT, resid_post(len(parts.blocks) - 1)]
    stream = capture.capture(lens_model.model, parts, [PromptSlice(ids, window, window)], sites)
    decoder = decoders.make_decoder(lens_model.model, parts, route, "full", ids, window)
    last = output_check.check_output(decoder, route.name, stream)
    output_check.require_agreement(last, parts)
    inner = proof.inner_agreement(lens_model.model, parts, route)
    entering = grid.grid(decoder, stream, grid.GridSpec((INPUT,), 1, Needs(), {})).top_ids[0, :, 0]
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
            f"differ from the model's own tail by {inner.error:.2g} at most (allowed "
            f"{inner.allowed:.2g})"
        ],
        "input row": [
            f"decodes to the input token in {matching} of {len(ids)} columns; "
            f"head and embedding are {'one matrix' if record.tied else 'two matrices'}"
        ],
        "mid rows": [mid_words(parts)],
        "norm": ["--norm full, no-affine, none" if route.direct else "--norm full, no-affine"],
    }


def route_words(route: Route) -> str:
    if not route.skips:
        return "its own code, a whole pass for every layer"
    return "its modules, copied" if route.direct else "its own code, with its blocks skipped"


def mid_words(parts: ModelParts) -> str:
    missing = [n for n, mid in enumerate(parts.mids) if mid is None]
    if not missing:
        return "--subblocks works"
    return f"--subblocks does not: no state between the halves of block {missing[0]}"
