"""Every family of the causal mapping: exact or refused with a reason, none silently wrong."""

import json
from dataclasses import asdict
from typing import Any

import families
import family_table
import pytest

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


@pytest.mark.parametrize("key", SAMPLE)
def test_a_sample_is_exact(key: str) -> None:
    assert family_table.examine(key).outcome == "exact"


@pytest.mark.families
@pytest.mark.parametrize("key", families.keys())
def test_every_family_ends_as_recorded(key: str) -> None:
    assert asdict(family_table.examine(key)) == RECORDED["families"][key]


@pytest.mark.families
@pytest.mark.parametrize("key", list(families.VARIANTS))
def test_every_variant_is_exact(key: str) -> None:
    assert family_table.examine(key).outcome == "exact"
