"""Prompts -> tokens, before a model is open: what the tokenizer knows to be wrong is said at once.

Loads transformers, and torch only where a tokenizer needs it, so it is loaded late itself.
"""

from logitlens_cli.batch import prompts
from logitlens_cli.batch.job import ReadJob
from logitlens_cli.batch.prompts import Prompt
from logitlens_cli.errors import UsageError
from logitlens_cli.lens.prompt import TokenizedPrompt, prompt_text, tokenize_prompt
from logitlens_cli.lens.spec import ReadSpec
from logitlens_cli.lens.targets import without_spellings
from logitlens_cli.model import sandbox, tokenizer
from logitlens_cli.model.config import stated_context
from logitlens_cli.model.open import open_tokenizer
from logitlens_cli.model.progress import Progress

LONG_TEXT = 200_000
"""characters of texts that are tokenized whatever they are"""
MOST_CHARACTERS = 16
"""of a token, on average, in a text of whatever kind"""
SLACK = 16
"""tokens by which a beginning may be cut otherwise than the whole"""


class PromptTokenizer:
    """A tokenizer that is open, and what is asked of its model."""

    def __init__(self, job: ReadJob, progress: Progress) -> None:
        self.opened = open_tokenizer(job.source, progress)
        if job.spec.chat and (unlimited := sandbox.unlimited_resources()):
            progress.note(
                f"--chat: the chat template's {' and '.join(unlimited)} cannot be limited on this "
                "system"
            )
        self.name = f"the tokenizer of {self.opened.name}"
        characters = sum(map(len, job.spec.chosen))
        self.spec: ReadSpec = sandbox.run_with_timeout(
            self.name, characters, lambda: without_spellings(job.spec, self.opened.tokenizer)
        )

    def tokenize(self, prompt: Prompt) -> TokenizedPrompt:
        """Its tokens and columns; UsageError for a text or window that does not fit."""
        prompts.require_text(prompt.text, "its text")
        text = prompt.text
        by = self.opened.tokenizer
        if self.spec.chat:
            with sandbox.resource_limits(
                f"--chat: the chat template of {self.opened.name}", "leave the option out"
            ):
                text = prompt_text(by, self.spec, text)
        self.require_possible(text)
        return sandbox.run_with_timeout(
            self.name,
            len(text),
            lambda: tokenize_prompt(by, self.spec, text, prompt.name),
        )

    def require_possible(self, text: str) -> None:
        """UsageError for a text that is far too long for the model, told by its beginning: to
        tokenize 20 million characters takes 40 s and 4 GB."""
        context = stated_context(self.opened.files) if len(text) > LONG_TEXT else None
        beginning = text[: max(LONG_TEXT, MOST_CHARACTERS * (context or 0))]
        if context is None or len(beginning) == len(text):
            return
        count = sandbox.run_with_timeout(
            self.name,
            len(beginning),
            lambda: len(tokenizer.encode(self.opened.tokenizer, beginning).ids),
        )
        if count > context + SLACK:
            raise UsageError(
                f"the text has more than {count - SLACK} tokens in its first {len(beginning)} of "
                f"{len(text)} characters, {self.opened.name} takes {context}",
                "shorten it",
            )
