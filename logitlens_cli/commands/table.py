"""All commands by name: the command line is made from this."""

from collections.abc import Mapping

from logitlens_cli.commands.all import All
from logitlens_cli.commands.diff import Diff
from logitlens_cli.commands.fit import Fit
from logitlens_cli.commands.lenses import Convert, Show
from logitlens_cli.commands.metric import metric_commands
from logitlens_cli.commands.models import Check, Families, Fetch, Verify
from logitlens_cli.commands.overlay import Overlay
from logitlens_cli.commands.rank import Rank
from logitlens_cli.commands.render import Render
from logitlens_cli.commands.stats import Stats
from logitlens_cli.commands.tokens import Tokens
from logitlens_cli.commands.topk import TopK
from logitlens_cli.commands.trace import Trace
from logitlens_cli.options.groups import CommandOptions


def commands() -> Mapping[str, type[CommandOptions]]:
    """The commands in the order of the help."""
    first: dict[str, type[CommandOptions]] = {"topk": TopK, "rank": Rank}
    last: dict[str, type[CommandOptions]] = {
        "all": All,
        "trace": Trace,
        "stats": Stats,
        "fit": Fit,
        "render": Render,
        "diff": Diff,
        "overlay": Overlay,
        "tokens": Tokens,
    }
    return {**first, **metric_commands(without=first), **last}


MODEL_COMMANDS: Mapping[str, type[CommandOptions]] = {
    "fetch": Fetch,
    "check": Check,
    "verify": Verify,
    "families": Families,
}
"""those of ``logitlens models``"""

LENS_COMMANDS: Mapping[str, type[CommandOptions]] = {"show": Show, "convert": Convert}
"""those of ``logitlens lenses``"""
