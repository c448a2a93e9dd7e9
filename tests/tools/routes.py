"""The route of a family's model, its stream, and how its output is reproduced."""

from typing import Any

import pytest
import transformers
from packaging.version import Version

from logitlens_cli.lens import capture, decoders, output_check, proof
from logitlens_cli.lens.capture import INPUT, resid_post
from logitlens_cli.lens.decoder import Route
from logitlens_cli.model.anatomy import find
from logitlens_cli.model.anatomy.parts import ModelParts


def since_5_23(key: str) -> Any:
    """A family that transformers 5.23 brought, or whose offloading it mended."""
    old = Version(transformers.__version__) < Version("5.23")
    return pytest.param(key, marks=pytest.mark.skipif(old, reason="needs transformers 5.23"))


def stream_of(model: Any, parts: ModelParts, ids: list[int]) -> capture.Stream:
    rows = (INPUT, *(resid_post(block) for block in range(len(parts.blocks))))
    return capture.capture(
        model, parts, [capture.PromptSlice(ids, range(len(ids)), range(len(ids)))], rows
    )


def examine(model: Any, ids: list[int]) -> tuple[Route, output_check.OutputCheck]:
    parts = find.find_parts(model)
    route = proof.prove(model, parts)
    decoder = decoders.make_decoder(model, parts, route, "full", ids, range(len(ids)))
    return route, output_check.check_output(decoder, route.name, stream_of(model, parts, ids))
