"""A metric is one entry: a few lines give it a command, a dump, a figure, a trace, statistics."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Shell, tiny_llama

from logitlens_cli.metrics.spec import Metric, MetricSpec
from logitlens_cli.metrics.sums import Floats, Needs, Sums
from logitlens_cli.metrics.table import METRICS

TEXT = "the cat and the cat"


def margin(sums: Sums, spec: MetricSpec) -> Floats:
    """The largest logit minus the second."""
    return sums.top_logits[..., 0] - sums.top_logits[..., 1]


@pytest.fixture(autouse=True)
def _margin(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = Metric(
        name="margin",
        about="Logit of the best guess minus that of the second.",
        unit="logit",
        quantity=lambda spec: "margin of the best guess over the second",
        formula=margin,
        needs=lambda spec: Needs(best=2),
        format_value=lambda value: f"{value:.3f}",
        input_row=True,
        summarized=True,
    )
    monkeypatch.setitem(METRICS, entry.name, entry)


def margins_by_hand(tokenizer: Any) -> Any:
    """(position,) of the model's own output."""
    with torch.no_grad():
        logits = tiny_llama()(torch.tensor([tokenizer(TEXT)["input_ids"]])).logits[0]
    best = logits.double().topk(2).values
    return (best[:, 0] - best[:, 1]).numpy()


def test_it_has_a_command_with_help(logitlens: Shell) -> None:
    assert any(line.split()[:2] == ["margin", "Logit"] for line in logitlens("--help").out)
    lines = logitlens("margin", "--help").out
    assert "  Logit of the best guess minus that of the second." in lines
    assert not any("--target" in line for line in lines)  # it has no parameter


def test_it_has_a_dump_and_a_figure(read: Shell, out: Path, tokenizer: Any) -> None:
    ran = read("margin", "-t", TEXT, "--name", "toy", "--caption", "--table", "csv")
    assert ran.code == 0, ran
    assert [Path(line).name for line in ran.out] == [
        *("toy.margin.json", "toy.margin.svg", "toy.margin.txt", "toy.margin.csv")
    ]
    dump = json.loads((out / "toy.margin.json").read_text())
    scores = dump["metrics"]["margin"]
    assert (scores["unit"], scores["quantity"]) == (
        *("logit", "margin of the best guess over the second"),
    )
    np.testing.assert_allclose(scores["values"][-1], margins_by_hand(tokenizer), rtol=1e-4)
    svg = (out / "toy.margin.svg").read_text()
    assert "margin of the best guess over the second [logit]" in svg  # the colour bar
    assert f"{scores['values'][-1][-1]:.3f}" in svg  # a cell, with its own text
    rows = list(csv.reader((out / "toy.margin.csv").read_text().splitlines()))
    assert [row[0] for row in rows if row and row[0] == "input"], rows  # shows the input row


def test_it_can_be_traced(read: Shell, out: Path, tokenizer: Any) -> None:
    ran = read("trace", "-t", TEXT, "--metric", "margin", "--position", "-1", "--name", "toy")
    assert ran.code == 0, ran
    dump = json.loads((out / "toy.trace.json").read_text())
    last = dump["metrics"]["margin"]["values"][-1]
    np.testing.assert_allclose(last, margins_by_hand(tokenizer)[-1:], rtol=1e-4)
    assert "margin of the best guess" in (out / "toy.trace.svg").read_text()


def test_it_is_summarized(
    logitlens: Shell, tiny_folder: Path, out: Path, tmp_path: Path, tokenizer: Any
) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text(f"{TEXT}\n")
    ran = logitlens(
        "stats", "-m", tiny_folder, "--lines", lines, "-o", out, "--format", "svg", "-q"
    )
    assert ran.code == 0, ran
    summary = json.loads((out / "lines.stats.json").read_text())["summary"]["margin"]
    assert summary["mean"][-1] == pytest.approx(margins_by_hand(tokenizer).mean(), rel=1e-4)
    assert "margin of the best guess" in (out / "lines.stats.svg").read_text()


def test_a_dump_of_it_is_drawn_and_compared(read: Shell, logitlens: Shell, out: Path) -> None:
    for name, text in (("a", "cat"), ("b", "cab")):
        assert read("margin", "-t", text, "--name", name).code == 0
    dumps = [out / "a.margin.json", out / "b.margin.json"]
    assert logitlens("render", dumps[0], "margin", "-o", out, "--format", "svg", "-q").code == 0
    ran = logitlens("diff", *dumps, "-o", out, "--format", "svg", "-q")
    assert [Path(line).suffix for line in ran.out] == [".json", ".svg"], ran
