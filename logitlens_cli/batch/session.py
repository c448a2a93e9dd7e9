"""Request -> readings: the model opened, the question settled, prompts read together.

Loads torch and transformers, so it is loaded late itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TypeAlias

from logitlens_cli.batch import packing, prompts
from logitlens_cli.batch.prompts import Prompt
from logitlens_cli.commands.progress import Progress
from logitlens_cli.commands.write import options_of
from logitlens_cli.errors import LogitLensError, UsageError, as_known_error
from logitlens_cli.figures.page import require_drawable
from logitlens_cli.lens.lens_model import LensModel, lens_model_of
from logitlens_cli.lens.prompt import TokenizedPrompt, prompt_text, tokenize_prompt
from logitlens_cli.lens.read import read_prompts
from logitlens_cli.lens.rows import rows_of
from logitlens_cli.lens.sharing import can_share_pass
from logitlens_cli.lens.spec import ReadSpec
from logitlens_cli.metrics.table import (
    ID_PREFIX,
    TARGET_WORDS,
    Measure,
    target_token_id,
    token_target,
)
from logitlens_cli.model import sandbox, tokenizer
from logitlens_cli.model.open import open_model
from logitlens_cli.options.groups import Check, Read
from logitlens_cli.reading.record import Reading

AHEAD = 256
"""prompts among which those of like length are looked for"""

Outcome: TypeAlias = "tuple[str, Reading | LogitLensError]"


class Session:
    """A model that is open, and what is asked of it."""

    def __init__(self, request: Read, progress: Progress) -> None:
        self.request = request
        self.lens_model = open_lens_model(request, progress, subblocks=request.subblocks)
        name = self.lens_model.record.name
        if request.chat and (missing := sandbox.unlimited_resources()):
            progress.note(
                f"--chat: this system sets no limit to the {' and '.join(missing)} that the chat "
                f"template of {name} takes"
            )
        what = f"the tokenizer of {name}"
        targets = sum(map(len, request.chosen))
        self.spec = sandbox.run_with_timeout(
            what, targets, lambda: read_spec_of(request, self.lens_model)
        )

    @cached_property
    def budget(self) -> int:
        """Most tokens of a pass; 1 where every prompt takes one of its own."""
        if not can_share_pass(self.lens_model, self.spec):
            return 1
        rows = len(rows_of(self.lens_model.parts, self.spec))
        return self.request.batch_tokens or packing.token_budget(self.lens_model, rows)

    def readings(self, todo: Sequence[Prompt]) -> Iterator[Outcome]:
        """The reading of every prompt, or why there is none, by the prompt's name."""
        budget = self.budget if len(todo) > 1 else 1
        for start in range(0, len(todo), AHEAD):
            tokenized = []
            for prompt in todo[start : start + AHEAD]:
                try:
                    tokenized.append(self.tokenize(prompt))
                except Exception as error:  # a tokenizer may raise anything
                    yield prompt.name, as_known_error(error)
            for group in packing.packed(tokenized, budget):
                for member, outcome in zip(group, self.together(group), strict=True):
                    yield member.name, outcome

    def together(self, group: Sequence[TokenizedPrompt]) -> "Sequence[Reading | LogitLensError]":
        """The readings of texts in one pass; where that fails, one of them is to blame, or there
        are too many of them, so each is read by itself."""
        try:
            return read_prompts(self.lens_model, self.spec, group)
        except (LogitLensError, MemoryError, RuntimeError) as error:  # torch's memory: RuntimeError
            if len(group) == 1:
                return [as_known_error(error)]
            return [outcome for prompt in group for outcome in self.together([prompt])]

    def read(self, prompt: TokenizedPrompt) -> Reading:
        """The reading of one text."""
        return read_prompts(self.lens_model, self.spec, [prompt])[0]

    def tokenize(self, prompt: Prompt) -> TokenizedPrompt:
        """Its tokens and columns; UsageError for a text or window that does not fit, and for
        figures that would be too large."""
        prompts.require_text(prompt.text, "its text")
        request, name, text = self.request, self.lens_model.record.name, prompt.text
        if request.chat:
            with sandbox.resource_limits(
                f"--chat: the chat template of {name}", "leave the option out"
            ):
                text = prompt_text(self.lens_model, self.spec, text)
        tokenized = sandbox.run_with_timeout(
            f"the tokenizer of {name}",
            len(text),
            lambda: tokenize_prompt(self.lens_model, self.spec, text, prompt.name),
        )
        if request.formats and request.of_cells:
            rows = len(rows_of(self.lens_model.parts, self.spec)) - self.spec.input_row
            columns = min(len(tokenized.columns), request.split or len(tokenized.columns))
            require_drawable(rows, columns, request.width.value, request.dpi)
        return tokenized


def open_lens_model(request: Read | Check, progress: Progress, *, subblocks: bool) -> LensModel:
    """Open the model of a request and find its parts."""
    opened = open_model(
        request.model,
        revision=request.revision,
        device=request.device,
        dtype=request.dtype.value,
        device_map=request.device_map,
        offline=request.offline,
        trust_remote_code=request.trust_remote_code,
        allow_pickle=request.allow_pickle,
        progress=progress,
    )
    with progress.step("finding blocks, norm and head"):
        return lens_model_of(
            opened.model,
            opened.tokenizer,
            name=opened.name,
            revision=opened.revision,
            context=opened.context,
            subblocks=subblocks,
        )


def read_spec_of(request: Read, lens_model: LensModel) -> ReadSpec:
    """What is asked of a model, settled for this model."""
    return ReadSpec(
        command=request.command,
        measures={key: resolved(measure, lens_model) for key, measure in request.measures.items()},
        k=request.guesses,
        norm=request.norm.value,
        blocks=request.rows(len(lens_model.parts.blocks)),
        input_row=request.input_row is not False,
        subblocks=request.subblocks,
        decoder_blocks=request.decoder_blocks,
        window=request.window,
        bos=request.bos.value,
        chat=request.chat,
        follow=request.follows,
        next_ranks=request.next_ranks,
        chosen=[
            resolved(Measure(metric="rank", target=t), lens_model).target for t in request.chosen
        ],
        single=request.single,
        position=request.column,
        options=options_of(request),
    )


def resolved(measure: Measure, lens_model: LensModel) -> Measure:
    """A measure whose tokens are "final", "input", "next" or "id:N"."""
    return replace(
        measure,
        target=token_of("--target", measure.target, lens_model),
        minus=token_of("--minus", measure.minus, lens_model),
    )


def token_of(option: str, target: str, lens_model: LensModel) -> str:
    """One of the words, or "id:N" of a token's text."""
    if target in TARGET_WORDS:
        return target
    if target.startswith(ID_PREFIX):
        number = target_token_id(target)
        if number is None or number >= lens_model.parts.vocabulary:
            raise UsageError(
                f"{option} {target} is no token", f"ids are 0 to {lens_model.parts.vocabulary - 1}"
            )
        return token_target(number)
    return token_target(tokenizer.target_id(lens_model.tokenizer, target, option))
