"""A model that is open, and a lens that is fitted to its stream over many chunks.

Loads torch and transformers, so it is loaded late itself.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from logitlens_cli.batch import packing
from logitlens_cli.batch.chunks import LONGEST, Chunk, Chunker
from logitlens_cli.batch.job import ReadJob
from logitlens_cli.batch.prompts import Prompt
from logitlens_cli.batch.session import open_lens_model
from logitlens_cli.batch.tokenizing import PromptTokenizer
from logitlens_cli.errors import UsageError
from logitlens_cli.lens.fitting.fit_sums import FitSums, read_sums, write_sums
from logitlens_cli.lens.fitting.held_out import HeldOut, held_out_pass
from logitlens_cli.lens.fitting.jacobian import add_jacobian, empty_jacobian
from logitlens_cli.lens.fitting.linear import add_linear, empty_linear
from logitlens_cli.lens.fitting.passes import fit_sites, row_labels
from logitlens_cli.lens.maps.lens_maps import LensMaps
from logitlens_cli.lens.prompt import TokenizedPrompt, require_embedded
from logitlens_cli.lens.sharing import can_share_pass, token_budget
from logitlens_cli.model.progress import Progress
from logitlens_cli.reading.atomic import staged

CHUNKS_AHEAD = 256
"""chunks among which those of like length are looked for"""
SAVED_EVERY = 60.0
"""seconds between two states of a fit that is not finished"""


@dataclass(frozen=True, kw_only=True)
class FitJob(ReadJob):
    """A model, and what is fitted to it; it travels to the workers of a cluster as it is."""

    kind: str
    """"linear" or "jacobian" """
    skip_first: int
    """positions of each chunk that nothing is fitted to"""


class FitSession:
    """A model that is open, and what is fitted to it."""

    def __init__(self, job: FitJob, progress: Progress) -> None:
        self.job, self.progress = job, progress
        self.tokenizer = PromptTokenizer(job, progress)
        self.lens_model = open_lens_model(self.tokenizer.opened, progress, subblocks=False)
        if len(self.lens_model.parts.blocks) < 1:
            raise UsageError("the model has no block", "take another model")

    @cached_property
    def budget(self) -> int:
        """Most tokens of a pass; 1 where every chunk takes one of its own."""
        longest = self.longest
        if not can_share_pass(self.lens_model, self.tokenizer.spec, longest):
            return 1
        rows = len(fit_sites(self.lens_model.parts))
        return self.job.batch_tokens or token_budget(self.lens_model, rows)

    @property
    def longest(self) -> int:
        """Tokens of a chunk."""
        return min(LONGEST, self.lens_model.context or LONGEST)

    def tokenize(self, prompt: Prompt) -> TokenizedPrompt:
        """A text's tokens, all of which the model has."""
        text = self.tokenizer.tokenize(prompt)
        require_embedded(text, self.lens_model)
        return text

    def chunker(self) -> Chunker:
        return Chunker(self.tokenize, self.job.skip_first, self.longest, self.progress)

    def empty(self) -> FitSums:
        """Nothing added yet."""
        empty = empty_linear if self.job.kind == "linear" else empty_jacobian
        return empty(self.lens_model)

    def groups(self, chunks: Sequence[Chunk]) -> Iterator[list[Chunk]]:
        """The chunks that share a pass. What is left of chunks gives the same groups as before,
        so that a fit that was stopped adds up the same sums."""
        budget = self.budget if self.job.kind == "linear" else 1
        for start in range(0, len(chunks), CHUNKS_AHEAD):
            yield from packing.packed(chunks[start : start + CHUNKS_AHEAD], budget)

    def add(self, sums: FitSums, group: Sequence[Chunk]) -> None:
        """Add a group of chunks."""
        skip = self.job.skip_first
        if self.job.kind == "linear":
            add_linear(sums, self.lens_model, [chunk.ids for chunk in group], skip)
            return
        for chunk in group:
            copies = max(1, self.budget // len(chunk.ids))
            add_jacobian(sums, self.lens_model, chunk.ids, skip, copies)

    def held_out(
        self, maps: LensMaps, chunks: Sequence[Chunk], done: Callable[[int, int], None]
    ) -> tuple[HeldOut, HeldOut]:
        """Chunks decoded plainly and through maps; ``done`` is told chunks and tokens."""
        both, loaded = [], maps.on(self.lens_model.parts.inner.device)
        for group in packing.packed(chunks, self.budget):
            texts = [chunk.ids for chunk in group]
            both.append(held_out_pass(self.lens_model, loaded, texts, self.job.skip_first))
            done(len(group), sum(map(len, texts)))
        plain, fitted = (
            HeldOut(*(np.concatenate([getattr(one[n], name) for one in both], 1)
                      for name in ("kl", "agrees")))
            for n in (0, 1)
        )  # fmt: skip
        return plain, fitted

    @property
    def labels(self) -> list[str]:
        """Of the rows that get a map."""
        return row_labels(self.lens_model)


class Fitting:
    """Sums in the making; they go on from ``path``, if that is of the same chunks and model."""

    def __init__(self, path: Path, key: str, progress: Progress) -> None:
        self.path, self.key, self.progress = path, key, progress
        self.done: set[bytes] = set()
        """keys of the chunks that are in the sums"""
        self.sums: FitSums | None = None
        if path.exists():
            self.load()

    def load(self) -> None:
        try:
            sums, words = read_sums(self.path)
            if words.get("key") == self.key:
                self.done, self.sums = {bytes.fromhex(key) for key in words["done"]}, sums
        except (UsageError, KeyError, TypeError, ValueError):
            return  # of another version, or damaged: from the start

    def add_all(
        self,
        chunks: Sequence[Chunk],
        empty: Callable[[], FitSums],
        add: Callable[[FitSums, Sequence[Chunk]], Iterator[Sequence[Chunk]]],
    ) -> FitSums:
        """The sums over all chunks. ``add`` adds those that are left to sums, and yields after each
        step the chunks that it added."""
        left = [chunk for chunk in chunks if chunk.key not in self.done]
        if self.done:
            self.progress.note(
                f"{len(chunks) - len(left)} of {len(chunks)} chunks are done already"
            )
        sums = self.sums = self.sums or empty()
        saved = time.monotonic()
        try:
            with self.progress.count(len(left), "chunk") as count:
                for group in add(sums, left):
                    self.done.update(chunk.key for chunk in group)
                    sums.is_whole = True
                    count.add(len(group), sum(len(chunk.ids) for chunk in group))
                    if time.monotonic() - saved > SAVED_EVERY:
                        saved = time.monotonic()
                        self.save()
        finally:
            self.save()
        return sums

    def save(self) -> None:
        """Keep what is added up so far, unless a pass is half added: then what was kept before
        stays."""
        sums = self.sums
        if sums is None or not sums.is_whole or not self.done:
            return
        about = {"key": self.key, "done": sorted(key.hex() for key in self.done)}
        with staged(self.progress.note) as stage:
            stage.write(self.path, lambda file: write_sums(file, sums, about))


def added_here(
    session: FitSession, sums: FitSums, chunks: Sequence[Chunk]
) -> Iterator[Sequence[Chunk]]:
    """Add chunks group by group, on this machine."""
    for group in session.groups(chunks):
        session.add(sums, group)
        yield group
