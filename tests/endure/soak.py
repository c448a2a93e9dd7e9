"""A batch that runs for long: do memory, handles and threads stay flat?

    make soak              30 minutes
    make soak MINUTES=1

One process reads prompts on a tiny model and another draws them, until SIGINT ends both. The series
goes to ``soak.csv`` in --out; exit 1 if something grew beyond its bound.
"""

import argparse
import csv
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
from conftest import byte_tokenizer, heed_interrupts, tiny_llama

WARM = 0.1
"""share of the time that does not count: libraries load, caches fill"""
BOUNDS = {"rss_mib": 16.0, "handles": 0.0, "threads": 0.0}
"""by how much the median of the last third may lie above that of the first"""
PROMPTS = 60_000
STOPPED = 60.0
"""seconds for a batch to come to rest after SIGINT"""


def prepare(folder: Path) -> tuple[Path, Path]:
    """A model and a file of prompts of many lengths."""
    model = folder / "tiny-llama"
    tiny_llama().save_pretrained(model)
    byte_tokenizer().save_pretrained(model)
    words = ("the cat", "a dog", "数字", "plasma")
    prompts = folder / "many.txt"
    with prompts.open("w", encoding="utf-8") as file:
        for n in range(PROMPTS):
            file.write(f"{' '.join(words[(n + i) % 4] for i in range(1 + n % 4))} {n}\n")
    return model, prompts


def sample(parent: psutil.Process) -> dict[str, float]:
    """Of the process and all its children."""
    family = [parent, *parent.children(recursive=True)]
    return {
        "processes": len(family),
        "rss_mib": round(sum(p.memory_info().rss for p in family) / 2**20, 1),
        "parent_rss_mib": round(parent.memory_info().rss / 2**20, 1),
        "handles": sum(p.num_fds() for p in family),
        "threads": sum(p.num_threads() for p in family),
    }


def grown(series: list[dict[str, float]], name: str, seconds: float) -> float:
    """Median of the last third less that of the first, after the warm-up."""
    values = [row[name] for row in series if row["seconds"] >= WARM * seconds]
    third = len(values) // 3
    return statistics.median(values[-third:]) - statistics.median(values[:third])


def watch(child: subprocess.Popen[bytes], out: Path, seconds: float) -> list[dict[str, float]]:
    """A sample every ten seconds or oftener, into ``soak.csv``."""
    parent, began = psutil.Process(child.pid), time.monotonic()
    series: list[dict[str, float]] = []
    with (out / "soak.csv").open("w", newline="") as file:
        table: csv.DictWriter[str] | None = None
        while time.monotonic() - began < seconds:
            time.sleep(min(10.0, seconds / 60))
            if child.poll() is not None:
                raise SystemExit(f"the batch ended by itself with {child.returncode}")
            try:
                row = sample(parent)
            except psutil.NoSuchProcess:  # a child that came and went meanwhile
                continue
            ledger = out / "figures" / "many.all.done.jsonl"
            done = ledger.read_bytes().count(b"\n") if ledger.exists() else 0
            series.append({"seconds": round(time.monotonic() - began, 1), "prompts": done, **row})
            if table is None:
                table = csv.DictWriter(file, list(series[0]))
                table.writeheader()
            table.writerow(series[-1])
            file.flush()
    return series


def soak(minutes: float, out: Path) -> list[str]:
    """Run, print the series' summary; what is wrong."""
    out.mkdir(parents=True, exist_ok=True)
    model, prompts = prepare(out)
    figures = out / "figures"
    command = [sys.executable, "-m", "logitlens_cli", "all", "--lines", str(prompts)]
    command += ["-m", str(model), "-o", str(figures), "--jobs", "1", "-q"]
    command += ["--format", "svg", "--dpi", "40"]
    with (out / "stderr.txt").open("wb") as said:
        child = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=said, preexec_fn=heed_interrupts
        )
        try:
            series = watch(child, out, minutes * 60)
            child.send_signal(signal.SIGINT)
            child.wait(STOPPED)
        finally:
            child.kill()
            child.wait(STOPPED)
    wrong = []
    for name, bound in BOUNDS.items():
        growth = grown(series, name, minutes * 60)
        values = [row[name] for row in series]
        ends = f"{values[0]:.0f} at first, {max(values):.0f} at most, {values[-1]:.0f} at last"
        print(f"{name}: {ends}; last third over first {growth:+.1f} (bound {bound:+.0f})")
        if growth > bound:
            wrong.append(f"{name} grew by {growth:.1f}")
    ledger = (figures / "many.all.done.jsonl").read_bytes().splitlines()
    recorded = {json.loads(line)["name"] for line in ledger}
    there = {path.name.removesuffix(".all.json") for path in figures.glob("*.all.json")}
    print(f"{len(recorded)} prompts in {minutes:g} minutes, {len(series)} samples")
    if recorded != there:
        wrong.append(f"{len(recorded)} prompts recorded, {len(there)} written")
    if child.returncode != 130 or list(figures.glob(".logitlens-*")):
        wrong.append(f"the batch ended with {child.returncode}, or left temporary files")
    if (out / "stderr.txt").read_text() != "logitlens: interrupted\n":
        wrong.append(f"{out / 'stderr.txt'} says more than that it was interrupted")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--out", type=Path, help="where the series stays")
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        wrong = soak(given.minutes, given.out or Path(folder))
    for line in wrong:
        print(f"WRONG: {line}")
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
