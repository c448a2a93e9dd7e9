"""The result of one run: ids, labels, scores, provenance; JSON both ways, with its schema.

Everything a figure needs is here, so that it can be drawn again without the model. Knows neither
torch nor matplotlib. Layers run from the lowest to the last, positions are those of the window; a
value that does not exist is null in the file and NaN in an array.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from logitlens_cli.metrics.spec import Scale
from logitlens_cli.metrics.sums import Floats, Ints
from logitlens_cli.metrics.table import TRACE
from logitlens_cli.reading.rounding import rounded
from logitlens_cli.reading.shapes import (
    require_followed,
    require_grids,
    require_lock_in,
    require_scores,
)

DUMP_SCHEMA = "logitlens/1"
Id = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
Nonnegative = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
Key = Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9-]*$(?!\\n)")]
"""of a metric or a command; it becomes part of file names"""
Number = Annotated[float, msgspec.Meta(ge=-1e100, le=1e100)]
"""far more than float32 has; colours are computed of it"""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the dump's objects; keys that a later version adds are passed over."""


class Token(Record, frozen=True):
    """A column."""

    position: Nonnegative
    """in the text as the model sees it, from 0"""
    id: Id
    label: str
    next_id: Id | None
    """the token that really follows; null at the end of the text"""
    next_label: str | None


class Layer(Record, frozen=True):
    """A row."""

    label: str
    kind: Literal["input", "mid", "block"]
    """"input" (what enters block 0), "mid" (after attention) or "block" (what leaves a block)"""
    block: Nonnegative | None
    """its number; where blocks run more than once, the number of the run, from 0"""

    @property
    def height(self) -> float | None:
        """Where the row stands among the blocks' numbers: between them, where it is within one;
        None for the input row."""
        if self.block is None:
            return None
        return self.block - 0.5 if self.kind == "mid" else float(self.block)


class Guesses(Record, frozen=True):
    """The best k tokens of every cell, [layer][position][k], best first."""

    ids: list[list[list[Id]]]
    labels: list[list[list[str]]]
    logits: list[list[list[Number]]]
    probs: list[list[list[Number]]]
    log_probs: list[list[list[Number]]] = []
    """in nats, also where a probability is too small for a float64; older dumps do not have them"""


class Scores(Record, frozen=True):
    """One metric over the grid."""

    values: list[list[Number | None]]
    """[layer][position]"""
    unit: str
    quantity: str
    """what is measured, in words, as on the colour bar"""
    target: str | None = None
    """whose rank, logit or probability"""
    target_ids: list[Id | None] | None = None
    """[position]"""
    target_labels: list[str | None] | None = None
    minus: str | None = None
    """of a difference of logits: whose is subtracted"""
    minus_ids: list[Id | None] | None = None
    """[position]"""
    minus_labels: list[str | None] | None = None
    ties: list[list[Nonnegative]] | None = None
    """[layer][position] other tokens level with the target"""
    direction: str | None = None
    """of a KL divergence: "forward" is KL(reference || layer)"""
    reference: str | None = None
    """what layers are held against: "final", "input" or "input token" (one-hot)"""
    k: int | None = None
    """of an overlap: how many of the best tokens are compared"""
    scale: Scale = Scale()
    """the usual colours"""


class Followed(Record, frozen=True, kw_only=True):
    """Tokens that were asked for, or ever a top guess, in the last column; best rank first."""

    position: Nonnegative
    """of the column"""
    ids: list[Id]
    labels: list[str]
    ranks: list[list[Nonnegative]]
    """[layer][token], 1 is best"""
    logits: list[list[Number | None]] = []
    """[layer][token]"""
    probs: list[list[Number]] = []
    """[layer][token]"""
    log_probs: list[list[Number]] = []
    """[layer][token] in nats; older dumps do not have them"""
    chosen: list[Id] = []
    """the ids that were asked for"""


class LockIn(Record, frozen=True):
    """Blocks after which the layer's top guess is the model's, [position]; null where none is. The
    input row and the middles of blocks do not count. Numbers are those of ``Layer.block``."""

    first: list[int | None]
    """the lowest of them"""
    since: list[int | None]
    """the lowest from which all higher ones are too"""
    mean_first: float | None
    """over the positions that have one"""
    mean_since: float | None
    all_blocks: bool = False
    """were all blocks looked at? Else only those that are rows"""


def lock_in(layers: Sequence[Layer], top: Ints, final: Sequence[int], blocks: int) -> LockIn:
    """The blocks from which top guesses (layer, position) are the model's own (position,), of a
    model in which ``blocks`` have a row."""
    rows = [n for n, layer in enumerate(layers) if layer.kind == "block"]
    if not rows:
        none: list[int | None] = [None] * len(final)
        return LockIn(first=none, since=none, mean_first=None, mean_since=None)
    agrees = np.asarray(top)[rows] == np.asarray(final)
    stays = np.logical_and.accumulate(agrees[::-1], axis=0)[::-1]

    def lowest(hits: Any) -> list[int | None]:
        found = hits.argmax(axis=0).tolist()
        is_there = hits.any(axis=0).tolist()
        return [layers[rows[n]].block if b else None for n, b in zip(found, is_there, strict=True)]

    def mean(found: list[int | None]) -> float | None:
        numbers = [block for block in found if block is not None]
        return rounded(sum(numbers) / len(numbers)) if numbers else None

    first, since = lowest(agrees), lowest(stays)
    return LockIn(
        first=first,
        since=since,
        mean_first=mean(first),
        mean_since=mean(since),
        all_blocks=len(rows) == blocks,
    )


def skips_blocks(layers: Sequence[Layer], model: "ModelRecord", decoder_blocks: int) -> bool:
    """Is there a block without a row?"""
    return sum(layer.kind == "block" for layer in layers) < model.blocks - decoder_blocks


def lock_in_of(reading: "Reading") -> LockIn:
    """That of a reading, whose dump may be of a version that did not look at it."""
    if reading.lock_in is not None and reading.lock_in.all_blocks:
        return reading.lock_in
    blocks = reading.model.blocks - reading.lens.decoder_blocks
    return lock_in(reading.layers, reading.top(), reading.final_ids, blocks)


class Spelling(Record, frozen=True):
    """A target given as a text, where the same with or without a leading space or a capital ranks
    better in the model's output at the last column."""

    text: str
    """as it was given"""
    id: Id
    rank: Nonnegative
    better_id: Id
    better_label: str
    better_rank: Nonnegative


class CheckRecord(Record, frozen=True):
    """How well the decoded last row reproduces the model's own logits."""

    max_abs_logit_error: float
    passed: bool
    route: str
    """"direct" (norm, head, elementwise tail) or "replay" (the model's own code)"""
    columns: int
    """number of columns compared"""
    tolerance: float
    max_kl: float
    """nats"""
    top1_agreement: float
    proven: list[str] = []
    """what was held against the model itself, when, and what cannot be told apart"""


class ModelRecord(Record, frozen=True):
    """Which model it was."""

    name: str
    revision: str | None
    """commit, or hash of the weights' file"""
    dtype: str
    device: str
    blocks: int
    width: int
    vocabulary: int
    tied: bool
    """is the embedding matrix the head?"""
    class_: str = msgspec.field(name="class")
    verified: str | None = None
    """hash of the weights' file that was read, where it was held against the hash of what was
    written; null where there is none to hold it against"""


class MapsRecord(Record, frozen=True):
    """Affine maps, one for each row, through which the stream went before it was decoded."""

    name: str
    """as it was asked for; of a path the last part"""
    kind: Key
    """linear, tuned or jacobian, or what another program calls it"""
    sha256: Annotated[str, msgspec.Meta(pattern="^([0-9a-f]{64})?$")]
    """of the file; empty where there is none"""
    source_revision: str | None = None
    """commit of the hub's repository that it is from"""
    model: str | None = None
    """what they were fitted to"""
    revision: str | None = None
    """of that model"""
    corpus: str | None = None
    """name of the texts that they were fitted on"""
    tokens: Nonnegative | None = None
    """how many of them"""
    prompts: Nonnegative | None = None
    """how many texts, where only that is known"""
    target: Annotated[int, msgspec.Meta(ge=-1, lt=2**31)] = -1
    """the block whose output they lead to; -1 is the last"""


class LensRecord(Record, frozen=True):
    """How the residual stream was decoded."""

    norm: Annotated[str, msgspec.Meta(pattern="^(full|no-affine|none)$")]
    chain: list[str]
    """the decode chain found in the model, one step per line"""
    window: tuple[Nonnegative, Nonnegative]
    """first position, and one after the last"""
    text_tokens: Nonnegative
    """tokens of the whole text, which the model always sees"""
    bos: bool
    """was a start token added?"""
    decoder_blocks: Nonnegative = 0
    """how many of the last blocks are part of the decoder"""
    chat: bool = False
    """was the text rendered through the tokenizer's chat template?"""
    maps: MapsRecord | None = None
    """null for the plain lens"""


class ComputeRecord(Record, frozen=True):
    """What, beside the versions, the last digits depend on."""

    engine: str
    """what reduced the logits: "torch" or "numba" """
    product: str
    """whose products of matrices: "onednn" (on AMD's processors), or whatever "torch" takes"""
    threads: Nonnegative
    """of torch"""
    processor: str
    """the instructions that torch found, such as AVX512"""


class Reading(Record, frozen=True):
    """A grid of layers by positions."""

    schema: str
    command: Key
    name: str
    """the stem of the files' names"""
    text: str
    text_sha256: str
    """of the text in UTF-8"""
    text_ids: list[Id]
    """the tokens of the whole text, as the model saw them"""
    tokens: list[Token]
    layers: list[Layer]
    guesses: Guesses
    metrics: dict[Key, Scores]
    final_ids: list[Id]
    """[position] the model's own top guess"""
    check: CheckRecord
    model: ModelRecord
    lens: LensRecord
    options: dict[str, Any]
    """what was asked for"""
    versions: dict[str, str]
    compute: ComputeRecord | None = None
    """older dumps do not have it"""
    notes: list[str] = []
    """what a user ought to know about what was asked for"""
    spellings: list[Spelling] = []
    """targets of which another spelling ranks better in the end"""
    followed: Followed | None = None
    lock_in: LockIn | None = None
    next_ranks: list[Nonnegative | None] | None = None
    """[position] the true next token's rank in the model's output; null at the end of the text"""

    def __post_init__(self) -> None:
        if self.schema != DUMP_SCHEMA:
            raise ValueError(f"schema is {self.schema!r}, this version reads {DUMP_SCHEMA!r}")
        layers, positions = len(self.layers), len(self.tokens)
        if not layers or not positions:
            raise ValueError(f"a grid of {layers} layers and {positions} positions")
        require_grids(self.guesses, self.metrics, layers, positions)
        if len(self.final_ids) != positions:
            raise ValueError(f"final_ids is not of {positions} positions")
        if self.next_ranks is not None and len(self.next_ranks) != positions:
            raise ValueError(f"next_ranks is not of {positions} positions")
        if self.lock_in is not None:
            require_lock_in(self.lock_in, positions)
        if not isinstance(self.options.get("color", ""), str):
            raise ValueError("options.color is not a string")
        for name, scores in self.metrics.items():
            require_scores(f"metrics.{name}", scores)
        if self.followed is not None:
            require_followed(self.followed, layers, {token.position for token in self.tokens})
        if self.command == TRACE and self.options.get("metric") not in self.traced():
            raise ValueError(
                f"a trace of {self.options.get('metric')!r}, of which it holds nothing"
            )

    def traced(self) -> list[str]:
        """What a trace of it can show."""
        if self.followed is None:
            return list(self.metrics)
        if not self.followed.probs:  # by which tokens are chosen
            return []
        return ["prob", "rank", *(["logit"] if self.followed.logits else [])]

    def values(self, metric: str) -> Floats:
        """(layer, position) scores of ``metric``, NaN where there is none."""
        rows = self.metrics[metric].values
        return np.array([[math.nan if v is None else v for v in row] for row in rows], float)

    def top(self) -> Ints:
        """(layer, position) id of each layer's top guess."""
        return np.array([[cell[0] for cell in row] for row in self.guesses.ids], np.int64)
