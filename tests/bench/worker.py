"""One contender or several in a process of their own: a name on standard input, seconds back.

    python worker.py SHAPE TOKENS THREADS NAME…

Everything gives the grid of all four metrics: top guess, rank of the final guess, KL to the output
and to the input; ``floor`` is the unembedding product alone by ``torch.mm``, ``product`` the same
by what the engine takes, ``forward`` the pass without the head.
Runs in any environment that has torch, transformers and what the contender needs.
"""

import json
import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SHAPES = {
    "gpt2": {"n_embd": 768, "n_layer": 12, "n_head": 12},
    "wide": {"n_embd": 1600, "n_layer": 12, "n_head": 25},
}
PLASMA = (
    "Sometimes, when people say plasma, they mean a state of matter. "
    "Other times, when people say plasma"
)
TILES = [(512, 1024), (1024, 1024), (512, 512), (1024, 512)]


def model_of(shape: str) -> Any:
    """The default model, or a random one of a shape of GPT-2."""
    import transformers

    if shape == "default":
        from logitlens_cli.model.open import open_model
        from logitlens_cli.model.progress import Progress
        from logitlens_cli.model.source import ModelSource

        return open_model(ModelSource("smollm2"), Progress()).model
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**SHAPES[shape])).eval()


def multiply(rows: Tensor, weight: Tensor, out: Tensor) -> Tensor:
    return torch.mm(rows, weight.T, out=out)


@torch.inference_mode()
def product(
    rows: Tensor, weight: Tensor, height: int, width: int, by: Callable[..., Tensor] = multiply
) -> float:
    """Seconds of ``rows @ weight.T`` in tiles, output thrown away."""
    out = torch.empty(height * width)
    start = time.perf_counter()
    for first in range(0, len(weight), width):
        part = weight[first : first + width]
        for n in range(0, len(rows), height):
            some = rows[n : n + height]
            by(some, part, out[: len(some) * len(part)].view(len(some), -1))
    return time.perf_counter() - start


def best_tiling(rows: Tensor, weight: Tensor) -> tuple[int, int]:
    """Found on a part of the vocabulary."""
    some = weight[:8192]
    return min(TILES, key=lambda tile: min(product(rows, some, *tile) for _ in range(2)))


def metrics(every: Tensor, final: Tensor) -> None:
    """The four metrics from all logits (layer, position, entry), as one would write them."""
    log_p = every.log_softmax(-1)
    every.argmax(-1)
    guess = final.argmax(-1)
    own = every.gather(-1, guess.expand(len(every), -1).unsqueeze(-1))
    (every > own).sum(-1)
    for reference in (log_p[-1], log_p[0]):
        (reference.exp() * (reference - log_p)).sum(-1)


def ours(  # noqa: PLR0915  # one closure per row
    shape: str, ids: list[int]
) -> dict[str, Callable[[], float | None]]:
    """The floor, the parts of a reading, a reading, and what it is checked against."""
    from logitlens_cli.commands.all import All
    from logitlens_cli.commands.metric import metric_options
    from logitlens_cli.commands.rank import Rank
    from logitlens_cli.commands.topk import TopK
    from logitlens_cli.commands.translate import read_spec
    from logitlens_cli.lens import capture, grid, tiles
    from logitlens_cli.lens.capture import INPUT, resid_post
    from logitlens_cli.lens.direct import Direct
    from logitlens_cli.lens.product import product as engine_product
    from logitlens_cli.lens.tile import numba_kernel
    from logitlens_cli.metrics.sums import Needs
    from logitlens_cli.metrics.table import METRICS, needs_of
    from logitlens_cli.model.anatomy import find
    from logitlens_cli.options.reading import GridReadOptions

    model = model_of(shape)
    parts = find.find_parts(model)
    rows = (INPUT, *(resid_post(n) for n in range(len(parts.blocks))))
    compiled = numba_kernel
    changed: Any = tiles
    vars(grid)["KERNEL_MIN_LOGITS"] = 0  # compare them at every size
    direct = Direct(parts)
    needs = Needs(frozenset({"final"}), frozenset({"final", "input"}))
    wanted = grid.GridSpec(rows, 1, needs, {})

    def forward() -> capture.Stream:
        return capture.capture(
            model, parts, [capture.PromptSlice(ids, range(len(ids)), [len(ids) - 1])], rows
        )

    stream = forward()

    def engine(kernel: Callable[[], Any]) -> Callable[[], None]:
        def run() -> None:
            changed.numba_kernel = kernel
            grid.grid(direct, stream, wanted)

        return run

    def reading(kernel: Callable[[], Any]) -> Callable[[], None]:
        def run() -> None:
            changed.numba_kernel = kernel
            grid.grid(direct, forward(), wanted)

        return run

    def command(options: GridReadOptions) -> Callable[[], None]:
        """The reading that a command asks for."""
        asked = grid.GridSpec(rows, read_spec(options).k, needs_of(options.metrics.values()), {})

        def run() -> None:
            changed.numba_kernel = lambda: None
            grid.grid(direct, forward(), asked)

        return run

    divergences = [metric_options(METRICS[name]) for name in ("kl-final", "kl-input")]
    commands: list[type[GridReadOptions]] = [All, TopK, Rank, *divergences]
    asked = [options(text="a") for options in commands]

    flat = direct.prepare(stream.resid).flatten(0, 1)
    tiling = best_tiling(flat, parts.weight)

    def naive() -> None:
        made = model(torch.tensor([ids]), output_hidden_states=True)
        norm: Any = parts.chain[-1]
        inner = [parts.head(norm(h))[0] for h in made.hidden_states[:-1]]
        metrics(torch.stack([*inner, made.logits[0]]), made.logits[0])

    found: dict[str, Callable[[], float | None]] = {
        "floor": partial(product, flat, parts.weight, *tiling),
        "product": partial(product, flat, parts.weight, *tiling, engine_product),
        "forward": ran(forward),
        "engine": engine(lambda: None),
        "engine fast": engine(compiled),
        "reading": reading(lambda: None),
        "reading fast": reading(compiled),
        "naive": naive,
    }
    return found | {options.command: command(options) for options in asked}


def batch(  # noqa: PLR0915  # one closure per row
    shape: str, ids: list[int]
) -> dict[str, Callable[[], float | None]]:
    """A text of 128 tokens alone; the next sentences as a batch (a hundred), one by one (twenty)
    and by a naive loop (ten); everything with the numbers of ``logitlens all``. A run gives the
    seconds of a thousand tokens."""
    from sentences import sentences

    from logitlens_cli.batch.ledger import Ledger
    from logitlens_cli.batch.prompts import Prompt
    from logitlens_cli.batch.session import Session
    from logitlens_cli.commands.all import All
    from logitlens_cli.commands.outputs import prompt_files
    from logitlens_cli.commands.translate import figure_style, read_job
    from logitlens_cli.commands.write import write_reading
    from logitlens_cli.lens import grid
    from logitlens_cli.lens.read import read_prompts
    from logitlens_cli.model.progress import Progress
    from logitlens_cli.reading.record import Reading

    vars(grid)["KERNEL_MIN_LOGITS"] = 0 if shape == "fast" else 1 << 62
    out = Path(tempfile.mkdtemp())
    options = All(lines=Path("-"), out=out, format="none")
    session = Session(read_job(options), Progress())
    lens_model, spec = session.lens_model, session.spec
    texts = sentences(500)
    shares = {"batch": 100, "one by one": 20, "naive": 10}
    turns = dict.fromkeys(shares, 0)
    long = [session.tokenize(Prompt("long", " ".join(texts[:8])))]
    window = long[0].encoded.ids[:128]
    encoded = type(long[0].encoded)(window, long[0].encoded.spans[:128], long[0].encoded.bos)
    long[0] = type(long[0])(name="long", text="", encoded=encoded, columns=range(128))
    norm: Any = lens_model.parts.chain[-1]

    def share(name: str) -> list[Prompt]:
        size = shares[name]
        start = turns[name] % 5 * size
        turns[name] += 1
        return [Prompt(str(start + n), text) for n, text in enumerate(texts[start : start + size])]

    def timed(work: Callable[[], int]) -> Callable[[], float]:
        def run() -> float:
            start = time.perf_counter()
            tokens = work()
            return (time.perf_counter() - start) / tokens * 1000

        return run

    def alone() -> int:
        read_prompts(lens_model, spec, long)
        return 128

    def write(reading: Any) -> int:
        assert isinstance(reading, Reading)
        files = prompt_files(options, Prompt(reading.name, reading.text), None)
        write_reading(reading, files, figure_style(options))
        ledger.add(reading.name, "", list(files.paths()))
        return len(reading.text_ids)

    ledger = Ledger(out, "set.all")

    def together() -> int:
        return sum(write(made) for _, made in session.readings(share("batch")))

    def one_by_one() -> int:
        return sum(write(session.read(session.tokenize(p))) for p in share("one by one"))

    def naive() -> int:
        count = 0
        for prompt in share("naive"):
            made = lens_model.model(
                torch.tensor([session.tokenize(prompt).ids]), output_hidden_states=True
            )
            inner = [lens_model.parts.head(norm(h))[0] for h in made.hidden_states[:-1]]
            metrics(torch.stack([*inner, made.logits[0]]), made.logits[0])
            count += made.logits.shape[1]
        return count

    works = {"alone": alone, "batch": together, "one by one": one_by_one, "naive": naive}
    return {name: timed(work) for name, work in works.items()}


def proof(shape: str, ids: list[int]) -> dict[str, Callable[[], float | None]]:
    """The plasma text read by an open model: what is proven of the model; the first reading, which
    proves more on its own text; and one more reading, which need not."""
    from logitlens_cli.lens.lens_model import LensModel, lens_model_of
    from logitlens_cli.lens.read import read_text
    from logitlens_cli.lens.spec import ReadSpec
    from logitlens_cli.metrics.sets import all_metrics
    from logitlens_cli.model.open import open_model
    from logitlens_cli.model.progress import Progress
    from logitlens_cli.model.source import ModelSource

    opened = open_model(ModelSource(), Progress())
    spec = ReadSpec(metrics=all_metrics("own-logit", ["final"], "forward", False), k=5)
    latest: list[LensModel] = []

    def prove() -> None:
        latest[:] = [lens_model_of(opened.model, opened.tokenizer, name="default", context=None)]

    def read() -> None:
        read_text(latest[0], spec, PLASMA, "plasma")

    return {"prove": prove, "first reading": read, "next reading": read}


def fit(shape: str, ids: list[int]) -> dict[str, Callable[[], float | None]]:
    """Chunks of Python's reference through the model alone, and added up for a linear lens."""
    from pydoc_data.topics import topics

    from logitlens_cli.batch.fitting import FitJob, FitSession, added_here
    from logitlens_cli.batch.prompts import Prompt
    from logitlens_cli.lens.spec import ReadSpec
    from logitlens_cli.model.progress import Progress
    from logitlens_cli.model.source import ModelSource

    spec = ReadSpec(metrics={})
    job = FitJob(source=ModelSource(), spec=spec, kind="linear", skip_first=4)
    session = FitSession(job, Progress())
    texts = [Prompt("", text) for text in topics.values()]
    chunks = [c for c in session.chunker().chunks(texts) if len(c.ids) == session.longest][:16]
    groups = list(session.groups(chunks))

    def bare() -> None:
        for group in groups:
            tokens = torch.tensor([list(chunk.ids) for chunk in group])
            session.lens_model.model.base_model(tokens, use_cache=False)

    def added() -> None:
        for _ in added_here(session, session.empty(), chunks):
            pass

    return {"bare": bare, "fit": added}


def mapped(shape: str, ids: list[int]) -> dict[str, Callable[[], float | None]]:
    """The grid of all four metrics by the plain lens, and through a map for each row."""
    from dataclasses import replace

    from logitlens_cli.lens import capture, grid
    from logitlens_cli.lens.capture import INPUT, resid_post
    from logitlens_cli.lens.direct import Direct
    from logitlens_cli.lens.maps.lens_maps import LensMaps
    from logitlens_cli.metrics.sums import Needs
    from logitlens_cli.model.anatomy import find
    from logitlens_cli.reading.record import MapsRecord

    model = model_of(shape)
    parts = find.find_parts(model)
    rows = (INPUT, *(resid_post(n) for n in range(len(parts.blocks))))
    window = capture.PromptSlice(ids, range(len(ids)), [len(ids) - 1])
    stream = capture.capture(model, parts, [window], rows)
    width = parts.layout.width
    record = MapsRecord(name="bench", kind="linear", sha256="")
    maps = LensMaps(
        record,
        {row: torch.randn(width, width) / width**0.5 for row in range(-1, len(parts.blocks) - 1)},
        {row: torch.randn(width) for row in range(-1, len(parts.blocks) - 1)},
    ).on("cpu")
    needs = Needs(frozenset({"final"}), frozenset({"final", "input"}))
    wanted = grid.GridSpec(rows, 1, needs, {})
    direct = Direct(parts)

    def plain() -> None:
        grid.grid(direct, stream, wanted)

    def through_maps() -> None:
        grid.grid(direct, replace(stream, maps=maps), wanted)

    return {"plain": plain, "mapped": through_maps}


def transformer_lens(shape: str, ids: list[int]) -> dict[str, Callable[[], float | None]]:
    """Its cache of the residual stream, its final norm and unembedding; the metrics in torch."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformer_lens.model_bridge import TransformerBridge
    from transformers import PreTrainedTokenizerFast

    whole = model_of(shape)
    with tempfile.TemporaryDirectory() as folder:  # it wants a name to read files from
        whole.save_pretrained(folder)
        letters = Tokenizer(WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=letters, bos_token="a", eos_token="a")
        tokenizer.save_pretrained(folder)
        model = TransformerBridge.boot_transformers(folder, hf_model=whole, device="cpu")
    tokens = torch.tensor([ids])

    def run() -> None:
        logits, cache = model.run_with_cache(tokens)
        stack = cache.apply_ln_to_stack(cache.accumulated_resid(layer=-1), layer=-1)
        metrics((stack @ model.W_U + model.b_U)[:, 0], logits[0])

    return {"transformer-lens": run}


def tuned_lens(shape: str, ids: list[int]) -> dict[str, Callable[[], float | None]]:
    """Its trajectory, with its rank and its KL to the output (it has none to the input)."""
    from tuned_lens.nn.lenses import LogitLens
    from tuned_lens.plotting import PredictionTrajectory

    model = model_of(shape)
    lens = LogitLens.from_model(model)

    def trajectory() -> Any:
        targets = [*ids[1:], 0]
        return PredictionTrajectory.from_lens_and_model(
            lens, model, input_ids=ids, tokenizer=None, targets=targets
        )

    def ranks() -> None:
        made = trajectory()
        made.rank()
        made.forward_kl()

    def divergence() -> None:
        trajectory().forward_kl()

    return {"tuned-lens, rank and KL": ranks, "tuned-lens, KL alone": divergence}


def ran(run: Callable[[], Any]) -> Callable[[], None]:
    def only() -> None:
        run()

    return only


def resident(line: str) -> float:
    """MiB that this process holds (VmRSS) or held at most (VmHWM)."""
    status = Path("/proc/self/status").read_text("ascii")
    return float(status.split(line + ":")[1].split()[0]) / 1024


def measure(run: Callable[[], float | None]) -> dict[str, float]:
    """Seconds, and MiB beyond what was there before."""
    Path("/proc/self/clear_refs").write_text("5", "ascii")  # VmHWM from here on
    before = resident("VmRSS")
    start = time.perf_counter()
    told = run()
    seconds = time.perf_counter() - start
    return {"seconds": told or seconds, "mib": resident("VmHWM") - before}


def main(shape: str, tokens: str, threads: str, kind: str) -> None:
    os.environ["HF_HUB_OFFLINE"] = "1"
    warnings.simplefilter("ignore")
    logging.disable()
    torch.set_num_threads(int(threads))
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 49152, (int(tokens),), generator=generator).tolist()
    makers: dict[str, Any] = {
        "ours": ours,
        "batch": batch,
        "proof": proof,
        "fit": fit,
        "mapped": mapped,
        "transformer-lens": transformer_lens,
        "tuned-lens": tuned_lens,
    }
    with torch.inference_mode():
        runs = makers[kind](shape, ids)
        print(json.dumps(list(runs)), flush=True)
        for line in sys.stdin:
            print(json.dumps(measure(runs[line.strip()])), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
