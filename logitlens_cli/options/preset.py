"""--config: a file of options, whose keys are the names of the command's options."""

import os
import tomllib
from pathlib import Path
from typing import Any

import typer

from logitlens_cli.errors import UsageError, nearest

LARGEST_PRESET = 2**20
"""bytes"""


def load_preset(context: typer.Context, path: Path | None) -> Path | None:
    """Make a preset's keys the defaults of the command."""
    if path is None or context.resilient_parsing:
        return path
    path = Path(os.path.expanduser(path))  # see parsing.at_home, which comes after this
    options = (p for p in context.command.params if p.param_type_name == "option")
    by_name = {p.name: p for p in options if p.name not in (None, "config", "help")}
    defaults: dict[str, Any] = {}
    for key, value in read_preset(path).items():
        name = key.replace("-", "_")
        if name not in by_name:
            raise UsageError(
                f"--config {path}: unknown key {key!r}",
                nearest(key, [str(name).replace("_", "-") for name in by_name])
                + f"keys are the options of logitlens {context.info_name}",
            )
        defaults[name] = default_of(by_name[name], key, value, path)
    context.default_map = defaults
    return path


def read_preset(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_PRESET + 1)
        if len(data) > LARGEST_PRESET:
            raise ValueError(f"it has more than {LARGEST_PRESET >> 20} MB")
        return tomllib.loads(data.decode("utf-8-sig"))
    except OSError as error:
        raise UsageError(f"--config {path}: {error.strerror}", "name a preset file") from error
    except (ValueError, RecursionError) as error:  # a number of 5000 digits is a plain ValueError
        raise UsageError(f"--config {path} is not TOML ({error})", "correct the file") from error


def default_of(parameter: Any, key: str, value: Any, path: Path) -> Any:
    """A key's value as the default of the option that it names."""
    repeats = getattr(parameter, "multiple", False)
    several = repeats and isinstance(value, list) and all(isinstance(v, str) for v in value)
    stray = isinstance(value, bool) and not getattr(parameter, "is_flag", False)
    if stray or (not several and not isinstance(value, (str, int, float, bool))):
        raise UsageError(
            f"--config {path}: {key} is a {type(value).__name__}",
            "write the value as on the command line",
        )
    # Files are named beside the preset, wherever the command runs.
    if parameter.name in ("file", "lines") and value != "-":
        value = str(path.parent / os.path.expanduser(str(value)))
    if repeats:
        return value if several else [str(value)]
    return value if isinstance(value, bool) else str(value)
