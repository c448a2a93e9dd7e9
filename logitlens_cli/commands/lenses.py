"""``logitlens lenses``: what a file of maps is; one of another program as one of our own."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from logitlens_cli.errors import UsageError
from logitlens_cli.options.groups import CommandOptions

if TYPE_CHECKING:
    from logitlens_cli.lens.maps.lens_maps import LensMaps

SUFFIX = ".safetensors"


@dataclass(frozen=True, kw_only=True)
class Convert(CommandOptions):
    """Write a lens as safetensors, which can run no code."""

    example = "logitlens lenses convert tuned-lens/gpt2 gpt2.safetensors"

    source: Annotated[Path, typer.Argument(metavar="IN", help="A folder or file of a lens.")]
    target: Annotated[Path, typer.Argument(metavar=f"OUT{SUFFIX}", help="The file to write.")]

    def run(self) -> Iterator[Path]:
        from logitlens_cli.lens.maps.maps_file import header_of, write_maps
        from logitlens_cli.reading.atomic import require_writable, staged

        if self.target.suffix != SUFFIX:
            raise UsageError(f"{self.target} is no name of a lens", f"give FILE{SUFFIX}")
        require_writable(self.target.parent)
        maps = lens_at(self.source)
        with staged() as stage:
            stage.write(self.target, lambda file: write_maps(file, maps, header_of(maps)))
        yield self.target


@dataclass(frozen=True, kw_only=True)
class Show(CommandOptions):
    """Say what a lens is: kind, model, width, layers, what it was fitted on, hash."""

    example = "logitlens lenses show gpt2.safetensors"

    source: Annotated[Path, typer.Argument(metavar="FILE", help="A folder or file of a lens.")]

    def run(self) -> Iterator[Path]:
        from logitlens_cli.commands.models import print_proof

        print_proof({name: [value] for name, value in facts_of(lens_at(self.source)).items()})
        yield from ()


def lens_at(path: Path) -> "LensMaps":
    """The maps of a file or folder; UsageError where there is none."""
    from logitlens_cli.lens.maps.find_maps import LensSource, lens_in, read_lens

    place = path.expanduser().absolute()
    if not place.exists():
        raise UsageError(f"there is no lens {path}", "give a file or a folder")
    return read_lens(LensSource(lens_in(place, str(path)), place.name))


def facts_of(maps: "LensMaps") -> dict[str, str]:
    """What is known of maps, in words, by name."""
    record = maps.record
    facts = {
        "kind": record.kind,
        "model": record.model,
        "revision": record.revision,
        "width": maps.width,
        "layers": layer_words(sorted(maps.weights)),
        "bias": "yes" if maps.biases else "no",
        "fitted on": record.corpus,
        "tokens": record.tokens,
        "texts": record.prompts,
        "unembedding": maps.unembedding,
        "sha256": record.sha256,
    }
    return {name: str(value) for name, value in facts.items() if value is not None}


def layer_words(rows: Sequence[int]) -> str:
    """Rows in ranges: "input, 0-4, 6"."""
    ranges: list[list[int]] = []
    for row in rows:
        if row < 0:
            continue
        if ranges and row == ranges[-1][1] + 1:
            ranges[-1][1] = row
        else:
            ranges.append([row, row])
    words = [str(a) if a == b else f"{a}-{b}" for a, b in ranges]
    return ", ".join((["input"] if rows and rows[0] < 0 else []) + words)
