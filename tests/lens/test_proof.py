"""Which route is proven, also of offloaded bodies; the model stays as it was."""

import copy
from typing import Any

import families
import pytest
import torch
from accelerate import cpu_offload, dispatch_model
from routes import examine, since_5_23

from logitlens_cli.errors import ProofError
from logitlens_cli.lens import proof
from logitlens_cli.model.anatomy import find


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
