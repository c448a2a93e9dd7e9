"""What the models in `adversaries` are built of, and the float64 truth about them.

`truths(model, ids)` says what a right reading shows. It is written against the definition, within
each model's own forward pass and without any hook: `run` notes the residual stream that enters the
first block and leaves every block at each of its runs (`note`), and `tail` is all that the model
does after its last block. A row of the lens is `tail` of a noted stream, all else as it was. Both
run in a float64 copy.

A model quacks like one of transformers: `config`, `get_input_embeddings`, `get_output_embeddings`,
`forward(input_ids, ...).logits`, `dtype`, `device`. No forward is given a mask or a cache.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar, TypeAlias

import torch
from torch import Tensor, nn

VOCABULARY = 264
WIDTH = 16
CONTEXT = 128
SWITCH = 64
"""Texts longer than this are treated in another way by those models that switch."""
HUGE = -1e9
Stream: TypeAlias = Any
"""a tensor, or several"""
Run: TypeAlias = tuple[Stream, Any]
"""what leaves the last block, and what the tail reads beside it"""

# ---------------------------------------------------------------------------------------------
# What is noted during a forward pass

_notes: list[tuple[str, Stream]] | None = None


def note(label: str, *stream: Tensor) -> None:
    """Copy the stream at a row of the lens, while a truth is made; else nothing."""
    if _notes is not None:
        copies = tuple(tensor.detach().clone() for tensor in stream)
        _notes.append((label, copies[0] if len(copies) == 1 else copies))


def is_noting() -> bool:
    return _notes is not None


@contextmanager
def noting() -> Iterator[list[tuple[str, Stream]]]:
    global _notes
    noted: list[tuple[str, Stream]] = []
    _notes = noted
    try:
        yield noted
    finally:
        _notes = None


# ---------------------------------------------------------------------------------------------
# Parts


class Rms(nn.Module):
    """RMS norm with a gain. `mode` says what is left of it in a truth; models never set it."""

    mode = "full"

    def __init__(self, shape: Sequence[int] = (WIDTH,), *, bias: bool = False, final: bool = False):
        super().__init__()
        self.weight = nn.Parameter(1 + 0.4 * torch.randn(tuple(shape)))
        self.bias = nn.Parameter(0.4 * torch.randn(tuple(shape))) if bias else None
        self.final = final

    def normed(self, x: Tensor) -> Any:
        return x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()

    def affine(self, y: Tensor) -> Any:
        y = y * self.weight
        return y if self.bias is None else y + self.bias

    def forward(self, x: Tensor) -> Any:
        mode = self.mode if self.final else "full"
        if mode == "none":
            return x
        y = self.normed(x)
        return y if mode == "no-affine" else self.affine(y)


class Mix(nn.Module):
    """Stands for attention: every position sees the mean of all before it."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.value = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Any:
        counts = torch.arange(1, x.shape[1] + 1, device=x.device, dtype=x.dtype)
        return self.value(x).cumsum(1) / counts[:, None]


class Mlp(nn.Module):
    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.up = nn.Linear(width, 2 * width)
        self.down = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Any:
        return self.down(torch.tanh(self.up(x)))


class Halves(nn.Module):
    """Attention and MLP, each with a norm before it, added to the stream."""

    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.norm1, self.attention = Rms((width,)), Mix(width)
        self.norm2, self.mlp = Rms((width,)), Mlp(width)

    def as_stream(self, h: Tensor) -> Tensor:
        """The halves' own layout -> that of the model's streams."""
        return h

    def halves(self, h: Tensor, label: str) -> Any:
        h = h + self.attention(self.norm1(h))
        note(f"{label} mid", self.as_stream(h))
        return h + self.mlp(self.norm2(h))


class Block(Halves):
    def forward(self, h: Tensor, label: str = "") -> Any:
        return self.halves(h, label)


def through(
    h: Any,
    modules: Iterable[Any],
    step: Callable[..., Any] = lambda block, h, label: block(h, label),
) -> Any:
    """Run blocks one after the other, and note what enters and leaves them."""
    note("input", h)
    for n, block in enumerate(modules):
        h = step(block, h, str(n))
        note(str(n), h)
    return h


def blocks(count: int, kind: Callable[[], nn.Module] = Block) -> nn.ModuleList:
    return nn.ModuleList(kind() for _ in range(count))


class Config:
    """Of numbers, as a configuration of transformers."""

    _name_or_path = ""

    def __init__(self, **numbers: Any) -> None:
        self.numbers = {"hidden_size": WIDTH, "vocab_size": VOCABULARY, **numbers}
        self.max_position_embeddings = CONTEXT

    def get_text_config(self) -> "Config":
        return self

    def to_dict(self) -> dict[str, Any]:
        return {"max_position_embeddings": CONTEXT, **self.numbers}


class Adversary(nn.Module):
    """An ordinary model, before something is changed about it."""

    item: ClassVar[int] = 0
    """of the list of what went wrong; 0 for what was added later"""
    dtype_of_body: ClassVar[torch.dtype] = torch.float32
    ways: ClassVar[Sequence[tuple[str, str]]] = (("run", "tail"),)
    """Which rows there are and what decodes them; each way is right by itself."""
    relabelled: ClassVar[Sequence[dict[str, str]]] = ()
    """Other names of the rows that are right too."""
    remembers: ClassVar[bool] = False
    """Does its tail leave something behind in the model?"""
    has_truth: ClassVar[bool] = True
    """False: there is no right reading, only a refusal."""
    mode = "full"
    norm: Any
    head: Any
    blocks: Any

    def __init__(self) -> None:
        super().__init__()
        self.config = Config()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.blocks = self.stack()
        self.norm = Rms(final=True)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        nn.init.normal_(self.head.weight, std=0.8)
        self.build()

    def stack(self) -> nn.ModuleList:
        return blocks(3)

    def build(self) -> None:
        """Add to, or replace, the parts of an ordinary model."""

    def get_input_embeddings(self) -> Any:
        return self.embed

    def get_output_embeddings(self) -> Any:
        return self.head

    @property
    def dtype(self) -> torch.dtype:
        return self.embed.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.embed.weight.device

    def forward(self, input_ids: Tensor, **_: Any) -> SimpleNamespace:
        return SimpleNamespace(logits=self.tail(*self.run(input_ids)))

    def run(self, ids: Tensor) -> Run:
        """What leaves the last block, and what the tail reads beside it."""
        return through(self.embed(ids), self.blocks), ids

    def tail(self, h: Any, context: Any) -> Any:
        return self.head(self.norm(h))


def add_bias(model: Adversary, value: float = HUGE) -> None:
    """Forbid the last entries by a bias of the head."""
    bias = 0.3 * torch.randn(VOCABULARY)
    bias[-4:] = value
    model.head.bias = nn.Parameter(bias)


def positions_of(h: Tensor) -> Tensor:
    """(position, 1)"""
    return torch.arange(h.shape[1], dtype=h.dtype, device=h.device)[:, None]


# ---------------------------------------------------------------------------------------------
# The truth


@dataclass(frozen=True)
class Truth:
    """What a right reading of a text shows, in float64."""

    labels: list[str]
    logits: Tensor
    """(row, position, vocabulary)"""
    final: Tensor
    """(position, vocabulary) the model's own output"""


@torch.no_grad()
def truths(model: Adversary, ids: Sequence[int], norm: str = "full") -> list[Truth]:
    """Every right reading of a text; none where only a refusal is right."""
    if not model.has_truth:
        return []
    return [truth_of(model, torch.tensor([list(ids)]), norm, *way) for way in model.ways]


def truth_of(model: Adversary, ids: Tensor, norm: str, run: str, tail: str) -> Truth:
    twin = copy.deepcopy(model)
    if model.dtype == torch.float32:
        twin.double()
    with noting() as notes:
        stream, context = getattr(twin, run)(ids)
    noted = [(label, row) for label, row in notes if not label.startswith(" ")]  # of no row

    def tail_of(row: Stream) -> Any:  # which may write into what it is given, or into the model
        own = copy.deepcopy(twin) if model.remembers else twin
        return getattr(own, tail)(in_dtype(row, twin.dtype), in_dtype(context, twin.dtype))[0]

    with noting() as head_notes:
        output = tail_of(stream)
    twin.double()
    if head_notes and head_notes[-1][0] == "head":  # what a body of low precision hands to its head
        output = nn.functional.linear(head_notes[-1][1][0].double(), twin.head.weight)
    for module in twin.modules():
        module.mode = norm  # type: ignore[assignment]  # read by final norms only

    logits = torch.stack([tail_of(row) for _, row in noted])
    return Truth([label for label, _ in noted], logits, output.double())


def in_dtype(value: Any, dtype: torch.dtype) -> Any:
    """Copies of tensors, those of floats in a dtype."""
    if isinstance(value, tuple):
        return tuple(in_dtype(item, dtype) for item in value)
    if isinstance(value, Tensor):
        return value.detach().clone().to(dtype if value.is_floating_point() else value.dtype)
    return copy.deepcopy(value)
