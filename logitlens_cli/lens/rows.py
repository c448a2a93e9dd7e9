"""The rows of the grid."""

from collections.abc import Sequence

from logitlens_cli.errors import UsageError
from logitlens_cli.lens.capture import INPUT, StreamSite, resid_mid, resid_post
from logitlens_cli.lens.decoders import norm_names
from logitlens_cli.lens.lens_model import LensModel
from logitlens_cli.lens.spec import ReadSpec
from logitlens_cli.model.anatomy.parts import ModelParts
from logitlens_cli.reading.record import Layer


def rows_of(parts: ModelParts, spec: ReadSpec) -> tuple[StreamSite, ...]:
    """The rows of the grid, from the lowest up; UsageError where the model has no such rows."""
    last = len(parts.blocks) - 1 - spec.decoder_blocks
    chosen = [block for block in spec.blocks(len(parts.blocks)) if block <= last]
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
            name, label = type(parts.blocks[without[0]]).__name__, parts.labels[without[0]]
            raise UsageError(
                f"--subblocks: block {label} ({name}) has no state between attention and MLP "
                "that both add to (parallel halves, a state-space layer, norms after the sums, "
                "more than one attention, or one that comes last)",
                "leave the option out",
            )
        rows = [site(block) for block in chosen for site in (resid_mid, resid_post)]
    return ((INPUT,) if spec.reads_input_row else ()) + tuple(rows)


def chain_of(lens_model: LensModel, spec: ReadSpec) -> list[str]:
    """How the streams were decoded, a step a line."""
    direct = lens_model.route.direct and not spec.decoder_blocks
    chain = lens_model.parts.describe(direct)
    if spec.norm != "full":
        names = norm_names(lens_model.model, lens_model.parts, lens_model.route, spec.norm)
        chain = [with_norm(line, spec.norm, names) for line in chain]
    if spec.decoder_blocks:
        return [f"the last {spec.decoder_blocks} blocks", *chain]
    return chain


def with_norm(line: str, norm: str, names: Sequence[str]) -> str:
    """A step of the chain, with what was done to the norms in it."""
    module = line.partition(" (")[0]
    done = "without gain and bias" if norm == "no-affine" else "left out"
    for name in names:
        if name == module:
            return f"{line} {done}"
        if name.startswith(f"{module}."):
            return f"{line}, its {name.removeprefix(f'{module}.')} {done}"
    return line


def layer(parts: ModelParts, site: StreamSite) -> Layer:
    """The row of a site; where blocks run more than once, the number of the run and the label of
    its block."""
    if site == INPUT:
        return Layer(label=site.label, kind=site.kind, block=None)
    label = parts.labels[site.block]
    return Layer(label=label if site.is_post else f"{label} mid", kind=site.kind, block=site.block)
