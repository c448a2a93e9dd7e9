"""What ``logitlens fit`` writes, goes on with, merges and refuses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Ran, Shell, tiny_llama
from reference import Grid, llama_grid, rms_norm
from safetensors.torch import load_file

from logitlens_cli.batch import fitting
from logitlens_cli.lens.fitting import linear

LINES = [f"the cat number {n} and so on{' and on' * (n % 5)}" for n in range(60)]


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "set.txt"
    path.write_text("\n".join(LINES))
    return path


@pytest.fixture
def fit(logitlens: Shell, tiny_folder: Path, tmp_path: Path) -> Shell:
    """On the tiny model, into ``lens.safetensors``."""

    def run(*arguments: object, out: str = "lens") -> Ran:
        given = ["-m", tiny_folder, "-o", tmp_path / f"{out}.safetensors", "--format", "svg"]
        return logitlens("fit", *given, *arguments)

    return run


def same_maps(a: Path, b: Path) -> None:
    first, second = load_file(a), load_file(b)
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        torch.testing.assert_close(tensor, second[name], rtol=1e-6, atol=1e-6)


def test_a_lens_its_report_and_its_figure(fit: Shell, lines: Path, tmp_path: Path) -> None:
    ran = fit("--lines", lines)
    names = ["lens.safetensors", "lens.fit.json", "lens.fit.svg"]
    assert (ran.code, ran.out) == (0, [str(tmp_path / name) for name in names])
    assert {path.name for path in tmp_path.glob("lens*")} == set(names)
    report = json.loads((tmp_path / "lens.fit.json").read_bytes())
    counts = report["schema"], report["chunks"], report["held_out_chunks"]
    assert counts == ("logitlens-fit/1", 57, 3)
    table = [line.split() for line in ran.err if line.split()[:1] in (["input"], ["2"])]
    plain, fitted = report["plain"], report["fitted"]
    assert table == [
        [label, *(f"{one['kl_median'][n]:.3g}" for one in (plain, fitted)),
         *(f"{one['agrees'][n]:.0%}" for one in (plain, fitted))]
        for label, n in (("2", 3), ("input", 0))
    ]  # fmt: skip
    again = fit("--lines", lines)
    assert (again.out, again.err[-1]) == ([], f"logitlens: {ran.out[0]} is up to date; skipped")
    tensors = load_file(tmp_path / "lens.safetensors")
    assert {name: (t.dtype, tuple(t.shape)) for name, t in tensors.items()} == {
        f"{row}.{kind}": (torch.float32, shape)
        for row in ("input", "0", "1", "2")
        for kind, shape in (("weight", (32, 32)), ("bias", (32,)))
    }


def test_it_is_measured_on_what_it_was_not_fitted_to(
    fit: Shell, lines: Path, tmp_path: Path, tokenizer: Any
) -> None:
    """With a file of its own, so that what is measured is known here."""
    others = tmp_path / "others.txt"
    texts = ["a text that is not among them", "and another one, that is longer than the first"]
    others.write_text("\n".join(texts))
    assert fit("--lines", lines, "--holdout", others, "-q").code == 0
    report = json.loads((tmp_path / "lens.fit.json").read_bytes())
    assert (report["chunks"], report["held_out_chunks"], report["holdout"]) == (60, 2, "others")
    tensors = load_file(tmp_path / "lens.safetensors")
    model = tiny_llama()
    norm, head = model.model.norm, model.lm_head.weight.double()
    plain: list[torch.Tensor] = []
    fitted: list[torch.Tensor] = []
    for text in texts:
        ids = torch.tensor(tokenizer(text)["input_ids"])
        grid = llama_grid(model, ids)
        last: list[torch.Tensor] = []
        hook = model.model.layers[-1].register_forward_hook(lambda *given: last.append(given[2]))  # noqa: B023
        with torch.no_grad():
            states = model(ids[None], output_hidden_states=True).hidden_states[:-1]
        hook.remove()
        rows = [
            state[0].double() @ tensors[f"{row}.weight"].double().T + tensors[f"{row}.bias"]
            for row, state in zip(("input", "0", "1", "2"), states, strict=True)
        ]
        mapped = torch.stack([*rows, last[0][0].double()])
        logits = rms_norm(mapped, norm.weight, norm.variance_epsilon) @ head.T
        for kept, one in ((plain, grid), (fitted, Grid(logits, grid.final, logits[0]))):
            kept.append(one.kl(grid.final)[:, 4:])
    for name, kl in (("plain", plain), ("fitted", fitted)):
        expected = np.median(torch.cat(kl, 1), 1)
        np.testing.assert_allclose(report[name]["kl_median"], expected, rtol=1e-3, atol=1e-5)


def test_parts_merge_to_the_whole(fit: Shell, lines: Path, tmp_path: Path) -> None:
    assert fit("--lines", lines, "-q").code == 0
    parts = []
    for n in (1, 2, 3):
        ran = fit("--lines", lines, "--shard", f"{n}/3", "-q", out="part")
        parts += [Path(line) for line in ran.out]
    assert [path.name for path in parts] == [f"part.{n}-of-3.sums" for n in (1, 2, 3)]
    again = fit("--lines", lines, "--shard", "2/3", out="part")
    assert (again.out, again.err[-1]) == ([], f"logitlens: {parts[1]} is up to date; skipped")
    assert fit("--merge", *parts[::-1], "-q", out="merged").code == 0
    same_maps(tmp_path / "merged.safetensors", tmp_path / "lens.safetensors")
    a, b = (json.loads((tmp_path / f"{n}.fit.json").read_bytes()) for n in ("lens", "merged"))
    for name in ("plain", "fitted"):
        np.testing.assert_allclose(a.pop(name)["kl_mean"], b.pop(name)["kl_mean"], 1e-3, 1e-5)
    assert a == b

    ran = fit("--merge", parts[0], parts[2], out="two")
    assert "logitlens: parts 2/3 of the texts are not in this lens" in ran.err
    said = fit("--merge", parts[0], parts[0], "-q", out="two").refusal(2)
    assert said == f"{parts[0]} and {parts[0]} are both part 1 of 3; name each part once"
    assert fit("--lines", lines, "--shard", "1/3", "--skip-first", "5", "-q", out="x").code == 0
    said = fit("--merge", parts[1], tmp_path / "x.1-of-3.sums", "-q").refusal(2)
    assert said == (
        f"{parts[1]} and {tmp_path}/x.1-of-3.sums are not parts of one fit; merge parts of the "
        "same texts, model and options"
    )
    said = fit("--merge", lines, "-q").refusal(2)
    assert said.startswith(f"{lines} does not hold the sums of a fit (")


def test_a_stopped_fit_goes_on(
    fit: Shell, lines: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fit("--lines", lines, "--batch-tokens", "64", "-q", out="whole").code == 0
    usual, times = linear.add_linear, iter(range(100))

    def stopped(*given: Any) -> None:
        if next(times) == 5:
            raise KeyboardInterrupt
        usual(*given)

    monkeypatch.setattr(fitting, "add_linear", stopped)
    ran = fit("--lines", lines, "--batch-tokens", "64", "-q")
    assert (ran.code, ran.out, (tmp_path / "lens.part").exists()) == (130, [], True)
    ran = fit("--lines", lines, "--batch-tokens", "64")
    assert any("of 57 chunks are done already" in line for line in ran.err)
    assert not (tmp_path / "lens.part").exists()
    whole, own = (tmp_path / f"{n}.safetensors" for n in ("whole", "lens"))
    assert whole.read_bytes() == own.read_bytes()


def test_a_jacobian(fit: Shell, lines: Path, tmp_path: Path) -> None:
    assert fit("--lines", lines, "--kind", "jacobian", "--tokens", "300", "-q").code == 0
    assert load_file(tmp_path / "lens.safetensors").keys() == {
        f"{row}.weight" for row in ("input", "0", "1", "2")
    }
    report = json.loads((tmp_path / "lens.fit.json").read_bytes())
    assert (report["kind"], report["ridge"]) == ("jacobian", None)


def test_only_what_is_asked_for(fit: Shell, lines: Path, tmp_path: Path) -> None:
    ran = fit("--lines", lines, "--dry-run")
    assert [Path(line).name for line in ran.out] == [
        "lens.safetensors", "lens.fit.json", "lens.fit.svg"
    ]  # fmt: skip
    assert not list(tmp_path.glob("lens*"))
    ran = fit("--lines", lines, "-q", "--format", "none")
    assert [Path(line).name for line in ran.out] == ["lens.safetensors", "lens.fit.json"]


def test_what_cannot_be_fitted(fit: Shell, lines: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.txt"
    short.write_text("the cat and so on")
    said = fit("--lines", short, "-q").refusal(2)
    assert said == (
        "the texts make 1 chunk of up to 256 tokens, of which one has to be held out; give more "
        "text, or other text with --holdout"
    )
    said = fit("--lines", lines, "--holdout", lines, "-q").refusal(2)
    assert said == (
        "all chunks of --lines are held out by --holdout; give other text to one of them"
    )
    short.write_text("the cat and so on\nthe cat and more")
    said = fit("--lines", short, "--ridge", "0", "-q").refusal(2)
    assert "positions do not determine a map of width 32 with --ridge 0" in said
    (tmp_path / "lens.fit.json").mkdir()
    said = fit("--lines", lines, "-q").refusal(1)
    assert said.startswith(f"{tmp_path}/lens.fit.json cannot be written: it is a folder")


@pytest.mark.slow
def test_divergence_falls_at_every_inner_row_of_the_default_model(
    logitlens: Shell, tmp_path: Path
) -> None:
    from pydoc_data.topics import topics

    corpus = tmp_path / "topics.jsonl"
    corpus.write_text("".join(json.dumps({"text": topics[name]}) + "\n" for name in sorted(topics)))
    out = tmp_path / "lens.safetensors"
    ran = logitlens("fit", "--lines", corpus, "--tokens", "2000", "-o", out, "--format", "none")
    assert ran.code == 0
    report = json.loads((tmp_path / "lens.fit.json").read_bytes())
    plain, fitted = (np.array(report[name]["kl_median"])[:-1] for name in ("plain", "fitted"))
    assert len(plain) == 30
    assert (fitted < plain).all()
