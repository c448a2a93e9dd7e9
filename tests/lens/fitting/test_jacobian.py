"""The Jacobian map of a row, against torch's own Jacobian of the blocks above it."""

from functools import partial
from typing import Any

import pytest
import torch
from fitted import TEXTS, rows_of_texts
from torch import Tensor

from logitlens_cli.errors import UsageError
from logitlens_cli.lens.fitting.jacobian import add_jacobian, empty_jacobian, jacobian_maps
from logitlens_cli.lens.lens_model import LensModel

torch_jacobian: Any = torch.autograd.functional.jacobian
SHORT = [TEXTS[1][:8], TEXTS[2][:6]]


def through_blocks(lens_model: LensModel, resid: Tensor, first: int) -> Tensor:
    """(position, width) -> what leaves the last block, by the blocks from ``first`` on."""
    body = lens_model.model.model
    positions = torch.arange(len(resid))[None]
    given = {
        "attention_mask": torch.full((len(resid), len(resid)), -torch.inf).triu(1)[None, None],
        "position_ids": positions,
        "position_embeddings": body.rotary_emb(resid[None], positions),
    }
    h = resid[None]
    for block in body.layers[first:]:
        h = block(h, **given)
    return h[0]


@pytest.fixture(scope="module")
def expected(tiny: LensModel) -> list[list[Tensor]]:
    """By text and row: (target, output entry, source, row entry)."""
    made = []
    for ids in SHORT:
        rows = torch.tensor(rows_of_texts(tiny.model, [ids], 0)).float()
        made.append(
            [
                torch_jacobian(partial(through_blocks, tiny, first=n), row)
                for n, row in enumerate(rows[:-1])
            ]
        )
    return made


@pytest.mark.parametrize("copies", [1, 5, 64])
def test_it_is_the_mean_over_sources_and_texts_of_what_targets_add_up_to(
    tiny: LensModel, expected: list[list[Tensor]], copies: int
) -> None:
    sums = empty_jacobian(tiny)
    for ids in SHORT:
        add_jacobian(sums, tiny, ids, 4, copies)
    assert (sums.tokens, sums.chunks) == (4 + 2, 2)
    of_texts = [torch.stack([row.sum(0)[:, 4:].mean(1) for row in rows]) for rows in expected]
    error = jacobian_maps(sums) - torch.stack(of_texts).mean(0)
    assert float(error.abs().max()) < 1e-5


def test_no_target_stands_before_its_source(expected: list[list[Tensor]]) -> None:
    for whole in (row for rows in expected for row in rows):
        assert not any(bool(whole[target, :, target + 1 :].any()) for target in range(len(whole)))


def test_a_model_is_left_as_it_was(tiny: LensModel) -> None:
    def hooks() -> list[tuple[int, int]]:
        return [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in tiny.model.modules()]

    before = hooks()
    add_jacobian(empty_jacobian(tiny), tiny, TEXTS[1][:6], 4, 3)
    assert hooks() == before
    assert not any(p.grad is not None or p.requires_grad for p in tiny.model.parameters())


def test_a_body_without_a_gradient_is_refused(
    tiny: LensModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = tiny.model.model.layers[2]
    usual = block.forward
    monkeypatch.setattr(block, "forward", torch.no_grad()(usual))
    with pytest.raises(UsageError, match=r"^--kind jacobian: no gradient"):
        add_jacobian(empty_jacobian(tiny), tiny, TEXTS[1][:6], 4, 3)
