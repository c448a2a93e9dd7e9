"""The direct route: half-precision bodies, and the same rows as by replay."""

import copy

import families
import pytest
import torch
from routes import examine, stream_of

from logitlens_cli.lens import decoders
from logitlens_cli.lens.decoder import Route
from logitlens_cli.model.anatomy import find


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("key", ["llama", "gemma2", "bloom", "cohere", "roberta"])
def test_half_precision_bodies_are_decoded_in_float32(key: str, dtype: torch.dtype) -> None:
    model = families.build(key).to(dtype)
    ids = families.inputs(key)[0].tolist()
    route, check = examine(model, ids)
    assert check.passed
    assert route.float32
    # The tolerance is not so wide that it would hide a missing step.
    assert check.tolerance < 0.02 * 60
    parts = find.find_parts(model)
    decoder = decoders.make_decoder(model, parts, route, "full", ids, range(len(ids)))
    stream = stream_of(model, parts, ids)
    with torch.inference_mode():
        prepared = decoder.prepare(stream.resid[1:2])
        mine = torch.cat([decoder.tile(prepared, e)[0] for e in decoder.entries()], -1)
    # Inner rows: what float32 copies of the tail make of the stream that the half body left.
    twin = copy.deepcopy(model).float()
    resid = families.reference_stream(model, families.inputs(key))[1].float()
    truth = families.reference_logits(twin, families.inputs(key), resid)[0]
    torch.testing.assert_close(mine.double(), truth.double(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("norm", ["full", "no-affine"])
@pytest.mark.parametrize("key", ["llama", "gemma2", "gpt2", "cohere", "granite"])
def test_both_routes_agree_on_every_row(key: str, norm: str) -> None:
    model = families.build(key)
    ids = families.inputs(key)[0].tolist()
    parts = find.find_parts(model)
    stream = stream_of(model, parts, ids)
    direct, replay = (
        decoders.make_decoder(model, parts, Route(direct=d), norm, ids, range(len(ids)))
        for d in (True, False)
    )
    with torch.inference_mode():
        prepared = direct.prepare(stream.resid)
        a = torch.cat([direct.tile(prepared, e) for e in direct.entries()], -1)
        b = replay.tile(replay.prepare(stream.resid), slice(None))
    torch.testing.assert_close(a, b, atol=2e-4, rtol=1e-5)
