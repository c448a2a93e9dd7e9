"""Models that were built to fool the lens are read right or refused by name, never read wrong.

A part of a text, a long one, one with rows between the halves of blocks, several on one open model
("together"), without the norm's gain, without the norm. The truth about each is in
`adversary`; `python tests/tools/adversary_readings.py` writes this table.

What becomes of each:

ordinary-model: right
huge-masked-logits: right
infinite-masked-logits: right
tail-reads-input: right; none: refused, --norm none is not possible for TailReadsInput
huge-mask-tail-reads-input: right; none: refused, --norm none is not possible for
    HugeMaskTailReadsInput
minus-infinity-tail-reads-input: right; none: refused, --norm none is not possible for
    MinusInfinityTailReadsInput
huge-mask-temperature-by-position: right; none: refused, --norm none is not possible for
    HugeMaskTemperatureByPosition
huge-mask-temperature-before-head: right; none: refused, --norm none is not possible for
    HugeMaskTemperatureBeforeHead
huge-logit-of-one-token-tail-reads-input: refused, the model's own logits are so large that float32
    does not tell what differs; none: refused, --norm none is not possible for
    HugeLogitOfOneTokenTailReadsInput
huge-mask-after-the-head: right; none: refused, --norm none is not possible for HugeMaskAfterTheHead
clamp-in-place-tail: right; subblocks: refused, --subblocks: block 2 has no state between attention
    and MLP; none: refused, --norm none is not possible for ClampInPlaceTail
clamp-some-in-place-tail: right; subblocks: refused, --subblocks: block 2 has no state between
    attention and MLP; none: refused, --norm none is not possible for ClampSomeInPlaceTail
add-in-place-tail: right; subblocks: refused, --subblocks: block 2 has no state between attention
    and MLP; none: refused, --norm none is not possible for AddInPlaceTail
norm-in-place-tail: right; subblocks: refused, --subblocks: block 2 has no state between attention
    and MLP; no-affine: refused, --norm no-affine is not possible for NormInPlaceTail: no norm was
    found between its last block and its head; none: refused, --norm none is not possible for
    NormInPlaceTail: no norm was found between its last block and its head
blocks-add-in-place: right; subblocks: refused, --subblocks: block 0 has no state between attention
    and MLP
in-place-after-block: right; subblocks: refused, --subblocks: block 0 has no state between attention
    and MLP
looped-stack: right
every-block-twice: right
one-block-looped: right
same-module-twice-in-list: right
loop-with-injection: right
more-turns-for-long-texts: right; long: refused, blocks.2 did not run as often on this text as on
    the probe: which blocks run depends on the text
second-turn-for-long-texts: right; long: refused, blocks.2 did not run as often on this text as on
    the probe: which blocks run depends on the text
refines-from-the-start: right
one-row-at-a-time: refused, no residual stream runs through all blocks: what blocks.0 leaves is not
    a part of what blocks.0 receives
two-cycles: right
prelude-core-coda: right
prelude-looped-core-coda: right
tail-block-in-list: right
tail-mlp-in-list: right
two-lists-in-turn: right
halves-in-parallel-lists: refused, the blocks of HalvesInParallelLists could not be found
dead-blocks-after-the-last: right
narrow-prelude: refused, no residual stream runs through all blocks: prelude.1 is beside it
stages-of-blocks: right; subblocks: refused, --subblocks: block 0 has no state between attention and
    MLP
positions-first: right
per-layer-inputs-first: right
input-first-of-two: right
mask-first: right
rotation-first: right
delayed-residual: refused, the first block, a Delayed, receives 1 tensor of the shape of the
    residual stream, but blocks leave 2
value-residual: right
attention-output-second: right
attention-output-first: right
reversible-streams: right; subblocks: refused, --subblocks: block 0 has no state between attention
    and MLP; none: refused, --norm none is not possible for ReversibleStreams
skips-across: right; subblocks: refused, --subblocks: block 2 has no state between attention and MLP
bert-like-head: right
norm-within-a-module: right
norm-of-one-by-one-by-width: right
norm-of-groups: right; no-affine: refused, --norm no-affine is not possible for NormOfGroups: no
    norm was found between its last block and its head; none: refused, --norm none is not possible
    for NormOfGroups: no norm was found between its last block and its head
norm-of-one-plus-gain: right
norm-of-half-plus-gain: right; no-affine: refused, --norm no-affine is not possible: the gain and
    bias of the final norm cannot be told from the rest of it
norm-of-exponential-gain: right
norm-of-one-number: right
norm-with-statistics: right; no-affine: refused, --norm no-affine is not possible for
    NormWithStatistics: no norm was found between its last block and its head; none: refused, --norm
    none is not possible for NormWithStatistics: no norm was found between its last block and its
    head
two-norms: right
gain-after-norm: right
tanh-after-norm: right
norm-of-the-model-itself: right; no-affine: refused, --norm no-affine is not possible for
    NormOfTheModelItself: no norm was found between its last block and its head; none: refused,
    --norm none is not possible for NormOfTheModelItself
no-norm-at-all: right; no-affine: refused, --norm no-affine is not possible for NoNormAtAll: no norm
    was found between its last block and its head; none: refused, --norm none is not possible for
    NoNormAtAll: no norm was found between its last block and its head
couples-many-rows: right
couples-any-rows: right; none: refused, --norm none is not possible for CouplesAnyRows
couples-many-rows-in-blocks: right
lone-row-is-hotter: right; none: refused, --norm none is not possible for LoneRowIsHotter
tail-adds-positions: right; none: refused, --norm none is not possible for TailAddsPositions
later-positions-are-hotter: right; none: refused, --norm none is not possible for
    LaterPositionsAreHotter
long-texts-are-hotter: right; long: refused, the decoded last row does not reproduce the model's own
    logits
long-texts-change-norm: right; long: refused, other did not run on the probe, but on this text:
    which modules run depends on the text
long-rope: right
long-rope-of-the-configuration: right
logarithm-of-length: right
norm-for-one-token: refused, the decoded last row does not reproduce the model's own logits
norm-for-a-rare-token: right; long, together: refused, the decoded last row does not reproduce the
    model's own logits
prefix-in-the-tail: right; none: refused, --norm none is not possible for PrefixInTheTail
previous-position-in-the-tail: right; none: refused, --norm none is not possible for
    PreviousPositionInTheTail
far-position-in-the-tail: right; none: refused, --norm none is not possible for FarPositionInTheTail
chunked-head: right; none: refused, --norm none is not possible for ChunkedHead
three-part-blocks: right
attention-twice: right; subblocks: refused, --subblocks: block 0 has no state between attention and
    MLP
mlp-before-attention: right; subblocks: refused, --subblocks: block 0 has no state between attention
    and MLP
parallel-halves: right; subblocks: refused, --subblocks: block 0 has no state between attention and
    MLP
chunked-mlp: right; subblocks: refused, blocks.0.norm2 does not run on the whole
bfloat16: right
bfloat16-small-bias: right; none: refused, --norm none is not possible for Bfloat16SmallBias
memory-in-a-buffer: right
memory-in-an-attribute: right
counts-its-calls: right; none: refused, --norm none is not possible for CountsItsCalls
memory-in-the-tail: right; none: refused, --norm none is not possible for MemoryInTheTail
tail-reads-an-attribute: right; none: refused, --norm none is not possible for TailReadsAnAttribute
counts-in-slots: right
counts-in-an-array: right
two-streams-in-front: right; subblocks: refused, --subblocks: block 0 has no state between attention
    and MLP; none: refused, --norm none is not possible for TwoStreamsInFront
seven-streams-in-front: right; subblocks: refused, --subblocks: block 0 has no state between
    attention and MLP; none: refused, --norm none is not possible for SevenStreamsInFront
seven-streams-behind-batch: right; subblocks: refused, --subblocks: block 0 has no state between
    attention and MLP; none: refused, --norm none is not possible for SevenStreamsBehindBatch
two-streams-behind-position: right; subblocks: refused, --subblocks: block 0 has no state between
    attention and MLP; none: refused, --norm none is not possible for TwoStreamsBehindPosition
channels-first: right; subblocks: refused, --subblocks: block 0 has no state between attention and
    MLP; none: refused, --norm none is not possible for ChannelsFirst
seven-channels-first: right; subblocks: refused, --subblocks: block 0 has no state between attention
    and MLP
time-first: refused, TimeFirst is not a causal language model: a later token changes what earlier
    positions predict
early-exit-of-short-texts: refused, blocks.2 did not run on the probe, but on this text: which
    modules run depends on the text
early-exit-of-long-texts: refused, what leaves blocks.2 makes no difference to the logits
early-exit-by-size: refused, blocks.2 did not run as often on this text as on the probe: which
    blocks run depends on the text
soft-prompt: refused, a residual stream of shape has no axis of positions
hourglass: right
functional-head: right; none: refused, --norm none is not possible for FunctionalHead
other-head: right; none: refused, --norm none is not possible for OtherHead
two-heads: right; none: refused, --norm none is not possible for TwoHeads
pointer-head: right; none: refused, --norm none is not possible for PointerHead
log-probabilities: right; none: refused, --norm none is not possible for LogProbabilities
rolled-vocabulary: right; none: refused, --norm none is not possible for RolledVocabulary
trimmed-vocabulary: right
soft-cap-by-entry: right; none: refused, --norm none is not possible for SoftCapByEntry
soft-cap-of-large-logits: right; none: refused, --norm none is not possible for SoftCapOfLargeLogits
cut-of-large-streams: refused, the decoded last row does not reproduce the model's own logits
mean-of-rows: right; none: refused, --norm none is not possible for MeanOfRows
norms-between-blocks: right
scaled-between-blocks: right; none: refused, --norm none is not possible for ScaledBetweenBlocks
idle-blocks: right; subblocks: refused, --subblocks: block 0 has no state between attention and MLP
blocks-called-by-forward: refused, no residual stream runs through all blocks: blocks.2.attention is
    beside it
last-block-called-by-forward: refused, no residual stream runs through all blocks:
    blocks.2.attention is beside it
blocks-as-attributes: right
blocks-in-a-dictionary: right
runs-backwards: right
shared-norm-tail-reads-input: right; none: refused, --norm none is not possible for
    SharedNormTailReadsInput
head-of-its-own-kind: right; none: refused, --norm none is not possible for HeadOfItsOwnKind
head-reads-positions: right; none: refused, --norm none is not possible for HeadReadsPositions
random-tail: refused, RandomTail is not a causal language model: a later token changes what earlier
    positions predict
sees-the-next-token: right
looped-shared-norm: right; none: refused, --norm none is not possible for LoopedSharedNorm
last-block-runs-first: right
norm-twice-in-the-tail: right; none: refused, --norm none is not possible for NormTwiceInTheTail
head-reads-input-beside: right; none: refused, --norm none is not possible for HeadReadsInputBeside
only-the-best-logits: right; none: refused, --norm none is not possible for OnlyTheBestLogits
hot-where-a-channel-leads: right; none: refused, --norm none is not possible for
    HotWhereAChannelLeads
odd-texts-are-hotter: right; none: refused, --norm none is not possible for OddTextsAreHotter
known-tokens-are-hotter: right; none: refused, --norm none is not possible for KnownTokensAreHotter
every-thirteenth-is-hotter: right; none: refused, --norm none is not possible for
    EveryThirteenthIsHotter
memory-outside: refused, the tail of MemoryOutside gives other logits each time it runs
stream-in-a-mapping: right
"""

from typing import Any

import adversaries
import adversary
import pytest
import torch
from adversaries import ADVERSARIES
from adversary import HUGE
from adversary_readings import TEXT, expected_right, outcomes

from logitlens_cli.errors import LogitLensError, ProofError, UsageError, WorkError

EXCERPT = 5
"""of so many models one is read in the short run"""


def marked(number: int, name: str) -> Any:
    return pytest.param(name, marks=[pytest.mark.slow] if number % EXCERPT else [])


@pytest.mark.parametrize("name", [marked(n, name) for n, name in enumerate(ADVERSARIES)])
def test_a_model_is_read_right_or_refused(name: str, tokenizer: Any) -> None:
    found = list(outcomes(name, tokenizer))
    assert not [outcome for outcome in found if outcome.fails]
    right = {outcome.case for outcome in found if outcome.kind == "right"}
    assert right >= expected_right(__doc__ or "", name)  # what was read right is not refused


@pytest.mark.parametrize("name", [n for n, kind in ADVERSARIES.items() if kind.has_truth])
def test_the_last_row_of_a_truth_is_what_the_model_says(name: str, tokenizer: Any) -> None:
    model = adversaries.build(name)
    ids = tokenizer(TEXT)["input_ids"]
    right = adversary.truths(model, ids)
    with torch.no_grad():
        own = model(torch.tensor([ids])).logits[0].double()
    own.clamp_(min=HUGE)
    off = 0.3 if model.dtype == torch.bfloat16 else 1e-4
    for truth in right:
        torch.testing.assert_close(truth.final.clamp(min=HUGE), own, atol=off, rtol=off)
        torch.testing.assert_close(truth.logits[-1].clamp(min=HUGE), own, atol=off, rtol=off)


def test_an_ordinary_model_is_read_right_in_every_way(tokenizer: Any) -> None:
    """Else all others might be refused for the same reason."""
    assert {outcome.kind for outcome in outcomes("ordinary-model", tokenizer)} == {"right"}


def test_refusals_are_errors_of_the_package() -> None:
    assert all(issubclass(kind, LogitLensError) for kind in (UsageError, ProofError, WorkError))
