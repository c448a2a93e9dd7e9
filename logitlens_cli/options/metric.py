"""Options of metrics: whose rank, which direction, what colours top guesses."""

from enum import StrEnum
from typing import Annotated, Any

from logitlens_cli.errors import UsageError
from logitlens_cli.metrics.spec import Direction
from logitlens_cli.metrics.table import COLORS
from logitlens_cli.metrics.target import AUTO
from logitlens_cli.options.option import METRIC, option

Color = StrEnum("Color", {name.replace("-", "_"): name for name in COLORS})  # type: ignore[misc]

DEFAULT_COLOR = Color(COLORS[0])

GuessesOption = Annotated[
    int, option("--k", panel=METRIC, min=1, max=1000, help="Guesses of each cell in the JSON.")
]
ColorOption = Annotated[
    Color, option("--color", panel=METRIC, help="What colours the cells of top guesses.")
]
DumpedColorOption = Annotated[
    Color | None,
    option("--color", panel=METRIC, help="What colours topk.", show_default="as dumped"),
]
TargetsOption = Annotated[
    list[str] | None,
    option(
        "--target",
        panel=METRIC,
        help="Whose rank: final, input, next, a token's TEXT, id:N; may repeat. auto: every token "
        "that was ever the top guess in the last column.",
        show_default="final",
    ),
]
DirectionOption = Annotated[
    Direction, option("--direction", panel=METRIC, help="KL(reference || layer), or the reverse.")
]
OneHotOption = Annotated[
    bool,
    option(
        "--one-hot",
        panel=METRIC,
        help="Measure from the input token itself, not from the decoded input row.",
    ),
]
PARAMETERS: dict[str, Any] = {
    "target": Annotated[
        str,
        option(
            "--target", panel=METRIC, help="Whose: final, input, next, a token's TEXT, or id:N."
        ),
    ],
    "minus": Annotated[
        str, option("--minus", panel=METRIC, help="Whose is subtracted; words as of --target.")
    ],
    "k": Annotated[
        int,
        option("--k", panel=METRIC, min=1, max=1000, help="Best tokens compared, and in the JSON."),
    ],
    "direction": DirectionOption,
    "one_hot": OneHotOption,
}
"""the option of each parameter of a metric that has a command of its own name"""


def require_one_token(flag: str, target: str) -> None:
    """UsageError for a target that is a list of tokens."""
    if target == AUTO:
        raise UsageError(
            f"{flag} {AUTO} is only for ranks", "name one token; one that is spelled so is id:N"
        )
