"""The result of one run: ids, labels, scores, provenance; JSON both ways, with its schema.

Everything a figure needs is here, so that it can be drawn again without the model. Knows neither
torch nor matplotlib. Layers run from the lowest to the last, positions are those of the window; a
value that does not exist is null in the file and NaN in an array.
"""

import errno
import json
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from logitlens_cli.errors import UsageError
from logitlens_cli.metrics.spec import Scale
from logitlens_cli.metrics.sums import Floats, Ints
from logitlens_cli.metrics.table import TRACE

DUMP_SCHEMA = "logitlens/1"
LARGEST_DUMP = 2**29
"""bytes of a file that is read back"""
Id = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
CountNumber = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
Key = Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9-]*$(?!\\n)")]
"""of a metric or a command; it becomes part of file names"""
Number = Annotated[float, msgspec.Meta(ge=-1e100, le=1e100)]
"""far more than float32 has; colours are computed of it"""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the dump's objects; keys that a later version adds are passed over."""


class Token(Record, frozen=True):
    """A column."""

    position: CountNumber
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
    block: CountNumber | None


class Guesses(Record, frozen=True):
    """The best k tokens of every cell, [layer][position][k], best first."""

    ids: list[list[list[Id]]]
    labels: list[list[list[str]]]
    logits: list[list[list[Number]]]
    probs: list[list[list[Number]]]


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
    ties: list[list[CountNumber]] | None = None
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

    position: CountNumber
    """of the column"""
    ids: list[Id]
    labels: list[str]
    ranks: list[list[CountNumber]]
    """[layer][token], 1 is best"""
    logits: list[list[Number | None]] = []
    """[layer][token]"""
    probs: list[list[Number]] = []
    """[layer][token]"""
    chosen: list[Id] = []
    """the ids that were asked for"""


class LockIn(Record, frozen=True):
    """Blocks after which the layer's top guess is the model's, [position]; null where none is."""

    first: list[int | None]
    """the lowest of them"""
    since: list[int | None]
    """the lowest from which all higher ones are too"""
    mean_first: float | None
    """over the positions that have one"""
    mean_since: float | None


def lock_in(layers: Sequence[Layer], top: Ints, final: Sequence[int]) -> LockIn:
    """Of top guesses (layer, position) and the model's own (position,); the input row is none."""
    rows = [n for n, layer in enumerate(layers) if layer.block is not None]
    if not rows:
        none: list[int | None] = [None] * len(final)
        return LockIn(first=none, since=none, mean_first=None, mean_since=None)
    agrees = np.asarray(top)[rows] == np.asarray(final)
    stays = np.logical_and.accumulate(agrees[::-1], axis=0)[::-1]

    def lowest(hits: Any) -> list[int | None]:
        found = hits.argmax(axis=0).tolist()
        is_there = hits.any(axis=0).tolist()
        return [layers[rows[n]].block if b else None for n, b in zip(found, is_there, strict=True)]

    def mean(blocks: list[int | None]) -> float | None:
        numbers = [block for block in blocks if block is not None]
        return rounded(sum(numbers) / len(numbers)) if numbers else None

    first, since = lowest(agrees), lowest(stays)
    return LockIn(first=first, since=since, mean_first=mean(first), mean_since=mean(since))


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


class LensRecord(Record, frozen=True):
    """How the residual stream was decoded."""

    norm: Annotated[str, msgspec.Meta(pattern="^(full|no-affine|none)$")]
    chain: list[str]
    """the decode chain found in the model, a step a line"""
    window: tuple[CountNumber, CountNumber]
    """first position, and one after the last"""
    text_tokens: CountNumber
    """tokens of the whole text, which the model always sees"""
    bos: bool
    """was a start token added?"""
    decoder_blocks: CountNumber = 0
    """the last so many blocks are part of the decoder"""
    chat: bool = False
    """was the text rendered through the tokenizer's chat template?"""


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
    followed: Followed | None = None
    lock_in: LockIn | None = None
    next_ranks: list[CountNumber | None] | None = None
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


def require_grids(
    guesses: Guesses, metrics: Mapping[str, Scores], layers: int, positions: int
) -> None:
    """ValueError for a grid of another shape than (layers, positions), or guesses that lack one."""
    grids: dict[str, list[list[Any]]] = {
        "guesses.ids": guesses.ids,
        "guesses.labels": guesses.labels,
        "guesses.logits": guesses.logits,
        "guesses.probs": guesses.probs,
        **{f"metrics.{name}.values": scores.values for name, scores in metrics.items()},
    }
    for what, grid in grids.items():
        if len(grid) != layers or any(len(row) != positions for row in grid):
            raise ValueError(f"{what} is not of {layers} layers by {positions} positions")
    fields = (guesses.ids, guesses.labels, guesses.logits, guesses.probs)
    for rows in zip(*fields, strict=True):
        for ids, labels, logits, probs in zip(*rows, strict=True):
            if not 0 < len(ids) == len(labels) == len(logits) == len(probs):
                raise ValueError(
                    "a cell without a guess, or a guess without its label, logit or probability"
                )


def require_scores(what: str, scores: Scores) -> None:
    """ValueError for a scale that no colours fit, or values that do not fit it."""
    require_scale(f"{what}.scale", scores.scale)
    values = (value for row in scores.values for value in row if value is not None)
    if scores.scale.kind == "log" and min(values, default=1) <= 0:
        raise ValueError(f"{what} is logarithmic and has a value that is not above 0")


def require_scale(what: str, scale: Scale) -> None:
    """ValueError for limits between which no colour lies."""
    low, high = scale.low, scale.high
    if any(limit is not None and not abs(limit) <= 1e100 for limit in (low, high)):
        raise ValueError(f"{what} has a limit beyond 1e100")
    if low is not None and high is not None and low >= high:
        raise ValueError(f"{what} runs from {low:g} to {high:g}")
    if scale.kind == "log" and any(limit is not None and limit <= 0 for limit in (low, high)):
        raise ValueError(f"{what} is logarithmic and has a limit that is not above 0")


def require_followed(followed: Followed, layers: int, positions: set[int]) -> None:
    """ValueError where the parts of it do not fit each other."""
    count = len(followed.ids)
    if not count or len(followed.labels) != count:
        raise ValueError(f"followed has {count} ids and {len(followed.labels)} labels")
    grids: dict[str, list[list[Any]]] = {
        "ranks": followed.ranks,
        "logits": followed.logits or followed.ranks,  # older dumps do not have them
        "probs": followed.probs or followed.ranks,
    }
    for name, grid in grids.items():
        if len(grid) != layers or any(len(row) != count for row in grid):
            raise ValueError(f"followed.{name} is not of {layers} layers by {count} tokens")
    for number in followed.chosen:
        if number not in followed.ids:
            raise ValueError(f"followed.chosen {number} is none of its ids")
    if followed.position not in positions:
        raise ValueError(f"followed.position {followed.position} is no column")


def dump_to_json(reading: Reading) -> bytes:
    """The dump, the same bytes for the same reading; ends with a line feed."""
    return msgspec.json.encode(reading) + b"\n"


def load_dump(path: Path) -> Reading:
    """Read a dump; UsageError says where it is not one."""
    try:
        data = read_bounded(path)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", "name a JSON dump of logitlens") from error
    try:
        reading = msgspec.json.decode(data, type=Reading)
        require_single_keys(data)
        return reading
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        for kind, (what, hint) in OTHER_FILES.items():
            if f'"{kind}/'.encode() in data[:200]:
                raise UsageError(f"{path} is {what}, and no dump of a text", hint) from error
        raise UsageError(
            f"{path} is not a dump of this version of logitlens ({error})",
            "make it again with logitlens all",
        ) from error


OTHER_FILES = {
    "logitlens-stats": ("a summary of many texts", "logitlens stats --merge draws it again"),
    "logitlens-diff": ("a difference of two dumps", "logitlens diff draws it from these"),
}
"""what else has a schema of ours"""


def read_bounded(path: Path) -> bytes:
    """A file, or OSError if it is larger than any that we write; also of one without an end."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(LARGEST_DUMP + 1) if size <= LARGEST_DUMP else b""
    if max(len(data), size) > LARGEST_DUMP:
        raise OSError(errno.EFBIG, f"it has more than {LARGEST_DUMP >> 20} MB")
    return data


def require_single_keys(data: bytes) -> None:
    """ValueError for JSON in which an object has the same key twice, since programs do not agree
    on which of them counts."""

    def check(pairs: list[tuple[str, Any]]) -> None:
        counts = Counter(key for key, _ in pairs)
        if len(counts) < len(pairs):
            twice = counts.most_common(1)[0][0]
            raise ValueError(f"the key {twice!r} stands twice in an object")

    json.loads(data, object_pairs_hook=check)


def dump_schema() -> dict[str, Any]:
    """The JSON Schema of the dump."""
    return msgspec.json.schema(Reading)


POWERS = np.array([float(f"1e{n}") for n in range(23)])  # those that a float64 holds exactly


def rounded(values: Any) -> Any:
    """A float, or nested lists of an array's, with seven significant figures, all of float32; NaN
    is None."""
    given = np.asarray(values, float)
    finite = np.isfinite(given)
    array = np.where(finite, given, 0.0)
    size = np.log10(np.abs(array), out=np.zeros_like(array), where=array != 0)
    digits = np.clip(6 - np.floor(size).astype(int), 1 - len(POWERS), len(POWERS) - 1)
    up, down = POWERS[digits.clip(min=0)], POWERS[(-digits).clip(min=0)]
    # A whole number times or over an exact power is the float nearest to the decimal number.
    result = np.rint(array * up / down) * down / up
    return result.tolist() if finite.all() else np.where(finite, result, np.array(None)).tolist()
