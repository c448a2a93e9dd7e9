"""``logitlens topk``."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from logitlens_cli.metrics.sets import guess_metrics
from logitlens_cli.metrics.spec import MetricSpec
from logitlens_cli.options.metric import DEFAULT_COLOR, ColorOption, GuessesOption
from logitlens_cli.options.reading import GridReadOptions


@dataclass(frozen=True, kw_only=True)
class TopK(GridReadOptions):
    """Top guesses of every layer, coloured by their logit."""

    command = "topk"
    example = 'logitlens topk "The capital of France is" --probs --show'

    k: GuessesOption = 5
    color: ColorOption = DEFAULT_COLOR

    @property
    def metrics(self) -> Mapping[str, MetricSpec]:
        return guess_metrics(self.color)

    def run(self) -> Iterator[Path]:
        from logitlens_cli.commands.read import read_and_write

        return read_and_write(self)
