"""Write the generated parts of README.md and the schema file: ``python tests/readme.py``."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import licences

from logitlens_cli import reading

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
SCHEMA = ROOT / "logitlens_cli" / "schema.json"


def help_text(command: str) -> str:
    """What ``logitlens COMMAND --help`` prints on a terminal of 100 columns without colours."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("LOGITLENS", "FORCE"))}
    environment |= {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1", "TERM": "dumb"}
    made = subprocess.run(
        [sys.executable, "-m", "logitlens_cli", *command.split(), "--help"],
        capture_output=True, text=True, check=True, env=environment, timeout=60,
    )  # fmt: skip
    lines = [line.rstrip() for line in made.stdout.strip().splitlines()]
    return "```text\n" + "\n".join(lines) + "\n```"


def schema_text() -> str:
    return json.dumps(reading.schema(), indent=2) + "\n"


def shape(definition: dict[str, object]) -> str:
    """A type of the schema in a few words."""
    if "$ref" in definition:
        return str(definition["$ref"]).rsplit("/", 1)[-1]
    if "enum" in definition:
        return " or ".join(json.dumps(value) for value in definition["enum"])  # type: ignore[attr-defined]
    if "anyOf" in definition:
        # The array first, or its "or null" would read as that of its items.
        kinds = sorted(definition["anyOf"], key=lambda d: d.get("type") == "array")  # type: ignore[call-overload]
        return " or ".join(shape(d) for d in kinds)
    if definition.get("type") == "array" and isinstance(definition.get("items"), dict):
        return f"list of {shape(definition['items'])}"  # type: ignore[arg-type]
    if definition.get("type") == "object" and isinstance(
        definition.get("additionalProperties"), dict
    ):
        return f"object of {shape(definition['additionalProperties'])}"  # type: ignore[arg-type]
    return str(definition.get("type", "any"))


def schema_table() -> str:
    """Every object of the dump with its keys."""
    lines = ["| object | keys |", "|---|---|"]
    definitions = reading.schema()["$defs"]
    for name in ["Reading", *sorted(set(definitions) - {"Reading"})]:
        keys = definitions[name]["properties"]
        lines.append(
            f"| {name} | " + ", ".join(f"`{k}` {shape(v)}" for k, v in keys.items()) + " |"
        )
    return "\n".join(lines)


def fresh(text: str) -> str:
    """README.md with every generated part made anew."""

    def replace(match: re.Match[str]) -> str:
        what = match[1]
        tables = {"schema": schema_table, "licences": licences.table}
        made = tables[what]() if what in tables else help_text(what.removeprefix("help "))
        return f"<!-- {what} -->\n{made}\n<!-- end -->"

    return re.sub(
        r"<!-- (schema|licences|help [a-z -]+) -->\n.*?<!-- end -->", replace, text, flags=re.DOTALL
    )


if __name__ == "__main__":
    SCHEMA.write_text(schema_text())
    README.write_text(fresh(README.read_text()))
