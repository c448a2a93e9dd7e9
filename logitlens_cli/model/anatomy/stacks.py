"""Which modules are the blocks, and in what order they run.

A list of modules is a stack of blocks; so is a single module that adds to the stream outside of
any list. Models have one stack that runs once, but for those with shared weights, and those with
several stacks one after the other.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

import torch
from torch import nn

from logitlens_cli.errors import ProofError
from logitlens_cli.model.anatomy.passages import (
    Passages,
    all_left_by,
    constant,
    stream_shape,
    taken_by,
)
from logitlens_cli.model.anatomy.passes import PROBE_TOKENS
from logitlens_cli.model.anatomy.tensors import (
    UNSUPPORTED,
    ModuleCall,
    feeds,
)
from logitlens_cli.model.anatomy.trials import Trial, nudge

# ---------------------------------------------------------------------------------------------
# Candidates


@dataclass(frozen=True)
class Stack:
    """Modules that may be blocks."""

    blocks: tuple[nn.Module, ...]
    runs: tuple[int, ...]
    """when they returned, ascending, as indices of the calls"""
    chained: bool
    """does each run hand its result to the next?"""
    entry: int
    """the call that receives the stream first, as an index of the calls"""

    @property
    def end(self) -> int:
        return self.runs[-1]

    @property
    def is_plain(self) -> bool:
        """Has a member no children, unlike a block?"""
        return not all(any(True for _ in block.children()) for block in self.blocks)


def find_stacks(
    model: nn.Module, calls: list[ModuleCall], passages: Passages
) -> tuple[list[Stack], list[Stack]]:
    """What may be the blocks, that which returns last in time first; and rows of parallel lists of
    plain modules, to be tried if nothing else will do (XLM).

    Children that did not run (cross-attention on a text without pictures) are left out. A block has
    children, unlike the members of a tail that is written as a list.
    """
    stacks: list[Stack] = []
    plain: list[Stack] = []
    for parent in model.modules():
        if not isinstance(parent, (nn.ModuleList, nn.Sequential)):
            continue
        found = stack_of(tuple(parent.children()), calls)
        if found is None:
            continue
        if found.chained or all(any(True for _ in child.children()) for child in found.blocks):
            stacks.append(found)
        if found.is_plain and len({type(child) for child in found.blocks}) == 1:
            plain.append(replace(found, chained=False))
    first = min((stack.entry for stack in stacks + plain), default=0)
    outer = outermost(calls, [s for s in stacks if not is_part(s, calls, passages)])
    outer.sort(key=lambda stack: -stack.end)
    plain.sort(key=lambda stack: -stack.end)
    return outer, [replace(stack, entry=first) for stack in plain if len(stack.blocks) > 1]


def stack_of(members: tuple[nn.Module, ...], calls: list[ModuleCall]) -> Stack | None:
    """The members that ran, if they work on tensors of one shape and run in a sensible order."""
    wanted = set(members)
    runs = [n for n, c in enumerate(calls) if c.module in wanted and c.received and c.returned]
    if not runs:
        return None
    ran = {calls[n].module for n in runs}
    blocks = tuple(member for member in dict.fromkeys(members) if member in ran)
    last = {calls[n].module: n for n in runs}
    ends = [last[block] for block in blocks]
    chained = all(feeds(calls[a], calls[b]) for a, b in itertools.pairwise(runs))
    if not chained and ends != sorted(ends):
        return None
    if not frozenset.intersection(*(frozenset(t.shape for t in calls[n].returned) for n in runs)):
        return None
    return Stack(blocks, tuple(runs), chained, runs[0])


def is_part(stack: Stack, calls: list[ModuleCall], passages: Passages) -> bool:
    """Is a list of plain modules a part of a block that is in no list?"""
    return (
        stack.is_plain
        and any(
            call.module not in stack.blocks
            and stream_shape(call) is not None
            and not set(stack.blocks).isdisjoint(call.module.modules())
            for call in calls
        )
        and not passages.is_block(stack.end)
    )


def outermost(calls: list[ModuleCall], stacks: Sequence[Stack]) -> list[Stack]:
    """Stacks that are not inside a block of another nor a part of it, and single modules outside of
    all stacks that have children or a matrix, and a result of the shape of their input."""
    members = {block for stack in stacks for block in stack.blocks}
    inside = {m for block in members for m in block.modules() if m is not block}
    outer = [stack for stack in stacks if not inside.intersection(stack.blocks)]
    outer = [
        stack
        for n, stack in enumerate(outer)
        if not any(
            set(stack.blocks) < set(other.blocks)
            or (m < n and set(stack.blocks) == set(other.blocks))
            for m, other in enumerate(outer)
        )
    ]
    singles: dict[nn.Module, None] = {}
    for call in calls:
        module = call.module
        is_outside = module not in inside and not members.intersection(module.modules())
        if is_outside and not is_vector(module) and stream_shape(call) is not None:
            singles[module] = None
    held = {m for module in singles for m in module.modules() if m is not module}
    found = (stack_of((module,), calls) for module in singles if module not in held)
    return outer + [stack for stack in found if stack is not None]


def is_vector(module: nn.Module) -> bool:
    """A module without children whose parameters are vectors, or that has none: no block."""
    return not any(module.children()) and all(p.ndim < 2 for p in module.parameters())


# ---------------------------------------------------------------------------------------------
# All stacks that the stream runs through


def returns_input(trial: Trial, call: ModuleCall) -> bool:
    """Does a module return what it received? It is looked at again, since modules that work in
    place change what the probe has seen."""
    (left, *taken), _ = trial.run({}, [all_left_by(call)[0], *taken_by(call)])
    return any(torch.equal(left, tensor) for tensor in taken)


@dataclass(frozen=True)
class StreamSearch:
    """The stacks of a probe, and trials on its model."""

    passages: Passages
    outer: Sequence[Stack]
    """the last in time first"""
    names: dict[nn.Module, str]

    @property
    def calls(self) -> list[ModuleCall]:
        return self.passages.calls

    @property
    def trial(self) -> Trial:
        return self.passages.trial

    def whole(self, main: Stack) -> Stack | None:
        """``main``, the last stack, with those that the stream runs through before it.

        None where ``main`` is no stack of blocks but a part of the tail. Raises ProofError where
        one stack leads to another by more than an addition: no stream runs through both.
        """
        main = self.without_tail(main)
        before = [stack for stack in self.outer if stack.entry < main.end and stack.end < main.end]
        if not before and not main.is_plain and main.chained:
            return main
        if before and main.entry > before[0].end:
            looks_back = self.looks_back(main)
            if not looks_back and not self.is_like(main, before):
                return None
            if not self.passages.is_block(main.end):
                if looks_back and not self.passages.ignores_size(main.end):
                    self.refuse(main)
                return None
        if not self.passages.is_block(main.end) or not self.trial.matters(
            self.passages.left_by(main.end)
        ):
            return None
        joined = [main]
        for stack in before:
            if self.is_in_stream(stack, joined):
                joined.append(stack)
        return self.in_order(joined, [stack for stack in before if stack not in joined])

    def is_like(self, main: Stack, before: Sequence[Stack]) -> bool:
        """Is the last of a stack's modules of a class of earlier ones? Else what works on each
        position by itself counts as tail, such as the transform before a BERT's head: whether
        trained weights add to their input cannot be told from numbers."""
        kinds = {type(block) for stack in before for block in stack.blocks}
        return type(self.calls[main.end].module) in kinds

    def in_order(self, joined: Sequence[Stack], others: Sequence[Stack]) -> Stack:
        """The runs of all stacks by time; ProofError where no stream runs through them."""
        runs = sorted({n for stack in joined for n in stack.runs})
        of = {n: stack for stack in joined for n in stack.runs}
        for stack in others:
            if stack.entry < runs[0]:
                self.require_no_blocks(stack)
        for a, b in itertools.pairwise(runs):
            if of[a] is not of[b] or not of[a].chained:
                self.require_handed_on(a, b)
        blocks = tuple(dict.fromkeys(self.calls[n].module for n in runs))
        return Stack(blocks, tuple(runs), all(s.chained for s in joined), runs[0])

    def is_in_stream(self, stack: Stack, joined: Sequence[Stack]) -> bool:
        """Are an earlier stack's modules blocks, too? False if they do not matter to the logits,
        work on something else, or are beside the stream; ProofError where they should be blocks."""
        last, shape = self.calls[stack.end], stream_shape(self.calls[joined[0].end])
        if stream_shape(last) != shape or returns_input(self.trial, last):
            return False
        if not self.trial.matters(self.passages.left_by(stack.end)):
            return False
        if self.is_branch(stack, joined):
            return False
        if self.passages.is_block(stack.end):
            return True
        if len(stack.runs) > 1 or self.looks_back(stack):
            self.refuse(stack)
        return False

    def require_no_blocks(self, stack: Stack) -> None:
        """ProofError where a stack before all others has blocks on a stream of another width."""
        call = self.calls[stack.end]
        sizes = stream_shape(call) or ()
        if not {2, PROBE_TOKENS} <= set(sizes) or not self.passages.is_block(stack.end):
            return
        if self.trial.matters(self.passages.left_by(stack.end)):
            self.refuse(stack)

    def without_tail(self, stack: Stack) -> Stack:
        """A stack without modules at its end that are no blocks: a final norm in the same list."""
        while len(stack.runs) > 1:
            kinds = [type(self.calls[n].module) for n in stack.runs]
            if kinds[-1] in kinds[:-1] or self.passages.is_block(stack.end):
                break
            stack = replace(stack, runs=stack.runs[:-1], blocks=stack.blocks[:-1])
        return stack

    def looks_back(self, stack: Stack) -> bool:
        """Does a stack use earlier positions, as no part of a tail does?"""
        first, last = self.calls[stack.entry], self.calls[stack.end]
        if stream_shape(first) is None or stream_shape(last) is None:
            return False
        leaving = all_left_by(last)[0]
        if not self.trial.matters(leaving):
            return False
        return any(self.trial.moves_later(site, leaving) for site in taken_by(first))

    def refuse(self, stack: Stack) -> NoReturn:
        name = self.names[self.calls[stack.end].module]
        raise ProofError(
            f"no residual stream runs through all blocks: {name} is beside it",
            UNSUPPORTED,
        )

    def is_branch(self, stack: Stack, joined: Sequence[Stack]) -> bool:
        """Do the modules of a stack run singly between blocks (cross-attention before each block),
        so that the stream passes them by, and what they return is added to it?"""
        others = sorted(
            {n for other in (*joined, *self.outer) for n in other.runs if other is not stack}
        )
        for a, b in itertools.pairwise(others):
            between = [n for n in stack.runs if a < n < b]
            if len(between) != 1 or stream_shape(self.calls[a]) != stream_shape(self.calls[b]):
                continue
            held, before = self.passages.left_by(between[0]), self.passages.left_by(a)
            (kept,), _ = self.trial.run({}, [held])
            still, after = {held: constant(kept)}, self.passages.taken_by(b)
            old, _ = self.trial.run(still, after)
            new, _ = self.trial.run({**still, before: nudge}, after)
            if all(torch.equal(x, y) for x, y in zip(old, new, strict=True)):
                return False
            if not any(self.trial.carries(held, site) for site in after):
                self.refuse(stack)
            return True
        return False

    def require_handed_on(self, a: int, b: int) -> None:
        """ProofError where what one run leaves is no summand of what the next receives."""
        left, taken = self.passages.left_by(a), self.passages.taken_by(b)
        (before, *after), _ = self.trial.run({}, [left, *taken])
        if any(torch.equal(before, tensor) for tensor in after):
            return
        if any(self.trial.carries(left, site) for site in taken):
            return
        raise ProofError(
            f"no residual stream runs through all blocks: what {self.names[left.module]} leaves "
            f"is not a part of what {self.names[taken[0].module]} receives",
            UNSUPPORTED,
        )
