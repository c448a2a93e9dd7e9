"""Write the generated parts of the documents, and the schema file: ``make docs``.

A generated part stands between ``<!-- NAME -->`` and ``<!-- end -->``; PARTS says what it holds.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import licences
import msgspec

from logitlens_cli.reading import difference, dump, fit_report, parquet, record, summary

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "logitlens_cli" / "reading" / "schema.json"
REFERENCE = ROOT / "logitlens_cli" / "cli" / "REFERENCE.md"
FORMATS = ROOT / "logitlens_cli" / "reading" / "README.md"
TESTS = ROOT / "tests" / "README.md"
DOCUMENTS = (REFERENCE, FORMATS, TESTS)
DUMP = ROOT / "tests" / "fuzz" / "corpus" / "dump" / "all.json"
"""a dump of `logitlens all`"""


def help_lines(command: str) -> list[str]:
    """What ``logitlens COMMAND --help`` prints on a terminal of 100 columns without colours."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("LOGITLENS", "FORCE"))}
    environment |= {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1", "TERM": "dumb"}
    ran = subprocess.run(
        [sys.executable, "-m", "logitlens_cli", *command.split(), "--help"],
        capture_output=True, text=True, check=True, env=environment, timeout=60,
    )  # fmt: skip
    return [line.rstrip() for line in ran.stdout.strip().splitlines()]


def commands(group: str = "") -> Iterator[tuple[str, list[str]]]:
    """Every command with its help, those of a group after it, in the order of the helps."""
    lines = help_lines(group)
    yield group, lines
    if "Commands:" not in lines:
        return
    for line in lines[lines.index("Commands:") + 1 :]:
        if not line:
            break
        if name := re.match(r"  (\S+)", line):
            yield from commands(f"{group} {name[1]}".strip())


def command_reference() -> str:
    """A list of all commands, then the help of each."""
    every = list(commands())
    listed, sections = [], []
    for command, lines in every:
        name = f"logitlens {command}".strip()
        about = " ".join(line.strip() for line in lines[2 : lines.index("", 2)])
        listed.append(f"* [`{name}`](#{name.replace(' ', '-')}): {about}")
        sections.append("\n".join([f"## {name}", "", "```text", *lines, "```"]))
    return "\n\n".join(["\n".join(listed), *sections])


def schema_text() -> str:
    return json.dumps(dump.dump_schema(), indent=2) + "\n"


def shape(definition: dict[str, Any]) -> str:
    """A type of the schema in a few words."""
    if "$ref" in definition:
        return str(definition["$ref"]).rsplit("/", 1)[-1]
    if "enum" in definition:
        return " or ".join(json.dumps(value) for value in definition["enum"])
    if "anyOf" in definition:
        # The array first, or its "or null" would read as that of its items.
        kinds = sorted(definition["anyOf"], key=lambda d: d.get("type") == "array")
        return " or ".join(shape(d) for d in kinds)
    if definition.get("type") == "array" and isinstance(definition.get("items"), dict):
        return f"list of {shape(definition['items'])}"
    if definition.get("type") == "object" and isinstance(
        definition.get("additionalProperties"), dict
    ):
        return f"object of {shape(definition['additionalProperties'])}"
    return str(definition.get("type", "any"))


def keys_of(root: type, known: set[str]) -> str:
    """Every object of a format with its keys, but for those of ``known``, which stand elsewhere."""
    definitions = msgspec.json.schema(root)["$defs"]
    lines = ["| object | keys |", "|---|---|"]
    for name in [root.__name__, *sorted(set(definitions) - {root.__name__} - known)]:
        if "properties" in definitions[name]:
            keys = definitions[name]["properties"].items()
            lines.append(f"| {name} | {', '.join(f'`{k}` {shape(v)}' for k, v in keys)} |")
    return "\n".join(lines)


def dump_keys() -> str:
    return keys_of(record.Reading, set())


def summary_keys() -> str:
    return keys_of(summary.Summary, set(dump.dump_schema()["$defs"]))


def difference_keys() -> str:
    return keys_of(difference.Difference, set(dump.dump_schema()["$defs"]))


def fit_keys() -> str:
    return keys_of(fit_report.FitReport, set(dump.dump_schema()["$defs"]))


def parquet_columns() -> str:
    """The columns of a table of `logitlens all`."""
    schema = parquet.table(dump.load_dump(DUMP)).schema
    kinds = [re.sub(r"list<\w+: (\w+)>", r"list of \1", str(field.type)) for field in schema]
    rows = [f"| `{name}` | {kind} |" for name, kind in zip(schema.names, kinds, strict=True)]
    return "\n".join(["| column | type |", "|---|---|", *rows])


PARTS: dict[str, Callable[[], str]] = {
    "commands": command_reference,
    "dump": dump_keys,
    "summary": summary_keys,
    "difference": difference_keys,
    "fit": fit_keys,
    "parquet": parquet_columns,
    "licences": licences.table,
}


def fresh(text: str) -> str:
    """A document with each of its generated parts written anew."""

    def replace(match: re.Match[str]) -> str:
        return f"<!-- {match[1]} -->\n{PARTS[match[1]]()}\n<!-- end -->"

    pattern = rf"<!-- ({'|'.join(PARTS)}) -->\n.*?<!-- end -->"
    return re.sub(pattern, replace, text, flags=re.DOTALL)


if __name__ == "__main__":
    SCHEMA.write_text(schema_text())
    for document in DOCUMENTS:
        document.write_text(fresh(document.read_text()))
