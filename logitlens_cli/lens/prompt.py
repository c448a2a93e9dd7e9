"""A text with its tokens, before the model has seen it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from logitlens_cli.errors import UsageError
from logitlens_cli.lens.spec import ReadSpec
from logitlens_cli.model import tokenizer, windows

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
    notes: Sequence[str] = ()
    """what a user ought to know about them"""

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
    return TokenizedPrompt(
        name=name,
        text=text,
        encoded=encoded,
        columns=columns,
        notes=windows.window_notes(spec.window, text),
    )


def require_embedded(prompt: TokenizedPrompt, lens_model: LensModel) -> None:
    """UsageError for a token that the model does not have."""
    highest = max(prompt.ids)
    weight = getattr(lens_model.model.get_input_embeddings(), "weight", None)
    rows = highest + 1 if weight is None else weight.shape[0]
    if highest >= rows:
        token = tokenizer.label(lens_model.tokenizer, highest)
        raise UsageError(
            f"the text holds token {highest} ({token}), but {lens_model.record.name} has {rows} "
            f"embeddings (ids 0 to {rows - 1})",
            "leave it out of the text, or give the model the tokenizer that it was trained with",
        )


def require_fits(prompt: TokenizedPrompt, lens_model: LensModel) -> None:
    """UsageError for a text that the model cannot take."""
    require_length(prompt, lens_model)
    require_embedded(prompt, lens_model)


def require_length(prompt: TokenizedPrompt, lens_model: LensModel) -> None:
    """UsageError for a text that is too long for the model."""
    count = len(prompt.ids)
    if lens_model.context is not None and count > lens_model.context:
        raise UsageError(
            f"the text has {count} tokens, {lens_model.record.name} takes {lens_model.context}",
            "shorten it",
        )
