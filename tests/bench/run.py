"""Measure, and write the table beside this file: ``make bench``; or sections of it, by name.

These machines are noisy, so contenders take turns within one run, and ratios are taken within a
turn; each figure is the median of them, with the lowest and the highest.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from worker import PLASMA

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
TABLE = HERE / "results.md"
# (shape, tokens, threads, turns)
GRIDS = [
    *(("default", 32, threads, 5) for threads in (1, 2)),
    *(("default", 128, threads, 5) for threads in (1, 2)),
    *(("default", 512, threads, 2) for threads in (1, 2)),
    ("default", 1024, 2, 2),
    *(("gpt2", 128, threads, 5) for threads in (1, 2)),
    *(("wide", 128, threads, 5) for threads in (1, 2)),
]
SHAPES = {
    "default": "default model, 31 rows, width 576, 49152 entries",
    "gpt2": "random, GPT-2 124M's shape: 13 rows, width 768, 50257 entries",
    "wide": "random, GPT-2 XL's width: 13 rows, width 1600, 50257 entries",
}
PEERS = ["transformer-lens", "tuned-lens"]

Turn = dict[str, dict[str, float]]


# ---------------------------------------------------------------------------------------------
# Taking turns


class Worker:
    """A process that runs contenders when told to."""

    def __init__(self, python: str, shape: str, tokens: int, threads: int, kind: str) -> None:
        command = [python, str(HERE / "worker.py"), shape, str(tokens), str(threads), kind]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.names: list[str] = self.answer()

    def answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args!r} ended with {self.process.wait(60)}")
        return json.loads(line)

    def run(self, name: str) -> dict[str, float]:
        assert self.process.stdin is not None
        self.process.stdin.write(name + "\n")
        self.process.stdin.flush()
        made: dict[str, float] = self.answer()
        return made


@contextmanager
def workers(specs: Sequence[tuple[str, str, int, int, str]]) -> Iterator[dict[str, Worker]]:
    """Contenders by name."""
    with ExitStack() as stack:
        made: dict[str, Worker] = {}
        for spec in specs:
            worker = Worker(*spec)
            stack.callback(worker.process.kill)
            made |= dict.fromkeys(worker.names, worker)
        yield made


def take_turns(contenders: dict[str, Callable[[], dict[str, float]]], turns: int) -> list[Turn]:
    """A warming turn, whose memory counts (it is a first use) but not its time; ``turns`` more."""
    first = {name: run() for name, run in contenders.items()}
    made = []
    for _ in range(turns):
        turn = {name: run() for name, run in contenders.items()}
        for name, measured in turn.items():
            measured["mib"] = max(measured.get("mib", 0), first[name].get("mib", 0))
        made.append(turn)
    return made


def timed(run: Callable[[], Any]) -> Callable[[], dict[str, float]]:
    def measured() -> dict[str, float]:
        start = time.perf_counter()
        run()
        return {"seconds": time.perf_counter() - start}

    return measured


def seconds(turns: list[Turn], *names: str) -> str:
    return f"{statistics.median(sum(turn[n]['seconds'] for n in names) for turn in turns):.2f}"


def ratio(turns: list[Turn], above: Sequence[str], below: Sequence[str]) -> str:
    """Median of the sum of ``above`` over the sum of ``below``, and the range."""
    quotients = [
        sum(turn[n]["seconds"] for n in above) / sum(turn[n]["seconds"] for n in below)
        for turn in turns
    ]
    return f"{statistics.median(quotients):.2f} ({min(quotients):.2f}-{max(quotients):.2f})"


def mib(turns: list[Turn], name: str) -> str:
    return f"{max(turn[name]['mib'] for turn in turns):.0f}"


# ---------------------------------------------------------------------------------------------
# What is measured


def engine() -> Iterator[str]:
    yield "## The engine"
    yield ""
    yield (
        "All four metrics, float32. Floor: the unembedding product alone by `torch.mm`, output "
        "thrown away, by the best tiling of four; product: the same by the library that the engine "
        "takes on this processor. Fast: with `logitlens-cli[fast]`. Reading: forward pass without "
        "head, and engine. Memory: beyond weights and what was there before."
    )
    yield ""
    yield (
        "| model | tokens | threads | floor, s | forward, s | product / floor | engine / floor "
        "| fast / floor "
        "| reading / (forward + floor) | fast reading | engine, MiB | us a cell |"
    )
    yield "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    for shape, tokens, threads, turns in GRIDS:
        with workers([(sys.executable, shape, tokens, threads, "ours")]) as found:
            names = ["floor", "forward", "engine", "engine fast", "reading", "reading fast"]
            names.append("product")
            made = take_turns({n: lambda n=n: found[n].run(n) for n in names}, turns)  # type: ignore[misc]
        cells = tokens * (31 if shape == "default" else 13)
        both = ["forward", "floor"]
        cell = float(seconds(made, "engine fast")) / cells * 1e6
        yield (
            f"| {shape} | {tokens} | {threads} | {seconds(made, 'floor')} "
            f"| {seconds(made, 'forward')} | {ratio(made, ['product'], ['floor'])} "
            f"| {ratio(made, ['engine'], ['floor'])} "
            f"| {ratio(made, ['engine fast'], ['floor'])} | {ratio(made, ['reading'], both)} "
            f"| {ratio(made, ['reading fast'], both)} "
            f"| {max(float(mib(made, n)) for n in names[2:4]):.0f} | {cell:.0f} |"
        )
    yield ""
    for shape, words in SHAPES.items():
        yield f"- {shape}: {words}."
    yield ""


COMMANDS = ["all", "topk", "rank", "kl-final", "kl-input"]


def commands() -> Iterator[str]:
    tokens, threads = 128, 2
    yield "## One pass for all"
    yield ""
    yield (
        f"The default model, {tokens} tokens, {threads} threads, torch alone: the reading that "
        "each command asks for (forward pass and engine, five guesses where the command has them)."
    )
    yield ""
    with workers([(sys.executable, "default", tokens, threads, "ours")]) as found:
        made = take_turns({n: lambda n=n: found[n].run(n) for n in COMMANDS}, 5)  # type: ignore[misc]
    yield "| | s | all / it |"
    yield "|---|--:|--:|"
    for name in COMMANDS:
        yield f"| {name} | {seconds(made, name)} | {ratio(made, ['all'], [name])} |"
    yield ""


def many() -> Iterator[str]:
    names = ["alone", "batch", "one by one", "naive"]
    yield "## Many prompts"
    yield ""
    yield (
        "The default model, `all`, JSON only, 2 threads; 500 sentences of Python's language "
        "reference, 100 a turn (20 one by one, 10 naively), model open. Alone: "
        "one text of 128 tokens, without writing. Batch: "
        "like lengths share a pass, files and ledger written. Naive: one by one, all hidden states "
        "through norm and head, softmax and sums, nothing written."
    )
    yield ""
    yield "| | alone, tokens/s | batch, tokens/s | ratio | batch / one by one | batch / naive |"
    yield "|---|--:|--:|--:|--:|--:|"
    for kind, words in (("torch", "torch alone"), ("fast", "with `fast`")):
        with workers([(sys.executable, kind, 128, 2, "batch")]) as found:
            made = take_turns({n: lambda n=n: found[n].run(n) for n in names}, 5)  # type: ignore[misc]
        speeds = [f"{1000 / float(seconds(made, n)):.0f}" for n in names[:2]]
        ratios = [ratio(made, [n], ["batch"]) for n in ("alone", "one by one", "naive")]
        yield f"| {words} | {' | '.join(speeds)} | {' | '.join(ratios)} |"
    yield ""


def proof() -> Iterator[str]:
    names = ["prove", "first reading", "next reading"]
    with workers([(sys.executable, "default", 0, 2, "proof")]) as found:
        turns = take_turns({n: lambda n=n: found[n].run(n) for n in names}, 7)  # type: ignore[misc]
    yield "## Proof"
    yield ""
    yield (
        "The plasma text, `all`, the default model, open, 2 threads. Proof: what is tried of a "
        "model before its first text. The first reading tries more on its own text; the next one "
        "of this length need not."
    )
    yield ""
    yield (
        "| proof, s | first reading, s | next reading, s | first / next | (proof + first) / next |"
    )
    yield "|--:|--:|--:|--:|--:|"
    seconds_of = " | ".join(seconds(turns, name) for name in names)
    yield (
        f"| {seconds_of} | {ratio(turns, names[1:2], names[2:])} "
        f"| {ratio(turns, names[:2], names[2:])} |"
    )
    yield ""


def mapping() -> Iterator[str]:
    names = ["plain", "mapped"]
    yield "## Lenses with maps"
    yield ""
    yield (
        "The grid of all four metrics, 128 tokens, 2 threads, torch alone: by the plain lens, and "
        "with an affine map for each row but the last. Width / vocabulary is what the maps' "
        "products have to cost."
    )
    yield ""
    yield "| model | width / vocabulary | plain, s | mapped, s | mapped / plain |"
    yield "|---|--:|--:|--:|--:|"
    for shape, share in (("default", 576 / 49152), ("wide", 1600 / 50257)):
        with workers([(sys.executable, shape, 128, 2, "mapped")]) as found:
            made = take_turns({n: lambda n=n: found[n].run(n) for n in names}, 7)  # type: ignore[misc]
        yield (
            f"| {shape} | {share:.3f} | {seconds(made, 'plain')} | {seconds(made, 'mapped')} "
            f"| {ratio(made, ['mapped'], ['plain'])} |"
        )
    yield ""


def fitting() -> Iterator[str]:
    names = ["bare", "fit"]
    yield "## Fitting"
    yield ""
    yield (
        "`logitlens fit --kind linear` on the default model, 16 chunks of 256 tokens of Python's "
        "reference, 2 threads, model open. Bare: the same chunks, two a pass, through the model's "
        "body, nothing kept. Fit: with the sums of all 30 rows in float64. What comes after "
        "(solving, measuring on held-out text) does not grow with the text."
    )
    yield ""
    with workers([(sys.executable, "default", 0, 2, "fit")]) as found:
        made = take_turns({n: lambda n=n: found[n].run(n) for n in names}, 5)  # type: ignore[misc]
    yield "| bare, tokens/s | fit, tokens/s | speed of fit / bare | fit, MiB |"
    yield "|--:|--:|--:|--:|"
    speeds = [f"{16 * 256 / float(seconds(made, n)):.0f}" for n in names]
    yield f"| {' | '.join(speeds)} | {ratio(made, ['bare'], ['fit'])} | {mib(made, 'fit')} |"
    yield ""


def peers() -> Iterator[str]:
    tokens, threads = 128, 2
    yield "## Peers"
    yield ""
    yield (
        f"Shape gpt2, {tokens} tokens, {threads} threads, forward pass included on both sides. "
        "Naive: all hidden states through norm and head, then softmax and sums. TransformerLens: "
        "its cache and final norm, the metrics in torch. tuned-lens: its trajectory, which has no "
        "KL to the input."
    )
    yield ""
    specs = [(sys.executable, "gpt2", tokens, threads, "ours")]
    for peer in PEERS:
        python = ROOT / ".venv-bench" / peer / "bin" / "python"
        if python.exists():
            specs.append((str(python), "gpt2", tokens, threads, peer))
    with workers(specs) as found:
        parts = ("floor", "forward", "engine", "engine fast", *COMMANDS)
        names = [n for n in found if n not in parts]
        made = take_turns({n: lambda n=n: found[n].run(n) for n in names}, 5)  # type: ignore[misc]
    yield "| | s | time / reading | time / fast reading | extra memory, MiB |"
    yield "|---|--:|--:|--:|--:|"
    for name in names:
        yield (
            f"| {name} | {seconds(made, name)} | {ratio(made, [name], ['reading'])} "
            f"| {ratio(made, [name], ['reading fast'])} | {mib(made, name)} |"
        )
    yield ""


BARE = """
import torch
from transformers import AutoTokenizer, LlamaForCausalLM
tokenizer = AutoTokenizer.from_pretrained({folder!r})
model = LlamaForCausalLM.from_pretrained({folder!r}).eval()
with torch.inference_mode():
    model(**tokenizer({text!r}, return_tensors="pt"))
"""


def start_up() -> Iterator[str]:
    from logitlens_cli.model import smollm2

    folder = str(smollm2.cached_folder())
    command = str(Path(sys.executable).with_name("logitlens"))

    def shell(*words: str) -> Callable[[], Any]:
        return lambda: subprocess.run(words, check=True, capture_output=True, timeout=600)

    with tempfile.TemporaryDirectory() as out:
        rank = [command, "rank", "--text", PLASMA, "--out", out, "--quiet"]
        contenders = {
            "import typer, rich": timed(shell(sys.executable, "-c", "import typer, rich")),
            "--help": timed(shell(command, "--help")),
            "bare script": timed(
                shell(sys.executable, "-c", BARE.format(folder=folder, text=PLASMA))
            ),
            "rank": timed(shell(*rank)),
        }
        made = take_turns(contenders, 7)
    yield "## Start-up"
    yield ""
    yield (
        "The bare script imports torch and transformers' model class, loads the default model's "
        "weights and tokenizer and runs one forward pass over the plasma text; `logitlens rank` "
        "does so and writes PNG (300 dpi), SVG and JSON."
    )
    yield ""
    yield "| | s | to compare with | s | ratio |"
    yield "|---|--:|---|--:|--:|"
    for name, other in (("--help", "import typer, rich"), ("rank", "bare script")):
        yield (
            f"| `logitlens {name}` | {seconds(made, name)} | {other} | {seconds(made, other)} "
            f"| {ratio(made, [name], [other])} |"
        )
    yield ""


def figure() -> Iterator[str]:
    import matplotlib as mpl

    mpl.use("agg")
    import numpy as np
    import seaborn as sns
    from matplotlib import pyplot as plt
    from matplotlib.patches import Rectangle

    from logitlens_cli.figures.heatmap import draw_heatmaps
    from logitlens_cli.figures.style import FigureStyle
    from logitlens_cli.reading import dump

    with tempfile.TemporaryDirectory() as out:
        subprocess.run(
            [
                *(str(Path(sys.executable).with_name("logitlens")), "topk", "--text", PLASMA),
                *("--layers", "6-29", "--window", "0:20", "--format", "svg", "--out", out),
                *("--name", "bench"),
            ],
            check=True,
            capture_output=True,
            timeout=600,
        )
        reading = dump.load_dump(next(Path(out).glob("*.json")))
    style = FigureStyle()
    size = draw_heatmaps(reading, "topk", style)[0].figure.get_size_inches()
    values = np.array(reading.metrics["own-logit"].values)[::-1]
    texts = np.array([[cell[0] for cell in row] for row in reading.guesses.labels])[::-1]
    outlined = np.array([[cell[0] for cell in row] for row in reading.guesses.ids])[::-1]
    assert values.shape == (25, 20)

    def ours() -> None:
        for drawing in draw_heatmaps(reading, "topk", style):
            drawing.save(BytesIO(), "png", style.dpi)

    def plain() -> None:
        drawn, ax = plt.subplots(figsize=size)
        escaped = np.char.replace(texts, "$", r"\\$")
        sns.heatmap(values, annot=escaped, fmt="", ax=ax, annot_kws={"size": 7})
        for y, x in np.argwhere(outlined == np.array(reading.final_ids)):
            ax.add_patch(Rectangle((x, y), 1, 1, fill=False, edgecolor="black"))
        ax.set_xticks(np.arange(20) + 0.5, [token.label for token in reading.tokens], rotation=60)
        ax.set_yticks(np.arange(25) + 0.5, [layer.label for layer in reading.layers[::-1]])
        drawn.tight_layout()
        drawn.savefig(BytesIO(), format="png", dpi=style.dpi)
        plt.close(drawn)

    made = take_turns({"ours": timed(ours), "plain": timed(plain)}, 7)
    yield "## A figure"
    yield ""
    yield (
        f"25 rows by 20 columns with text, outlines and both axes, {size[0]:.1f} x {size[1]:.1f} "
        "inches, 300 dpi, PNG. Plain: `seaborn.heatmap(annot=...)`, a `Rectangle` a cell, "
        "`tight_layout`, `savefig`."
    )
    yield ""
    yield "| ours, s | plain, s | ours / plain |"
    yield "|--:|--:|--:|"
    yield (
        f"| {seconds(made, 'ours')} | {seconds(made, 'plain')} "
        f"| {ratio(made, ['ours'], ['plain'])} |"
    )
    yield ""


# ---------------------------------------------------------------------------------------------


def machine() -> Iterator[str]:
    import torch
    import transformers

    info = Path("/proc/cpuinfo").read_text("ascii")
    name = info.split("model name\t: ")[1].splitlines()[0] if "model name" in info else "CPU"
    yield "# Benchmark"
    yield ""
    yield (
        f"{name}, {os.cpu_count()} cores, {torch.backends.cpu.get_cpu_capability()}, no GPU; "
        f"Python {platform.python_version()}, torch {torch.__version__.partition('+')[0]}, "
        f"transformers {transformers.__version__}. Medians of turns taken in one run, with the "
        "lowest and the highest; written by `make bench`."
    )
    yield ""


SECTIONS = {
    "engine": engine,
    "commands": commands,
    "many": many,
    "proof": proof,
    "fit": fitting,
    "maps": mapping,
    "peers": peers,
    "start-up": start_up,
    "figure": figure,
}


def main(chosen: Sequence[str]) -> None:
    old = TABLE.read_text("utf-8").split("\n## ")[1:] if TABLE.exists() else []
    parts = {part.partition("\n")[0]: f"## {part.rstrip()}\n" for part in old}
    for name in chosen or SECTIONS:
        part = "\n".join(SECTIONS[name]())
        print(part, flush=True)
        parts[part.partition("\n")[0].removeprefix("## ")] = part
    TABLE.write_text("\n".join([*machine(), *parts.values()]).rstrip() + "\n", "utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
