"""Which prompts share a pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar


class HasTokens(Protocol):
    """Something that takes a place in a pass."""

    @property
    def ids(self) -> Sequence[int]: ...


Packed = TypeVar("Packed", bound=HasTokens)

LONG = 1024
"""tokens; longer prompts fill the machine by themselves, and families that turn to other positions
from some length on (dynamic scaling) must not see a fill"""


def packed(prompts: Sequence[Packed], budget: int) -> Iterator[list[Packed]]:
    """Prompts of like length, as many as the longest times their number stays within ``budget``."""
    group: list[Packed] = []
    for prompt in sorted(prompts, key=lambda p: len(p.ids)):
        full = (len(group) + 1) * len(prompt.ids) > budget or len(prompt.ids) > LONG
        if group and full:
            yield group
            group = []
        group.append(prompt)
    if group:
        yield group
