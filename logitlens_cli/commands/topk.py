"""``logitlens topk``."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from logitlens_cli.figures.style import FigureStyle
from logitlens_cli.metrics.sets import guess_metrics
from logitlens_cli.metrics.spec import MetricSpec
from logitlens_cli.options.metric import (
    DEFAULT_COLOR,
    ColorOption,
    GuessesOption,
    LogOption,
    require_log_scale,
)
from logitlens_cli.options.reading import GridReadOptions


@dataclass(frozen=True, kw_only=True)
class TopK(GridReadOptions):
    """Top guesses of every layer, coloured by their logit."""

    command = "topk"
    example = 'logitlens topk "The capital of France is" --probs --show'

    k: GuessesOption = 5
    color: ColorOption = DEFAULT_COLOR
    log: LogOption = FigureStyle.log

    def __post_init__(self) -> None:
        super().__post_init__()
        require_log_scale(self.color, self.log)

    @property
    def metrics(self) -> Mapping[str, MetricSpec]:
        return guess_metrics(self.color)

    def run(self) -> Iterator[Path]:
        from logitlens_cli.commands.read import read_and_write

        return read_and_write(self)
