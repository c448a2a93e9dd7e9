"""Models that need no network."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from logitlens_cli.errors import WorkError
from logitlens_cli.model import smollm2
from logitlens_cli.model.files import read_json


@dataclass(frozen=True, kw_only=True)
class AvailableModel:
    """A model that needs no network; a field is None where the configuration does not say."""

    name: str
    path: Path | None  # None: not fetched yet
    bytes: int | None  # on disk
    blocks: int | None
    width: int | None
    vocabulary: int | None


def available_models() -> list[AvailableModel]:
    """The default model and the hub cache's causal LMs. Reads config.json only; loads no torch."""
    return [default_model(), *hub_cache_models()]


def default_model() -> AvailableModel:
    folder = smollm2.cached_folder()
    return AvailableModel(
        name=smollm2.NAME,
        path=folder,
        bytes=folder_size(folder) if folder else None,
        blocks=smollm2.BLOCKS,
        width=smollm2.WIDTH,
        vocabulary=smollm2.VOCABULARY,
    )


def hub_cache_models() -> Iterator[AvailableModel]:
    from huggingface_hub import constants

    for repository in sorted(Path(constants.HF_HUB_CACHE).glob("models--*")):
        configs = sorted(repository.glob("snapshots/*/config.json"), key=age_of)
        if not configs:
            continue
        try:
            raw = read_json(configs[-1])
        except WorkError:
            continue  # a list of what can be used
        if claims_causal(raw):
            name = "/".join(repository.name.split("--")[1:])
            yield describe_model(name, configs[-1].parent, raw)


def age_of(path: Path) -> float:
    return path.lstat().st_mtime


def claims_causal(raw: dict[str, Any]) -> bool:
    """Whether config.json names a class with a causal head. (The full check loads transformers.)"""
    classes = raw.get("architectures")
    heads = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
    return (
        isinstance(classes, list)
        and any(str(name).endswith(heads) for name in classes)
        and not raw.get("is_encoder_decoder")
    )


def describe_model(name: str, folder: Path, raw: dict[str, Any]) -> AvailableModel:
    text = raw.get("text_config")
    text = raw | text if isinstance(text, dict) else raw

    def first(*keys: str) -> int | None:
        return next((text[key] for key in keys if isinstance(text.get(key), int)), None)

    return AvailableModel(
        name=name,
        path=folder,
        bytes=folder_size(folder),
        blocks=first("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
        width=first("hidden_size", "n_embd", "d_model", "dim"),
        vocabulary=first("vocab_size"),
    )


def folder_size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
