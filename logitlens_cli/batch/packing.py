"""Which prompts share a pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from logitlens_cli.lens.prompt import TokenizedPrompt

LONG = 1024
"""tokens; longer prompts fill the machine by themselves, and families that turn to other positions
from some length on (dynamic scaling) must not see a fill"""


def packed(prompts: Sequence[TokenizedPrompt], budget: int) -> Iterator[list[TokenizedPrompt]]:
    """Prompts of like length, as many as the longest times their number stays within ``budget``."""
    group: list[TokenizedPrompt] = []
    for prompt in sorted(prompts, key=lambda p: len(p.ids)):
        full = (len(group) + 1) * len(prompt.ids) > budget or len(prompt.ids) > LONG
        if group and full:
            yield group
            group = []
        group.append(prompt)
    if group:
        yield group
