"""A text with its tokens, before the model has seen it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from logitlens_cli.errors import UsageError
from logitlens_cli.lens.spec import ReadSpec
from logitlens_cli.model import tokenizer

if TYPE_CHECKING:
    from logitlens_cli.lens.lens_model import LensModel


@dataclass(frozen=True, kw_only=True)
class TokenizedPrompt:
    """A text with its tokens, before the model has seen it."""

    name: str
    """the stem of the files' names"""
    text: str
    """as the model sees it"""
    encoded: tokenizer.Encoded
    columns: range
    """the positions that become columns"""

    @property
    def ids(self) -> Sequence[int]:
        return self.encoded.ids


def prompt_text(by: Any, spec: ReadSpec, text: str) -> str:
    """A text as the model sees it, by its tokenizer."""
    return tokenizer.in_template(by, text) if spec.chat else text


def tokenize_prompt(by: Any, spec: ReadSpec, text: str, name: str) -> TokenizedPrompt:
    """Tokens and columns of a ``prompt_text`` by a tokenizer; UsageError for a window that does not
    fit."""
    encoded = tokenizer.encode(by, text, "none" if spec.chat else spec.bos)
    if not encoded.ids:
        raise UsageError("the prompt has no token", "give some text")
    columns = tokenizer.window_columns(spec.window, text, encoded)
    if spec.single:
        columns = tokenizer.single_column(spec.column, columns, len(encoded.ids))
    if "next" in spec.chosen and columns.stop == len(encoded.ids):
        raise UsageError(
            f"--target next: nothing follows position {columns[-1]}, the last one",
            "give an earlier --position",
        )
    return TokenizedPrompt(name=name, text=text, encoded=encoded, columns=columns)


def require_length(prompt: TokenizedPrompt, lens_model: LensModel) -> None:
    """UsageError for a text that is too long for the model."""
    count = len(prompt.ids)
    if lens_model.context is not None and count > lens_model.context:
        raise UsageError(
            f"the text has {count} tokens, {lens_model.record.name} takes {lens_model.context}",
            "shorten it",
        )
