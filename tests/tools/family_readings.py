"""Families read by the program from end to end, against float64 truths.

The truth follows from the definition alone: what enters the first block and leaves every block at
each of its runs (found by the names of their lists, in `families`), and the model's own code after
the last of them, in a float64 copy. Norms are told by the names of their classes.

Texts are longer than every length at which a family changes what it does: `families.SMALL` makes
windows, chunks and the lengths of scaled positions small.
"""

import copy
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import families
import torch
from adversary import Truth
from adversary_readings import KL_ERROR, METRICS, NEAR, WrongError, require_numbers
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from logitlens_cli.errors import LogitLensError
from logitlens_cli.lens.lens_model import LensModel, lens_model_of
from logitlens_cli.lens.prompt import tokenize_prompt
from logitlens_cli.lens.read import read_prompts, read_text
from logitlens_cli.lens.sharing import can_share_pass
from logitlens_cli.lens.spec import Norm, ReadSpec
from logitlens_cli.reading.record import Reading

CONTEXT = 64
LONG = 60
"""tokens: beyond every switch"""
TOGETHER = (17, LONG, 1, 33)
WINDOW = "2:8"
LONG_WINDOW = "19:60"


# ---------------------------------------------------------------------------------------------
# The truth


@dataclass(frozen=True)
class Reference:
    """A model and its float64 copy."""

    model: Any
    twin: Any

    def truth(self, ids: Tensor, norm: str = "full") -> Truth:
        """Logits of every row of a text (1, position), with the final norm as wanted."""
        rows = families.reference_stream(self.model, ids)
        dtype = next(self.twin.parameters()).dtype
        final = families.decode(self.twin, ids, rows[-1].to(dtype))[0].double()
        with norm_changed(self.twin, norm, len(rows) - 1):
            logits = [families.decode(self.twin, ids, row.to(dtype))[0].double() for row in rows]
        labels = ["input", *(str(n) for n in range(len(rows) - 1))]
        return Truth(labels, torch.stack(logits), final)


def reference_of(model: Any) -> Reference:
    """In float64 where the family allows it, else in float32."""
    twin = families.doubled(model)
    ids = families.inputs("")
    try:
        families.decode(twin, ids, families.reference_stream(model, ids)[-1].double())
    except RuntimeError:
        twin = copy.deepcopy(model).float()
    return Reference(model, twin)


@contextmanager
def norm_changed(model: Any, norm: str, runs: int) -> Iterator[None]:
    """Without gain and bias ("no-affine") of what is named a norm and runs after so many runs of
    blocks; or with its input in the place of its result ("none")."""
    ended = 0

    def start(*_: Any) -> None:
        nonlocal ended
        ended = 0

    def leave(*_: Any) -> None:
        nonlocal ended
        ended += 1

    def change(module: nn.Module, args: Any, output: Any) -> Any:
        if ended < runs or output.shape != args[0].shape:  # it may return the size alone
            return None
        return args[0].to(output.dtype) if norm == "none" else without_affine(module, args[0])

    handles = [model.register_forward_pre_hook(start)]
    handles += [block.register_forward_hook(leave) for block in families.blocks(model)]
    if norm != "full":
        handles += [module.register_forward_hook(change) for module in norms_of(model)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def norms_of(model: nn.Module) -> list[nn.Module]:
    """Modules whose classes are called norms, and that have none within."""
    modules = (module for module in model.modules() if not any(True for _ in module.children()))
    return [module for module in modules if "Norm" in type(module).__name__]


def without_affine(module: nn.Module, x: Tensor) -> Tensor:
    names = ("eps", "variance_epsilon", "epsilon", "norm_eps")
    centres = "LayerNorm" in type(module).__name__
    default = 1e-5 if centres else 1e-6
    eps = next((getattr(module, name) for name in names if hasattr(module, name)), default)
    if centres:
        x = x - x.mean(-1, keepdim=True)
    return x * (x.square().mean(-1, keepdim=True) + eps).rsqrt()


# ---------------------------------------------------------------------------------------------
# The readings


def word_tokenizer() -> PreTrainedTokenizerFast:
    """A word for every id of the families' vocabulary."""
    words = {f"t{n}": n for n in range(families.VOCABULARY)}
    backend = Tokenizer(models.WordLevel(words, unk_token="t3"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, clean_up_tokenization_spaces=False)


def text_of(ids: Tensor) -> str:
    return " ".join(f"t{n}" for n in ids[0].tolist())


@dataclass(frozen=True)
class Family:
    """A model as the program opens it, with its reference and the truths about texts."""

    lens_model: LensModel
    reference: Reference
    truths: dict[tuple[int, str], Truth] = field(default_factory=dict)

    def require_right(self, reading: Reading, norm: str = "full") -> None:
        """Every cell; raises WrongError."""
        length = len(reading.text_ids)
        if (length, norm) not in self.truths:
            ids = families.inputs("", length)
            self.truths[length, norm] = self.reference.truth(ids, norm)
        truth = self.truths[length, norm]
        if len(reading.layers) != len(truth.labels):
            raise WrongError(f"{len(reading.layers)} rows, not {len(truth.labels)}")
        require_numbers(reading, truth, KL_ERROR[torch.float32], NEAR[torch.float32])

    def read(self, length: int, window: str | None = None, norm: Norm = Norm.full) -> None:
        spec = ReadSpec(metrics=METRICS, k=3, window=window, norm=norm)
        text = text_of(families.inputs("", length))
        self.require_right(read_text(self.lens_model, spec, text, "x"), norm)

    def read_together(self) -> str:
        """Texts of unequal lengths in one pass, where the program lets them share it."""
        spec = ReadSpec(metrics=METRICS, k=3)
        if not can_share_pass(self.lens_model, spec, max(TOGETHER)):
            return "alone"
        texts = [text_of(families.inputs("", length)) for length in TOGETHER]
        prompts = [tokenize_prompt(self.lens_model.tokenizer, spec, text, "x") for text in texts]
        for reading in read_prompts(self.lens_model, spec, prompts):
            self.require_right(reading)
        return "right"


CASES: dict[str, Callable[[Family], str | None]] = {
    "window": lambda family: family.read(families.POSITIONS, WINDOW),
    "long": lambda family: family.read(LONG),
    "long_window": lambda family: family.read(LONG, LONG_WINDOW),
    "together": Family.read_together,
    "no_affine": lambda family: family.read(families.POSITIONS, norm=Norm.no_affine),
    "none": lambda family: family.read(families.POSITIONS, norm=Norm.none),
}
"""a column of the table each"""


def outcomes(model: Any) -> dict[str, str]:
    """By case: "right", "alone" (texts are read one by one), or why it was refused or is wrong."""
    reference = reference_of(model)
    lens_model = lens_model_of(model, word_tokenizer(), name="x", context=CONTEXT)
    family = Family(lens_model, reference)
    return {name: outcome_of(read, family) for name, read in CASES.items()}


def outcome_of(read: Callable[[Family], str | None], family: Family) -> str:
    try:
        return read(family) or "right"
    except WrongError as wrong:
        return f"wrong: {wrong}"
    except LogitLensError as refusal:
        return f"refused: {refusal.problem}"


if __name__ == "__main__":
    for key in sys.argv[1:] or families.keys():
        with suppress(families.NotCausalError, LogitLensError):
            print(key, outcomes(families.build(key)), flush=True)
