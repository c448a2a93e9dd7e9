"""``logitlens rank``: unlike other metrics of a token, of several tokens at once."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from logitlens_cli.metrics.sets import rank_figures, rank_metrics
from logitlens_cli.metrics.spec import MetricSpec
from logitlens_cli.options.metric import TargetsOption
from logitlens_cli.options.reading import GridReadOptions


@dataclass(frozen=True, kw_only=True)
class Rank(GridReadOptions):
    """Rank of a token at every layer, by default the final guess."""

    command = "rank"
    example = 'logitlens rank "The capital of France is" --target " Paris"'

    target: TargetsOption = None

    @property
    def metrics(self) -> Mapping[str, MetricSpec]:
        return rank_metrics(self.target)

    @property
    def figures(self) -> tuple[str, ...]:
        return rank_figures(self.target)

    def run(self) -> Iterator[Path]:
        from logitlens_cli.commands.read import read_and_write

        return read_and_write(self)
