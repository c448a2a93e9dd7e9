"""``logitlens tokens``: what the tokenizer makes of a text, or of a word; no model is read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from logitlens_cli.commands.models import QuietOption, console, plain_table
from logitlens_cli.errors import UsageError
from logitlens_cli.lens.spec import ReadSpec
from logitlens_cli.options.groups import CommandOptions
from logitlens_cli.options.model_options import ModelName, SourceOptions
from logitlens_cli.options.option import PROMPT, option
from logitlens_cli.options.reading import BosOption, ChatOption, TextOptions, require_one


@dataclass(frozen=True, kw_only=True)
class Tokens(SourceOptions, ModelName, TextOptions, CommandOptions):
    """Tokens of a text: position, id and label; or how a word can be spelled as a token."""

    example = 'logitlens tokens "The capital of France is" --find Paris'

    find: Annotated[
        str | None,
        option("--find", section=PROMPT, help="A word, for its spellings as --target takes them."),
    ] = None
    chat: ChatOption = ReadSpec.chat
    bos: BosOption = ReadSpec.bos
    quiet: QuietOption = False

    def __post_init__(self) -> None:
        if self.find is None or any(value is not None for value in self.one_text.values()):
            require_one(self.one_text, "there is no text", "give one in quotes, --file or --find")
        if self.find is not None and not self.find.strip():
            raise UsageError(f"--find {self.find!r} is no word", "give a word")

    def run(self) -> Iterator[Path]:
        from logitlens_cli.batch.job import ReadJob
        from logitlens_cli.batch.tokenizing import PromptTokenizer
        from logitlens_cli.commands.progress import TerminalProgress
        from logitlens_cli.commands.read import prompt_of
        from logitlens_cli.commands.translate import model_source

        progress = TerminalProgress(quiet=self.quiet)
        given = any(value is not None for value in self.one_text.values())
        prompt = prompt_of(self, None, progress) if given else None
        job = ReadJob(
            source=model_source(self), spec=ReadSpec(metrics={}, bos=self.bos, chat=self.chat)
        )
        tokenizer = PromptTokenizer(job, progress)
        if prompt is not None:
            print_tokens(tokenizer.opened.tokenizer, tokenizer.tokenize(prompt).ids)
        if self.find is not None:
            print_spellings(tokenizer.opened.tokenizer, self.find)
        yield from ()


def print_tokens(tokenizer: object, ids: Sequence[int]) -> None:
    """A line for each token of a text."""
    from logitlens_cli.model.tokenizer import labels

    table = plain_table(header=True)
    table.add_column("position", justify="right")
    table.add_column("id", justify="right")
    table.add_column("token", overflow="fold")
    for position, (number, label) in enumerate(zip(ids, labels(tokenizer, ids), strict=True)):
        table.add_row(str(position), str(number), label)
    console().print(table)


def print_spellings(tokenizer: object, word: str) -> None:
    """A line for each spelling of a word, as it is written after --target, with its tokens."""
    from logitlens_cli.model.tokenizer import labels, spellings, token_ids

    table = plain_table(header=True)
    for heading in ("spelling", "id", "token"):
        table.add_column(heading, overflow="fold")
    for spelling in spellings(word):
        ids = token_ids(tokenizer, spelling)
        table.add_row(
            f'"{spelling}"', " + ".join(map(str, ids)), " + ".join(labels(tokenizer, ids))
        )
    console().print(table)
