"""Does the lens hold on a family? ``make families`` writes the table.

Every key of transformers' causal mapping becomes a tiny random model (``families``). Its inner
rows, decoded by the product, are held against the model's own tail in float64, reached by another
route; and so is what the program reads from end to end (``family_readings``).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import families
import family_readings
import torch
from torch import Tensor

from logitlens_cli.errors import LogitLensError
from logitlens_cli.lens import capture, decoders, output_check, proof
from logitlens_cli.lens.capture import INPUT, resid_post
from logitlens_cli.lens.decoder import Route
from logitlens_cli.model.anatomy import find
from logitlens_cli.model.anatomy.parts import ModelParts

TABLE = Path(find.__file__).parents[1] / "families.json"
# Relative to the largest logit. Both sides are float32 up to the last product.
INNER = 2e-5


@dataclass(frozen=True)
class Outcome:
    """What became of one family."""

    outcome: str
    """"exact", "refused" or "not buildable" """
    model: str | None = None
    """its class"""
    route: str | None = None
    mid: bool | None = None
    """are there rows between attention and MLP?"""
    reason: str | None = None
    readings: Mapping[str, str] | None = None
    """by case of `family_readings`: "right", "refused", or "alone" (read, but in no batch)"""


def examine(key: str) -> Outcome:
    """Build, take apart, decode every row, compare; AssertionError where a row is wrong."""
    try:
        model = families.build(key)
    except families.NotCausalError as error:
        return Outcome("refused", reason=str(error))
    except families.UnbuildableError as error:
        return Outcome("not buildable", reason=str(error))
    name = type(model).__name__
    try:
        parts = find.find_parts(model, subblocks=True)
        route = proof.prove(model, parts)
    except LogitLensError as error:
        return Outcome("refused", name, reason=error.problem)
    assert_exact(key, model, parts, route)
    readings = family_readings.outcomes(model)
    wrong = {case: kind for case, kind in readings.items() if kind.startswith("wrong")}
    assert not wrong, f"{key}: {wrong}"
    kinds = {case: kind.partition(":")[0] for case, kind in readings.items()}
    return Outcome("exact", name, route_words(route), None not in parts.mids, readings=kinds)


def route_words(route: Route) -> str:
    return route.name if route.skips else "replay of the whole pass"


WINDOWS = (0, 3)
"""where the windows start that are read of a text"""


def assert_exact(key: str, model: Any, parts: ModelParts, route: Route) -> None:
    ids = families.inputs(key)
    reference = families.reference_stream(model, ids)
    runs = len(reference) - 1
    assert len(parts.runs) == runs, f"{key}: {len(parts.runs)} runs of blocks, not {runs}"
    truths = [families.reference_logits(model, ids, expected)[0] for expected in reference]
    for start in WINDOWS:
        window = range(start, ids.shape[1])
        assert_window(key, model, parts, route, window, list(zip(reference, truths, strict=True)))


def assert_window(
    key: str,
    model: Any,
    parts: ModelParts,
    route: Route,
    window: range,
    truths: Sequence[tuple[Tensor, Tensor]],
) -> None:
    """Streams and logits of every row at the columns of a window; ``truths`` are of the text."""
    tokens, columns = families.inputs(key)[0].tolist(), slice(window.start, window.stop)
    rows = (INPUT, *(resid_post(run) for run in range(len(parts.runs))))
    prompt = capture.PromptSlice(tokens, window, range(len(window)))
    stream = capture.capture(model, parts, [prompt], rows)
    decoder = decoders.make_decoder(model, parts, route, "full", tokens, window)
    check = output_check.check_output(decoder, route.name, stream)
    assert check.passed, f"{key}: last row off by {check.max_abs_logit_error}"
    for row, resid, (expected, logits) in zip(rows, stream.resid, truths, strict=True):
        if parts.layout.count == 1:
            canonical = parts.layout.canonical(expected, len(tokens))[0, columns]
            assert torch.equal(resid, canonical), f"{key}: stream of row {row.label}"
        truth = logits[columns]
        with torch.inference_mode():
            prepared = decoder.prepare(resid.unsqueeze(0))
            mine = torch.cat([decoder.tile(prepared, e)[0] for e in decoder.entries()], -1)
        real = truth > torch.finfo(torch.float32).min / 2  # entries that the model forbids are not
        error = (mine.double() - truth)[real].abs().max() / truth[real].abs().max()
        assert error < INNER, f"{key}: row {row.label} off by {error:.2g} of the largest logit"


def every_key() -> list[str]:
    return families.keys()


def main() -> None:
    torch.set_num_threads(1)
    table = {}
    for key in every_key():
        table[key] = asdict(examine(key))
        print(key, table[key]["outcome"], table[key]["route"] or table[key]["reason"])
    made = {"transformers": version("transformers"), "families": table}
    TABLE.write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
