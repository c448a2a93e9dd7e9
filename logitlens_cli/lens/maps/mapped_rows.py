"""Which rows maps can show, and which they leave out."""

from collections.abc import Callable
from dataclasses import replace

from logitlens_cli.errors import UsageError
from logitlens_cli.lens.maps.lens_maps import INPUT_ROW, LensMaps
from logitlens_cli.lens.spec import ReadSpec
from logitlens_cli.metrics.table import METRICS

OR_PLAIN = "or take --lens plain"


def rows_with_maps(
    maps: LensMaps, spec: ReadSpec, blocks: int, note: Callable[[str], None]
) -> ReadSpec:
    """``spec`` without the rows that have no map, of a model with so many blocks.

    Raises UsageError for those that were asked for; ``note`` is told what is left out.
    """
    name = maps.record.name
    for flag, is_given in (
        ("--subblocks", spec.subblocks),
        ("--decoder-blocks", bool(spec.decoder_blocks)),
    ):
        if is_given:
            raise UsageError(
                f"{flag}: the lens {name} leads from what leaves a block to what leaves the last",
                f"leave the option out, {OR_PLAIN}",
            )
    lacking = [n for n in range(blocks - 1) if n not in maps.weights]
    asked = [n for n in spec.blocks(blocks) if n in lacking]
    if asked and spec.layers is not None:
        raise UsageError(
            f"--layers {spec.layers}: the lens {name} has no map of layer {asked[0]}",
            f"name others, {OR_PLAIN}",
        )
    if asked:
        kept = [n for n in spec.blocks(blocks) if n not in lacking]
        spec = replace(spec, layers=",".join(map(str, kept)), every=1)
        words = ", ".join(map(str, asked))
        note(f"the lens {name} has no map of these layers, which are left out: {words}")
    if lacking:  # from which block on a guess stays would not be known
        spec = replace(spec, lock_in=False)
    return spec if INPUT_ROW in maps.weights else without_input_row(name, spec, note)


def without_input_row(name: str, spec: ReadSpec, note: Callable[[str], None]) -> ReadSpec:
    if spec.input_row:
        raise UsageError(
            f"--input-row: the lens {name} has no map of the input row",
            f"leave the option out, {OR_PLAIN}",
        )
    compared = any(
        "input" in METRICS[metric.metric].needs(metric).references
        for metric in spec.metrics.values()
    )
    plainly = "; what is compared with it is compared with its plain decoding" * compared
    note(f"the lens {name} has no map of the input row, which is left out{plainly}")
    return replace(spec, input_row=False)
