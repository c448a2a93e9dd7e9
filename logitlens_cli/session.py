"""Request -> readings: the model opened, the question settled, prompts read together.

Loads torch and transformers, so it is loaded late itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TypeAlias

from logitlens_cli import batch, limits, prompts, tokens
from logitlens_cli.errors import LogitLensError, UsageError, known
from logitlens_cli.metrics import ID_PREFIX, TARGET_WORDS, Measure, target_token_id, token_target
from logitlens_cli.model import open_model
from logitlens_cli.outputs import options_of
from logitlens_cli.pages import require_drawable
from logitlens_cli.progress import Progress
from logitlens_cli.prompts import Prompt
from logitlens_cli.reader import (
    Plan,
    Subject,
    Task,
    as_read,
    plan,
    read_together,
    reads_together,
    rows_of,
    subject_of,
)
from logitlens_cli.reading import Reading
from logitlens_cli.request import Check, Read

AHEAD = 256
"""prompts among which those of like length are looked for"""

Outcome: TypeAlias = "tuple[str, Reading | LogitLensError]"


class Session:
    """A model that is open, and what is asked of it."""

    def __init__(self, request: Read, progress: Progress) -> None:
        self.request = request
        self.subject = open_subject(request, progress, subblocks=request.subblocks)
        what = f"the tokenizer of {self.subject.record.name}"
        targets = sum(map(len, request.chosen))
        self.task = limits.aside(what, targets, lambda: task_of(request, self.subject))

    @cached_property
    def budget(self) -> int:
        """Most tokens of a pass; 1 where every prompt takes one of its own."""
        if not reads_together(self.subject, self.task):
            return 1
        rows = len(rows_of(self.subject.parts, self.task))
        return self.request.batch_tokens or batch.budget_of(self.subject, rows)

    def readings(self, todo: Sequence[Prompt]) -> Iterator[Outcome]:
        """The reading of every prompt, or why there is none, by the prompt's name."""
        budget = self.budget if len(todo) > 1 else 1
        for start in range(0, len(todo), AHEAD):
            plans = []
            for prompt in todo[start : start + AHEAD]:
                try:
                    plans.append(self.plan(prompt))
                except Exception as error:  # a tokenizer may raise anything
                    yield prompt.name, known(error)
            for group in batch.groups(plans, budget):
                for planned, outcome in zip(group, self.together(group), strict=True):
                    yield planned.name, outcome

    def together(self, group: Sequence[Plan]) -> "Sequence[Reading | LogitLensError]":
        """The readings of texts in one pass; where that fails, one of them is to blame, or there
        are too many of them, so each is read by itself."""
        try:
            return read_together(self.subject, self.task, group)
        except (LogitLensError, MemoryError, RuntimeError) as error:  # torch's memory: RuntimeError
            if len(group) == 1:
                return [known(error)]
            return [outcome for planned in group for outcome in self.together([planned])]

    def read(self, planned: Plan) -> Reading:
        """The reading of one text."""
        return read_together(self.subject, self.task, [planned])[0]

    def plan(self, prompt: Prompt) -> Plan:
        """Its tokens and columns; UsageError for a text or window that does not fit, and for
        figures that would be too large."""
        prompts.require_text(prompt.text, "its text")
        request, name, text = self.request, self.subject.record.name, prompt.text
        if request.chat:
            with limits.bounded(f"--chat: the chat template of {name}", "leave the option out"):
                text = as_read(self.subject, self.task, text)
        planned = limits.aside(
            f"the tokenizer of {name}",
            len(text),
            lambda: plan(self.subject, self.task, text, prompt.name),
        )
        if request.formats and request.of_cells:
            rows = len(rows_of(self.subject.parts, self.task)) - self.task.input_row
            columns = min(len(planned.columns), request.split or len(planned.columns))
            require_drawable(rows, columns, request.width.value, request.dpi)
        return planned


def open_subject(request: Read | Check, progress: Progress, *, subblocks: bool) -> Subject:
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
        return subject_of(
            opened.model,
            opened.tokenizer,
            name=opened.name,
            revision=opened.revision,
            context=opened.context,
            subblocks=subblocks,
        )


def task_of(request: Read, subject: Subject) -> Task:
    """What is asked of a model, settled for this model."""
    return Task(
        command=request.command,
        measures={key: resolved(measure, subject) for key, measure in request.measures.items()},
        k=request.guesses,
        norm=request.norm.value,
        blocks=request.rows(len(subject.parts.blocks)),
        input_row=request.input_row is not False,
        subblocks=request.subblocks,
        decoder_blocks=request.decoder_blocks,
        window=request.window,
        bos=request.bos.value,
        chat=request.chat,
        follow=request.follows,
        next_ranks=request.next_ranks,
        chosen=[resolved(Measure(metric="rank", target=t), subject).target for t in request.chosen],
        single=request.single,
        position=request.column,
        options=options_of(request),
    )


def resolved(measure: Measure, subject: Subject) -> Measure:
    """A measure whose tokens are "final", "input", "next" or "id:N"."""
    return replace(
        measure,
        target=token_of("--target", measure.target, subject),
        minus=token_of("--minus", measure.minus, subject),
    )


def token_of(option: str, target: str, subject: Subject) -> str:
    """One of the words, or "id:N" of a token's text."""
    if target in TARGET_WORDS:
        return target
    if target.startswith(ID_PREFIX):
        number = target_token_id(target)
        if number is None or number >= subject.parts.vocabulary:
            raise UsageError(
                f"{option} {target} is no token", f"ids are 0 to {subject.parts.vocabulary - 1}"
            )
        return token_target(number)
    return token_target(tokens.target_id(subject.tokenizer, target, option))
