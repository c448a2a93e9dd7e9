"""Options of metrics: whose rank, which direction, what colours top guesses."""

from enum import StrEnum
from typing import Annotated, Any

from logitlens_cli.errors import UsageError
from logitlens_cli.metrics.spec import Direction
from logitlens_cli.metrics.table import COLORS, METRICS
from logitlens_cli.metrics.target_names import AUTO
from logitlens_cli.options.option import FIGURE, METRIC, option

Color = StrEnum("Color", {name.replace("-", "_"): name for name in COLORS})  # type: ignore[misc]

DEFAULT_COLOR = Color(COLORS[0])

GuessesOption = Annotated[
    int,
    option("--k", section=METRIC, min=1, max=1000, help="Guesses kept for each cell in the JSON."),
]
ColorOption = Annotated[
    Color, option("--color", section=METRIC, help="What the colours of top guesses show.")
]
LogOption = Annotated[
    bool, option("--log", section=FIGURE, help="A logarithmic scale for probabilities.")
]
DumpedColorOption = Annotated[
    Color | None,
    option(
        "--color", section=METRIC, help="What the colours of topk show.", show_default="as dumped"
    ),
]
TargetsOption = Annotated[
    list[str] | None,
    option(
        "--target",
        section=METRIC,
        help="Whose rank: final, input, next, a token's TEXT, id:N; may repeat. auto: every token "
        "that was ever the top guess in the last column.",
        show_default="final",
    ),
]
DirectionOption = Annotated[
    Direction, option("--direction", section=METRIC, help="KL(reference || layer), or the reverse.")
]
OneHotOption = Annotated[
    bool,
    option(
        "--one-hot",
        section=METRIC,
        help="Measure from the input token itself, not from the decoded input row.",
    ),
]
PARAMETERS: dict[str, Any] = {
    "target": Annotated[
        str,
        option(
            "--target",
            section=METRIC,
            help="Which token: final, input, next, a token's TEXT, or id:N.",
        ),
    ],
    "minus": Annotated[
        str,
        option(
            "--minus", section=METRIC, help="Which token is subtracted; written as for --target."
        ),
    ],
    "k": Annotated[
        int,
        option(
            "--k",
            section=METRIC,
            min=1,
            max=1000,
            help="How many of the best tokens are compared and kept in the JSON.",
        ),
    ],
    "direction": DirectionOption,
    "one_hot": OneHotOption,
}
"""the option of each parameter of a metric that has a command of its own name"""


def require_log_scale(color: Color, log: bool) -> None:
    """UsageError for --log where no probability is drawn."""
    if log and METRICS[color].log_scale is None:
        raise UsageError(
            f"--log is of probabilities, and the colours show {color}", "give --color prob"
        )


def require_one_token(flag: str, target: str) -> None:
    """UsageError for a target that is a list of tokens."""
    if target == AUTO:
        raise UsageError(
            f"{flag} {AUTO} is only for ranks",
            "name one token; a token spelled auto is id:N",
        )
