"""An open model, and prompts read with it together.

Loads torch and transformers, so it is loaded late itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TypeAlias

from logitlens_cli.batch import packing
from logitlens_cli.batch.job import ReadJob
from logitlens_cli.batch.prompts import Prompt
from logitlens_cli.batch.tokenizing import PromptTokenizer
from logitlens_cli.errors import LogitLensError, as_known_error
from logitlens_cli.figures.page import require_drawable
from logitlens_cli.lens.lens_model import LensModel, lens_model_of
from logitlens_cli.lens.maps.find_maps import find_lens, with_lens
from logitlens_cli.lens.prompt import TokenizedPrompt, require_fits
from logitlens_cli.lens.read import read_prompts
from logitlens_cli.lens.rows import rows_of
from logitlens_cli.lens.sharing import can_share_pass, token_budget
from logitlens_cli.lens.spec import ReadSpec
from logitlens_cli.lens.targets import with_token_ids
from logitlens_cli.model.open import OpenedTokenizer, open_weights
from logitlens_cli.model.progress import Progress
from logitlens_cli.reading.record import Reading

PROMPTS_AHEAD = 256
"""prompts among which those of like length are looked for"""

Outcome: TypeAlias = "tuple[str, Reading | LogitLensError]"


class Session:
    """A model that is open, and what is asked of it."""

    def __init__(
        self,
        job: ReadJob,
        progress: Progress,
        tokenizer: PromptTokenizer | None = None,
        plain: LensModel | None = None,
    ) -> None:
        """``tokenizer`` and ``plain`` (the model without a lens) where they are open already."""
        self.job, self.progress = job, progress
        self.tokenizer = tokenizer or PromptTokenizer(job, progress)
        opened = self.tokenizer.opened
        source = find_lens(
            job.spec.lens, job.spec.lens_revision, opened.name, offline=job.source.offline
        )
        self.plain = plain or open_lens_model(opened, progress, subblocks=job.spec.subblocks)
        spec = replace(self.tokenizer.spec, lens=job.spec.lens)
        self.lens_model, spec = with_lens(self.plain, spec, source, progress.note)
        self.spec: ReadSpec = with_token_ids(spec, self.lens_model)
        self.rows = rows_of(self.lens_model.parts, self.spec)
        """of every grid; asked for at once, as the model may not have them"""

    @cached_property
    def budget(self) -> int:
        """Most tokens of a pass; 1 where every prompt takes one of its own."""
        if not can_share_pass(self.lens_model, self.spec, longest=0):
            if not self.spec.decoder_blocks:  # which need a pass for each text anyhow
                self.progress.note(
                    f"texts are read one by one: {self.lens_model.record.name} gives other numbers "
                    "to a text beside a longer one, or does not decode each position by itself"
                )
            return 1
        return self.job.batch_tokens or token_budget(self.lens_model, len(self.rows))

    def readings(self, todo: Sequence[Prompt]) -> Iterator[Outcome]:
        """The reading of every prompt, or why there is none, by the prompt's name."""
        budget = self.budget if len(todo) > 1 else 1
        for start in range(0, len(todo), PROMPTS_AHEAD):
            tokenized = []
            for prompt in todo[start : start + PROMPTS_AHEAD]:
                try:
                    tokenized.append(self.tokenize(prompt))
                except Exception as error:  # a tokenizer may raise anything
                    yield prompt.name, as_known_error(error)
            for packed in packing.packed(tokenized, budget):
                for group in self.shareable(packed):
                    for text, outcome in zip(group, self.read_group(group), strict=True):
                        yield text.name, outcome

    def shareable(self, group: Sequence[TokenizedPrompt]) -> list[Sequence[TokenizedPrompt]]:
        """A group as it is where texts as long as its longest may share a pass, else each text."""
        longest = max(len(text.ids) for text in group)
        if len(group) == 1 or can_share_pass(self.lens_model, self.spec, longest):
            return [group]
        return [[text] for text in group]

    def read_group(self, group: Sequence[TokenizedPrompt]) -> "Sequence[Reading | LogitLensError]":
        """The readings of texts in one pass; where that fails, one of them is to blame, or there
        are too many of them, so each is read by itself."""
        try:
            return read_prompts(self.lens_model, self.spec, group)
        except (LogitLensError, MemoryError, RuntimeError) as error:  # torch's memory: RuntimeError
            if len(group) == 1:
                return [as_known_error(error)]
            return [outcome for text in group for outcome in self.read_group([text])]

    def read(self, text: TokenizedPrompt) -> Reading:
        """The reading of one text."""
        return read_prompts(self.lens_model, self.spec, [text])[0]

    def tokenize(self, prompt: Prompt) -> TokenizedPrompt:
        """Its tokens and columns, as far as the model can take them."""
        tokenized = self.tokenizer.tokenize(prompt)
        self.require_fits(tokenized)
        return tokenized

    def require_fits(self, text: TokenizedPrompt) -> None:
        """UsageError for a text that the model cannot take, or figures that would be too large."""
        require_fits(text, self.lens_model)
        self.require_drawable(len(text.columns))

    def require_drawable(self, columns: int) -> None:
        style = self.job.drawn
        if style is not None:
            rows = len(self.rows) - self.spec.reads_input_row
            require_drawable(rows, min(columns, style.split or columns), style)


def open_lens_model(opened: OpenedTokenizer, progress: Progress, *, subblocks: bool) -> LensModel:
    """Open the model of a tokenizer and find its parts."""
    model = open_weights(opened, progress)
    with progress.step(f"finding blocks, norm and head of {opened.name}, and proving the lens"):
        return lens_model_of(
            model.model,
            model.tokenizer,
            name=model.name,
            revision=model.revision,
            verified=model.verified,
            context=model.context,
            subblocks=subblocks,
        )
