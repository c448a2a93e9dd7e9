"""A model's configuration, checked before anything is built from it."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from logitlens_cli.errors import UsageError, WorkError
from logitlens_cli.model import silence

if TYPE_CHECKING:
    from transformers import PretrainedConfig
from logitlens_cli.model.files import (
    READ_FILES,
    ModelFiles,
    Permissions,
    check_json_size,
    loading_arguments,
    needs_code,
    read_json,
    reading_errors,
)

CAUSAL_HINT = "give a causal (decoder-only) language model"


def read_config(files: ModelFiles, allowed: Permissions) -> "PretrainedConfig":
    """The configuration of a causal LM; whatever could reach beyond the folder is taken out."""
    raw = {} if files.gguf else checked_config_json(files, allowed)
    what = "the header (damaged, or of an unknown kind)" if files.gguf else "the configuration"
    with reading_errors(what, files):
        from transformers import AutoConfig

        config: PretrainedConfig = AutoConfig.from_pretrained(
            files.folder, **files.where(), **loading_arguments(allowed)
        )
        parts = (config, config.get_text_config())
        vars(parts[1])  # some take whatever config.json gives
    check_causal(files, config, raw, allowed)
    for part in parts:
        part._attn_implementation = None  # could name a kernel (code) to fetch from the hub
        part._experts_implementation = None
        part.transformers_weights = None  # could name another file than the one checked
        # What a pass gives back is asked for by who runs it, not by a file.
        part.output_hidden_states = part.output_attentions = False
        part.return_dict = True
    return config


def checked_config_json(files: ModelFiles, allowed: Permissions) -> dict[str, Any]:
    """config.json as it stands; WorkError if it is missing, broken, or asks for its own code."""
    folder = files.folder
    if not (folder / "config.json").is_file():
        ggufs = sorted(folder.glob("*.gguf"))
        hint = f"give the file {ggufs[0]}" if ggufs else "give the folder of a saved model"
        raise WorkError(f"{files} has no config.json, so it holds no model", hint)
    check_small_files(files)
    raw = read_json(folder / "config.json")
    require_countable(raw, folder / "config.json")
    kind = raw.get("model_type")
    if not isinstance(kind, str):
        raise WorkError(f"{folder / 'config.json'} names no model_type", "save the model again")
    with silence.silenced():
        import transformers
    if kind not in transformers.CONFIG_MAPPING and not (allowed.code and "auto_map" in raw):
        if "auto_map" in raw:
            raise needs_code(files, f"its model type {kind!r} is not one of transformers'")
        raise WorkError(
            f"{folder} is of the model type {kind!r}, unknown to transformers"
            f" {transformers.__version__}",
            "upgrade transformers",
        )
    return raw


COUNTED = re.compile(r"(.*_)?(layers?|labels?|blocks?|stages?|depths?)", re.ASCII)
"""names of numbers of which transformers makes lists and tables as it reads a configuration (found
by giving each number of each model type a value of a billion)"""
MOST_COUNTED = 100_000
"""the largest models have some hundred layers, the largest classifiers some 20 000 labels"""


def require_countable(raw: Any, path: Path) -> None:
    """WorkError for a configuration, or a part of one, that makes its reader fill the memory."""
    todo = [raw]
    while todo:
        part = todo.pop()
        if isinstance(part, list):
            todo += part
        elif isinstance(part, dict):
            todo += part.values()
            for key, value in part.items():
                is_number = isinstance(value, int | float) and not isinstance(value, bool)
                if is_number and abs(value) > MOST_COUNTED and COUNTED.fullmatch(key):
                    raise WorkError(
                        f"{path} says {key[:60]}: {value:g}, more than {MOST_COUNTED}",
                        "fetch or save the model again",
                    )


def check_small_files(files: ModelFiles) -> None:
    """Refuse small files that are not small, and links that lead out of the folder, of those that
    are read."""
    folder = files.folder.resolve()
    # The hub's cache is made of links, from snapshots/COMMIT to blobs.
    in_hub_cache = folder.parent.name == "snapshots"
    homes = (folder, folder.parents[1] / "blobs") if in_hub_cache else (folder,)
    small_files = {path for pattern in READ_FILES for path in files.folder.glob(pattern)}
    for path in sorted(small_files | {*files.folder.glob("*.safetensors")}):
        target = Path(os.path.realpath(path))  # unlike resolve(), it does not fail on a loop
        # Whether the file or a folder on the way is the link.
        if not any(target.is_relative_to(home) for home in homes):
            raise WorkError(
                f"{path} is a link that leads out of its folder, to {target}",
                "put a copy of that file into the folder, if you trust it",
            )
        if path in small_files and path.is_file():
            check_json_size(path)


def check_causal(
    files: ModelFiles, config: "PretrainedConfig", raw: dict[str, Any], allowed: Permissions
) -> None:
    from transformers.models.auto import modeling_auto as supported

    kind = config.model_type
    if getattr(config, "is_encoder_decoder", False):
        raise UsageError(f"the model {files} is an encoder-decoder ({kind})", CAUSAL_HINT)
    both_sided = {*supported.MODEL_FOR_MASKED_LM_MAPPING_NAMES, "bert-generation", "xlnet"}
    if kind in both_sided and not getattr(config, "is_decoder", False):
        raise UsageError(f"the model {files} is a masked language model ({kind})", CAUSAL_HINT)
    if kind in supported.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return
    own_code = raw.get("auto_map")
    if not isinstance(own_code, dict) or "AutoModelForCausalLM" not in own_code:
        raise UsageError(f"the model {files} is not a causal language model ({kind})", CAUSAL_HINT)
    if not allowed.code:
        raise needs_code(files, f"transformers has no causal language model of type {kind}")


def stated_context(files: ModelFiles) -> int | None:
    """``context_length`` of a folder's config.json, without the library that reads it; None where
    it is not in there."""
    path = files.folder / "config.json"
    if files.gguf or not path.is_file():
        return None
    raw = read_json(path)
    text = raw.get("text_config")
    return first_length((raw | text if isinstance(text, dict) else raw).get)


def context_length(config: "PretrainedConfig") -> int | None:
    """Tokens the model states it can take (the tokenizer's own figure is often a fantasy)."""
    text = config.get_text_config()
    return first_length(lambda key: getattr(text, key, None))


def first_length(value_of: Callable[[str], Any]) -> int | None:
    """The longest text by any of the names that configurations have for it."""
    for key in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"):
        length = value_of(key)
        if isinstance(length, int) and length > 0:
            return length
    return None
