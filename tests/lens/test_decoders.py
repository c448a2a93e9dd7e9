"""Routes: dtypes, offloaded and dispatched bodies, norms, and that a model stays as it was."""

import copy
from typing import Any

import families
import pytest
import torch
import transformers
from accelerate import cpu_offload, dispatch_model
from packaging.version import Version

from logitlens_cli.errors import ProofError, UsageError
from logitlens_cli.lens import capture, decoders, output_check, proof
from logitlens_cli.lens.capture import INPUT, resid_post
from logitlens_cli.lens.decoder import Route
from logitlens_cli.lens.replay import blocks_skipped
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


@pytest.mark.filterwarnings("ignore:.*meta device.*")
@pytest.mark.parametrize("key", ["llama", "gemma2", "bloom", since_5_23("gemma3n_text")])
def test_bodies_that_accelerate_holds(key: str) -> None:
    model = families.build(key)
    ids = families.inputs(key)[0].tolist()
    route, check = examine(dispatch_model(copy.deepcopy(model), {"": "cpu"}, force_hooks=True), ids)
    assert check.passed
    assert route == examine(model, ids)[0]
    route, check = examine(cpu_offload(copy.deepcopy(model), torch.device("cpu")), ids)
    assert check.passed  # its head is not in memory, so its own code decodes
    assert not route.direct


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


def test_replay_cannot_leave_out_the_norm() -> None:
    model = families.build("roberta")
    parts = find.find_parts(model)
    with pytest.raises(UsageError, match="--norm none cannot be had of RobertaForCausalLM"):
        decoders.make_decoder(model, parts, proof.prove(model, parts), "none", [3], range(1))


def test_a_model_without_influence_of_its_blocks_is_refused() -> None:
    model = families.build("llama")
    inner = model.forward

    def forgetful(**arguments: Any) -> Any:
        out = inner(**arguments)
        out.logits = torch.ones_like(out.logits).cumsum(-1)
        return out

    model.forward = forgetful
    with pytest.raises(ProofError, match="makes no difference"):
        proof.prove(model, find.find_parts(model))


@pytest.mark.parametrize("key", ["llama", "roberta", since_5_23("inkling2_text")])
def test_the_model_stays_as_it_was(key: str) -> None:
    model = families.build(key)
    ids = families.inputs(key)
    before = families.forward(model, ids)
    state = copy.deepcopy(model.state_dict())
    examine(model, ids[0].tolist())
    assert torch.equal(families.forward(model, ids), before)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    for module in model.modules():
        assert "forward" not in module.__dict__
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_skipped_blocks_come_back_also_after_an_exception() -> None:
    model = families.build("llama")
    parts = find.find_parts(model)

    def own(*args: Any, **keywords: Any) -> Any:  # somebody's replacement of a block
        return type(parts.blocks[1]).forward(parts.blocks[1], *args, **keywords)

    parts.blocks[1].forward = own
    replaced = False
    try:
        with blocks_skipped(parts, parts.inner):
            replaced = parts.blocks[1].forward is not own
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert replaced
    assert parts.blocks[1].forward is own
    assert "forward" not in parts.blocks[0].__dict__
