"""What comes of a fit's sums: maps, what their file says, and the report on held-out text."""

from typing import Any

import msgspec

from logitlens_cli.batch.fitting import FitSession
from logitlens_cli.commands.models import plain_table
from logitlens_cli.lens.fitting.fit_sums import FitSums
from logitlens_cli.lens.fitting.held_out import HeldOut
from logitlens_cli.lens.fitting.jacobian import jacobian_maps
from logitlens_cli.lens.fitting.linear import linear_maps
from logitlens_cli.lens.fitting.passes import fit_sites
from logitlens_cli.lens.maps.fit_of_maps import unembedding_hash
from logitlens_cli.lens.maps.lens_maps import INPUT_ROW, LensMaps
from logitlens_cli.lens.maps.maps_file import FORMAT, MapsHeader
from logitlens_cli.lens.records import versions
from logitlens_cli.lens.rows import layer
from logitlens_cli.options.fit_options import FitOptions, Kind
from logitlens_cli.reading.fit_report import FIT_SCHEMA, FitReport, lens_scores
from logitlens_cli.reading.record import MapsRecord


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What sums are of: kept beside them, so that parts can be merged without the texts."""

    key: str
    """changes where the sums of the whole would"""
    shard: tuple[int, int]
    """number of the part, from 0; number of parts"""
    kind: str
    skip_first: int
    bos: str
    revision: str | None
    """of the model"""
    dtype: str
    corpus: str
    """name of the file"""
    corpus_key: str
    holdout: str | None
    held_out: list[list[int]]
    """the chunks that are measured"""


def report_key(options: FitOptions, facts: Facts) -> str:
    """Changes where the lens or its report would."""
    return f"{facts.key}-{options.ridge:g}"


def maps_header(
    options: FitOptions, session: FitSession, sums: FitSums, facts: Facts
) -> MapsHeader:
    """What the file of the maps says of them."""
    lens_model = session.lens_model
    record = lens_model.record
    ridge = {"ridge": options.ridge} if facts.kind == Kind.linear else {}
    return MapsHeader(
        format=FORMAT,
        kind=facts.kind,
        model=record.name,
        revision=record.revision,
        unembedding=unembedding_hash(lens_model.parts.weight),
        blocks=record.blocks,
        width=record.width,
        corpus=facts.corpus,
        tokens=sums.tokens,
        fit={"skip_first": facts.skip_first, **ridge},
    )


def solved(options: FitOptions, sums: FitSums, facts: Facts) -> LensMaps:
    """The maps that the sums determine."""
    biases: Any = ()
    if facts.kind == Kind.jacobian:
        weights = jacobian_maps(sums)
    else:
        weights, biases = linear_maps(sums, options.ridge)
    return LensMaps(
        MapsRecord(name=facts.corpus, kind=facts.kind, sha256=""),
        {row: weight.float() for row, weight in enumerate(weights, INPUT_ROW)},
        {row: bias.float() for row, bias in enumerate(biases, INPUT_ROW)},
    )


def report_of(
    options: FitOptions,
    session: FitSession,
    sums: FitSums,
    facts: Facts,
    both: tuple[HeldOut, HeldOut],
) -> FitReport:
    """What was fitted to what, and how well it does."""
    plain, fitted = both
    lens_model, skip = session.lens_model, facts.skip_first
    return FitReport(
        schema=FIT_SCHEMA,
        key=report_key(options, facts),
        kind=facts.kind,
        model=lens_model.record,
        corpus=facts.corpus,
        skip_first=skip,
        ridge=options.ridge if facts.kind == Kind.linear else None,
        tokens=sums.tokens,
        chunks=sums.chunks,
        holdout=facts.holdout,
        held_out_tokens=sum(len(ids) - skip for ids in facts.held_out),
        held_out_chunks=len(facts.held_out),
        layers=[layer(lens_model.parts, site) for site in fit_sites(lens_model.parts)],
        plain=lens_scores(plain.kl, plain.agrees),
        fitted=lens_scores(fitted.kl, fitted.agrees),
        versions=dict(versions()),
    )


def print_report(report: FitReport) -> None:
    """The report as a table, on standard error, the last layer first."""
    from rich.console import Console

    table = plain_table(header=True)
    for heading in ("layer", "KL plain", report.kind, "guess plain", report.kind):
        table.add_column(heading, justify="right")
    plain, fitted = report.plain, report.fitted
    for n in reversed(range(len(report.layers))):
        kl = [f"{one.kl_median[n]:.3g}" for one in (plain, fitted)]
        agrees = [f"{one.agrees[n]:.0%}" for one in (plain, fitted)]
        table.add_row(report.layers[n].label, *kl, *agrees)
    console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
    console.print(table)
    console.print(
        f"KL(final || layer), median in nats; guesses that are the model's; {report.tokens} "
        f"positions fitted to, {report.held_out_tokens} others measured"
    )
