"""KL divergence to the output or the input, and Jensen-Shannon divergence."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from logitlens_cli.errors import UsageError
from logitlens_cli.metrics.spec import (
    KL_SCALE,
    Metric,
    MetricSpec,
    Scale,
    clamp,
    short_number,
    two_decimals,
)
from logitlens_cli.metrics.sums import Floats, Needs, Sums

LN2 = math.log(2)


def jensen_shannon(sums: Sums, spec: MetricSpec) -> Floats:
    """1/2 KL(p || m) + 1/2 KL(q || m) with m = (p + q) / 2, in nats; at most ln 2 (Lin, 1991)."""
    js = sums.references["final"].js
    assert js is not None
    return (js / 2).clip(0.0, LN2)


def divergence(name: str) -> Callable[[Sums, MetricSpec], Floats]:
    """KL between the reference ``name`` and a layer, in nats, without any floor.

    Forward: sum q (log q - log p) = sum q log q - sum q z + log sum exp z.
    Reverse: sum p (log p - log q) = sum p z - log sum exp z - sum p log q.
    One-hot: - log p[input token], which is KL from a reference that is sure of the input token.
    """

    def kl(sums: Sums, spec: MetricSpec) -> Floats:
        if spec.one_hot:
            return clamp(sums.lse - sums.targets["input"].logit)
        reference = sums.references[name]
        if not spec.reverse:
            return clamp(reference.negentropy - reference.cross + sums.lse)
        assert sums.mean is not None
        assert reference.reverse is not None
        return clamp(sums.mean - sums.lse - reference.reverse)

    return kl


def kl_words(name: str) -> Callable[[MetricSpec], str]:
    def words(spec: MetricSpec) -> str:
        if spec.one_hot:
            return "KL(input token || layer)"
        return f"KL(layer || {name})" if spec.reverse else f"KL({name} || layer)"

    return words


def kl_needs(name: str) -> Callable[[MetricSpec], Needs]:
    def needs(spec: MetricSpec) -> Needs:
        if spec.one_hot:
            return Needs()
        return Needs(references=frozenset({name}), mean=spec.reverse, reverse=spec.reverse)

    return needs


def kl_tokens(spec: MetricSpec) -> Mapping[str, str]:
    return {"target": "input"} if spec.one_hot else {}


def require_finite_kl(spec: MetricSpec) -> None:
    if spec.one_hot and spec.reverse:
        raise UsageError(
            "--one-hot with --direction reverse: KL(layer || input token) is infinite",
            "use the forward direction",
        )


KL_FINAL = Metric(
    name="kl-final",
    about="KL divergence from the model's output to every layer.",
    unit="nats",
    quantity=kl_words("final"),
    formula=divergence("final"),
    scale=lambda spec: KL_SCALE,
    format_value=short_number,
    needs=kl_needs("final"),
    reference=lambda spec: "final",
    parameters=("direction",),
    input_row=True,
    summarized=True,
)
KL_INPUT = Metric(
    name="kl-input",
    about="KL divergence from the decoded input to every layer.",
    unit="nats",
    quantity=kl_words("input"),
    formula=divergence("input"),
    scale=lambda spec: KL_SCALE,
    format_value=short_number,
    needs=kl_needs("input"),
    targets=kl_tokens,
    reference=lambda spec: "input token" if spec.one_hot else "input",
    parameters=("direction", "one_hot"),
    check=require_finite_kl,
    input_row=True,
    summarized=True,
)
JS = Metric(
    name="js",
    about="Jensen-Shannon divergence of every layer and the model's output.",
    unit="nats",
    quantity=lambda spec: "Jensen-Shannon divergence of layer and output",
    formula=jensen_shannon,
    # As the dump rounds values, or the largest would lie beyond.
    scale=lambda spec: Scale("linear", 0, round(LN2, 7), "mako_r"),
    format_value=two_decimals,
    needs=lambda spec: Needs(references=frozenset({"final"}), js=True),
    reference=lambda spec: "final",
    input_row=True,
    colors_guesses=True,
)
