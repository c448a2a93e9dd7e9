"""One forward pass with hooks: the residual stream at the columns asked for, and the model's word.

Several texts share a pass: the shorter ones are filled up at their ends, which a causal model does
not look back on, so neither mask nor positions change. The head runs on a few sampled columns only,
so the logits of a whole text are never made; what it would have received at every other column is
kept. Knows nothing of norms, decoding or metrics.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from logitlens_cli import anatomy
from logitlens_cli.anatomy import Anatomy
from logitlens_cli.errors import WorkError


class Row(NamedTuple):
    """A place in the residual stream; rows sort from the lowest up."""

    block: int
    half: int
    """1: what leaves the block; 0: what is between its attention and its MLP"""

    @property
    def kind(self) -> Literal["input", "mid", "block"]:
        return "input" if self.block < 0 else "block" if self.half else "mid"

    @property
    def label(self) -> str:
        if self.block < 0:
            return "input"
        return str(self.block) if self.half else f"{self.block} mid"


INPUT = Row(-1, 1)
"""what enters block 0"""


class Excerpt(NamedTuple):
    """A text, and which of its positions are wanted."""

    ids: Sequence[int]
    window: range
    checked: Sequence[int]
    """indices into the window where the model's own logits are computed"""


@dataclass(frozen=True)
class Stream:
    """What one pass leaves behind, in the body's dtype, for the columns of a window; the windows of
    several texts stand side by side."""

    rows: tuple[Row, ...]
    """ascending; the last block is always there"""
    resid: Tensor
    """(row, position, width) residual stream: what enters block 0, what leaves each block"""
    final: Tensor | None
    """(position, width of the head) what the model's own head receives; None where it does not
    take (batch, position, width)"""
    checked: Tensor
    """(checked,) indices into the positions, ascending"""
    logits: Tensor
    """(checked, vocabulary) the model's own logits there"""


class Kept:
    """Rows of the stream, written into one tensor as they come: kept apart and stacked at the end,
    they would take twice the memory."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows
        self.came: set[Row] = set()
        self.stack = torch.empty(0)

    def __setitem__(self, row: Row, value: Tensor) -> None:
        if not self.came:
            self.stack = value.new_empty((len(self.rows), *value.shape))
        dtype = torch.promote_types(self.stack.dtype, value.dtype)
        self.stack = self.stack.to(dtype)  # nothing, where all rows are of one
        self.stack[self.rows.index(row)] = value
        self.came.add(row)

    def stacked(self) -> Tensor:
        """(row, position, width); KeyError if a row did not come."""
        for row in self.rows:
            if row not in self.came:
                raise KeyError(row)
        return self.stack


@torch.inference_mode()
def capture(model: Any, parts: Anatomy, texts: Sequence[Excerpt], rows: Sequence[Row]) -> Stream:
    """Run ``model`` once on ``texts`` together and keep ``rows`` at the positions of their windows.

    Hooks are gone afterwards, also after an exception.
    """
    length = max(len(text.ids) for text in texts)
    device = parts.inner.device  # where the last block leaves its stream
    starts = list(accumulate((len(text.window) for text in texts), initial=0))
    sampled = torch.tensor(
        [start + i for start, text in zip(starts, texts, strict=False) for i in text.checked],
        device=device,
    )
    kept = Kept(rows)
    final: list[Tensor] = []

    def windows(value: Tensor) -> Tensor:
        """(batch, position, ...) -> (position, ...). Copied: some blocks add to their input in
        place, and a view would keep the whole text."""
        wanted = [value[n, t.window.start : t.window.stop] for n, t in enumerate(texts)]
        return torch.cat([part.to(device) for part in wanted])

    def stream(value: Any) -> Tensor:
        return windows(parts.layout.read(value, length))

    def keep_input(module: Any, args: Any, kwargs: Any) -> None:
        kept[INPUT] = stream([args, kwargs])

    def keep_mid(row: Row, place: int) -> Any:
        def hook(module: Any, args: Any, kwargs: Any) -> None:
            received = list(anatomy.tensors([args, kwargs]))[place]
            # Some families flatten batch and position before their MLP.
            kept[row] = stream(received.reshape(len(texts), length, -1))

        return hook

    def keep(row: Row) -> Any:
        def hook(block: Any, args: Any, output: Any) -> None:
            kept[row] = stream(output)

        return hook

    def sample(head: Any, args: Any) -> Any:
        final.append(windows(args[0]))
        return (final[-1][sampled].unsqueeze(0), *args[1:])

    handles = [parts.head.register_forward_pre_hook(sample)] if parts.samples else []
    for row in rows:
        if row == INPUT:
            handles.append(parts.entry.register_forward_pre_hook(keep_input, with_kwargs=True))
        elif row.half:
            handles.append(parts.blocks[row.block].register_forward_hook(keep(row)))
        else:
            mid = parts.mids[row.block]
            assert mid is not None
            hook = keep_mid(row, mid.place)
            handles.append(mid.module.register_forward_pre_hook(hook, with_kwargs=True))
    # Which token fills up does not matter, as long as it is not one that the family masks.
    filled = [[*text.ids, *[text.ids[-1]] * (length - len(text.ids))] for text in texts]
    with anatomy.hooked(handles):
        try:
            logits = anatomy.forward(model, torch.tensor(filled, device=anatomy.device_of(model)))
        except torch.OutOfMemoryError as error:
            raise WorkError(
                f"out of memory on {anatomy.device_of(model)} for {len(texts)} texts of up to "
                f"{length} tokens",
                "use shorter texts, --dtype bfloat16 or --device cpu",
            ) from error
    return Stream(
        rows=tuple(rows),
        resid=kept.stacked(),
        final=final[0] if final else None,
        checked=sampled,
        logits=logits[0] if final else windows(logits)[sampled],
    )
