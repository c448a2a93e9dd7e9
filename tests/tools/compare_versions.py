"""Run the same command lines with two checkouts and compare all that comes of them.

``python tests/tools/compare_versions.py OLD NEW`` (folders that hold ``logitlens_cli/``) compares
exit codes, standard output, names of files and their content: bytes, but of Parquet the tables and
of JSON the values and the order of keys. It prints a report in Markdown and exits with 1 if
anything differs but what may: versions, the hashes of a batch (they cover options and versions),
options that only one side has, and the wording of messages on standard error.

Each command line is a process of its own, two at a time: nothing of one can leak into another,
signals, exit codes and drawing processes are the real ones, and where the modules of a checkout
lie does not matter. Threads of torch are fixed, since sums depend on how many share them.
"""

import argparse
import difflib
import hashlib
import json
import os
import re
import shlex
import shutil
import string
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow.parquet

TABLE = Path(__file__).with_name("command_lines.txt")
ENVIRONMENT = {"COLUMNS": "100", "TERM": "dumb", "HF_HUB_OFFLINE": "1"}
ENVIRONMENT |= {"OMP_NUM_THREADS": "1", "LOGITLENS_DPI": "60"}
CACHE = "LOGITLENS_CACHE"
LIBRARIES = ("torch", "transformers", "numpy", "matplotlib", "seaborn", "pyarrow")
TIMEOUT = 900.0  # seconds, for a command line

TEXTS = {
    "FRANCE": "The capital of France is",
    "PLASMA": "Sometimes, when people say plasma, they mean a gas. When I say plasma",
    "SCRIPTS": "naïve café – 東京は日本 🙂\nمرحبا",
}
INPUTS = {
    "plasma.txt": TEXTS["PLASMA"],
    "lines.txt": "The capital of France is\nOne two three four\n\nTo be or not to be\nA b c d\n",
    "prompts.jsonl": '{"text": "The sky is", "name": "sky"}\n{"text": "Two and two are four"}\n'
    '{"text": "In the beginning was the", "name": "word"}\n',
    "broken.jsonl": '{"text": "a"}\n{"text":\n',
    "preset.toml": 'text = "The capital is"\nevery = 2\nnorm = "no-affine"\nname = "set"\n',
    "unknown.toml": "colour = 3\n",
}
MOST = 3  # differences of a file that the report shows
PROGRESS = re.compile(r"logitlens: \d+ of \d+ prompts, .* tokens/s")
MESSAGE = "logitlens: "


@dataclass
class Ran:
    """What came of one command line."""

    code: int
    stdout: list[str]
    stderr: list[str]
    written: list[str]


@dataclass
class Report:
    """What may differ, and what must not, by command line."""

    faults: dict[str, list[str]] = field(default_factory=dict)
    messages: dict[str, list[str]] = field(default_factory=dict)
    removed: set[str] = field(default_factory=set)
    added: set[str] = field(default_factory=set)
    lines: int = 0
    files: int = 0


def cases(pattern: str) -> dict[str, list[str]]:
    """Command lines by the name of their folder: of every case in which one of them matches."""
    paragraphs = [text.splitlines() for text in TABLE.read_text().strip().split("\n\n")[1:]]
    return {
        f"{number:02}-{parse(lines[-1])[2][0].strip('-')}": lines
        for number, lines in enumerate(paragraphs, 1)
        if any(re.search(pattern, line) for line in lines)
    }


def parse(line: str) -> tuple[int, dict[str, str], list[str]]:
    """The exit code that is expected, the environment and the arguments of a command line."""
    quoted = {name: shlex.quote(text) for name, text in TEXTS.items()}
    words = shlex.split(string.Template(line).substitute(quoted))
    code, environment = 0, {}
    while match := re.fullmatch(r"([A-Z_]*)=(.*)", words[0]):
        if match[1]:
            environment[match[1]] = match[2]
        else:
            code = int(match[2])
        words.pop(0)
    return code, environment, words


def environment_of(checkout: Path) -> dict[str, str]:
    barred = ("LOGITLENS_", "FORCE_COLOR", "NO_COLOR", "COLORTERM", "PYTHON")
    ours = {k: v for k, v in os.environ.items() if k == CACHE or not k.startswith(barred)}
    return ours | ENVIRONMENT | {"PYTHONPATH": str(checkout)}


def fingerprint(checkout: Path) -> str:
    """Of all that results depend on but the command lines: sources, libraries, environment."""
    code = "import logitlens_cli; print(logitlens_cli.__file__)"
    found = subprocess.check_output(
        [sys.executable, "-c", code], text=True, env=environment_of(checkout), cwd="/"
    ).strip()
    package = checkout / "logitlens_cli"
    if Path(found) != package / "__init__.py":
        raise SystemExit(f"PYTHONPATH={checkout} does not win: {found} is imported")
    facts = [sys.version, ENVIRONMENT, INPUTS, TEXTS, *((n, version(n)) for n in LIBRARIES)]
    digest = hashlib.sha256(repr(facts).encode())
    for path in sorted(p for p in package.rglob("*.*") if p.suffix != ".pyc"):
        digest.update(f"{path.relative_to(package)}".encode() + path.read_bytes())
    return digest.hexdigest()


def stamps(folder: Path) -> dict[str, tuple[int, int, int]]:
    stats = {str(p.relative_to(folder)): p.stat() for p in folder.rglob("*") if p.is_file()}
    return {name: (s.st_ino, s.st_size, s.st_mtime_ns) for name, s in sorted(stats.items())}


def run_line(line: str, folder: Path, checkout: Path) -> Ran:
    _, environment, arguments = parse(line)
    before = stamps(folder)
    done = subprocess.run(
        [sys.executable, "-m", "logitlens_cli", *arguments], cwd=folder, timeout=TIMEOUT,
        capture_output=True, stdin=subprocess.DEVNULL, env=environment_of(checkout) | environment,
    )  # fmt: skip
    output, errors = (
        stream.decode(errors="backslashreplace").replace(str(folder), ".").split("\n")
        for stream in (done.stdout, done.stderr)
    )
    written = [name for name, stamp in stamps(folder).items() if before.get(name) != stamp]
    return Ran(done.returncode, output, errors, written)


def run_case(lines: list[str], folder: Path, checkout: Path, print_of: str) -> list[Ran]:
    """Run the lines of a case in its folder, or take what is there of the same sources."""
    record = folder.with_suffix(".json")
    asked = [print_of, *lines]
    if record.exists():
        saved = json.loads(record.read_text())
        if saved["asked"] == asked:
            return [Ran(**ran) for ran in saved["ran"]]
        record.unlink()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, text in INPUTS.items():
        (folder / name).write_text(text, encoding="utf-8")
    ran = [run_line(line, folder, checkout) for line in lines]
    record.write_text(json.dumps({"asked": asked, "ran": [asdict(r) for r in ran]}, indent=1))
    return ran


def json_differences(old: Any, new: Any, path: str, report: Report) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        free = ("versions",) if path else ("versions", "key")
        old, new = ({k: v for k, v in d.items() if k not in free} for d in (old, new))
        if path.endswith(".options"):
            report.removed |= old.keys() - new.keys()
            report.added |= new.keys() - old.keys()
            both = sorted(old.keys() & new.keys())
            old, new = ({key: side[key] for key in both} for side in (old, new))
        if list(old) != list(new):
            yield f"{path}: keys {list(old)} → {list(new)}"
        for key in (key for key in old if key in new):
            yield from json_differences(old[key], new[key], f"{path}.{key}", report)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, pair in enumerate(zip(old, new, strict=True)):
            yield from json_differences(pair[0], pair[1], f"{path}[{index}]", report)
    elif repr(old) != repr(new):  # of types too, and NaN is NaN
        yield f"{path}: {old!r:.60} → {new!r:.60}"


def ledger(path: Path) -> list[Any]:
    """Names of a batch's finished prompts and their files, without hashes, sizes and times."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return sorted([line["name"], sorted(line["files"])] for line in lines)


def failure_differences(old: Path, new: Path, report: Report) -> Iterator[str]:
    pair = [[json.loads(line) for line in p.read_text().splitlines()] for p in (old, new)]
    for failure in (*pair[0], *pair[1]):
        failure["lines"] = Path(failure["lines"]).name  # else absolute
    words = [[f.pop(word, "") for f in failures for word in ("error", "hint")] for failures in pair]
    report.messages.setdefault(old.name, []).extend(line_differences(*words))
    yield from json_differences(pair[0], pair[1], "", report)


def file_differences(old: Path, new: Path, report: Report) -> Iterator[str]:
    if old.name.endswith(".done.jsonl"):
        yield from json_differences(ledger(old), ledger(new), "", report)
    elif old.suffix == ".jsonl":
        yield from failure_differences(old, new, report)
    elif old.suffix == ".json":
        pair = [json.loads(path.read_bytes()) for path in (old, new)]
        yield from json_differences(pair[0], pair[1], "", report)
    elif old.suffix == ".parquet":
        tables = [pyarrow.parquet.ParquetFile(path).read() for path in (old, new)]
        if str(tables[0].schema) != str(tables[1].schema):
            yield "another schema"
        elif repr(tables[0].to_pylist()) != repr(tables[1].to_pylist()):  # NaN is NaN
            yield "other cells"
    elif old.read_bytes() != new.read_bytes():
        yield f"other bytes ({old.stat().st_size} → {new.stat().st_size})"
        if old.suffix not in (".png", ".pdf"):
            texts = [path.read_text("utf-8").splitlines() for path in (old, new)]
            yield from line_differences(*texts)


def line_differences(old: list[str], new: list[str]) -> Iterator[str]:
    matcher = difflib.SequenceMatcher(None, old, new)
    for tag, first, last, start, stop in matcher.get_opcodes():
        if tag != "equal":
            yield from (f"-{line:.300}" for line in old[first:last])
            yield from (f"+{line:.300}" for line in new[start:stop])


def compare(line: str, old: Ran, new: Ran, folders: tuple[Path, Path], report: Report) -> None:
    """Note in the report all that differs between the two sides of a command line."""
    faults, expected = [], parse(line)[0]
    if not old.code == new.code == expected:
        faults.append(f"exit code {old.code} → {new.code}, expected {expected}")
    faults += [f"standard output: {text}" for text in line_differences(old.stdout, new.stdout)]
    errors = [[text for text in ran.stderr if not PROGRESS.match(text)] for ran in (old, new)]
    tables = [[text for text in texts if not text.startswith(MESSAGE)] for texts in errors]
    faults += [f"standard error: {text}" for text in line_differences(*tables)]
    messages = [[text for text in texts if text.startswith(MESSAGE)] for texts in errors]
    report.messages.setdefault(line, []).extend(line_differences(*messages))
    faults += [f"files: {text}" for text in line_differences(old.written, new.written)]
    for name in sorted(set(old.written) & set(new.written)):
        report.files += 1
        old_file, new_file = (folder / name for folder in folders)
        found = [f"{name}: {text}" for text in file_differences(old_file, new_file, report)]
        faults += found[:MOST] + [f"{name}: {len(found) - MOST} more"] * bool(found[MOST:])
    report.lines += 1
    if faults:
        report.faults.setdefault(f"{folders[0].name}: {line}", []).extend(faults)


def markdown(report: Report) -> Iterator[str]:
    yield f"{report.lines} command lines, {report.files} files: {len(report.faults)} differ.\n"
    if report.faults:
        yield "| command line | what differs |\n|---|---|"
    for line, faults in report.faults.items():
        words = "<br>".join(faults).replace("|", "\\|")
        yield f"| `{line}` | {words} |"
    for what, names in (("removed", report.removed), ("added", report.added)):
        if names:
            yield f"\nOptions {what} in JSON: {', '.join(f'`{name}`' for name in sorted(names))}"
    reworded = {line: texts for line, texts in report.messages.items() if texts}
    if reworded:
        yield "\n## Reworded messages"
    for line, texts in reworded.items():
        yield "\n".join(["", f"`{line}`", "", "```diff", *texts, "```"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("old", type=Path, help="a folder that holds logitlens_cli/")
    parser.add_argument("new", type=Path, help="another")
    parser.add_argument("--only", default="", help="cases with a line that this pattern matches")
    parser.add_argument("--keep", type=Path, help="a folder to keep the results in")
    parser.add_argument("--old-results", type=Path, help="a folder to keep the old side's in")
    given = parser.parse_args()
    chosen, report = cases(given.only), Report()
    with tempfile.TemporaryDirectory() as spare, ThreadPoolExecutor(2) as pool:
        kept = (given.keep or Path(spare)).resolve()
        sides = [(given.old_results or kept / "old").resolve(), kept / "new"]
        checkouts = [given.old.resolve(), given.new.resolve()]
        prints = [fingerprint(checkout) for checkout in checkouts]
        runs = {
            name: [
                pool.submit(run_case, lines, side / name, checkout, print_of)
                for side, checkout, print_of in zip(sides, checkouts, prints, strict=True)
            ]
            for name, lines in chosen.items()
        }
        for name, lines in chosen.items():
            pair = [run.result() for run in runs[name]]
            for line, old, new in zip(lines, *pair, strict=True):
                compare(line, old, new, (sides[0] / name, sides[1] / name), report)
    print("\n".join(markdown(report)))
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
