"""Rows without a map: refused where they were asked for, else left out with a note."""

import pytest
import torch

from logitlens_cli.errors import UsageError
from logitlens_cli.lens.maps.lens_maps import LensMaps
from logitlens_cli.lens.maps.mapped_rows import rows_with_maps
from logitlens_cli.lens.spec import ReadSpec
from logitlens_cli.metrics.table import METRICS
from logitlens_cli.reading.record import MapsRecord

RECORD = MapsRecord(name="mine", kind="jacobian", sha256="0" * 64)
BLOCKS = 6


def maps_of(*rows: int) -> LensMaps:
    return LensMaps(RECORD, {row: torch.eye(2) for row in rows}, {})


def asked(**options: object) -> ReadSpec:
    metric = METRICS["kl-input"].spec()
    return ReadSpec(metrics={"kl-input": metric}, lock_in=True, **options)  # type: ignore[arg-type]


def test_nothing_changes_where_every_row_has_a_map() -> None:
    notes: list[str] = []
    spec = asked(every=2)
    assert rows_with_maps(maps_of(-1, 0, 1, 2, 3, 4), spec, BLOCKS, notes.append) == spec
    assert notes == []


def test_rows_without_a_map_are_left_out_and_told() -> None:
    notes: list[str] = []
    spec = rows_with_maps(maps_of(-1, 0, 2, 4), asked(), BLOCKS, notes.append)
    assert spec.blocks(BLOCKS) == (0, 2, 4, 5)  # the last row needs none
    assert not spec.lock_in
    assert notes == ["the lens mine has no map of these layers, which are left out: 1, 3"]


def test_every_second_row_may_all_have_maps() -> None:
    notes: list[str] = []
    spec = rows_with_maps(maps_of(-1, 0, 2, 4), asked(every=2), BLOCKS, notes.append)
    assert spec.blocks(BLOCKS) == (0, 2, 4, 5)
    assert notes == []
    assert not spec.lock_in  # of all blocks


def test_an_input_row_without_a_map_is_left_out() -> None:
    notes: list[str] = []
    spec = rows_with_maps(maps_of(0, 1, 2, 3, 4), asked(), BLOCKS, notes.append)
    assert spec.input_row is False
    assert notes == [
        "the lens mine has no map of the input row, which is left out; what is compared with it is "
        "compared with its plain decoding"
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"subblocks": True}, "--subblocks"),
        ({"decoder_blocks": 1}, "--decoder-blocks"),
        ({"layers": "1,5"}, "no map of layer 1"),
        ({"input_row": True}, "--input-row"),
    ],
)
def test_rows_that_were_asked_for_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        rows_with_maps(maps_of(0, 2, 3, 4), asked(**options), BLOCKS, lambda words: None)
    assert said in str(refused.value)
