"""A model's files on this machine, and how they are read."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from logitlens_cli.errors import LogitLensError, WorkError
from logitlens_cli.model import sandbox, silence

SAFETENSORS, SAFETENSORS_INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLE, PICKLE_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
SMALL_FILES = ["*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken"]  # all but weights and code
READ_FILES = [
    *("config.json", "*.index.json", "tokenizer*.json", "tekken.json", "chat_template*"),
    *("special_tokens_map.json", "added_tokens.json", "*vocab*.json", "*vocab*.txt", "merges.txt"),
    *("*.model", "*.tiktoken", "*.spm", "*.tokenizer", "bpe.codes", "dict.txt", "emoji.json"),
    *("byte_maps.json", "normalizer.json", "word_shape.json", "word_pronunciation.json"),
    "additional_chat_templates/*.jinja",
]
"""of those, what transformers reads of a folder; other files may be as large as they like"""
JSON_LIMIT = 128 * 2**20  # bytes; the largest tokenizers have some 40 MB


SPLIT_NAME = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE)


@dataclass(frozen=True)
class Permissions:
    network: bool
    code: bool
    pickles: bool


@dataclass(frozen=True)
class ModelFiles:
    """Where a model lies: its folder, and one of the other three."""

    folder: Path
    gguf: Path | None = None
    hub: str | None = None
    revision: str | None = None  # None: still to be computed
    verified: str | None = None
    """hash of the weights' file, where it was held against the one that was written"""

    def __str__(self) -> str:
        return str(self.hub or self.gguf or self.folder)

    def where(self) -> dict[str, Any]:
        """The arguments that make transformers read this very place."""
        # A GGUF file by its whole path: a bare name is looked for in the current folder first.
        return {"gguf_file": str(self.gguf)} if self.gguf else {}


def needs_code(files: ModelFiles, why: str) -> WorkError:
    return WorkError(
        f"the model {files} brings its own code, which is not run: {why}",
        "read that code, then give --trust-remote-code if you trust it",
    )


def present_weights(folder: Path, index: str, single: str) -> list[Path]:
    """The weight files of one format, all of them or none: one file, else the index's shards."""
    if (folder / single).is_file():
        return [folder / single]
    if not (folder / index).is_file():
        return []
    shards = [folder / name for name in shard_names(folder, index, single)]
    for shard in shards:
        if not shard.is_file():
            raise WorkError(
                f"{shard} is missing, though {index} names it", "fetch or save the model again"
            )
    return shards


def shard_names(folder: Path, index: str, single: str) -> list[str]:
    """The file names that an index gives; ``[single]`` if there is no index."""
    if not (folder / index).is_file():
        return [single]
    named = read_json(folder / index).get("weight_map")
    names = sorted({str(name) for name in named.values()}) if isinstance(named, dict) else []
    end = Path(single).suffix
    if not names or any(not re.fullmatch(rf"\w[\w.-]*\{end}", name, re.ASCII) for name in names):
        raise WorkError(f"{folder / index} names no usable weight files", "fetch the model again")
    return names


def part_of_gguf(path: Path, parts: int) -> WorkError:
    """Of a model that is split over several files."""
    first, whole = path.name, "whole.gguf"
    if match := SPLIT_NAME.fullmatch(path.name):
        first, whole = f"{match[1]}-00001-of-{match[3]}.gguf", f"{match[1]}.gguf"
    return WorkError(
        f"{path} is one of {parts} parts of a model, and transformers reads GGUF models of one "
        "file only",
        f"join them with llama.cpp: llama-gguf-split --merge {first} {whole}",
    )


def require_one_gguf(path: Path) -> None:
    """WorkError for a file whose name says that it is a part of a model."""
    match = SPLIT_NAME.fullmatch(path.name)
    if match is not None and int(match[3]) > 1:
        raise part_of_gguf(path, int(match[3]))


def loading_arguments(allowed: Permissions) -> dict[str, Any]:
    """The arguments of every from_pretrained: all is local by now, but for trusted code."""
    return {
        "local_files_only": not (allowed.network and allowed.code),
        "trust_remote_code": allowed.code,
    }


@contextmanager
def reading_errors(what: str, files: ModelFiles) -> Iterator[None]:
    """Read in silence; turn whatever transformers raises into one line."""
    try:
        with silence.silenced():
            yield
    except LogitLensError:
        raise
    except BaseException as error:  # a broken or hostile file can raise anything, Rust's panic too
        if not isinstance(error, Exception) and not sandbox.is_panic(error):
            raise
        if "trust_remote_code" in str(error):  # transformers' way of asking for it
            raise needs_code(files, f"{what} needs it") from error
        raise WorkError(
            f"cannot read {what} of {files}: {short_message(error)}",
            "fetch or save the model again; a package that is named may have to be installed",
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    try:
        check_json_size(path)
        raw = json.loads(path.read_bytes())
        if not isinstance(raw, dict):
            raise ValueError("it holds no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise WorkError(
            f"cannot read {path}: {short_message(error)}", "fetch or save the model again"
        ) from error
    return raw


def check_json_size(path: Path) -> None:
    if path.stat().st_size > JSON_LIMIT:
        raise WorkError(
            f"{path} is larger than {JSON_LIMIT >> 20} MB, which no model needs",
            "fetch or save the model again",
        )


def short_message(error: BaseException) -> str:
    """What ``error`` says, on one line of bounded length."""
    said = " ".join(str(error).split()) or type(error).__name__
    return said if len(said) <= 200 else f"{said[:200]} ..."
