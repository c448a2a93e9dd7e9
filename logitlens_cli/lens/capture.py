"""One forward pass with hooks: the residual stream and the model's logits at chosen columns.

Several prompts share a pass: the shorter ones are filled up at their ends, which a causal model
does not look back on, so neither mask nor positions change. The head runs on a few sampled columns
only, so the logits of a whole text are never computed; what it would have received at every other
column is kept. Knows nothing of norms, decoding or metrics.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, count
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from logitlens_cli.errors import ProofError, WorkError
from logitlens_cli.lens.maps.lens_maps import LoadedMaps, Share, one_by_one
from logitlens_cli.model.anatomy import passes, tensors
from logitlens_cli.model.anatomy.parts import ModelParts


class StreamSite(NamedTuple):
    """Where the residual stream is looked at; sites sort from the lowest up."""

    block: int
    """which run of a block, from 0 in the order of time; -1 is before all"""
    is_post: bool
    """resid_post, what leaves the block; else resid_mid, what is between its attention and MLP"""

    @property
    def kind(self) -> Literal["input", "mid", "block"]:
        return "input" if self.block < 0 else "block" if self.is_post else "mid"

    @property
    def label(self) -> str:
        if self.block < 0:
            return "input"
        return str(self.block) if self.is_post else f"{self.block} mid"


def resid_post(block: int) -> StreamSite:
    """What leaves a block."""
    return StreamSite(block, True)


def resid_mid(block: int) -> StreamSite:
    """What is between the attention and the MLP of a block."""
    return StreamSite(block, False)


INPUT = resid_post(-1)
"""what enters block 0"""


class PromptSlice(NamedTuple):
    """The tokens of a prompt, and which of their positions are wanted."""

    ids: Sequence[int]
    window: range
    checked: Sequence[int]
    """indices into the window where the model's own logits are computed"""


MAPPED_AT_ONCE = 8 * 2**20
"""most numbers of a stream that is copied as a whole: 32 MiB"""


@dataclass(frozen=True)
class Stream:
    """What one pass leaves behind, in the body's dtype, for the columns of a window; the windows of
    several prompts stand side by side."""

    rows: tuple[StreamSite, ...]
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
    maps: LoadedMaps | None = None
    """what rows go through before they are decoded; never the last"""

    def mapped_at_once(self, sites: Sequence[StreamSite], share: Share = one_by_one) -> "Stream":
        """A small stream with these rows, the input row and the last, mapped: maps, which are
        larger, are read once for all positions. Any other stream as it is."""
        if self.maps is None or self.resid.dtype != torch.float32:
            return self
        if self.resid.numel() > MAPPED_AT_ONCE:
            return self
        rows = tuple(site for site in self.rows if site in {INPUT, *sites, self.rows[-1]})
        numbers = [site.block if site.is_post else None for site in rows]
        # Nothing is copied where all rows are wanted, as is usual.
        resid = self.resid if rows == self.rows else self.resid[list(map(self.rows.index, rows))]
        return replace(self, rows=rows, resid=self.maps.apply(resid, numbers, share), maps=None)

    def decoded_rows(
        self, sites: Sequence[StreamSite], columns: slice, share: Share = one_by_one
    ) -> Tensor:
        """Some rows (row, position, width) as they are to be decoded; ``share`` gives the work to
        threads."""
        resid = self.resid[[self.rows.index(site) for site in sites], columns]
        if self.maps is None:
            return resid
        rows = [site.block if site.is_post else None for site in sites]
        return self.maps.apply(resid, rows, share)


class RowBuffer:
    """Rows of the stream, written into one tensor as they come: kept one by one and stacked at the
    end, they would need twice the memory."""

    def __init__(self, sites: Sequence[StreamSite]) -> None:
        self.sites = sites
        self.filled: set[StreamSite] = set()
        self.rows = torch.empty(0, dtype=torch.float32)

    def __setitem__(self, site: StreamSite, resid: Tensor) -> None:
        if not self.filled:
            self.rows = resid.new_empty((len(self.sites), *resid.shape))
        dtype = torch.promote_types(self.rows.dtype, resid.dtype)
        self.rows = self.rows.to(dtype)  # nothing, where all rows are of one
        self.rows[self.sites.index(site)] = resid
        self.filled.add(site)


class Hooks:
    """What one pass over some prompts writes down, by hooks on the model's modules."""

    def __init__(
        self, parts: ModelParts, prompts: Sequence[PromptSlice], sites: Sequence[StreamSite]
    ) -> None:
        self.parts, self.prompts = parts, prompts
        self.length = max(len(prompt.ids) for prompt in prompts)
        self.device = parts.inner.device  # where the last block leaves its stream
        starts = accumulate((len(prompt.window) for prompt in prompts), initial=0)
        self.checked = torch.tensor(
            [start + i for start, p in zip(starts, prompts, strict=False) for i in p.checked],
            device=self.device,
        )
        self.buffer = RowBuffer(sites)
        self.final: Tensor | None = None
        """(position, width of the head) what the head received"""
        self.last_runs: list[None] = []

    def windows(self, value: Tensor) -> Tensor:
        """(batch, position, ...) -> (position, ...). Copied: some blocks add to their input in
        place, and a view would keep the whole text."""
        slices = [value[n, p.window.start : p.window.stop] for n, p in enumerate(self.prompts)]
        return torch.cat([window.to(self.device) for window in slices])

    def keep(self, site: StreamSite, value: Any, slots: Sequence[tensors.Slot]) -> None:
        """Keep the stream in what a module received or returned."""
        self.buffer[site] = self.windows(self.parts.layout.read(value, slots, self.length))

    def register(self, site: StreamSite) -> Any:
        """Hook the module that sees the stream at ``site``; returns the hook's handle."""
        calls = count()
        if site == INPUT:

            @passes.in_this_thread
            def keep_input(module: Any, args: Any, kwargs: Any) -> None:
                if next(calls) == 0:
                    self.keep(site, [args, kwargs], self.parts.entry_slots)

            return self.parts.entry.register_forward_pre_hook(keep_input, with_kwargs=True)
        if site.is_post:
            run = self.parts.runs[site.block]

            @passes.in_this_thread
            def keep_post(block: Any, args: Any, output: Any) -> None:
                if next(calls) == run.number:
                    self.keep(site, output, run.slots)

            return run.block.register_forward_hook(keep_post)
        mid = self.parts.mids[site.block]
        assert mid is not None

        @passes.in_this_thread
        def keep_mid(module: Any, args: Any, kwargs: Any) -> None:
            if next(calls) == mid.number:
                received = tensors.tensor_at([args, kwargs], mid.slot)
                if received.numel() != len(self.prompts) * self.length * self.parts.layout.width:
                    raise ProofError(
                        f"{self.parts.names[module]} does not run on the whole of a text of "
                        f"{self.length} tokens, so the state between the halves of its block "
                        "cannot be seen",
                        "leave out --subblocks",
                    )
                # Some families flatten batch and position before their MLP.
                resid = received.reshape(len(self.prompts), self.length, -1)
                self.buffer[site] = self.windows(resid)

        return mid.module.register_forward_pre_hook(keep_mid, with_kwargs=True)

    def count_last(self) -> Any:
        """Hook the last block, to count how often it runs."""
        return self.parts.runs[-1].block.register_forward_hook(
            passes.in_this_thread(lambda block, args, output: self.last_runs.append(None))
        )

    def refuse_idle(self, module: Any, args: Any, output: Any) -> None:
        """Hook of what did not run on the probe: it may be a block."""
        raise ProofError(
            f"{self.parts.names[module]} did not run on the probe, but on this text: which modules "
            "run depends on the text",
            tensors.UNSUPPORTED,
        )

    def require_as_probed(self) -> None:
        """ProofError where the blocks did not run as on the probe: an early exit, or as many turns
        as the text needs."""
        last = self.parts.runs[-1]
        missing = [site for site in self.buffer.sites if site not in self.buffer.filled]
        if missing or len(self.last_runs) != last.number + 1:
            run = self.parts.runs[max(0, missing[0].block)] if missing else last
            name = self.parts.names[run.block]
            raise ProofError(
                f"{name} did not run as often on this text as on the probe: which blocks run "
                "depends on the text",
                tensors.UNSUPPORTED,
            )

    def sample_head(self, head: Any, args: Any) -> Any:
        """Let the head run on the checked columns only, and keep what it would have received."""
        if self.final is not None or args[0].shape[:2] != (len(self.prompts), self.length):
            raise ProofError(
                f"{self.parts.names[head]} does not run once on the whole of a text of "
                f"{self.length} tokens",
                tensors.UNSUPPORTED,
            )
        self.final = self.windows(args[0])
        return (self.final[self.checked].unsqueeze(0), *args[1:])


@torch.inference_mode()
def capture(
    model: Any, parts: ModelParts, prompts: Sequence[PromptSlice], sites: Sequence[StreamSite]
) -> Stream:
    """Run ``model`` once on ``prompts`` together and keep the stream at ``sites``, at the positions
    of their windows.

    Hooks are gone afterwards, also after an exception. Raises WorkError where memory runs out on an
    accelerator.
    """
    hooks = Hooks(parts, prompts, sites)
    handles = []
    if parts.samples_columns:
        sample_head = passes.in_this_thread(hooks.sample_head)
        handles.append(parts.head.register_forward_pre_hook(sample_head))
    handles += [hooks.count_last(), *(hooks.register(site) for site in sites)]
    refuse_idle = passes.in_this_thread(hooks.refuse_idle)
    handles += [module.register_forward_hook(refuse_idle) for module in parts.idle]
    # Which token fills up does not matter, as long as it is not one that the family masks.
    padded = [[*p.ids, *[p.ids[-1]] * (hooks.length - len(p.ids))] for p in prompts]
    device = passes.device_of(model)
    with passes.hooked(handles):
        try:
            logits = passes.forward(model, torch.tensor(padded, device=device))
        except torch.OutOfMemoryError as error:
            raise WorkError(
                f"out of memory on {device} for {len(prompts)} texts of up to "
                f"{hooks.length} tokens",
                "use shorter texts, --dtype bfloat16 or --device cpu",
            ) from error
    hooks.require_as_probed()
    sampled = hooks.final is not None
    return Stream(
        rows=tuple(sites),
        resid=hooks.buffer.rows,
        final=hooks.final,
        checked=hooks.checked,
        logits=logits[0] if sampled else hooks.windows(logits)[hooks.checked],
    )
