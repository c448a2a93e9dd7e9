"""What a user ought to know about a result, one line each on standard error."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from logitlens_cli.errors import LogitLensError
from logitlens_cli.metrics.spec import MetricSpec
from logitlens_cli.model.progress import Progress
from logitlens_cli.reading.sets import torn_files

if TYPE_CHECKING:
    from logitlens_cli.batch.session import Outcome
    from logitlens_cli.reading.record import ModelRecord, Reading, Spelling


class InputRowNote:
    """Counts the columns in which the input row decodes to the input token, where kl-input measures
    from that row."""

    def __init__(self, metrics: Mapping[str, MetricSpec]) -> None:
        spec = metrics.get("kl-input")
        self.matters = spec is not None and not spec.one_hot
        self.same = self.count = 0
        self.model: ModelRecord | None = None

    def add(self, reading: Reading) -> None:
        self.model = reading.model
        if self.matters and reading.layers[0].kind == "input":
            top = reading.top()[0]
            self.same += sum(t.id == i for t, i in zip(reading.tokens, top, strict=True))
            self.count += len(reading.tokens)

    def print(self, progress: Progress) -> None:
        """Say so where kl-input does not measure from the input token, as one might think."""
        if self.model is None or not self.matters:
            return
        name, tied = self.model.name, self.model.tied
        why = "" if tied else " (the model does not tie its embeddings)"
        if self.same < self.count:
            progress.note(
                f"the input row of {name} decodes to the input token in {self.same} of "
                f"{self.count} columns{why}; --one-hot measures from the token itself"
            )
        elif not self.count and not tied:
            progress.note(
                f"{name} does not tie its embeddings, so the input row need not decode to the "
                "input token; --one-hot measures from the token itself"
            )


class TextNotes:
    """What a user ought to know about windows and targets, each once, with the number of prompts
    of which it is true."""

    def __init__(self) -> None:
        self.prompts = 0
        self.windows: Counter[str] = Counter()
        self.spellings: dict[str, list[Spelling]] = {}
        """by the target as it was given"""

    def add(self, reading: Reading) -> None:
        self.prompts += 1
        self.windows.update(reading.notes)
        for spelling in reading.spellings:
            self.spellings.setdefault(spelling.text, []).append(spelling)

    def noted(self, outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
        """The same outcomes, of which all readings are added."""
        for name, outcome in outcomes:
            if not isinstance(outcome, LogitLensError):
                self.add(outcome)
            yield name, outcome

    def print(self, progress: Progress) -> None:
        for sentence, count in self.windows.items():
            progress.note(sentence + self.of_prompts(count))
        for found in self.spellings.values():
            # Of several prompts the one where the ranks are furthest apart.
            worst = max(found, key=lambda spelling: spelling.rank / spelling.better_rank)
            progress.note(
                f"{worst.text!r} is token {worst.id}, of rank {worst.rank} in the end; "
                f"{worst.better_label} (id:{worst.better_id}) has rank {worst.better_rank} there"
                + self.of_prompts(len(found), "another spelling ranks better ")
            )

    def of_prompts(self, count: int, what: str = "") -> str:
        return f" ({what}in {count} of {self.prompts} prompts)" if self.prompts > 1 else ""


def note_torn(dumps: Iterable[Path], progress: Progress) -> None:
    """Bring what a killed run began to its end, or say that it cannot be: the dump is a whole file
    even then, but the figures beside it may be another run's."""
    for dump in torn_files(dumps, progress.note):
        progress.note(
            f"the run that wrote {dump} was cut off: the figures beside it may be of another run; "
            "make them again"
        )


def note_missing_fonts(missing: frozenset[str], progress: Progress) -> None:
    """Say which scripts no font has, and what brings one; that control characters are escaped needs
    no word."""
    characters = sorted(filter(str.isprintable, missing))
    if characters:
        from logitlens_cli.figures.fonts import scripts_of

        scripts = scripts_of(characters)
        progress.note(
            f"no installed font has {len(characters)} of the characters "
            f"({''.join(characters[:8])}: {', '.join(scripts)}), so escapes stand for them; "
            f"install {', '.join(dict.fromkeys(scripts.values()))}"
        )
