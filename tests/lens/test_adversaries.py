"""Models that were built to fool the lens are read right or refused by name, never read wrong.

A part of a text, a long one, one with rows between the halves of blocks, several on one open model
("together"), without the norm's gain, without the norm. The truth about each is in
`adversary`; `python tests/tools/adversary_readings.py` writes this table.

What becomes of each:

ordinary-model: right
huge-masked-logits: right
infinite-masked-logits: right
tail-reads-input: right; none: refused, --norm none is not possible for TailReadsInput
huge-mask-tail-reads-input: wrong
minus-infinity-tail-reads-input: right; none: refused, --norm none is not possible for
    MinusInfinityTailReadsInput
huge-mask-temperature-by-position: crash; short: right
huge-mask-temperature-before-head: right; window: wrong; none: refused, --norm none is not possible
    for HugeMaskTemperatureBeforeHead
huge-logit-of-one-token-tail-reads-input: crash; short: right
huge-mask-after-the-head: right; none: refused, --norm none is not possible for HugeMaskAfterTheHead
clamp-in-place-tail: refused, the decoded last row does not reproduce the model's own logits;
    subblocks: refused, --subblocks: block 2
clamp-some-in-place-tail: refused, the decoded last row does not reproduce the model's own logits;
    subblocks: refused, --subblocks: block 2
add-in-place-tail: refused, the decoded last row does not reproduce the model's own logits;
    subblocks: refused, --subblocks: block 2
norm-in-place-tail: refused, the tail of NormInPlaceTail gives other logits each time it runs
blocks-add-in-place: right; subblocks: refused, --subblocks: block 0
in-place-after-block: right; subblocks: refused, --subblocks: block 0
looped-stack: wrong
every-block-twice: wrong
one-block-looped: wrong
same-module-twice-in-list: wrong
loop-with-injection: wrong
more-turns-for-long-texts: wrong
second-turn-for-long-texts: right; long, together: wrong
refines-from-the-start: wrong
one-row-at-a-time: refused, a residual stream of shape
two-cycles: wrong
prelude-core-coda: wrong
prelude-looped-core-coda: wrong
tail-block-in-list: wrong
tail-mlp-in-list: wrong; subblocks: refused, --subblocks: block 0
two-lists-in-turn: wrong
halves-in-parallel-lists: refused, the blocks of HalvesInParallelLists could not be found
dead-blocks-after-the-last: refused, what leaves foresight.1 makes no difference to the logits
narrow-prelude: right
stages-of-blocks: right; subblocks: refused, --subblocks: block 0
positions-first: wrong
per-layer-inputs-first: wrong
input-first-of-two: wrong
mask-first: crash
rotation-first: wrong
delayed-residual: crash; subblocks: refused, --subblocks: block 0
value-residual: crash
attention-output-second: crash
attention-output-first: crash; subblocks: refused, --subblocks: block 0
reversible-streams: right; none: refused, --norm none is not possible for ReversibleStreams;
    subblocks: refused, --subblocks: block 0
skips-across: right; subblocks: wrong
bert-like-head: right; no-affine, none: wrong
norm-within-a-module: right; no-affine, none: wrong
norm-of-one-by-one-by-width: right; no-affine, none: wrong
norm-of-groups: right; no-affine, none: wrong
norm-of-one-plus-gain: right
norm-of-half-plus-gain: right; no-affine: wrong
norm-of-exponential-gain: right
norm-of-one-number: right; no-affine, none: wrong
norm-with-statistics: right
two-norms: right
gain-after-norm: right; none: wrong
tanh-after-norm: right; none: wrong
norm-of-the-model-itself: right; no-affine: wrong; none: refused, --norm none is not possible for
    NormOfTheModelItself
no-norm-at-all: right
couples-many-rows: right; together: refused, the decoded last row does not reproduce the model's own
    logits
couples-any-rows: wrong; no-affine: right; none: refused, --norm none is not possible for
    CouplesAnyRows
couples-many-rows-in-blocks: right; subblocks: wrong
lone-row-is-hotter: refused, the decoded last row does not reproduce the model's own logits
tail-adds-positions: refused, the decoded last row does not reproduce the model's own logits; short:
    right; none: refused, --norm none is not possible for TailAddsPositions
later-positions-are-hotter: crash; short: right; together: refused, the decoded last row does not
    reproduce the model's own logits
long-texts-are-hotter: right; long, together: refused, the decoded last row does not reproduce the
    model's own logits
long-texts-change-norm: right; long, together: refused, the decoded last row does not reproduce the
    model's own logits
long-rope: right; together: wrong
long-rope-of-the-configuration: right; together: wrong
logarithm-of-length: right; together: wrong
norm-for-one-token: refused, the decoded last row does not reproduce the model's own logits
norm-for-a-rare-token: right; long, together: wrong
prefix-in-the-tail: refused, the decoded last row does not reproduce the model's own logits; short:
    right; none: refused, --norm none is not possible for PrefixInTheTail
previous-position-in-the-tail: refused, the decoded last row does not reproduce the model's own
    logits; short: right; none: refused, --norm none is not possible for PreviousPositionInTheTail
far-position-in-the-tail: refused, the decoded last row does not reproduce the model's own logits;
    short: right
chunked-head: crash; short: right
three-part-blocks: right; subblocks: wrong
attention-twice: right; subblocks: wrong
mlp-before-attention: right; subblocks: wrong
parallel-halves: right; subblocks: refused, --subblocks: block 0
chunked-mlp: right; subblocks: crash
bfloat16: right
bfloat16-small-bias: wrong
memory-in-a-buffer: wrong
memory-in-an-attribute: wrong
counts-its-calls: refused, the tail of CountsItsCalls gives other logits each time it runs
memory-in-the-tail: refused, the tail of MemoryInTheTail gives other logits each time it runs
tail-reads-an-attribute: right; none: refused, --norm none is not possible for TailReadsAnAttribute
counts-in-slots: wrong
counts-in-an-array: wrong
two-streams-in-front: crash; none: refused, --norm none is not possible for TwoStreamsInFront;
    subblocks: refused, --subblocks: block 0
seven-streams-in-front: crash; short: right; none: refused, --norm none is not possible for
    SevenStreamsInFront; subblocks: refused, --subblocks: block 0
seven-streams-behind-batch: crash; short: right; none: refused, --norm none is not possible for
    SevenStreamsBehindBatch; subblocks: refused, --subblocks: block 0
two-streams-behind-position: right; none: refused, --norm none is not possible for
    TwoStreamsBehindPosition; subblocks: refused, --subblocks: block 0
channels-first: right; none: refused, --norm none is not possible for ChannelsFirst; subblocks:
    refused, --subblocks: block 0
seven-channels-first: crash; short: right; none: refused, --norm none is not possible for
    SevenChannelsFirst; subblocks: refused, --subblocks: block 0
time-first: refused, TimeFirst is not a causal language model: a later token changes what earlier
    positions predict
early-exit-of-short-texts: refused, the decoded last row does not reproduce the model's own logits;
    short: right
early-exit-of-long-texts: crash; short: right
early-exit-by-size: crash
soft-prompt: refused, a residual stream of shape
hourglass: refused, the blocks of Hourglass could not be found
functional-head: right; none: refused, --norm none is not possible for FunctionalHead
other-head: right; none: refused, --norm none is not possible for OtherHead
two-heads: crash; short: right
pointer-head: crash; short: right
log-probabilities: right; none: refused, --norm none is not possible for LogProbabilities
rolled-vocabulary: right; none: refused, --norm none is not possible for RolledVocabulary
trimmed-vocabulary: right
soft-cap-by-entry: right; none: refused, --norm none is not possible for SoftCapByEntry
soft-cap-of-large-logits: right; none: refused, --norm none is not possible for SoftCapOfLargeLogits
cut-of-large-streams: refused, the decoded last row does not reproduce the model's own logits
mean-of-rows: right; none: refused, --norm none is not possible for MeanOfRows
norms-between-blocks: right
scaled-between-blocks: right; none: refused, --norm none is not possible for ScaledBetweenBlocks
idle-blocks: right; subblocks: refused, --subblocks: block 0
blocks-called-by-forward: refused, the blocks of BlocksCalledByForward could not be found
last-block-called-by-forward: refused, the decoded last row does not reproduce the model's own
    logits; short, together: wrong; none: refused, --norm none is not possible for
    LastBlockCalledByForward
blocks-as-attributes: refused, the blocks of BlocksAsAttributes could not be found
blocks-in-a-dictionary: refused, the blocks of BlocksInADictionary could not be found
runs-backwards: refused, the blocks of RunsBackwards could not be found
shared-norm-tail-reads-input: right; no-affine: wrong; none: refused, --norm none is not possible
    for SharedNormTailReadsInput
head-of-its-own-kind: right; none: refused, --norm none is not possible for HeadOfItsOwnKind
head-reads-positions: right; window: wrong; none: refused, --norm none is not possible for
    HeadReadsPositions
random-tail: refused, RandomTail is not a causal language model: a later token changes what earlier
    positions predict
sees-the-next-token: right
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


@pytest.mark.parametrize("name", ADVERSARIES)
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
