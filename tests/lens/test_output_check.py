"""The last row in every run: at which columns, by which measures, and the grid's own cells."""

import dataclasses

import numpy as np
import pytest
import torch

from logitlens_cli.errors import ProofError
from logitlens_cli.lens import capture, direct, output_check, rounding
from logitlens_cli.lens.capture import resid_post
from logitlens_cli.lens.lens_model import LensModel
from logitlens_cli.lens.targets import sample_positions


def logits(rows: int = 3, entries: int = 400) -> torch.Tensor:
    return 5 * torch.randn(rows, entries, generator=torch.Generator().manual_seed(1))


def test_equal_but_for_rounding() -> None:
    truth = logits()
    result = rounding.agreement(truth * (1 + 1e-6), truth)
    assert result.agrees
    assert result.same_top == 1
    assert result.kl < 1e-9
    assert not rounding.agreement(truth * 1.001, truth).agrees


@pytest.mark.parametrize("huge", [-1e9, 1e9, -6e4, -1e4])
@pytest.mark.parametrize("entries", [1, 40, 380])
def test_huge_entries_widen_nothing_but_what_is_allowed_for_themselves(
    huge: float, entries: int
) -> None:
    truth = logits()
    if huge > 0 and entries > 1:
        entries = 4
    truth[:, -entries:] = huge
    result = rounding.agreement(truth.clone(), truth)
    assert result.agrees
    assert (result.coarseness > output_check.COARSEST) == (huge > 0)
    wrong = truth.clone()
    wrong[1, 7] += 0.01
    assert not rounding.agreement(wrong, truth).agrees
    wrong = truth.clone()
    wrong[:, -1] = 0  # an entry that the model forbids is not forbidden
    assert not rounding.agreement(wrong, truth).agrees


def test_a_large_row_widens_nothing_for_another() -> None:
    truth = logits()
    truth[0] *= 1000
    wrong = truth.clone()
    wrong[1, 7] += 0.01
    assert not rounding.agreement(wrong, truth).agrees


def test_logits_that_float32_cannot_tell_apart_are_refused(tiny: LensModel) -> None:
    stream = stream_of(tiny)
    result = output_check.check_output(direct.Direct(tiny.parts), "direct", stream)
    output_check.require_agreement(result, tiny.parts)
    with pytest.raises(ProofError, match=r"float32 does not tell what differs by less than 1.2"):
        output_check.require_agreement(dataclasses.replace(result, coarseness=1.2), tiny.parts)


def test_a_common_offset_widens_little() -> None:
    truth = logits() + 1e6
    wrong = truth.clone()
    wrong[1, 7] += 1
    assert not rounding.agreement(wrong, truth).agrees


def test_forbidden_entries_of_minus_infinity_are_equal() -> None:
    truth = logits()
    truth[:, 3] = -torch.inf
    assert rounding.agreement(truth.clone(), truth).agrees
    assert not rounding.agreement(truth.nan_to_num(neginf=0), truth).agrees


def test_what_is_no_number_does_not_agree() -> None:
    truth = logits()
    wrong = truth.clone()
    wrong[0, 0] = torch.nan
    assert not rounding.agreement(wrong, truth).agrees


@pytest.mark.parametrize("scale", [1e-4, 0.1, 1.0])
def test_divergence_is_that_of_the_textbook(scale: float) -> None:
    truth = logits()
    decoded = truth + scale * logits(entries=400).flip(-1)
    log_p, log_q = truth.double().log_softmax(-1), decoded.double().log_softmax(-1)
    by_hand = (log_p.exp() * (log_p - log_q)).sum(-1)
    torch.testing.assert_close(
        rounding.kl_of_logits(truth, decoded), by_hand, rtol=1e-3, atol=1e-12
    )


def test_columns_hold_the_first_and_the_last() -> None:
    columns = sample_positions(range(10, 900), 16)
    assert (columns[0], columns[-1], len(columns)) == (10, 899, 16)
    assert sample_positions(range(10, 900), 1) == [899]


def stream_of(tiny: LensModel) -> capture.Stream:
    return capture.capture(
        tiny.model, tiny.parts, [capture.PromptSlice([5, 6, 7], range(3), [2])], (resid_post(3),)
    )


def test_the_heads_input_is_compared_at_every_position(tiny: LensModel) -> None:
    stream = stream_of(tiny)
    decoder = direct.Direct(tiny.parts)
    assert output_check.check_output(decoder, "direct", stream).passed
    assert stream.final is not None
    final = stream.final.clone()
    final[0] *= 1.01  # not the position of which there are logits
    other = dataclasses.replace(stream, final=final)
    assert not output_check.check_output(decoder, "direct", other).passed


def test_cells_that_are_not_the_models_output_are_refused(tiny: LensModel) -> None:
    from logitlens_cli.lens import grid
    from logitlens_cli.metrics.sums import Needs

    stream = stream_of(tiny)
    sums = grid.grid(direct.Direct(tiny.parts), stream, grid.GridSpec(stream.rows, 1, Needs(), {}))
    output_check.require_cells(sums, 0, stream, torch.float32)
    for changed in (
        dataclasses.replace(sums, lse=sums.lse + 0.01),
        dataclasses.replace(sums, top_logits=sums.top_logits - 0.01),
        dataclasses.replace(sums, final_ids=np.zeros_like(sums.final_ids)),
    ):
        with pytest.raises(ProofError, match="the grid's last row"):
            output_check.require_cells(changed, 0, stream, torch.float32)
