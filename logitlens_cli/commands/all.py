"""``logitlens all``: the figures of the post from one forward pass."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from logitlens_cli.figures.style import FigureStyle
from logitlens_cli.metrics.sets import all_metrics, rank_figures
from logitlens_cli.metrics.spec import Direction, MetricSpec
from logitlens_cli.metrics.table import TOPK
from logitlens_cli.options.metric import (
    DEFAULT_COLOR,
    ColorOption,
    DirectionOption,
    GuessesOption,
    LogOption,
    OneHotOption,
    TargetsOption,
    require_log_scale,
)
from logitlens_cli.options.reading import GridReadOptions


@dataclass(frozen=True, kw_only=True)
class All(GridReadOptions):
    """The four figures from one forward pass."""

    command = "all"
    example = "logitlens all --file text.txt --window 0:20 --every 2 --width double"

    k: GuessesOption = 5
    color: ColorOption = DEFAULT_COLOR
    target: TargetsOption = None
    direction: DirectionOption = Direction.forward
    one_hot: OneHotOption = False
    log: LogOption = FigureStyle.log

    def __post_init__(self) -> None:
        super().__post_init__()
        require_log_scale(self.color, self.log)

    @property
    def metrics(self) -> Mapping[str, MetricSpec]:
        return all_metrics(self.color, self.target, self.direction, self.one_hot)

    @property
    def figures(self) -> tuple[str, ...]:
        return (TOPK, *rank_figures(self.target), "kl-final", "kl-input")

    def run(self) -> Iterator[Path]:
        from logitlens_cli.commands.read import read_and_write

        return read_and_write(self)
