"""Variables of the environment that begin like ours and that nobody reads."""

from collections.abc import Mapping
from typing import get_type_hints

from logitlens_cli.commands.table import LENS_COMMANDS, MODEL_COMMANDS, commands
from logitlens_cli.errors import nearest
from logitlens_cli.options.option import VARIABLE

BESIDES = {"LOGITLENS_CACHE", "LOGITLENS_DEBUG"}
"""variables that are no option"""


def misspelt_variables(environment: Mapping[str, str]) -> list[str]:
    """A sentence about each variable that is no command's."""
    given = [name for name in environment if name.startswith(VARIABLE) and name not in BESIDES]
    known = BESIDES | option_variables() if given else set()
    return [
        f"the variable {name} is unknown; {nearest(name, known, VARIABLE)}it counts for nothing"
        for name in sorted(given)
        if name not in known
    ]


def option_variables() -> set[str]:
    """The variables of all options of all commands."""
    return {
        variable
        for options in (*commands().values(), *MODEL_COMMANDS.values(), *LENS_COMMANDS.values())
        for hint in get_type_hints(options, include_extras=True).values()
        for declared in getattr(hint, "__metadata__", ())
        if (variable := getattr(declared, "envvar", None))
    }
