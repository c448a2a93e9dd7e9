"""How an option is declared, and the groups in which help shows them."""

from dataclasses import fields
from pathlib import Path
from typing import Any, get_type_hints

import typer

PROMPT, MODEL, LENS, COLUMNS = "Prompt", "Model", "Lens", "Columns"
METRIC, FIGURE, OUTPUT, MANY = "Metric", "Figure", "Output", "Many prompts"


VARIABLE = "LOGITLENS_"
"""how the name of a variable begins that is an option"""


def option(*names: str, section: str, help: str, recorded: bool = True, **rest: Any) -> Any:
    """An option that the environment may set too, as LOGITLENS_ and its long name.

    ``recorded`` is False where it says where a result goes and not what it is: then the dump does
    not hold it.
    """
    long = next(name for name in names if name.startswith("--")).split("/")[0]
    variable = VARIABLE + long.removeprefix("--").replace("-", "_").upper()
    declared = typer.Option(
        *names, help=help, rich_help_panel=section, envvar=variable, show_envvar=False, **rest
    )
    declared.recorded = recorded
    return declared


def argument(metavar: str, help: str) -> Any:
    """What stands on the command line without a flag; the dump does not hold it."""
    declared = typer.Argument(metavar=metavar, help=help)
    declared.recorded = False
    return declared


def recorded_options(options: Any) -> dict[str, Any]:
    """The options that make a result what it is, for its record."""
    hints = get_type_hints(type(options), include_extras=True)
    values = {
        field.name: getattr(options, field.name)
        for field in fields(options)
        if all(getattr(extra, "recorded", True) for extra in hints[field.name].__metadata__)
    }
    return {
        name: str(value) if isinstance(value, Path) else value for name, value in values.items()
    }


def names_in(spec: str | None) -> tuple[str, ...]:
    """The names in a list with commas, each once, in the order given."""
    names = (name.strip().lower() for name in (spec or "").split(","))
    return tuple(dict.fromkeys(name for name in names if name))
