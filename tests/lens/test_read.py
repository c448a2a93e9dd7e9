"""Text to reading: targets, followed tokens, chat, late blocks and subblocks, end to end."""

from typing import Any

import numpy as np
import pytest
import torch
from conftest import as_lens_model, tiny_llama

import logitlens_cli
from logitlens_cli.commands.rank import Rank
from logitlens_cli.commands.trace import Trace
from logitlens_cli.commands.translate import read_spec
from logitlens_cli.errors import ProofError, UsageError
from logitlens_cli.lens import grid
from logitlens_cli.lens.lens_model import LensModel
from logitlens_cli.lens.proof_report import proof_report
from logitlens_cli.lens.read import read_text
from logitlens_cli.lens.spec import Norm, ReadSpec
from logitlens_cli.lens.targets import sample_positions, with_token_ids
from logitlens_cli.lens.tile import numba_kernel
from logitlens_cli.metrics.table import METRICS

TEXT = "the cat and the cat"


def test_checked_columns_are_spread_and_the_last_is_in() -> None:
    assert sample_positions(range(5, 8), 16) == [5, 6, 7]
    spread = sample_positions(range(100, 1124), 16)
    assert len(spread) == 16
    assert (spread[0], spread[-1]) == (100, 1123)
    assert set(np.diff(spread)) == {68, 69}


def test_followed_tokens_are_all_that_was_ever_the_top_guess(tokenizer: Any) -> None:
    model = tiny_llama()
    reading = logitlens_cli.read(model, tokenizer, TEXT, target=["final", "auto"])
    followed = reading.followed
    assert followed is not None
    assert followed.position == reading.tokens[-1].position
    # Of a block: what only the input row would say is not followed.
    assert set(followed.ids) == set(reading.top()[1:, -1].tolist())
    ranks = np.array(followed.ranks)
    for row, top in enumerate(reading.top()[1:, -1].tolist(), 1):
        assert ranks[row, followed.ids.index(top)] == 1
    assert (np.diff(ranks[1:].min(0)) >= 0).all()  # best rank first
    # The final guess is followed too, and its ranks are those of the grid's last column.
    column = followed.ids.index(reading.final_ids[-1])
    np.testing.assert_array_equal(ranks[:, column], reading.values("rank-final")[:, -1])


def test_followed_tokens_are_those_of_the_windows_last_column(tokenizer: Any) -> None:
    reading = logitlens_cli.read(
        tiny_llama(), tokenizer, TEXT, target=["final", "auto"], window="1:4", decoder_blocks=1
    )
    assert reading.followed is not None
    assert reading.followed.position == 3
    assert len(reading.followed.ranks) == len(reading.layers) == 4


def test_a_single_column_with_the_tokens_that_were_asked_for(tokenizer: Any) -> None:
    model = tiny_llama()
    lens_model = as_lens_model(model, tokenizer)
    options = Trace(text=TEXT, position="-3", target=["next", " cat", "final", "auto"])
    reading = read_text(lens_model, with_token_ids(read_spec(options), lens_model), TEXT, "x")
    whole = logitlens_cli.read(model, tokenizer, TEXT)
    place = len(whole.tokens) - 3
    assert reading.tokens == whole.tokens[place : place + 1]
    assert reading.top().tolist() == whole.top()[:, place : place + 1].tolist()
    assert reading.metrics == {}
    followed = reading.followed
    assert followed is not None
    assert followed.position == place
    following, last = whole.text_ids[place + 1], whole.final_ids[place]
    assert followed.chosen == list(dict.fromkeys([following, 261, last]))  # 261 is " cat"
    assert set(followed.ids) == {*followed.chosen, *whole.top()[1:, place].tolist()}
    with torch.no_grad():
        own = model(torch.tensor([whole.text_ids])).logits[0, place].double()
    np.testing.assert_allclose(
        np.array(followed.logits, float)[-1], own[followed.ids], rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(followed.probs[-1], own.softmax(-1)[followed.ids], rtol=1e-4)
    at = followed.ids.index(last)
    every = np.array(followed.logits, float)[:, at]
    np.testing.assert_allclose(every, whole.values("final-logit")[:, place], rtol=1e-4, atol=1e-4)
    assert [row[at] for row in followed.ranks] == whole.values("rank")[:, place].tolist()


def test_only_tokens_that_were_asked_for(tokenizer: Any) -> None:
    lens_model = as_lens_model(tiny_llama(), tokenizer)
    options = Trace(text=TEXT, target=["id:7", "id:7", "id:9"])
    followed = read_text(
        lens_model, with_token_ids(read_spec(options), lens_model), TEXT, "x"
    ).followed
    assert followed is not None
    assert sorted(followed.ids) == [7, 9]
    assert followed.chosen == [7, 9]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"position": "10"},
            "--position 10 is outside the text of 10 tokens; give 0 to 9, or -10 to -1",
        ),
        ({"position": "-11"}, "--position -11 is outside the text of 10 tokens"),
        ({"position": "1", "window": "2:5"}, "--position 1 is outside the window 2:5"),
        ({"target": ["next"]}, "--target next: nothing follows position 9, the last one"),
    ],
)
def test_positions_that_are_not_there(tokenizer: Any, options: Any, words: str) -> None:
    lens_model = as_lens_model(tiny_llama(), tokenizer)
    spec = with_token_ids(read_spec(Trace(text=TEXT, **options)), lens_model)
    with pytest.raises(UsageError) as caught:
        read_text(lens_model, spec, TEXT, "x")
    assert str(caught.value).startswith(words)


def test_a_windows_last_column_is_the_usual_position(tokenizer: Any) -> None:
    lens_model = as_lens_model(tiny_llama(), tokenizer)
    spec = with_token_ids(read_spec(Trace(text=TEXT, window="2:5", target=["next"])), lens_model)
    assert [t.position for t in read_text(lens_model, spec, TEXT, "x").tokens] == [4]


def test_a_window_of_late_blocks_is_a_part_of_the_whole(tokenizer: Any) -> None:
    model = tiny_llama()
    whole = logitlens_cli.read(model, tokenizer, TEXT, decoder_blocks=2)
    part = logitlens_cli.read(model, tokenizer, TEXT, decoder_blocks=2, window="2:5")
    assert [layer.label for layer in whole.layers] == ["input", "0", "1"]
    assert whole.lens.decoder_blocks == 2
    for metric in ("kl-final", "kl-input", "own-logit", "rank"):
        np.testing.assert_allclose(
            part.values(metric), whole.values(metric)[:, 2:5], rtol=1e-5, atol=1e-5
        )
    # The uppermost row is decoded by the model's own last blocks: it is the output.
    np.testing.assert_allclose(whole.values("kl-final")[-1], 0, atol=1e-5)


def test_subblocks_stand_between_blocks(tokenizer: Any) -> None:
    model = tiny_llama()
    reading = logitlens_cli.read(model, tokenizer, TEXT, subblocks=True, every=3)
    assert [layer.label for layer in reading.layers] == ["input", "0 mid", "0", "3 mid", "3"]
    assert [layer.kind for layer in reading.layers] == ["input", "mid", "block", "mid", "block"]
    plain = logitlens_cli.read(model, tokenizer, TEXT, every=3)
    np.testing.assert_array_equal(reading.top()[[0, 2, 4]], plain.top())


def test_chat_renders_the_template(tokenizer: Any) -> None:
    tokenizer = type(tokenizer)(
        tokenizer_object=tokenizer.backend_tokenizer,
        bos_token="<s>",
        chat_template="<s>{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}"
        "{% endfor %}{% if add_generation_prompt %} ->{% endif %}",
    )
    reading = logitlens_cli.read(tiny_llama(), tokenizer, "the cat", chat=True)
    assert reading.text == "<s>[user] the cat ->"
    assert reading.lens.chat
    assert reading.tokens[0].label == "<s>"
    assert [token.label for token in reading.tokens].count("<s>") == 1


def test_chat_without_a_template_is_refused(tokenizer: Any) -> None:
    with pytest.raises(UsageError, match="has no chat template"):
        logitlens_cli.read(tiny_llama(), tokenizer, "the cat", chat=True)


def test_examination_tells_the_chain_and_what_is_missing() -> None:
    import families

    said = proof_report(with_middle(tiny_llama()))
    assert said["chain"] == [
        "model.layers.3 (LlamaDecoderLayer) output",
        "model.norm (LlamaRMSNorm)",
        "lm_head (Linear)",
    ]
    assert said["route"] == ["direct: its modules, copied"]
    assert said["mid rows"] == ["--subblocks works"]
    assert said["input row"][0].startswith("decodes to the input token in ")
    assert said["input row"][0].endswith(" of 7 columns; head and embedding are two matrices")
    said = proof_report(with_middle(families.build("roberta")))
    assert said["route"] == ["replay: its own code, with its blocks skipped"]
    assert said["mid rows"] == ["--subblocks does not: no state between the halves of block 0"]
    assert said["norm"] == ["--norm full, no-affine"]
    said = proof_report(with_middle(families.build("gemma2")))
    assert said["chain"][-1] == "soft-cap 25"


def with_middle(model: Any) -> Any:
    from logitlens_cli.lens.lens_model import lens_model_of

    return lens_model_of(model, None, name="tiny", subblocks=True)


def test_a_tail_that_changes_its_mind_is_refused() -> None:
    model = tiny_llama()
    inner = model.forward

    def forward(**arguments: Any) -> Any:
        out = inner(**arguments)
        out.logits = out.logits + torch.randn_like(out.logits)
        return out

    model.forward = forward
    with pytest.raises(ProofError, match="other logits each time"):
        as_lens_model(model, None)


def test_true_next_tokens_are_ranked_in_the_models_own_output(tokenizer: Any) -> None:
    """Whatever rows, columns and norm are asked for."""
    model = tiny_llama()
    lens_model = as_lens_model(model, tokenizer)
    options = Rank(text=TEXT, next_ranks=True, norm=Norm.no_affine, layers="0", window="1:")
    reading = read_text(lens_model, with_token_ids(read_spec(options), lens_model), TEXT, "x")
    ids = reading.text_ids
    with torch.no_grad():
        own = model(torch.tensor([ids])).logits[0].double()
    ranks = [int((own[n] > own[n, ids[n + 1]]).sum()) + 1 for n in range(1, len(ids) - 1)]
    assert reading.next_ranks == [*ranks, None]


def test_the_record_says_what_the_last_digits_depend_on(tiny: LensModel) -> None:
    spec = ReadSpec(metrics={"rank": METRICS["rank"].spec()})
    small = read_text(tiny, spec, "the cat", "x").compute
    assert small is not None
    assert small.engine == "torch"  # too few logits for a kernel to be loaded
    assert small.threads == torch.get_num_threads()
    assert small.processor == torch.backends.cpu.get_cpu_capability()
    assert small.product in ("torch", "onednn")


def test_the_engine_is_the_one_that_was_used(
    tiny: LensModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid, "KERNEL_MIN_LOGITS", 1)
    spec = ReadSpec(metrics={"rank": METRICS["rank"].spec()})
    compute = read_text(tiny, spec, "the cat", "x").compute
    assert compute is not None
    assert compute.engine == ("torch" if numba_kernel() is None else "numba")
