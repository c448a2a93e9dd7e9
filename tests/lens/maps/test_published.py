"""Lenses of other programs, against those programs' own way from the stream to the tail."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import families
import pytest
import torch
from adversary import Truth
from adversary_readings import KL_ERROR, METRICS, NEAR, require_numbers
from family_readings import CONTEXT, reference_of, text_of, word_tokenizer
from lens_files import jacobian_file, through_jacobian, through_tuned, tuned_folder

from logitlens_cli.errors import LogitLensError, UsageError, WorkError
from logitlens_cli.lens.lens_model import LensModel, lens_model_of
from logitlens_cli.lens.maps.find_maps import LensSource, read_lens, with_lens
from logitlens_cli.lens.maps.lens_maps import LensMaps
from logitlens_cli.lens.maps.published import read_jacobian, read_tuned
from logitlens_cli.lens.read import read_text
from logitlens_cli.lens.spec import ReadSpec

FAMILIES = ["gpt2", "llama", "gemma2", "cohere", "roberta"]


def require_right(key: str, make: Callable[[LensModel, list[torch.Tensor]], Any]) -> None:
    """Read a family through a lens; ``make`` (model, rows of the stream) writes the lens, and gives
    it with what the tail gets of every row."""
    model = families.build(key)
    reference = reference_of(model)
    lens_model = lens_model_of(model, word_tokenizer(), name=key, context=CONTEXT)
    ids = families.inputs("", 12)
    rows = [row.double() for row in families.reference_stream(model, ids)]
    path, mapped = make(lens_model, rows)
    dtype = next(reference.twin.parameters()).dtype
    logits = [families.decode(reference.twin, ids, row.to(dtype))[0].double() for row in mapped]
    labels = ["input", *(str(n) for n in range(len(rows) - 1))]
    spec = ReadSpec(metrics=METRICS, k=3)
    notes: list[str] = []
    lens_model, spec = with_lens(lens_model, spec, LensSource(path, "mine"), notes.append)
    reading = read_text(lens_model, spec, text_of(ids), "x")
    shown = [n for n, label in enumerate(labels) if label in {x.label for x in reading.layers}]
    truth = Truth([labels[n] for n in shown], torch.stack([logits[n] for n in shown]), logits[-1])
    require_numbers(reading, truth, KL_ERROR[torch.float32], NEAR[torch.float32])


@pytest.mark.parametrize("key", FAMILIES)
def test_a_tuned_lens_reads_what_enters_each_block(key: str, tmp_path: Path) -> None:
    def make(lens_model: LensModel, rows: list[torch.Tensor]) -> Any:
        folder = tuned_folder(tmp_path, lens_model.record.width, lens_model.record.blocks)
        batched = [row[0] for row in rows[:-1]]  # row i enters block i
        mapped = through_tuned(folder, batched)
        return folder, [*(h[None] for h in mapped), rows[-1]]

    require_right(key, make)


@pytest.mark.parametrize("key", FAMILIES)
def test_a_jacobian_lens_reads_what_leaves_each_block(key: str, tmp_path: Path) -> None:
    def make(lens_model: LensModel, rows: list[torch.Tensor]) -> Any:
        blocks = lens_model.record.blocks
        layers = list(range(-1, blocks - 1))  # with the input row, so that all rows are compared
        path = jacobian_file(tmp_path / "lens.pt", lens_model.record.width, layers)
        mapped = through_jacobian(path, {n - 1: row[0] for n, row in enumerate(rows)})
        return path, [mapped[n][None] for n in range(-1, blocks)]

    require_right(key, make)


def test_a_checkpoint_of_a_fit_is_its_mean(tmp_path: Path) -> None:
    whole = read_jacobian(jacobian_file(tmp_path / "a.pt", 8, [0, 1]), "a", None)
    sums = {n: 4 * weight for n, weight in whole.weights.items()}
    path = jacobian_file(tmp_path / "b.pt", 8, [0], J=None, jacobian_sum=sums, n_done=4)
    checkpoint = read_jacobian(path, "b", None)
    for n, weight in whole.weights.items():
        torch.testing.assert_close(checkpoint.weights[n], weight)


def test_records_say_what_is_known(tmp_path: Path) -> None:
    tuned = read_tuned(tuned_folder(tmp_path / "t", 8, 3), "t", "abc").record
    assert (tuned.kind, tuned.model, tuned.source_revision) == (
        "tuned",
        "somebody/tiny-llama",
        "abc",
    )
    about = {"model": "somebody/big", "corpus": "web"}
    jacobian = read_jacobian(jacobian_file(tmp_path / "j.pt", 8, [0], metadata=about), "j", None)
    assert (jacobian.record.kind, jacobian.record.prompts) == ("jacobian", 100)
    assert (jacobian.record.model, jacobian.record.corpus) == ("somebody/big", "web")


def refusal(make: Callable[[], LensMaps]) -> str:
    with pytest.raises(LogitLensError) as refused:
        make()
    assert isinstance(refused.value, UsageError | WorkError)
    return str(refused.value)


class Evil:
    def __reduce__(self) -> Any:
        return (Path.write_text, (Path("evil"), "ran"))


def test_pickles_run_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "lens.pt"
    torch.save({"J": {0: Evil()}}, path)
    refusal(lambda: read_lens(LensSource(path, "lens")))
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"J": {}}, "no J by layer"),
        ({"J": [1, 2]}, "no J by layer"),
        ({"J": {"0": torch.eye(4)}}, "no layer's matrix"),
        ({"J": {0: torch.eye(4, dtype=torch.int32)}}, "no layer's matrix"),
        ({"J": {0: torch.zeros(1).expand(10**6, 10**6)}}, "no layer's matrix"),
        ({"J": {-5: torch.eye(4)}}, "no layer's matrix"),
        ({"jacobian_sum": {0: torch.eye(4)}, "n_done": 0}, "n_done"),
        ({"something": 1}, "no J by layer"),
    ],
)
def test_odd_jacobian_files_are_refused(entries: Any, said: str, tmp_path: Path) -> None:
    path = tmp_path / "lens.pt"
    torch.save(entries, path)
    assert said in refusal(lambda: read_lens(LensSource(path, "lens")))


@pytest.mark.parametrize(
    "data", [b"", b"PK\x03\x04", b"\x80\x04N.", b"x" * 5000, b'\x10\0\0\0\0\0\0\0{"a":1}']
)
def test_files_that_are_no_lens_are_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "lens.pt"
    path.write_bytes(data)
    assert "cannot read the lens" in refusal(lambda: read_lens(LensSource(path, "lens")))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("[]", "no JSON object"),
        ("{", "cannot read the lens"),
        ('{"lens_type": "deep"}', "its lens_type is 'deep'"),
        ("[" * 100_000, "cannot read the lens"),
        (" " * (2**20 + 1), "larger than a configuration"),
    ],
)
def test_odd_configurations_are_refused(words: str, said: str, tmp_path: Path) -> None:
    folder = tuned_folder(tmp_path, 8, 2)
    (folder / "config.json").write_text(words)
    assert said in refusal(lambda: read_lens(LensSource(folder, "lens")))
