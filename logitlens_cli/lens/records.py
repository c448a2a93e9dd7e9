"""Sums -> the record of a reading, with labels and provenance."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
import torch

from logitlens_cli.lens import grid, output_check
from logitlens_cli.lens.all_blocks import block_count
from logitlens_cli.lens.capture import Stream
from logitlens_cli.lens.decoder import Decoder
from logitlens_cli.lens.lens_model import LensModel
from logitlens_cli.lens.product import onednn
from logitlens_cli.lens.prompt import TokenizedPrompt
from logitlens_cli.lens.rows import chain_of, layer, rows_of
from logitlens_cli.lens.spec import ReadSpec
from logitlens_cli.metrics.spec import MetricSpec
from logitlens_cli.metrics.sums import Sums, log_probs_of
from logitlens_cli.metrics.table import METRICS
from logitlens_cli.metrics.target_names import target_token_id
from logitlens_cli.model.tokenizer import label, labels
from logitlens_cli.reading.record import (
    DUMP_SCHEMA,
    CheckRecord,
    ComputeRecord,
    Guesses,
    LensRecord,
    Reading,
    Scores,
    Token,
    lock_in,
)
from logitlens_cli.reading.rounding import rounded


def reading_of(
    lens_model: LensModel,
    spec: ReadSpec,
    prompt: TokenizedPrompt,
    sums: Sums,
    targets: Mapping[str, Sequence[int]],
    check: output_check.OutputCheck,
    extras: Mapping[str, Any],
) -> Reading:
    """Sums with labels, scores and provenance."""
    layers = [layer(lens_model.parts, site) for site in rows_of(lens_model.parts, spec)]
    blocks = block_count(lens_model.parts, spec)
    of_rows = lock_in(layers, sums.top_ids[..., 0], sums.final_ids.tolist(), blocks)
    return Reading(
        schema=DUMP_SCHEMA,
        command=spec.command,
        name=prompt.name,
        text=prompt.text,
        text_sha256=hashlib.sha256(prompt.text.encode()).hexdigest(),
        text_ids=list(prompt.ids),
        tokens=token_columns(lens_model.tokenizer, prompt.ids, prompt.columns),
        layers=layers,
        guesses=guesses(lens_model.tokenizer, sums),
        metrics={
            key: scores(lens_model.tokenizer, metric, sums, targets)
            for key, metric in spec.metrics.items()
        },
        final_ids=sums.final_ids.tolist(),
        check=check_record(check),
        model=lens_model.record,
        lens=LensRecord(
            norm=spec.norm,
            chain=chain_of(lens_model, spec),
            window=(prompt.columns.start, prompt.columns.stop),
            text_tokens=len(prompt.ids),
            bos=prompt.encoded.bos,
            decoder_blocks=spec.decoder_blocks,
            chat=spec.chat,
            maps=None if lens_model.maps is None else lens_model.maps.record,
        ),
        options=dict(spec.options),
        notes=list(prompt.notes),
        versions=dict(versions()),
        **{"lock_in": of_rows, **extras},
    )


@cache
def versions() -> Mapping[str, str]:
    return {p: version(p) for p in ("logitlens-cli", "torch", "transformers")}


def check_record(check: output_check.OutputCheck) -> CheckRecord:
    return CheckRecord(
        max_abs_logit_error=rounded(check.max_abs_logit_error),
        passed=check.passed,
        route=check.route,
        columns=check.columns,
        tolerance=rounded(check.tolerance),
        max_kl=rounded(check.max_kl),
        top1_agreement=rounded(check.top1_agreement),
        proven=list(check.proven),
    )


def compute_record(decoder: Decoder, stream: Stream, spec: grid.GridSpec) -> ComputeRecord:
    """What, beside the versions, the last digits of a grid depend on."""
    on_cpu = decoder.parts.weight.device.type == "cpu"
    return ComputeRecord(
        engine=grid.engine_name(decoder, stream, spec),
        product="onednn" if on_cpu and onednn() is not None else "torch",
        threads=torch.get_num_threads(),
        processor=torch.backends.cpu.get_cpu_capability(),
    )


def token_columns(tokenizer: Any, ids: Sequence[int], columns: range) -> list[Token]:
    following = [ids[i + 1] if i + 1 < len(ids) else None for i in columns]
    shown = labels(tokenizer, ids[columns.start : columns.stop + 1])
    return [
        Token(
            position=i,
            id=ids[i],
            label=shown[n],
            next_id=following[n],
            next_label=None if following[n] is None else shown[n + 1],
        )
        for n, i in enumerate(columns)
    ]


def guesses(tokenizer: Any, sums: Sums) -> Guesses:
    label_of = {i: label(tokenizer, i) for i in np.unique(sums.top_ids).tolist()}
    ids = sums.top_ids.tolist()
    log_probs = log_probs_of(sums.top_logits, sums.lse[..., None])
    return Guesses(
        ids=ids,
        labels=[[[label_of[i] for i in cell] for cell in row] for row in ids],
        logits=rounded(sums.top_logits),
        probs=rounded(np.exp(log_probs)),
        log_probs=rounded(log_probs),
    )


def scores(
    tokenizer: Any, spec: MetricSpec, sums: Sums, targets: Mapping[str, Sequence[int]]
) -> Scores:
    """One metric for the dump, with whatever says what it is about."""
    metric = METRICS[spec.metric]
    about: dict[str, Any] = {"reference": metric.reference(spec)}
    for role, target in metric.targets(spec).items():
        ids = sums.final_ids.tolist() if target == "final" else targets[target]
        about |= {
            role: target,
            f"{role}_ids": [None if i < 0 else i for i in ids],
            f"{role}_labels": [None if i < 0 else label(tokenizer, i) for i in ids],
        }
    about |= {name: getattr(spec, name) for name in ("direction", "k") if name in metric.parameters}
    if metric.ties:
        about["ties"] = sums.targets[spec.target].ties.tolist()
    values: list[list[float | None]] = rounded(metric.formula(sums, spec))
    if metric.whole:
        values = [[None if v is None else int(v) for v in row] for row in values]
    return Scores(
        values=values,
        unit=metric.unit,
        quantity=metric.quantity(with_labels(tokenizer, spec)),
        scale=metric.scale(spec),
        **about,
    )


def with_labels(tokenizer: Any, spec: MetricSpec) -> MetricSpec:
    """The metric with the labels of its tokens, for people."""

    def label_of(target: str) -> str:
        token = target_token_id(target)
        return "" if token is None else label(tokenizer, token)

    return replace(spec, target_label=label_of(spec.target), minus_label=label_of(spec.minus))
