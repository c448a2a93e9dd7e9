"""How Typer parses a command's options, and how its help shows them."""

import os
import shlex
from pathlib import Path
from typing import Any

from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from logitlens_cli.errors import nearest
from logitlens_cli.options.option import (
    COLUMNS,
    FIGURE,
    LENS,
    MANY,
    METRIC,
    MODEL,
    OUTPUT,
    PROMPT,
)

SOURCES = ("COMMANDLINE", "ENVIRONMENT", "DEFAULT_MAP", "DEFAULT")  # Typer's names, strongest first
RIVALS = (("given_text", "text", "file", "lines"), ("layers", "every"))
"""options of which only one can be given"""
ARGUMENTS, OTHER = "Arguments", "Options"
SECTIONS = (ARGUMENTS, PROMPT, MODEL, LENS, COLUMNS, METRIC, FIGURE, OUTPUT, MANY, OTHER)
"""in the order of the help"""
USUAL = (
    *("file", "lines", "model", "every", "window", "target", "minus", "color", "metric"),
    *("position", "format", "width", "title", "probs", "lock_in", "over", "share_scale", "merge"),
    *("kind", "tokens", "holdout"),
    *("out", "name", "show", "help"),
)
"""options that -h shows"""
MOST_USUAL = 15
"""of a command's options, besides the help itself; with no more, -h shows them all"""
STRAY = "Got unexpected extra argument"
"""how Typer's message begins"""
TEXT_COMMAND = "topk"
"""what a text without a command was probably meant for"""
IS_SHORT = "logitlens.short_help"
"""in Typer's notes: was -h asked for, and not --help?"""


PATHS_AS_TEXT = ("model", "given")
"""arguments that may be paths and may be other names"""


def at_home(value: Any, is_path: bool = False) -> Any:
    """A path, or several, with the user's own folder for ~ once and for all, so that all that
    follows means the same file: a shell does it only where ~ begins a word."""
    if isinstance(value, list | tuple):
        return type(value)(at_home(one, is_path) for one in value)
    if isinstance(value, Path) or (is_path and isinstance(value, str)):
        return type(value)(os.path.expanduser(value))
    return value


class OptionsCommand(TyperCommand):
    """A command in which the rivals of an option from a weaker source make way for it (--text goes
    before the file of a preset), and whose help shows the options in their groups: all of them, or
    with -h those that are USUAL."""

    def get_help_option(self, ctx: Any) -> Any:
        option = super().get_help_option(ctx)
        if option is not None:
            option.help = "Show the usual options (-h) or all of them (--help), and exit."
        return option

    def is_shown(self, parameter: Any, ctx: Any) -> bool:
        if not ctx.meta.get(IS_SHORT) or len(self.params) <= MOST_USUAL:
            return True
        return parameter.param_type_name == "argument" or parameter.name in USUAL

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {section: [] for section in SECTIONS}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and self.is_shown(parameter, ctx):
                section = getattr(parameter, "rich_help_panel", None)
                usual = ARGUMENTS if parameter.param_type_name == "argument" else OTHER
                sections[section or usual].append(record)
        for name, records in sections.items():
            if records:
                with formatter.section(name):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """An example, in a line that can be copied."""
        if self.epilog:
            formatter.write(f"\nExample:\n  {self.epilog}\n")
        hidden = [p for p in self.get_params(ctx) if not self.is_shown(p, ctx)]
        if hidden:
            formatter.write(f"\n--help shows {len(hidden)} more options.\n")

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        ctx.meta[IS_SHORT] = "--help" not in args
        for p in self.params:  # what the environment says is one value, spaces and all: " Paris"
            p.envvar_list_splitter = "\0"  # type: ignore[misc]
        try:
            rest = super().parse_args(ctx, args)
        except TyperException as error:
            if error.message.startswith(STRAY) and any(p.name == "given_text" for p in self.params):
                error.message += "; put a text of several words in quotes"
            raise
        for name, value in ctx.params.items():
            ctx.params[name] = at_home(value, name in PATHS_AS_TEXT)
        for group in RIVALS:
            rivals = [p for p in self.params if p.name in group]
            strength = {
                p.name: SOURCES.index(source.name)
                for p in rivals
                if p.name and (source := ctx.get_parameter_source(p.name))
            }
            for p in rivals:
                if p.name and strength[p.name] > min(strength.values()):
                    ctx.params[p.name] = p.default
        return rest


class CommandsGroup(TyperGroup):
    """Commands of which the nearest is named where there is none of a name; and what looks like a
    text is told how it is read."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if name not in self.commands and not name.startswith("-"):
            ctx.fail(f"No such command {name!r}{self.way_out(name)}")
        return super().resolve_command(ctx, args)

    def way_out(self, name: str) -> str:
        near = nearest(name, self.commands)
        if near:
            return f"; {near}".rstrip()
        if TEXT_COMMAND not in self.commands:
            return ""
        return (
            "; to see what every layer guesses in a text, write "
            f"logitlens {TEXT_COMMAND} {shlex.quote(name)}"
        )
