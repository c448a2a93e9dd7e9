"""Held-out texts, plain and mapped, against float64 with everything materialised."""

import numpy as np
import pytest
import torch
from fitted import TEXTS, rows_of_texts
from reference import Grid, llama_grid, rms_norm

from logitlens_cli.lens.fitting.held_out import held_out_pass
from logitlens_cli.lens.lens_model import LensModel
from logitlens_cli.lens.maps.lens_maps import LensMaps
from logitlens_cli.reading.record import MapsRecord


@pytest.mark.parametrize("with_bias", [True, False])
def test_plain_and_mapped(tiny: LensModel, with_bias: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    weights = torch.eye(32) + 0.3 * torch.randn(4, 32, 32, generator=generator)
    biases = torch.randn(4, 32, generator=generator)
    record = MapsRecord(name="mine", kind="linear", sha256="")
    of_rows = dict(enumerate(weights, -1)), dict(enumerate(biases, -1)) if with_bias else {}
    plain, fitted = held_out_pass(tiny, LensMaps(record, *of_rows).on("cpu"), TEXTS[:3], 4)
    norm, head = tiny.model.model.norm, tiny.model.lm_head.weight.double()
    start = 0
    for ids in TEXTS[:3]:
        grid = llama_grid(tiny.model, torch.tensor(ids))
        resid = torch.tensor(rows_of_texts(tiny.model, [ids], 0))
        mapped = [
            h @ w.double().T + with_bias * b.double()
            for h, w, b in zip(resid[:-1], weights, biases, strict=True)
        ]
        rows = torch.stack([*mapped, resid[-1]])
        logits = rms_norm(rows, norm.weight, norm.variance_epsilon) @ head.T
        own = Grid(logits, grid.final, logits[0])
        at = slice(start, start + len(ids) - 4)
        start = at.stop
        for one, expected in ((plain, grid), (fitted, own)):
            kl = expected.kl(expected.final)[:, 4:]
            np.testing.assert_allclose(one.kl[:, at], kl, rtol=1e-3, atol=1e-4)
            agrees = expected.logits.argmax(-1) == expected.final.argmax(-1)
            assert one.agrees[:, at].tolist() == agrees[:, 4:].double().tolist()
    assert plain.kl.shape == (5, start)
    assert plain.agrees[-1].all()
    assert fitted.agrees[-1].all()
