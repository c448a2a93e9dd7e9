"""What is in a dump: a contract with other programs, against the JSON Schema."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from dump_fixtures import Dump, dump_refusal

from logitlens_cli.reading.dump import dump_schema, load_dump


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = dump_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


# ---- what is in it


def test_the_contract(dump: Dump) -> None:
    # t h e ·cat ↵ and the three bytes of 日, without the first
    labels = ["h", "e", "·cat", "↵", "<0xE6>", "<0x97>", "<0xA5>"]
    ids = [104, 101, 261, 10, 0xE6, 0x97, 0xA5]
    assert dump["schema"] == "logitlens/1"
    assert (dump["command"], dump["name"], dump["text"]) == ("all", "x", "the cat\n日")
    # printf 'the cat\n日' | sha256sum
    assert dump["text_sha256"] == (
        "3d2c608eedc02e46737d1a6679ebc85a386268774c13d49bf5f021c06872642d"
    )
    assert dump["tokens"] == [
        {"position": n + 1, "id": i, "label": label, "next_id": next_id, "next_label": following}
        for n, (i, label, next_id, following) in enumerate(
            zip(ids, labels, [*ids[1:], None], [*labels[1:], None], strict=True)
        )
    ]
    assert dump["layers"] == [
        {"label": "input", "kind": "input", "block": None},
        *({"label": str(n), "kind": "block", "block": n} for n in range(4)),
    ]
    for grid in (*dump["guesses"].values(), *(m["values"] for m in dump["metrics"].values())):
        assert (len(grid), {len(row) for row in grid}) == (5, {7})
    assert {len(cell) for grid in dump["guesses"].values() for row in grid for cell in row} == {5}
    assert list(dump["guesses"]) == ["ids", "labels", "logits", "probs", "log_probs"]
    assert set(dump["metrics"]) == {
        *("own-logit", "final-logit", "prob", "entropy", "rank", "kl-final", "kl-input")
    }
    # More keys are welcome, these keep their names and shapes.
    assert (
        dump["model"].items()
        >= {
            **{"class": "LlamaForCausalLM", "dtype": "float32", "device": "cpu", "tied": False},
            **{"blocks": 4, "width": 32, "vocabulary": 300},
        }.items()
    )
    assert dump["model"]["name"] == "tiny-llama"
    assert dump["model"]["revision"].startswith("sampled-sha256:")
    assert dump["check"]["passed"] is True
    assert dump["check"]["route"] in ("direct", "replay")
    assert 0 <= dump["check"]["max_abs_logit_error"] <= dump["check"]["tolerance"]
    assert (dump["lens"]["norm"], dump["lens"]["window"]) == ("full", [1, 8])
    assert (dump["lens"]["text_tokens"], dump["lens"]["bos"]) == (8, False)
    assert dump["lens"]["chain"] == [
        *("model.layers.3 (LlamaDecoderLayer) output", "model.norm (LlamaRMSNorm)"),
        "lm_head (Linear)",
    ]
    assert set(dump["versions"]) == {"logitlens-cli", "torch", "transformers"}
    assert dump["options"]["color"] == "entropy"


def test_what_a_rank_is_about(dump: Dump) -> None:
    rank = dump["metrics"]["rank"]
    assert rank["target"] == "next"
    assert rank["target_ids"] == [token["next_id"] for token in dump["tokens"]]
    assert rank["target_labels"] == [token["next_label"] for token in dump["tokens"]]
    for row, ties in zip(rank["values"], rank["ties"], strict=True):
        assert all(type(value) is int and 1 <= value <= 300 for value in row[:-1])
        assert row[-1] is None  # nothing follows the last token
        assert all(type(value) is int and value >= 0 for value in ties)


def test_the_numbers_agree_with_each_other(dump: Dump) -> None:
    logits, probs = (np.array(dump["guesses"][key]) for key in ("logits", "probs"))
    assert (np.diff(logits, axis=-1) <= 0).all()
    assert (probs > 0).all()
    assert (probs.sum(-1) <= 1).all()
    log_probs = np.array(dump["guesses"]["log_probs"])
    np.testing.assert_allclose(np.exp(log_probs), probs, rtol=1e-5)
    np.testing.assert_array_equal(logits[..., 0], dump["metrics"]["own-logit"]["values"])
    np.testing.assert_array_equal(probs[..., 0], dump["metrics"]["prob"]["values"])
    assert [cell[0] for cell in dump["guesses"]["ids"][-1]] == dump["final_ids"]
    np.testing.assert_allclose(dump["metrics"]["kl-final"]["values"][-1], 0, atol=1e-4)
    np.testing.assert_allclose(dump["metrics"]["kl-input"]["values"][0], 0, atol=1e-4)


def test_what_does_not_exist_is_not_a_number(dump_file: Path) -> None:
    values = load_dump(dump_file).values("rank")
    assert np.isnan(values[:, -1]).all()
    assert not np.isnan(values[:, :-1]).any()


# ---- the schema


def test_a_real_dump_is_valid(dump: Dump, validator: Any) -> None:
    validator.validate(dump)
    validator.validate(dump | {"later": {"anything": [1]}})


def drop(key: str) -> Callable[[Dump], object]:
    return lambda dump: dump.pop(key)


def put(value: Any, *keys: Any) -> Callable[[Dump], None]:
    """Set the value at the end of a path."""

    def change(dump: Any) -> None:
        for key in keys[:-1]:
            dump = dump[key]
        dump[keys[-1]] = value

    return change


# What is wrong with a dump, and the words that must be said of it.
WRONG_FOR_A_SCHEMA: dict[str, tuple[Callable[[Dump], object], str]] = {
    "no schema": (drop("schema"), "missing required field `schema`"),
    "no tokens": (drop("tokens"), "missing required field `tokens`"),
    "text as number": (put(3, "text"), "Expected `str`, got `int` - at `$.text`"),
    "tokens as object": (put({}, "tokens"), "Expected `array`, got `object` - at `$.tokens`"),
    "id as text": (put("5", "tokens", 0, "id"), "Expected `int`, got `str` - at `$.tokens[0].id`"),
    "negative id": (put(-1, "final_ids", 0), "Expected `int` >= 0 - at `$.final_ids[0]`"),
    "endless id": (put(2**63, "guesses", "ids", 0, 0, 0), "at `$.guesses.ids[0][0][0]`"),
    "half a position": (put(0.5, "tokens", 0, "position"), "Expected `int`, got `float`"),
    "value as text": (put("1", "metrics", "rank", "values", 0, 0), "at `$.metrics[...].values[0]"),
    "logit is null": (put(None, "guesses", "logits", 0, 0, 0), "Expected `float`, got `null`"),
    "kind of layer": (put("x", "layers", 0, "kind"), "Invalid enum value 'x'"),
    "kind of scale": (put("x", "metrics", "rank", "scale", "kind"), "Invalid enum value 'x'"),
    "passed as text": (put("yes", "check", "passed"), "at `$.check.passed`"),
    "model without class": (lambda dump: dump["model"].pop("class"), "field `class`"),
    "metric as path": (put({}, "metrics", "../up"), "at `key` in `$.metrics`"),
    "version as number": (put(1, "versions", "torch"), "at `$.versions[...]`"),
}
WRONG_FOR_THE_READER: dict[str, tuple[Callable[[Dump], object], str]] = {
    "other schema": (
        put("logitlens/2", "schema"),
        "schema is 'logitlens/2', this version reads 'logitlens/1'",
    ),
    "no layer": (put([], "layers"), "a grid of 0 layers and 7 positions"),
    "no position": (put([], "tokens"), "a grid of 5 layers and 0 positions"),
    "a layer less": (
        lambda dump: dump["layers"].pop(),
        "guesses.ids is not of 4 layers by 7 positions",
    ),
    "a row less": (
        lambda dump: dump["metrics"]["kl-final"]["values"].pop(),
        "metrics.kl-final.values is not of 5 layers by 7 positions",
    ),
    "a cell less": (
        lambda dump: dump["guesses"]["labels"][2].pop(),
        "guesses.labels is not of 5 layers by 7 positions",
    ),
    "a cell without a guess": (put([], "guesses", "ids", 1, 1), "a cell without a guess"),
    "a cell without a label": (put([], "guesses", "labels", 1, 1), "a cell without a guess"),
    "a guess without a label": (
        lambda dump: dump["guesses"]["labels"][1][1].pop(),
        "a cell without a guess, or a guess without its label, logit or probability",
    ),
    "a guess without a probability": (put([], "guesses", "probs", 1, 1), "or probability"),
    "a rank of nothing": (
        put(0, "metrics", "rank", "values", 1, 1),
        "metrics.rank is logarithmic and has a value that is not above 0",
    ),
    "a final guess less": (lambda dump: dump["final_ids"].pop(), "final_ids is not of 7 positions"),
}


@pytest.mark.parametrize("how", WRONG_FOR_A_SCHEMA)
def test_the_schema_says_what_is_wrong(how: str, dump: Dump, validator: Any) -> None:
    WRONG_FOR_A_SCHEMA[how][0](dump)
    assert not validator.is_valid(dump)


@pytest.mark.parametrize("how", WRONG_FOR_A_SCHEMA | WRONG_FOR_THE_READER)
def test_dumps_of_the_wrong_shape(how: str, dump: Dump, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(dump))
    load_dump(path)  # as it was, it can be read
    change, words = (WRONG_FOR_A_SCHEMA | WRONG_FOR_THE_READER)[how]
    change(dump)
    path.write_text(json.dumps(dump))
    said = dump_refusal(path)
    assert said.startswith(f"{path} is not a dump of this version of logitlens (")
    assert words in said
    assert said.endswith("; make it again with logitlens all")


FOLLOWED = {
    "position": 7,
    "ids": [5, 6],
    "labels": ["a", "b"],
    "ranks": [[1, 2]] * 5,
    "logits": [[2.5, None]] * 5,
    "probs": [[0.5, 0.25]] * 5,
    "chosen": [6],
}


@pytest.mark.parametrize(
    ("followed", "metric", "words"),
    [
        (None, "kl-final", ""),
        (FOLLOWED, "prob", ""),
        (FOLLOWED, "logit", ""),
        (None, "overlap", "a trace of 'overlap', of which it holds nothing"),
        (None, None, "a trace of None, of which it holds nothing"),
        (None, ["rank"], "a trace of ['rank'], of which it holds nothing"),
        (FOLLOWED, "kl-final", "a trace of 'kl-final', of which it holds nothing"),
        (FOLLOWED | {"logits": []}, "logit", "a trace of 'logit', of which it holds nothing"),
        (FOLLOWED | {"probs": []}, "rank", "a trace of 'rank', of which it holds nothing"),
        (FOLLOWED | {"chosen": [6, 7]}, "rank", "followed.chosen 7 is not among its ids"),
        (FOLLOWED | {"logits": [[1e101, 0]] * 5}, "logit", "Expected `float` <= 1e+100"),
        (FOLLOWED | {"probs": [[1e101, 0]] * 5}, "prob", "Expected `float` <= 1e+100"),
    ],
)
def test_traces(followed: Dump | None, metric: Any, words: str, dump: Dump, tmp_path: Path) -> None:
    """What a trace is of must be there to be drawn."""
    dump |= {"command": "trace", "followed": followed, "options": {"metric": metric}}
    path = tmp_path / "x.json"
    path.write_text(json.dumps(dump))
    if words:
        assert words in dump_refusal(path)
    else:
        load_dump(path)
