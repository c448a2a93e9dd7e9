"""The replay: what it cannot do, and that skipped blocks come back."""

from typing import Any

import families
import pytest

from logitlens_cli.errors import UsageError
from logitlens_cli.lens import decoders, proof
from logitlens_cli.lens.replay import blocks_skipped
from logitlens_cli.model.anatomy import find


def test_replay_cannot_leave_out_the_norm() -> None:
    model = families.build("roberta")
    parts = find.find_parts(model)
    with pytest.raises(UsageError, match="--norm none is not possible for RobertaForCausalLM"):
        decoders.make_decoder(model, parts, proof.prove(model, parts), "none", [3], range(1))


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
