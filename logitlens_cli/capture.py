"""One forward pass with hooks: the residual stream at the columns asked for, and the model's word.

Knows nothing of norms, decoding or metrics. The head runs on a few sampled columns only, so the
logits of a whole text are never made; what it would have received at every other column is kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Stream:
    """What one pass leaves behind, in the body's dtype, for the columns of a window."""

    rows: tuple[Row, ...]
    """ascending; the last block is always there"""
    resid: Tensor
    """(row, position, width) residual stream: what enters block 0, what leaves each block"""
    final: Tensor | None
    """(position, width of the head) what the model's own head receives; None where it does not
    take (batch, position, width)"""
    checked: Tensor
    """(checked,) indices into the positions of the window, ascending"""
    logits: Tensor
    """(checked, vocabulary) the model's own logits there"""


@torch.inference_mode()
def capture(
    model: Any,
    parts: Anatomy,
    ids: Sequence[int],
    rows: Sequence[Row],
    window: range,
    checked: Sequence[int],
) -> Stream:
    """Run ``model`` once on ``ids`` and keep ``rows`` at the positions of ``window``.

    ``checked``: indices into ``window`` where the model's own logits are computed.
    Hooks are gone afterwards, also after an exception.
    """
    columns = slice(window.start, window.stop)
    device = parts.inner.device  # where the last block leaves its stream
    sampled = torch.tensor(checked, device=device)
    kept: dict[Row, Tensor] = {}
    final: list[Tensor] = []

    def keep_input(module: Any, args: Any, kwargs: Any) -> None:
        kept[INPUT] = window_of([args, kwargs])

    def keep_mid(row: Row, place: int) -> Any:
        def hook(module: Any, args: Any, kwargs: Any) -> None:
            received = list(anatomy.tensors([args, kwargs]))[place]
            # Some families flatten batch and position before their MLP.
            kept[row] = window_of(received.reshape(1, len(ids), -1))

        return hook

    def keep(row: Row) -> Any:
        def hook(block: Any, args: Any, output: Any) -> None:
            kept[row] = window_of(output)

        return hook

    def window_of(value: Any) -> Tensor:
        # Cloned: some blocks add to their input in place, and a view would keep the whole text.
        return parts.layout.read(value, len(ids))[0, columns].to(device, copy=True)

    def sample(head: Any, args: Any) -> Any:
        final.append(args[0][0, columns].to(device, copy=True))
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
    with anatomy.hooked(handles):
        try:
            logits = anatomy.forward(model, torch.tensor([ids], device=anatomy.device_of(model)))[0]
        except torch.OutOfMemoryError as error:
            raise WorkError(
                f"out of memory on {anatomy.device_of(model)} for a text of {len(ids)} tokens",
                "use a shorter text, --dtype bfloat16 or --device cpu",
            ) from error
    return Stream(
        rows=tuple(rows),
        resid=torch.stack([kept[row] for row in rows]),
        final=final[0] if final else None,
        checked=sampled,
        logits=logits if final else logits[columns][sampled],
    )
