"""How Typer parses a command's options, and how its help shows them."""

from typing import Any

from typer.core import TyperCommand

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


class OptionsCommand(TyperCommand):
    """A command in which the rivals of an option from a weaker source make way for it (--text goes
    before the file of a preset), and whose help shows the options in their groups."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        sections: dict[str, list[tuple[str, str]]] = {section: [] for section in SECTIONS}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                section = getattr(parameter, "rich_help_panel", None)
                usual = ARGUMENTS if parameter.param_type_name == "argument" else OTHER
                sections[section or usual].append(record)
        for name, records in sections.items():
            if records:
                with formatter.section(name):
                    formatter.write_dl(records)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        for p in self.params:  # what the environment says is one value, spaces and all: " Paris"
            p.envvar_list_splitter = "\0"  # type: ignore[misc]
        rest = super().parse_args(ctx, args)
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
