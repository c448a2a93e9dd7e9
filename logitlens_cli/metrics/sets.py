"""The metrics behind a figure, by their keys in the dump."""

import re
from collections.abc import Mapping, Sequence

from logitlens_cli.metrics.spec import MetricSpec
from logitlens_cli.metrics.table import FOLLOWED, METRICS
from logitlens_cli.metrics.target_names import AUTO


def rank_metrics(targets: Sequence[str] | None) -> dict[str, MetricSpec]:
    """One target is "rank"; several are "rank-final", "rank-input", "rank-paris", ..."""
    rank = METRICS["rank"]
    wanted = list(dict.fromkeys(targets or ("final",)))
    ranked = [target for target in wanted if target != AUTO]
    if len(wanted) == 1:
        return {"rank": rank.spec(target=wanted[0])} if ranked else {}
    specs: dict[str, MetricSpec] = {}
    for n, target in enumerate(ranked, 1):
        words = re.sub(r"[^a-z0-9]+", "-", target.lower()).strip("-") or str(n)
        keys = (f"rank-{words}", *(f"rank-{words}-{i}" for i in range(n, 2 * n)))
        specs[next(key for key in keys if key not in specs)] = rank.spec(target=target)
    return specs


def rank_figures(targets: Sequence[str] | None) -> tuple[str, ...]:
    followed = (FOLLOWED,) if targets and AUTO in targets else ()
    return tuple(rank_metrics(targets)) + followed


def guess_metrics(color: str) -> dict[str, MetricSpec]:
    """What may colour top guesses. The first three cost nothing beside the guesses, so that render
    can always choose among them."""
    names = dict.fromkeys(["own-logit", "final-logit", "prob", color])
    return {name: METRICS[name].spec() for name in names}


def all_metrics(
    color: str, targets: Sequence[str] | None, direction: str, one_hot: bool
) -> Mapping[str, MetricSpec]:
    """Those of the four figures of the post."""
    return {
        **guess_metrics(color),
        **rank_metrics(targets),
        "kl-final": METRICS["kl-final"].spec(direction=direction),
        "kl-input": METRICS["kl-input"].spec(direction=direction, one_hot=one_hot),
    }


def summarized_metrics() -> Mapping[str, MetricSpec]:
    """Those of the statistics over many prompts, each with its own defaults."""
    return {name: metric.spec() for name, metric in METRICS.items() if metric.summarized}
