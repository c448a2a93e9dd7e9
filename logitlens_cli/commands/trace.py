"""``logitlens trace``."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from logitlens_cli.errors import UsageError, nearest
from logitlens_cli.metrics.spec import Direction, MetricSpec
from logitlens_cli.metrics.table import METRICS, MOST_LINES, TRACE
from logitlens_cli.metrics.target_names import AUTO
from logitlens_cli.options.metric import DirectionOption, OneHotOption
from logitlens_cli.options.option import COLUMNS, FIGURE, METRIC, option
from logitlens_cli.options.reading import TextReadOptions

OF_TOKENS = ("prob", "rank", "logit")
"""what a line for each of some tokens can show, at one position"""
WHOLE_TEXT = "all"
"""the --position that stands for all of them"""


def of_columns() -> list[str]:
    """What a line or a band can show of whole columns: every metric whose parameters are options
    here."""
    options = {"target", "direction", "one_hot"}
    return [
        name
        for name, metric in METRICS.items()
        if metric.command and options >= {*metric.parameters}
    ]


@dataclass(frozen=True, kw_only=True)
class Trace(TextReadOptions):
    """Lines over layers: tokens at one position, or a metric over all."""

    command = TRACE
    example = 'logitlens trace "The capital of France is" --target " Paris" --metric rank'

    metric: Annotated[
        str,
        option(
            "--metric",
            section=METRIC,
            metavar="NAME",
            help=f"Of tokens ({', '.join(OF_TOKENS)}) or of whole columns "
            f"({', '.join(of_columns())}).",
        ),
    ] = OF_TOKENS[0]
    position: Annotated[
        str | None,
        option(
            "--position",
            section=COLUMNS,
            help="One position, negatives from the end; all: median, mean and quantiles over the "
            "positions.",
            show_default="the last for tokens, else all",
        ),
    ] = None
    target: Annotated[
        list[str] | None,
        option(
            "--target",
            section=METRIC,
            help="Whose line: final, input, next, a token's TEXT, id:N; may repeat. auto: every "
            "token that was ever the top guess there.",
            show_default="auto; over all positions final, of cross-entropy next",
        ),
    ] = None
    direction: DirectionOption = Direction.forward
    one_hot: OneHotOption = False
    log: Annotated[bool, option("--log", section=FIGURE, help="A logarithmic axis for prob.")] = (
        False
    )

    @property
    def single(self) -> bool:
        """Is one column all that is read?"""
        return self.metric in OF_TOKENS if self.position is None else self.position != WHOLE_TEXT

    @property
    def column(self) -> int | None:
        """Position of a single column; None is the last one."""
        return int(self.position) if self.position not in (None, WHOLE_TEXT) else None

    @property
    def of_tokens(self) -> bool:
        """Is there a line for every token?"""
        return self.single and self.metric in OF_TOKENS

    @property
    def targets(self) -> tuple[str, ...]:
        """The tokens that have a line, each once."""
        usual = AUTO if self.of_tokens else METRICS[self.metric].spec().target
        return tuple(dict.fromkeys(self.target or (usual,)))

    @property
    def metrics(self) -> Mapping[str, MetricSpec]:
        if self.of_tokens:
            return {}
        metric = METRICS[self.metric]
        given: dict[str, Any] = {
            "target": self.targets[0], "direction": self.direction, "one_hot": self.one_hot
        }  # fmt: skip
        return {metric.name: metric.spec(**{name: given[name] for name in metric.parameters})}

    @property
    def chosen(self) -> tuple[str, ...]:
        """Tokens that are followed whether or not they were ever a top guess."""
        return tuple(t for t in self.targets if t != AUTO) if self.of_tokens else ()

    @property
    def follow(self) -> bool:
        return self.of_tokens and AUTO in self.targets

    def __post_init__(self) -> None:
        choices = list(dict.fromkeys((*OF_TOKENS, *of_columns())))
        if self.metric not in choices:
            raise UsageError(
                f"--metric {self.metric!r} is unknown",
                f"{nearest(self.metric, choices)}choose from {', '.join(choices)}",
            )
        self.require_position()
        if len(self.targets) > MOST_LINES:
            raise UsageError(
                f"--target is given {len(self.targets)} times",
                f"{MOST_LINES} lines can be told apart",
            )
        self.require_parameters()
        super().__post_init__()

    def require_position(self) -> None:
        position = self.position
        if position is not None and not re.fullmatch(r"all|-?\d{1,18}", position, re.ASCII):
            raise UsageError(f"--position {position!r} is not a position", "give a number, or all")
        if self.metric in OF_TOKENS and not self.single and self.metric not in of_columns():
            raise UsageError(
                f"--metric {self.metric} is about tokens at one position",
                "over all positions, take cross-entropy",
            )

    def require_parameters(self) -> None:
        """UsageError for an option that the metric does not have."""
        parameters = () if self.of_tokens else METRICS[self.metric].parameters
        if not self.of_tokens and self.target and "target" not in parameters:
            raise UsageError(f"--target is not an option of {self.metric}", "leave it out")
        if "target" in parameters and (len(self.targets) > 1 or AUTO in self.targets):
            raise UsageError(
                f"--target {', '.join(map(repr, self.targets))}: {self.metric} has one line here",
                "give one token, or final, input, next",
            )
        if self.one_hot and "one_hot" not in parameters:
            raise UsageError(f"--one-hot is not an option of {self.metric}", "take kl-input")
        if self.direction is Direction.reverse and "direction" not in parameters:
            raise UsageError(
                f"--direction is not an option of {self.metric}", "take kl-final or kl-input"
            )
        if self.log and self.metric != OF_TOKENS[0]:
            raise UsageError(
                "--log works only with --metric prob",
                "ranks are logarithmic anyhow, the others are logarithms",
            )

    def run(self) -> Iterator[Path]:
        from logitlens_cli.commands.read import read_and_write

        return read_and_write(self)
