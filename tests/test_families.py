"""Every family of the causal mapping: exact or refused with a reason, none silently wrong."""

import json
from dataclasses import asdict
from typing import Any

import families
import family_readings
import family_table
import pytest

from logitlens_cli.lens import sharing
from logitlens_cli.model.anatomy import find

RECORDED: dict[str, Any] = json.loads(family_table.TABLE.read_text())

# Every trap once: soft-caps, scales before and after the head, biases, missing and misnamed norms,
# several streams, projections, in-place scales, transform heads, odd layouts, tuples and lists,
# blocks that run twice, lists without blocks, streams that are halved on the way.
SAMPLE = [
    *(
        "gemma2",
        "gemma3",
        "gemma3n_text",
        "gemma4_text",
        "vaultgemma",
        "recurrent_gemma",
        "nanochat",
    ),
    *("cohere", "granite", "falcon_h1", "minicpm3", "inkling_text", "inkling2_text", "xlstm"),
    *("opt-350m", "openai-gpt", "bloom", "lfm2", "gptj", "codegen", "phi", "deepseek_v4"),
    *("roberta", "xlnet", "reformer", "rwkv", "hrm_text", "mllama", "blt", "xlm", "mpt"),
]


def test_the_table_covers_the_mapping() -> None:
    assert sorted(RECORDED["families"]) == families.keys()
    counts = [entry["outcome"] for entry in RECORDED["families"].values()]
    assert counts.count("exact") >= 125
    for entry in RECORDED["families"].values():
        assert (entry["outcome"] == "exact") == (entry["reason"] is None)
        assert entry["outcome"] != "not buildable"


def test_the_table_says_how_families_are_read() -> None:
    """From end to end: whole texts and windows of all; in batches and without norms of most."""
    readings = {key: e["readings"] for key, e in RECORDED["families"].items() if e["readings"]}
    assert len(readings) >= 180
    for of in readings.values():
        assert list(of) == list(family_readings.CASES)
        assert {of[case] for case in ("window", "long", "long_window")} == {"right"}
        assert of["together"] in ("right", "alone")
        assert {of["no_affine"], of["none"]} <= {"right", "refused"}
    for key in ("falcon_h1", "recurrent_gemma", "mamba2", "minicpm3", "deepseek_v3"):
        assert set(readings[key].values()) == {"right"}
    assert readings["gemma3n"]["no_affine"] == "right"
    for case in family_readings.CASES:
        assert [of[case] for of in readings.values()].count("right") >= 150


@pytest.mark.parametrize("key", SAMPLE)
def test_a_sample_is_exact(key: str) -> None:
    assert family_table.examine(key).outcome == "exact"


# A text beside a longer one attends to other tokens than by itself: these choose among many.
@pytest.mark.parametrize("key", ["deepseek_v32", "glm_moe_dsa"])
def test_families_that_choose_tokens_are_read_alone(key: str) -> None:
    model = families.build(key)
    parts = find.find_parts(model)
    assert not sharing.shared_pass_agrees(model, parts, [list(range(5, 5 + n)) for n in (41, 60)])


@pytest.mark.families
@pytest.mark.parametrize("key", families.keys())
def test_every_family_ends_as_recorded(key: str) -> None:
    assert asdict(family_table.examine(key)) == RECORDED["families"][key]


@pytest.mark.families
@pytest.mark.parametrize("key", list(families.VARIANTS))
def test_every_variant_is_exact(key: str) -> None:
    assert family_table.examine(key).outcome == "exact"
