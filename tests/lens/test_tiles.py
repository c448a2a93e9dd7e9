"""Sums over tiles against a dumb float64 computation of the same logits, both ways."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from logitlens_cli.lens import tile as tile_module
from logitlens_cli.lens.tile import LEAST_LOGIT, leading_ids, numba_kernel
from logitlens_cli.lens.tiles import TargetTokens, TileAccumulator, Tiling
from logitlens_cli.metrics.sums import Needs, Sums

pytestmark = pytest.mark.usefixtures("sums_by")

LAYERS, POSITIONS, K = 3, 5, 4
TILES = [slice(0, 64), slice(64, 128), slice(128, 150)]
EVERYTHING = Needs(
    targets=frozenset({"a", "b"}),
    references=frozenset({"final", "input"}),
    mean=True,
    reverse=True,
    js=True,
    best=K,
)


@pytest.fixture
def logits() -> Tensor:
    """(layer, position, entry)"""
    return torch.randn(LAYERS, POSITIONS, 150, generator=torch.Generator().manual_seed(1)) * 20


IDS = {"a": [3, 70, 149, -1, 127], "b": [0, 0, 64, 63, 128]}


def reduce(logits: Tensor, forbids: bool = False, workers: int = 1) -> Sums:
    """All layers of ``logits``; the last is the reference "final", the first "input"."""
    both = logits[[-1, 0]]
    targets = {
        name: TargetTokens(
            torch.tensor(ids), logits[:, range(POSITIONS), torch.tensor(ids).clamp(min=0)]
        )
        for name, ids in IDS.items()
    }
    references = [both[..., tile].clone() for tile in TILES]
    accumulator = TileAccumulator(
        (LAYERS, POSITIONS), Tiling(TILES, forbids, workers), K, EVERYTHING, references, targets
    )

    def add_all(add: Any) -> None:
        for n, tile in enumerate(TILES):
            for layers in (slice(0, 2), slice(2, 3)):
                z = logits[layers, :, tile].clone()
                add(z, torch.empty_like(z), layers, n, n * workers // len(TILES))

    add_all(accumulator.add)
    accumulator.start_second_pass()
    add_all(accumulator.add_js)
    return accumulator.result(leading_ids([both[0, :, tile] for tile in TILES], K))


def dumb(logits: Tensor) -> dict[str, Any]:
    z = logits.double().numpy()
    lse = np.log(np.exp(z - z.max(-1, keepdims=True)).sum(-1)) + z.max(-1)
    log_p = z - lse[..., None]
    made: dict[str, Any] = {"lse": lse, "mean": (np.exp(log_p) * z).sum(-1)}
    for name, layer in (("final", -1), ("input", 0)):
        q = np.exp(log_p[layer])
        with np.errstate(invalid="ignore"):
            made[name] = (
                np.nansum(q * log_p[layer], -1),
                np.nansum(q * z, -1),
                np.nansum(np.exp(log_p) * log_p[layer], -1),
            )
    p, q = np.exp(log_p), np.exp(log_p[-1])
    with np.errstate(invalid="ignore", divide="ignore"):
        made["js"] = sum(np.nansum(x * np.log(2 * x / (p + q)), -1) for x in (p, q))
    return made


def assert_same(sums: Sums, logits: Tensor) -> None:
    truth = dumb(logits)
    np.testing.assert_allclose(sums.lse, truth["lse"], atol=2e-5)
    assert sums.mean is not None
    np.testing.assert_allclose(sums.mean, truth["mean"], atol=2e-5)
    for name, reference in sums.references.items():
        assert reference.reverse is not None
        for mine, theirs in zip(
            (reference.negentropy, reference.cross, reference.reverse), truth[name], strict=True
        ):
            np.testing.assert_allclose(mine, theirs, atol=5e-5)
    js = sums.references["final"].js
    assert js is not None
    np.testing.assert_allclose(js, truth["js"], atol=1e-5)
    order = logits.sort(dim=-1, descending=True, stable=True)
    np.testing.assert_array_equal(sums.top_ids, order.indices[..., :K])
    np.testing.assert_array_equal(sums.top_logits, order.values[..., :K].double())
    np.testing.assert_array_equal(sums.output_ids, order.indices[[-1], ..., :K])
    for name, ids in IDS.items():
        target = sums.targets[name]
        for position, token_id in enumerate(ids):
            if token_id < 0:
                assert np.isnan(target.logit[:, position]).all()
                assert (target.above[:, position] == -1).all()
                continue
            own = logits[:, position, token_id].unsqueeze(-1)
            np.testing.assert_array_equal(target.logit[:, position], own[:, 0].double())
            higher, level = logits[:, position] > own, logits[:, position] == own
            np.testing.assert_array_equal(target.above[:, position], higher.sum(-1))
            np.testing.assert_array_equal(target.ties[:, position], level.sum(-1) - 1)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_random_logits(logits: Tensor, workers: int) -> None:
    assert_same(reduce(logits, workers=workers), logits)


@pytest.mark.parametrize("workers", [1, 3])
def test_equal_logits(logits: Tensor, workers: int) -> None:
    """Rounded to whole numbers, most logits occur more than once, also in several tiles."""
    few = (logits / 20).round()
    sums = reduce(few, workers=workers)
    order = few.sort(dim=-1, descending=True, stable=True)
    np.testing.assert_array_equal(sums.top_ids, order.indices[..., :K])
    own = few[:, 0, 3].unsqueeze(-1)
    level = (few[:, 0] == own).sum(-1) - 1
    assert (level > 0).all()
    np.testing.assert_array_equal(sums.targets["a"].ties[:, 0], level)


@pytest.mark.parametrize("least", [-torch.inf, torch.finfo(torch.float32).min])
def test_forbidden_entries(logits: Tensor, least: float) -> None:
    """Some here and there, and a tile of nothing else."""
    logits[..., 5::7] = least
    logits[..., 64:128] = least
    logits[:, 1, 70] = 1.0  # a target
    clamped = logits.clamp(min=LEAST_LOGIT)
    assert_same(reduce(clamped, forbids=True), clamped)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_a_number_is_seen(logits: Tensor, bad: float) -> None:
    logits[1, 2, 77] = bad
    lse = reduce(logits).lse
    assert not np.isfinite(lse[1, 2])
    assert np.isfinite(np.delete(lse.ravel(), 1 * POSITIONS + 2)).all()


def test_a_divergence_from_itself_is_zero(logits: Tensor) -> None:
    sums = reduce(logits)
    final = sums.references["final"]
    np.testing.assert_allclose(final.negentropy - final.cross[-1] + sums.lse[-1], 0, atol=1e-5)


def test_distributions_apart_and_nearly_the_same(logits: Tensor) -> None:
    """At most 2 ln 2; and what is next to nothing is not lost in rounding."""
    noise = logits[1] / 1000
    logits[0, :, :75], logits[-1, :, 75:] = -1000.0, -1000.0  # no token in common
    logits[1] = logits[-1] + noise
    js = reduce(logits).references["final"].js
    assert js is not None
    np.testing.assert_allclose(js[0], 2 * np.log(2), atol=1e-5)
    np.testing.assert_allclose(js[-1], 0, atol=2e-7)
    np.testing.assert_allclose(js[1], dumb(logits)["js"][1], atol=2e-7)


@pytest.mark.parametrize("k", [1, 2, 7])
def test_the_leading_of_equals(logits: Tensor, k: int) -> None:
    few = (logits[0] / 20).round()
    expected = few.sort(dim=-1, descending=True, stable=True).indices[:, :k]
    np.testing.assert_array_equal(leading_ids([few[:, tile] for tile in TILES], k), expected)


@pytest.mark.parametrize("k", [1, 3, 20])
@pytest.mark.parametrize("width", [7, 150, 320])
@pytest.mark.parametrize("rows", [1, 20])
def test_the_leading_of_tiles_of_any_width(rows: int, width: int, k: int) -> None:
    """Narrower than a bunch, not a whole number of bunches, and ones with fewer bunches than k."""
    values = torch.randn(rows, 3 * width).mul(2).round()
    expected = values.sort(dim=-1, descending=True, stable=True).indices[:, :k]
    found = leading_ids(
        [values[:, :width], values[:, width : 2 * width], values[:, 2 * width :]], k
    )
    np.testing.assert_array_equal(found, expected)


def test_the_kernel_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    numba_kernel.cache_clear()
    monkeypatch.setattr(tile_module, "find_spec", lambda name: None)
    assert numba_kernel() is None
    numba_kernel.cache_clear()


def test_a_numba_that_does_not_load_is_done_without(tmp_path: Path) -> None:
    """In a process of its own, where an installed numba is broken: said once."""
    broken = tmp_path / "numba"
    broken.mkdir()
    (broken / "__init__.py").write_text("raise ImportError('numpy is too new')")
    program = (
        "import warnings; from logitlens_cli.lens.tile import numba_kernel\n"
        "with warnings.catch_warnings(record=True) as said:\n"
        "    warnings.simplefilter('always')\n"
        "    assert numba_kernel() is None and numba_kernel() is None\n"
        "print(*(str(one.message) for one in said), sep='\\n')"
    )
    paths = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": paths},
    )  # fmt: skip
    assert ran.stdout == (
        "numba is installed and does not load (ImportError: numpy is too new); "
        "torch computes instead\n"
    )
