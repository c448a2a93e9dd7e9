"""Maps of another model are refused by name, and what may be wrong is told."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import torch
from lens_files import jacobian_file, tuned_folder

from logitlens_cli.errors import LogitLensError, UsageError
from logitlens_cli.lens.lens_model import LensModel
from logitlens_cli.lens.maps.find_maps import LensSource, with_lens
from logitlens_cli.lens.maps.fit_of_maps import unembedding_hash
from logitlens_cli.lens.spec import ReadSpec


def test_maps_that_do_not_fit_the_model_are_refused(tiny: LensModel, tmp_path: Path) -> None:
    width, blocks = tiny.record.width, tiny.record.blocks
    spec = ReadSpec(metrics={})

    def said(path: Path) -> str:
        with pytest.raises(LogitLensError) as refused:
            with_lens(tiny, spec, LensSource(path, "mine"), lambda words: None)
        return str(refused.value)

    wide = tuned_folder(tmp_path / "wide", width + 1, blocks)
    assert f"the model's width is {width}" in said(wide)
    deep = tuned_folder(tmp_path / "deep", width, blocks + 2)
    assert f"{tiny.record.name} has {blocks}" in said(deep)
    shallow = tuned_folder(tmp_path / "shallow", width, blocks - 1)
    assert f"with {blocks - 1} blocks" in said(shallow)
    other = tuned_folder(tmp_path / "other", width, blocks, unembed_hash="0" * 64)
    assert "another unembedding" in said(other)
    aimed = jacobian_file(tmp_path / "aimed.pt", width, [0], metadata={"target_layer": 1})
    assert "aims at the output of block 1" in said(aimed)
    broken = jacobian_file(
        tmp_path / "broken.pt", width, [0], J={0: torch.full((width, width), torch.nan)}
    )
    assert "the map of layer 0 holds numbers that are none" in said(broken)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_an_unembedding_is_known_in_whatever_dtype_it_was_open(
    tiny: LensModel, dtype: torch.dtype, tmp_path: Path
) -> None:
    weight = tiny.parts.weight
    spec = ReadSpec(metrics={})
    notes: list[str] = []

    def folder(name: str, head: torch.Tensor) -> LensSource:
        digest = unembedding_hash(head, torch.float32, dtype).removeprefix("float32-sha256:")
        words = {"unembed_hash": digest, "base_model_name_or_path": tiny.record.name}
        made = tuned_folder(tmp_path / name, tiny.record.width, tiny.record.blocks, **words)
        return LensSource(made, name)

    mapped, _ = with_lens(tiny, spec, folder("mine", weight), notes.append)
    assert mapped.maps is not None
    assert notes == []
    with pytest.raises(UsageError, match="another unembedding"):
        with_lens(tiny, spec, folder("other", weight + 0.1), notes.append)


def test_another_model_or_revision_is_told(tiny: LensModel, tmp_path: Path) -> None:
    folder = tuned_folder(tmp_path, tiny.record.width, tiny.record.blocks)
    notes: list[str] = []
    other = replace(tiny, record=msgspec.structs.replace(tiny.record, name="elsewhere"))
    with_lens(other, ReadSpec(metrics={}), LensSource(folder, "mine"), notes.append)
    assert notes == ["the lens mine was fitted to somebody/tiny-llama, not to elsewhere"]
