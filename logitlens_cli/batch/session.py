"""An open model, and prompts read with it together.

Loads torch and transformers, so it is loaded late itself.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TypeAlias

from logitlens_cli.batch import packing, prompts
from logitlens_cli.batch.job import ReadJob
from logitlens_cli.batch.prompts import Prompt
from logitlens_cli.errors import LogitLensError, as_known_error
from logitlens_cli.figures.page import require_drawable
from logitlens_cli.lens.lens_model import LensModel, lens_model_of
from logitlens_cli.lens.prompt import TokenizedPrompt, prompt_text, tokenize_prompt
from logitlens_cli.lens.read import read_prompts
from logitlens_cli.lens.rows import rows_of
from logitlens_cli.lens.sharing import can_share_pass, token_budget
from logitlens_cli.lens.spec import ReadSpec
from logitlens_cli.lens.targets import with_token_ids
from logitlens_cli.model import sandbox
from logitlens_cli.model.open import open_model
from logitlens_cli.model.progress import Progress
from logitlens_cli.model.source import ModelSource
from logitlens_cli.reading.record import Reading

PROMPTS_AHEAD = 256
"""prompts among which those of like length are looked for"""

Outcome: TypeAlias = "tuple[str, Reading | LogitLensError]"


class Session:
    """A model that is open, and what is asked of it."""

    def __init__(self, job: ReadJob, progress: Progress) -> None:
        self.job, self.progress = job, progress
        self.lens_model = open_lens_model(job.source, progress, subblocks=job.spec.subblocks)
        name = self.lens_model.record.name
        if job.spec.chat and (unlimited := sandbox.unlimited_resources()):
            progress.note(
                f"--chat: the chat template's {' and '.join(unlimited)} cannot be limited on this "
                "system"
            )
        self.tokenizer = f"the tokenizer of {name}"
        characters = sum(map(len, job.spec.chosen))
        self.spec: ReadSpec = sandbox.run_with_timeout(
            self.tokenizer, characters, lambda: with_token_ids(job.spec, self.lens_model)
        )
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
        """Its tokens and columns; UsageError for a text or window that does not fit, and for
        figures that would be too large."""
        prompts.require_text(prompt.text, "its text")
        text = prompt.text
        if self.spec.chat:
            name = self.lens_model.record.name
            with sandbox.resource_limits(
                f"--chat: the chat template of {name}", "leave the option out"
            ):
                text = prompt_text(self.lens_model, self.spec, text)
        tokenized = sandbox.run_with_timeout(
            self.tokenizer,
            len(text),
            lambda: tokenize_prompt(self.lens_model, self.spec, text, prompt.name),
        )
        self.require_drawable(len(tokenized.columns))
        return tokenized

    def require_drawable(self, columns: int) -> None:
        style = self.job.drawn
        if style is not None:
            rows = len(self.rows) - self.spec.reads_input_row
            require_drawable(rows, min(columns, style.split or columns), style.width, style.dpi)


def open_lens_model(source: ModelSource, progress: Progress, *, subblocks: bool) -> LensModel:
    """Open a model and find its parts."""
    opened = open_model(source, progress)
    with progress.step("finding blocks, norm and head"):
        return lens_model_of(
            opened.model,
            opened.tokenizer,
            name=opened.name,
            revision=opened.revision,
            context=opened.context,
            subblocks=subblocks,
        )
