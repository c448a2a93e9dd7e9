"""The unembedding product against float64, and the same bits whatever the size of a product."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from logitlens_cli.lens import product as product_module
from logitlens_cli.lens.product import (
    in_parts,
    onednn,
    onednn_product,
    processor_vendor,
    product,
    torch_has_both,
)

SIZES = (1, 2, 15, 16, 17, 255, 256, 257, 600)


@pytest.fixture(params=["mkl", "onednn"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both libraries on any processor that torch has both for."""
    if request.param == "onednn" and not torch_has_both():
        pytest.skip("torch has no oneDNN here")
    chosen = onednn_product if request.param == "onednn" else None
    monkeypatch.setattr(product_module, "onednn", lambda: chosen)
    return str(request.param)


def vectors(width: int) -> tuple[Tensor, Tensor]:
    """Rows (600, width) and weights (700, width)."""
    draw = torch.Generator().manual_seed(width)
    return torch.randn(600, width, generator=draw) * 3, torch.randn(700, width, generator=draw)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("width", [1, 64, 192, 200, 576, 2048])
def test_is_as_exact_as_float32_can_be(width: int) -> None:
    rows, weight = vectors(width)
    truth = rows.double() @ weight.double().T
    error = (product(rows, weight).double() - truth).pow(2).mean().sqrt()
    plain = ((rows @ weight.T).double() - truth).pow(2).mean().sqrt()
    assert error <= 1.5 * plain + 1e-12


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("width", [64, 200, 576])
def test_a_pair_of_vectors_gives_the_same_bits_in_every_product(width: int) -> None:
    rows, weight = vectors(width)
    whole = product(rows, weight)
    for m in SIZES:
        for n in (*SIZES, 700):
            assert torch.equal(product(rows[:m], weight[:n]), whole[:m, :n]), (m, n)
    order = torch.randperm(600, generator=torch.Generator().manual_seed(0))
    assert torch.equal(product(rows[order], weight[order]), whole[order][:, order])


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("width", [64, 192, 200, 576])
def test_a_weight_in_parts_gives_the_same_bits(width: int) -> None:
    rows, weight = vectors(width)
    parts = in_parts(weight)
    assert parts.shape == weight.shape
    for m in SIZES:
        assert torch.equal(product(rows[:m], parts), product(rows[:m], weight)), m
    out = torch.full((600, 700), torch.nan)
    assert torch.equal(product(rows, parts, out), out)
    few = in_parts(weight[:15])
    assert torch.equal(product(rows, few), product(rows, weight)[:, :15])


@pytest.mark.usefixtures("library")
def test_writes_into_given_memory_where_it_can() -> None:
    rows, weight = vectors(576)
    out = torch.full((600, 700), torch.nan)
    assert product(rows, weight, out).data_ptr() == out.data_ptr()
    assert torch.equal(out, product(rows, weight))


@pytest.mark.parametrize(
    ("vendor", "expected"), [("AuthenticAMD", onednn_product), ("GenuineIntel", None), ("", None)]
)
def test_the_library_is_chosen_by_the_processor(
    vendor: str, expected: Callable[..., Tensor] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not torch_has_both():
        expected = None
    monkeypatch.setattr(product_module, "processor_vendor", lambda: vendor)
    onednn.cache_clear()
    try:
        assert onednn() is expected
    finally:
        onednn.cache_clear()


def test_a_processor_names_its_maker() -> None:
    assert "\n" not in processor_vendor()
