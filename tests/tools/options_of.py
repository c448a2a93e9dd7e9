"""What the tests of options share: a command line up to its options, before any work."""

from collections.abc import Callable
from typing import Any

import pytest

from logitlens_cli.cli.app import build_app
from logitlens_cli.errors import UsageError


def parsed(*arguments: object) -> Any:
    """The options that the command line makes of its arguments."""
    words = [str(argument) for argument in arguments]
    return build_app()(args=words, prog_name="logitlens", standalone_mode=False)


def refusal(make: Callable[[], object]) -> str:
    """What is said of options that cannot be."""
    with pytest.raises(UsageError) as caught:
        make()
    return str(caught.value)
