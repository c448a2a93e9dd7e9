"""A model's tokenizer, checked before it is read."""

import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from logitlens_cli.errors import WorkError
from logitlens_cli.model import sandbox

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase
from logitlens_cli.model.config import check_small_files
from logitlens_cli.model.files import (
    ModelFiles,
    Permissions,
    loading_arguments,
    read_json,
    reading_errors,
)

GROWTH_LIMIT = 10_000  # of a text's length, by a tokenizer; none is known that makes more than 20
USUAL_PATTERNS = {" {2,}"}  # patterns of normalizers that the tools for converting tokenizers write
READ_SECONDS = 60.0  # s; for a tokenizer, most of which go to transformers
GENERIC_CLASSES = ("TokenizersBackend", "PreTrainedTokenizerFast")
"""of transformers, by both its names, which takes a tokenizer.json as it is"""
BACKENDS = ("PythonBackend", "SentencePieceBackend", "PreTrainedTokenizer")
"""the classes of other tokenizers that take a file as it is"""
OWN_CLASSES = ("qwen", "hyperclovax", "siglip2", "mistral", "ministral", "mixtral", "pixtral")
"""how those model types begin for which transformers may put another class in its place (a test
asks it)"""


def reads_without_config(files: ModelFiles) -> bool:
    """Is the tokenizer what its tokenizer.json says, whatever the model? Then the model's
    configuration is not needed, whose class loads torch."""
    config, whole = (files.folder / f"tokenizer{end}.json" for end in ("_config", ""))
    model = files.folder / "config.json"
    if files.gguf or not all(path.is_file() for path in (config, whole, model)):
        return False
    check_small_files(files)
    raw, kind = read_json(config), str(read_json(model).get("model_type"))
    return (
        raw.get("tokenizer_class") in GENERIC_CLASSES
        and "auto_map" not in raw
        and not kind.startswith(OWN_CLASSES)
    )


def read_tokenizer(
    files: ModelFiles, config: "PretrainedConfig | None", allowed: Permissions
) -> "PreTrainedTokenizerBase":
    """The tokenizer of a model; without its configuration where ``reads_without_config``."""
    present = files.gguf or (files.folder / "tokenizer.json").is_file()
    what = "the tokenizer" if present else "the tokenizer (there is no tokenizer.json)"
    check_tokenizer_files(files)
    with reading_errors(what, files), sandbox.without_panics():
        tokenizer = (
            generic_tokenizer(files) if config is None else own_tokenizer(files, config, allowed)
        )
    if not len(tokenizer):
        raise WorkError(
            f"{files} has no tokenizer",
            "put the model's tokenizer.json beside its config.json",
        )
    # A number of the file, or whatever else is there; the model's own is what counts.
    tokenizer.model_max_length = sys.maxsize
    return tokenizer


def generic_tokenizer(files: ModelFiles) -> "PreTrainedTokenizerBase":
    from transformers import PreTrainedTokenizerFast

    tokenizer: PreTrainedTokenizerBase = PreTrainedTokenizerFast.from_pretrained(
        files.folder, local_files_only=True
    )
    return tokenizer


def own_tokenizer(
    files: ModelFiles, config: "PretrainedConfig", allowed: Permissions
) -> "PreTrainedTokenizerBase":
    """By the class that transformers has for this model."""
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        files.folder, config=config, **files.where(), **loading_arguments(allowed)
    )
    if files.gguf:
        drop_invented_tokens(tokenizer, config.get_text_config().vocab_size)
    return tokenizer


def check_tokenizer_files(files: ModelFiles) -> None:
    """Refuse a tokenizer_config.json that names a file outside the model's folder."""
    config, whole = (files.folder / f"tokenizer{end}.json" for end in ("_config", ""))
    if whole.is_file() and not files.gguf and check_growth(whole) - USUAL_PATTERNS:
        try_tokenizer(files)
    if files.gguf or not config.is_file():
        return
    raw = read_json(config)
    require_tokenizer_class(config, raw.get("tokenizer_class"))
    for key, value in raw.items():
        # Where tokenizer.json is there, old paths in *_file are not read.
        if key == "fast_tokenizer_files" or (key.endswith("_file") and not whole.is_file()):
            for name in value if isinstance(value, list) else [value]:
                if isinstance(name, str) and Path(name).name != name:
                    raise WorkError(
                        f"{config} reaches outside its folder ({key}: {name})",
                        "put that file into the folder and correct the name",
                    )


def require_tokenizer_class(config: Path, name: Any) -> None:
    """WorkError for a name of which transformers would load something else: it takes any class of
    its own, models with their weights too."""
    if name is None:
        return
    is_tokenizer = isinstance(name, str) and re.fullmatch(r"\w{1,100}Tokenizer(Fast)?", name)
    if name not in (*GENERIC_CLASSES, *BACKENDS) and (not is_tokenizer or name == "AutoTokenizer"):
        raise WorkError(
            f"{config} names {str(name)[:60]!r} as its tokenizer_class, which is no tokenizer",
            "fetch or save the model again",
        )


class TokenizerJson(msgspec.Struct):
    """What is looked at of a tokenizer.json."""

    normalizer: Any = None


def check_growth(path: Path) -> set[str]:
    """Refuse a normalizer that can blow any text up; its steps multiply. The patterns in it."""
    patterns: set[str] = set()
    try:
        todo = [msgspec.json.decode(path.read_bytes(), type=TokenizerJson).normalizer]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return patterns  # the tokenizer's reader says it better
    growth = 1
    while todo:
        step = todo.pop()
        if isinstance(step, list):
            todo += step
        elif isinstance(step, dict):
            todo.append(step.get("normalizers"))
            growth *= max(1, len(str(step.get("content", ""))))
            pattern = step.get("pattern")
            if isinstance(pattern, dict) and "Regex" in pattern:
                patterns.add(str(pattern["Regex"]))
        if growth > GROWTH_LIMIT:
            raise WorkError(
                f"{path} makes texts more than {GROWTH_LIMIT} times as long",
                "fetch the model again",
            )
    return patterns


TRIAL_SCRIPT = """
import sys
from transformers import AutoTokenizer
AutoTokenizer.from_pretrained(sys.argv[1], local_files_only=True)
"""


def try_tokenizer(files: ModelFiles) -> None:
    """Read a tokenizer in a process of its own first. A normalizer runs over the tokens that are
    added when it is read, in Rust, and some patterns take years: nothing in this process could stop
    that, not even an interrupt."""
    with suppress(subprocess.TimeoutExpired):
        subprocess.run(
            [sys.executable, "-P", "-c", TRIAL_SCRIPT, str(files.folder)],
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=READ_SECONDS,
            check=False,  # what is wrong is told when it is read here
        )
        return
    raise WorkError(
        f"the tokenizer of {files} cannot be read within {READ_SECONDS:.0f} s", "fetch it again"
    )


def drop_invented_tokens(tokenizer: "PreTrainedTokenizerBase", rows: int) -> None:
    """Take out what transformers adds to a GGUF file's own vocabulary of ``rows`` tokens.

    That is GPT-2's ``<|endoftext|>``, as the unknown token of a byte-level tokenizer.
    """
    backend = tokenizer.backend_tokenizer
    state = json.loads(backend.to_str())
    original = [token for token in state["added_tokens"] if token["id"] < rows]
    if len(original) < len(state["added_tokens"]):
        backend.__setstate__(json.dumps(state | {"added_tokens": original}).encode())
        tokenizer.unk_token = None
