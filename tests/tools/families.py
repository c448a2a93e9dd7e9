"""Tiny random models in memory for every family of transformers' causal-LM mapping.

Test support, not a test: `build("gemma2")` gives a four-block float32 model whose every gain, bias,
multiplier and soft-cap is large enough that a lens which misses it is visibly wrong, and
`reference_logits` says by an independent route (a hook on the last run of a block) how the model's
own tail decodes any residual stream.

How a configuration gets small: every field that a configuration class declares and that `SMALL`
names takes the value in `SMALL`; what `CONFIGS` says about a key goes on top. Keys that are not a
causal decoder, or that cannot be built here, have their reason in `NOT_CAUSAL` and `UNBUILDABLE`.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import inspect
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import transformers
from torch import LongTensor, Tensor, nn
from transformers import (
    CONFIG_MAPPING,
    AutoModel,
    AutoModelForCausalLM,
    Gemma3nVisionConfig,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

VOCABULARY = 99
WIDTH = 48
BLOCKS = 4
POSITIONS = 9
CAP = 25.0
"""Every logit soft-cap that a family has takes this value."""
FLOOR, CEILING = 18.0, 60.0
"""The largest absolute logit of a built model lies between these."""
WORD_IDS = (5, 90)
"""Prompts take ids from this range: above the special ids, below every placeholder id."""

Kwargs = dict[str, Any]


class UnbuildableError(Exception):
    """The pinned transformers cannot build this key on this machine; the message says why."""


class NotCausalError(Exception):
    """This key is no standalone decoder-only causal text LM; the message says why."""


SMALL: Kwargs = {
    # sizes
    "vocab_size": VOCABULARY,
    **dict.fromkeys(
        ("hidden_size", "d_model", "n_embd", "dim_model", "embed_dim", "emb_dim"), WIDTH
    ),
    "embedding_size": WIDTH,
    **dict.fromkeys(
        ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "decoder_layers"), BLOCKS
    ),
    # as many on the unused side: the cache of a BART counts the encoder's
    **dict.fromkeys(("num_decoder_layers", "encoder_layers", "num_encoder_layers"), BLOCKS),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("decoder_attention_heads", "encoder_attention_heads", "attention_heads"), 4),
    **dict.fromkeys(("num_decoder_attention_heads", "num_encoder_attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads"), 2),
    "head_dim": 12,
    **dict.fromkeys(("intermediate_size", "ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim"), 64),
    **dict.fromkeys(("n_inner", "ffn_hidden_size", "d_inner", "dff", "dim_ff"), 64),
    "feed_forward_size": 64,
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx"), 64),
    "type_vocab_size": 2,
    # mixtures of experts
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 32),
    "shared_intermediate_size": 32,
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_k", "moe_topk"), 2),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts", "num_shared_experts"), 1),
    # latent and sparse attention
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank"), 16),
    **dict.fromkeys(("qk_nope_head_dim", "qk_rope_head_dim"), 8),
    "v_head_dim": 12,
    "index_n_heads": 2,
    "index_head_dim": 16,
    "index_topk": 4,
    # lengths at which a family changes what it does: windows, chunks, scaled positions
    **dict.fromkeys(("sliding_window", "sliding_window_size", "keep_window_size"), 5),
    **dict.fromkeys(("attention_window_size", "window_size", "local_attention_window_len"), 5),
    "local_attention": 8,
    **dict.fromkeys(("attention_chunk_size", "chunk_size", "mamba_chunk_size", "block_size"), 8),
    **dict.fromkeys(("local_attn_chunk_length", "lsh_attn_chunk_length"), 8),
    **dict.fromkeys(("floor_scale", "log_scaling_n_floor"), 8),
    "original_max_position_embeddings": 16,
    "index_block_size": 4,
    "index_topk_blocks": 2,
    "max_window_layers": 1,
    "use_sliding_window": True,
    # linear attention and state spaces
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads"), 2),
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim"), 12),
    "mamba_n_heads": 4,
    "mamba_d_state": 8,
    **dict.fromkeys(("linear_num_heads", "mamba_num_heads"), 4),
    "linear_head_dim": 12,
    **dict.fromkeys(("ssm_state_size", "state_size"), 8),
    # per-layer embeddings, other kinds of layer
    "vocab_size_per_layer_input": VOCABULARY,
    "hidden_size_per_layer_input": 8,
    "laurel_rank": 8,
    "swa_num_attention_heads": 4,
    "swa_num_key_value_heads": 2,
    "swa_head_dim": 12,
    "d_rel": 4,
    "rel_extent": 16,
    # placeholders of images and sounds: in the vocabulary, never in a prompt
    **dict.fromkeys(("image_token_id", "image_token_index"), 95),
    "video_token_id": 96,
    "audio_token_id": 97,
    # what a lens must not miss
    "final_logit_softcapping": CAP,
    "logit_scale": 0.25,
    "logits_scaling": 6.0,
    "lm_head_multiplier": 0.4,
    "embedding_multiplier": 3.0,
    "residual_multiplier": 0.7,
    "attention_multiplier": 0.2,
    "scale_embedding": True,
    "lm_head_bias": True,
    "initializer_range": 0.15,
    # special ids and roles
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "is_decoder": True,
    "is_encoder_decoder": False,
    "add_cross_attention": False,
}
"""Configuration field -> tiny or telling value, for every class that declares the field."""

SENSES: Kwargs = {
    # more blocks than the text model has, so that taking the wrong ones shows
    **dict.fromkeys(("num_hidden_layers", "depth", "num_blocks"), BLOCKS + 2),
    **dict.fromkeys(("hidden_size", "embed_dim"), 32),
    **dict.fromkeys(("out_hidden_size", "text_hidden_size", "projection_hidden_dim"), WIDTH),
    "head_dim": 8,
    "num_key_value_heads": 4,
    "image_size": 28,
    "patch_size": 14,
    "num_position_embeddings": 16,
    "position_embedding_size": 16,
    "deepstack_visual_indexes": [],
    "num_mel_bins": 8,
    "max_source_positions": 20,
}
"""The same for vision and audio sub-configurations, on top of `SMALL`."""

_SLIDING_FULL = ["sliding_attention", "full_attention"] * 2
_LINEAR_FULL = ["linear_attention", "full_attention"] * 2
_MAMBA_HYBRID = ["mamba", "hybrid"] * 2
_GEMMA = {"layer_types": _SLIDING_FULL}
# the head of a full-attention layer is 512 wide unless told otherwise
_GEMMA4 = {"layer_types": _SLIDING_FULL, "global_head_dim": 16}
# the last block reuses keys and values of the first two
_GEMMA3N = {"layer_types": _SLIDING_FULL, "num_kv_shared_layers": 2}
# sliding layers have sizes of their own, given by names that are no fields
_DOTS3 = {
    "layer_types": ["indexed_attention", "sliding_attention"] * 2,
    "shared_experts_intermediate_size": 32,
    "head_dim": 16,
    **{"swa_num_attention_heads": 4, "swa_num_key_value_heads": 4, "swa_q_lora_rank": 16},
    **{"swa_kv_lora_rank": 16, "swa_head_dim": 16, "swa_qk_nope_head_dim": 8},
    **{"swa_v_head_dim": 12, "swa_qk_rope_head_dim": 8},
}
# the indexer's sizes have no defaults
_QWEN4 = {
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 12,
    "indexer_budget": 4,
    "indexer_compress_ratio": 2,
    "hc_lowrank": 8,
    "layer_types": ["linear_attention", "indexed_attention"] * 2,
}

# text beyond 16 tokens takes the other factors
_SCALED = {"rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 16}
_LONGROPE = {
    **_SCALED,
    "rope_type": "longrope",
    "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5],
    "long_factor": [2.0, 2.5, 3.0, 3.5, 4.0, 4.5],
}


class NoTowerConfig(Gemma3nVisionConfig):  # type: ignore[misc]
    """Stands in for Gemma-3n's vision tower."""

    model_type = "no_tower"


class NoTower(PreTrainedModel):  # type: ignore[misc]
    """An empty module where a vision tower would be."""

    config_class = NoTowerConfig


AutoModel.register(NoTowerConfig, NoTower)

CONFIGS: dict[str, Kwargs] = {
    # muP: the embedding is scaled only when asked
    "afmoe": {"mup_enabled": True},
    # hybrids, here and below: the default pattern is longer than four blocks
    "bailing_hybrid": {"layer_types": _LINEAR_FULL},
    "bamba": {"attn_layer_indices": [1, 3]},
    # the embedding is scaled only when asked; nine tokens are too few for sparse attention
    "big_bird": {"rescale_embeddings": True, "attention_type": "original_full"},
    "bigbird_pegasus": {"attention_type": "original_full"},
    # four little models in one; the hash table is 500 000 rows by default
    "blt": {
        "encoder_hash_byte_group_vocab": 50,
        "encoder_hash_byte_group_size": [3, 4],
        "patcher_config": {"num_hidden_layers": 2, "num_key_value_heads": 4},
        "encoder_config": {"hidden_size_global": 96, "num_hidden_layers": 2},
        "decoder_config": {"hidden_size_global": 96},
        "global_config": {"hidden_size": 96, "num_hidden_layers": 5, "intermediate_size": 96},
    },
    # rotary_dim (64) may not exceed the head's width
    "codegen": {"rotary_dim": 8},
    # a rope entry for every kind of layer is expected
    "cohere_compass_text": {
        "layer_types": _SLIDING_FULL,
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 2, 2]}
            for kind in ("sliding_attention", "full_attention")
        },
    },
    # 32 prompt vectors of 32 kinds by default
    "cpmant": {"dim_head": 12, "prompt_length": 4, "segment_types": 4},
    # the attention sub-configuration lacks a rope_theta, and its clip may not be left out
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8.0},
        "ffn_config": {"moe_top_k": 2},
    },
    # an output projection in groups, 1024 wide each
    "deepseek_v4": {"o_groups": 2, "o_lora_rank": 8},
    # towers must hand over vectors of the text's width; 25 dense vision blocks by default
    "dots3_note": {
        "text_config": _DOTS3,
        "vision_config": {
            "adapter_in_dim": 32,
            "adapter_out_dim": WIDTH,
            "mlp_layer_types": ["dense"] * (BLOCKS + 2),
        },
        "audio_config": {"adapter_input_size": 32, "adapter_out_dim": WIDTH},
    },
    "dots3_note_text": _DOTS3,
    # attention and a state space side by side, the latter 1024 wide
    "falcon_h1": {"mamba_d_ssm": 64, "mamba_d_head": 16},
    "gemma3": {"text_config": _GEMMA},
    "gemma3_text": _GEMMA,
    # the real vision tower needs the package timm; a text pass never runs it
    "gemma3n": {
        "text_config": _GEMMA3N,
        "vision_config": NoTowerConfig(hidden_size=32, vocab_size=8, vocab_offset=VOCABULARY),
        "audio_config": {
            **{"hidden_size": 32, "vocab_size": 8, "vocab_offset": VOCABULARY + 8},
            **{"conf_num_attention_heads": 4, "conf_num_hidden_layers": BLOCKS + 2},
            "sscp_conv_channel_size": [8, 4],
        },
    },
    "gemma3n_text": _GEMMA3N,
    "gemma4": {"text_config": _GEMMA4},
    "gemma4_text": _GEMMA4,
    "gemma4_unified": {
        "text_config": _GEMMA4,
        "vision_config": {"mm_embed_dim": 32, "output_proj_dims": 32, "mm_posemb_size": 16},
        "audio_config": {"audio_embed_dim": 32},
    },
    "gemma4_unified_text": _GEMMA4,
    # widths in the towers that go by their own names
    "got_ocr2": {"vision_config": {"output_channels": 8, "mlp_dim": 32}},
    # the pattern is for 24 blocks
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    # rotary_dim, as in CodeGen
    "gptj": {"rotary_dim": 8},
    "granitemoehybrid": {"layer_types": _LINEAR_FULL},
    # the logits are trimmed to fewer than the head's rows; earlier blocks feed the tail
    "inkling2_text": {"unpadded_vocab_size": 93, "n_layers_per_attn_res_block": 2},
    "inkling_text": {"unpadded_vocab_size": 93},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "jetmoe": {"kv_channels": 12},
    "kimi_linear": {"layer_types": _LINEAR_FULL},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    # the rotary width goes by the name head_dim
    "longcat_flash": {"head_dim": 8, "expert_ffn_hidden_size": 32, "zero_expert_num": 2},
    # heads times their width must be expand * hidden_size
    "mamba2": {"num_heads": 8, "head_dim": 12, "n_groups": 2, "state_size": 8},
    # a text-only pass skips the cross-attention block, so it may not be the last one
    "mllama": {"text_config": {"cross_attention_layers": [1]}},
    # a block is one mixer or one MLP; four kinds by default
    "nemotron_h": {"mamba_head_dim": 24, "n_groups": 2, "moe_shared_expert_intermediate_size": 32},
    # widths of the sound tower that go by their own names
    "phi4_multimodal": {
        "audio_config": {
            "nemo_conv_channels": 8,
            "ext_pw_out_channel": 32,
            "depthwise_separable_out_channel": 32,
        }
    },
    "qwen4_exp": {"text_config": _QWEN4},
    "qwen4_exp_text": _QWEN4,
    # axial position tables must factorise; plain ones need not
    "reformer": {
        "axial_pos_embds": False,
        "attn_layers": ["local", "lsh", "local", "lsh"],
        "attention_head_size": 12,
        "hash_seed": 0,
    },
    # glyph and sound tables of their own
    "roc_bert": {
        "shape_vocab_size": VOCABULARY,
        "shape_embed_dim": 16,
        "pronunciation_vocab_size": VOCABULARY,
        "pronunciation_embed_dim": 16,
    },
    # halves the stream after every second block, the last one included
    "rwkv": {"rescale_every": 2},
    # a quarter of the head's width is rotated and must be even
    "stablelm": {"num_attention_heads": 3, "num_key_value_heads": 3},
    # the masked model is the default; CLM checkpoints set this
    "xlm": {"causal": True},
    # the bidirectional model is the default
    "xlnet": {"attn_type": "uni"},
    # the cache rounds the key width up to 64, the block does not
    "xlstm": {"hidden_size": 128, "embedding_dim": 128},
    # a language adapter must be chosen
    "xmod": {"languages": ["en_XX", "de_DE"], "default_language": "en_XX"},
    # shared attention in every second block
    "zamba": {"layers_block_type": _MAMBA_HYBRID},
    "zamba2": {"layers_block_type": _MAMBA_HYBRID},
    # one expert a token is all it takes
    "zaya": {"num_experts_per_tok": 1},
}
"""Key -> configuration fields on top of `SMALL`; the comments say why `SMALL` does not do."""

VARIANTS: dict[str, tuple[str, Kwargs]] = {
    # the 350m shape: project_in and project_out, post-norm blocks, no final norm
    "opt-350m": ("opt", {"word_embed_proj_dim": 32, "do_layer_norm_before": False}),
    # an encoder-decoder checkpoint of uneven depth: config.num_hidden_layers is the encoder's (1),
    # and a cache made from it is too short, so this runs only with use_cache=False
    "bart-uneven": ("bart", {"encoder_layers": 1}),
    # the stream is the normed one
    "bloom-post": ("bloom", {"apply_residual_connection_post_layernorm": True}),
    # attention and MLP one after the other; two norms side by side; no rotary positions
    "falcon-serial": ("falcon", {"parallel_attn": False, "alibi": True}),
    "falcon-new": ("falcon", {"new_decoder_architecture": True}),
    # dense and sparse halves side by side in a block
    "gemma4-moe": (
        "gemma4_text",
        {"enable_moe_block": True, "num_experts": 4, "top_k_experts": 2},
    ),
    "gpt2-untied": ("gpt2", {"tie_word_embeddings": False}),
    "gpt_neox-serial": ("gpt_neox", {"use_parallel_residual": False}),
    # other numbers of turns
    "hrm_text-turns": ("hrm_text", {"H_cycles": 3, "L_cycles": 1}),
    "llama-tied": ("llama", {"tie_word_embeddings": True}),
    # positions that are scaled from a length on, of texts, of batches
    "llama-dynamic": (
        "llama",
        {
            "rope_parameters": {**_SCALED, "rope_type": "dynamic"},
            "max_position_embeddings": 16,
        },
    ),
    "llama-llama3": (
        "llama",
        {
            "rope_parameters": {
                **{**_SCALED, "rope_type": "llama3"},
                **{"low_freq_factor": 1.0, "high_freq_factor": 4.0},
            }
        },
    ),
    "llama-longrope": ("llama", {"rope_parameters": _LONGROPE}),
    "llama-yarn": ("llama", {"rope_parameters": {**_SCALED, "rope_type": "yarn"}}),
    "phi3-longrope": ("phi3", {"rope_parameters": _LONGROPE}),
    # norms without gain or bias
    "opt-no-affine": ("opt", {"layer_norm_elementwise_affine": False}),
    "stablelm-parallel": ("stablelm", {"use_parallel_residual": True}),
    # two shared transformers take turns
    "zamba2-two": ("zamba2", {"num_mem_blocks": 2}),
}
"""Extra key -> (plain key, fields): traps that the plain key does not show."""

BIDIRECTIONAL: dict[str, tuple[str, Kwargs]] = {
    "bert-masked": ("bert", {"is_decoder": False}),
    "cpmant-prefix": ("cpmant", {}),
    "roberta-masked": ("roberta", {"is_decoder": False}),
    "xlm-masked": ("xlm", {"causal": False}),
    "xlnet-bi": ("xlnet", {"attn_type": "bi"}),
}
"""The same for models that run but are not causal: later tokens move earlier logits."""

NOT_CAUSAL: dict[str, str] = {
    "cpmant": "a prefix LM: the whole prompt is prefix, so every position sees the later ones",
    "gemma4_assistant": "a drafter: reads another model's states and keys, not token ids",
    "gemma4_unified_assistant": "a drafter like gemma4_assistant: reads no token ids",
    "musicgen": "an encoder-decoder: its decoder writes audio codes, a head per codebook, no text",
    "musicgen_melody": "an encoder-decoder: its decoder writes audio codes, a head per codebook",
}
"""Key -> why it is no standalone decoder-only causal text LM."""

UNBUILDABLE: dict[str, str] = {}
"""Key -> why the pinned transformers cannot build it here."""

LEAKY: dict[str, str] = {
    "prophetnet": "transformers reads the relative position bias of the predicting stream in the "
    "wrong order of axes, so that a later token moves earlier logits (by up to 1 in 40)",
}
"""Key -> why logits of a decoder depend on later tokens all the same."""

BLOCK_LISTS: dict[str, tuple[str, ...]] = {
    # byte encoder, patch transformer, byte decoder: the stream of the bytes runs through the first
    # and the last, that of the patches is another
    "BltForCausalLM": ("model.local_encoder.layers", "model.local_decoder.layers"),
    # a fast and a slow stack take turns, each several times
    "HrmTextForCausalLM": ("model.L_module.layers", "model.H_module.layers"),
    # no block modules: four parallel lists, of which the second norm leaves the stream
    "XLMWithLMHeadModel": ("transformer.layer_norm2",),
}
"""Class name -> paths of the module lists with its blocks, where `blocks` would guess wrong."""

ENTRIES: dict[str, str] = {"XLMWithLMHeadModel": "transformer.attentions.0"}
"""Class name -> path of the module that block 0's input enters, where that is not block 0."""

STREAMS: dict[str, int] = {
    # a reversible residual network: two streams, joined for the final norm
    "ReformerModelWithLMHead": 2,
}
"""Class name -> how many tensors make up the stream (side by side in the last axis), if not one."""

_LIST_NAMES = {"layers", "layer", "h", "blocks", "block"}
_NOT_TEXT = re.compile(r"vision|visual|audio|image|encoder_layers|mtp|depth|expert|mem_blocks")


def keys() -> list[str]:
    """Every key of transformers' causal-LM mapping, sorted; `VARIANTS` are not among them."""
    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def build(key: str, *, seed: int = 0) -> PreTrainedModel:
    """A tiny random model of this family: float32, eval mode, distinct weights.

    Raises UnbuildableError or NotCausalError with the reason; KeyError for an unknown key.
    """
    base, extra = {**VARIANTS, **BIDIRECTIONAL}.get(key, (key, {}))
    if base not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise KeyError(key)
    if key in NOT_CAUSAL:
        raise NotCausalError(NOT_CAUSAL[key])
    if key in UNBUILDABLE:
        raise UnbuildableError(UNBUILDABLE[key])
    with _quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(configuration(base, extra)).float().eval()
        _randomise(model)
        _scale_logits(model, inputs(key))
    return model


def inputs(key: str, length: int = POSITIONS) -> LongTensor:
    """Token ids (1, length) within the vocabulary, the same on every call."""
    generator = torch.Generator().manual_seed(17)
    ids = torch.randint(*WORD_IDS, (1, length), generator=generator)
    return ids  # type: ignore[return-value]


def configuration(key: str, extra: Mapping[str, Any] | None = None) -> PreTrainedConfig:
    """The tiny configuration of a plain key, with `extra` fields on top."""
    config_class = CONFIG_MAPPING[key]
    fields = _small_fields(config_class)
    fields = _merge(fields, CONFIGS.get(key, {}))
    return config_class(**copy.deepcopy(_merge(fields, extra or {})))


def blocks(model: nn.Module) -> list[nn.Module]:
    """The text decoder's blocks, found by the names of their module lists.

    Without those that a text-only pass skips (Mllama's cross-attention blocks).
    """
    paths = BLOCK_LISTS.get(type(model).__name__)
    if paths is not None:
        return [block for path in paths for block in model.get_submodule(path).children()]
    lists = [
        (name.count("."), -len(module), name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList)
        and name.rpartition(".")[2] in _LIST_NAMES
        and not _NOT_TEXT.search(name)
    ]
    found = min(lists, key=lambda entry: entry[:3])[3]
    return [block for block in found if "CrossAttention" not in type(block).__name__]


def reference_logits(model: PreTrainedModel, ids: Tensor, stream: Tensor) -> Tensor:
    """The logits of the model's own tail when the last run of a block leaves `stream`.

    `stream` has the shape of what the last block leaves. Runs in float64 where the family allows
    it, else in float32. The given model is left as it was.
    """
    try:
        return decode(doubled(model), ids, stream.double())
    except RuntimeError:
        return decode(copy.deepcopy(model).float(), ids, stream.float())


def reference_stream(model: PreTrainedModel, ids: Tensor) -> list[Tensor]:
    """What enters the first block that runs, then what leaves every block at each of its runs, in
    the order of time; clones, in the model's own dtype."""
    tensors = STREAMS.get(type(model).__name__, 1)
    found = blocks(model)
    path = ENTRIES.get(type(model).__name__)
    entered: list[Tensor] = []
    left: list[Tensor] = []

    def enter(_: nn.Module, args: tuple[Any, ...], kwargs: Kwargs) -> None:
        if not entered:
            entered.append(_read((*args, *kwargs.values()), tensors))

    def leave(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        left.append(_read(output, tensors))

    entries = [model.get_submodule(path)] if path else found
    handles = [entry.register_forward_pre_hook(enter, with_kwargs=True) for entry in entries]
    handles += [block.register_forward_hook(leave) for block in found]
    try:
        forward(model, ids)
    finally:
        for handle in handles:
            handle.remove()
    return entered + left


def doubled(model: PreTrainedModel) -> PreTrainedModel:
    """A float64 copy; mixtures of experts loop over their experts (no float64 grouped product)."""
    twin = copy.deepcopy(model).double()
    with _quiet():
        twin.set_experts_implementation("eager")
    return twin


def forward(model: PreTrainedModel, ids: Tensor) -> Tensor:
    """The model's logits on `ids`, without a cache where the family can do without."""
    kwargs: Kwargs = {}
    if "use_cache" in _parameters(type(model)):
        kwargs["use_cache"] = False
    with _quiet(), torch.no_grad():
        logits: Tensor = model(ids, **kwargs).logits
    return logits


def decode(model: PreTrainedModel, ids: Tensor, stream: Tensor) -> Tensor:
    """The logits of a pass in which the last run of a block leaves `stream`."""
    tensors = STREAMS.get(type(model).__name__, 1)
    runs = 0

    def count(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        nonlocal runs
        runs += 1

    def replace(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        nonlocal runs
        runs -= 1
        return _write(output, stream.clone(), tensors) if runs == 0 else None

    for hook in (count, replace):
        handles = [block.register_forward_hook(hook) for block in blocks(model)]
        try:
            logits = forward(model, ids)
        finally:
            for handle in handles:
                handle.remove()
    return logits


def _read(output: Any, tensors: int) -> Tensor:
    """A clone of the output itself, or of the first tensor(s) in it, side by side."""
    if isinstance(output, Tensor):
        return output.clone()
    found = [item for item in output if isinstance(item, Tensor)]
    return torch.cat(found[:tensors], -1)


def _write(output: Any, stream: Tensor, tensors: int) -> Any:
    """The same kind of output with its first tensor(s) replaced by `stream`."""
    if isinstance(output, Tensor):
        return stream
    items = list(output)
    places = [i for i, item in enumerate(items) if isinstance(item, Tensor)][:tensors]
    for place, part in zip(places, stream.chunk(tensors, -1), strict=True):
        items[place] = part
    return type(output)(*items) if hasattr(output, "_fields") else type(output)(items)


def _randomise(model: nn.Module) -> None:
    """Distinct weights of unit gain; every gain and bias moved by about 0.3."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                parameter.normal_(0.0, parameter.shape[-1] ** -0.5)
            else:
                parameter.mul_(1 + 0.3 * torch.randn_like(parameter))
                parameter.add_(0.3 * torch.randn_like(parameter))
        for name, buffer in model.named_buffers():
            if name.endswith("layer_scalar"):  # Gemma-4: the block's own scale, 1 until trained
                buffer.uniform_(0.5, 0.9)


def _scale_logits(model: PreTrainedModel, ids: Tensor) -> None:
    """Scale the head until the largest logit lies between `FLOOR` and `CEILING`."""
    head = _head(model)
    for _ in range(6):
        largest = forward(model, ids).abs().max()
        if FLOOR <= largest <= CEILING:
            return
        with torch.no_grad():
            head.mul_(40.0 / largest)


def _head(model: PreTrainedModel) -> Tensor:
    """The unembedding's weight."""
    weight: Tensor = model.get_output_embeddings().weight
    return weight


def _small_fields(config_class: type[PreTrainedConfig]) -> Kwargs:
    """The part of `SMALL` that a configuration class declares, sub-configurations included."""
    declared = _declared(config_class)
    small = {name: value for name, value in SMALL.items() if name in declared}
    if "qk_nope_head_dim" in declared and "num_key_value_heads" in declared:
        small["num_key_value_heads"] = SMALL["num_attention_heads"]  # latent attention: no groups
    for name, part in config_class.sub_configs.items():
        spec = getattr(config_class, "sub_configs_defaults", {}).get(name)
        model_type = getattr(spec, "model_type", None)
        part_class = CONFIG_MAPPING[model_type] if model_type else part
        small[name] = _small_fields(part_class)
        if _NOT_TEXT.search(name):
            small[name].update({k: v for k, v in SENSES.items() if k in _declared(part_class)})
        if model_type:
            small[name]["model_type"] = model_type
    return small


def _declared(config_class: type[PreTrainedConfig]) -> set[str]:
    """The fields of a configuration class."""
    return {field.name for field in dataclasses.fields(config_class)}


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> Kwargs:
    """`below` with `above` laid over it, dictionaries recursively."""
    merged = dict(below)
    for name, value in above.items():
        if isinstance(value, Mapping) and isinstance(merged.get(name), Mapping):
            merged[name] = _merge(merged[name], value)
        else:
            merged[name] = value
    return merged


def _parameters(model_class: type[nn.Module]) -> frozenset[str]:
    """The names that a model class's forward takes."""
    return frozenset(inspect.signature(model_class.forward).parameters)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No warnings and no transformers log lines."""
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity(transformers.logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers.logging.set_verbosity(verbosity)
