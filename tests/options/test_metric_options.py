"""Options of metrics: whose logit or rank, which direction."""

from collections.abc import Callable
from typing import Any

import pytest
from options_of import refusal

from logitlens_cli.commands.metric import metric_options
from logitlens_cli.metrics.spec import Direction
from logitlens_cli.metrics.table import METRICS


def made(metric: str, **parameters: Any) -> Callable[[], object]:
    return lambda: metric_options(METRICS[metric])(text="a", **parameters)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            made("kl-input", one_hot=True, direction=Direction.reverse),
            "--one-hot with --direction reverse: KL(layer || input token) is infinite; "
            "use the forward direction",
        ),
        (
            made("logit-diff", target=" a", minus=" a"),
            "--target and --minus are both ' a', which differ by 0; name two tokens",
        ),
        (
            made("logit-diff", minus="auto"),
            "--minus auto is only for ranks; name one token; a token spelled auto is id:N",
        ),
        (
            made("token-prob", target="auto"),
            "--target auto is only for ranks; name one token; a token spelled auto is id:N",
        ),
    ],
)
def test_parameters_that_cannot_be(make: Callable[[], object], message: str) -> None:
    assert refusal(make) == message
