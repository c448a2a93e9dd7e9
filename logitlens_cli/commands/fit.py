"""``logitlens fit``: many texts and a model -> a lens of its own, and how well it does."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from logitlens_cli.options.fit_options import FitOptions
from logitlens_cli.options.groups import CommandOptions


@dataclass(frozen=True, kw_only=True)
class Fit(FitOptions, CommandOptions):
    """Fit a lens to a model: a map for every layer, from its stream to the last block's output."""

    example = "logitlens fit --lines corpus.txt --model gpt2 --out gpt2.safetensors"

    def run(self) -> Iterator[Path]:
        from logitlens_cli.commands.fit_lines import fit

        return fit(self)
