"""Prompts -> tokens, before a model is open: what the tokenizer knows to be wrong is said at once.

Loads transformers, and torch only where a tokenizer needs it, so it is loaded late itself.
"""

from logitlens_cli.batch import prompts
from logitlens_cli.batch.job import ReadJob
from logitlens_cli.batch.prompts import Prompt
from logitlens_cli.lens.prompt import TokenizedPrompt, prompt_text, tokenize_prompt
from logitlens_cli.lens.spec import ReadSpec
from logitlens_cli.lens.targets import without_spellings
from logitlens_cli.model import sandbox
from logitlens_cli.model.open import open_tokenizer
from logitlens_cli.model.progress import Progress


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
        tokenizer = self.opened.tokenizer
        if self.spec.chat:
            with sandbox.resource_limits(
                f"--chat: the chat template of {self.opened.name}", "leave the option out"
            ):
                text = prompt_text(tokenizer, self.spec, text)
        return sandbox.run_with_timeout(
            self.name,
            len(text),
            lambda: tokenize_prompt(tokenizer, self.spec, text, prompt.name),
        )
