"""What to read, the same for every text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from logitlens_cli.metrics.table import Measure


@dataclass(frozen=True, kw_only=True)
class ReadSpec:
    """What to read, the same for every text."""

    command: str
    measures: Mapping[str, Measure]
    k: int
    norm: str = "full"
    blocks: Sequence[int]
    """numbers of the blocks, ascending"""
    input_row: bool = True
    subblocks: bool = False
    """also the rows between attention and MLP"""
    decoder_blocks: int = 0
    """the last so many blocks are part of the tail"""
    window: str | None = None
    bos: str = "auto"
    chat: bool = False
    """render the text through the tokenizer's chat template"""
    follow: bool = False
    """also rank every token that was ever a top guess in the last column"""
    next_ranks: bool = False
    """also rank the true next tokens in the model's output"""
    chosen: Sequence[str] = ()
    """targets that are ranked in the last column too"""
    single: bool = False
    """is one column of the window all that is read?"""
    position: int | None = None
    """of the single column; None is the window's last"""
    options: Mapping[str, Any]
    """what the user asked for, for the record"""
