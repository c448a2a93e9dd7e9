"""What a model's name means, and how its files come to this machine."""

import os
import re
from pathlib import Path
from typing import Literal

from logitlens_cli.errors import UsageError, WorkError
from logitlens_cli.model import silence, smollm2
from logitlens_cli.model.config import read_config
from logitlens_cli.model.files import (
    PICKLE,
    PICKLE_INDEX,
    SAFETENSORS,
    SAFETENSORS_INDEX,
    SMALL_FILES,
    ModelFiles,
    Permissions,
    present_weights,
    require_one_gguf,
    shard_names,
    short_message,
)
from logitlens_cli.model.gguf_header import check_gguf_header
from logitlens_cli.model.progress import Progress


def fetch_model(name: str, *, revision: str | None = None, progress: Progress) -> Path:
    """Bring the default model or one of the hub into the cache; returns its folder."""
    kind = source_kind(name, revision)
    allowed = Permissions(network=True, code=False, pickles=False)
    return bring_files(kind, name, revision, allowed, progress).folder


def source_kind(name: str, revision: str | None) -> Literal["default", "folder", "gguf", "hub"]:
    """What ``name`` is, without touching the network. Raises UsageError if it is nothing."""
    path = Path(os.path.expanduser(name))
    if name == smollm2.NAME:
        kind: Literal["default", "folder", "gguf", "hub"] = "default"
    elif name and path.is_dir():
        kind = "folder"
    elif path.is_file():
        kind = "gguf"
    else:
        check_hub_name(name)
        return "hub"
    if revision is not None:
        raise UsageError(
            f"--revision {revision} does not go with the model {name}, which is not from the hub",
            "leave --revision out",
        )
    if kind == "gguf" and path.suffix.lower() != ".gguf":
        raise UsageError(
            f"the model {name} is a file that does not end in .gguf",
            "give a .gguf file, a folder with config.json, or a hub name",
        )
    return kind


def check_hub_name(name: str) -> None:
    looks_like_path = name.startswith((".", "~", "/")) or name.lower().endswith(".gguf")
    named = re.fullmatch(r"(\w[\w.-]*/)?\w[\w.-]*", name, re.ASCII)
    if looks_like_path or not named or "--" in name or ".." in name:
        raise UsageError(
            f"there is no model {name!r}: no such folder or file, and no hub name",
            f"give {smollm2.NAME}, an existing folder, a .gguf file, or a hub name such as gpt2",
        )


def bring_files(
    kind: str, name: str, revision: str | None, allowed: Permissions, progress: Progress
) -> ModelFiles:
    if kind == "default":
        folder = smollm2.default_model_folder(offline=not allowed.network, progress=progress)
        weights = smollm2.hashes_of(folder)[SAFETENSORS]
        return ModelFiles(folder, revision=smollm2.REVISION, verified=f"sha256:{weights}")
    if kind == "hub":
        return bring_from_hub(name, revision, allowed, progress)
    path = Path(name).expanduser().absolute()
    if kind == "gguf":
        require_one_gguf(path)
        check_gguf_header(path)
    return ModelFiles(path) if kind == "folder" else ModelFiles(path.parent, gguf=path)


def bring_from_hub(
    name: str, revision: str | None, allowed: Permissions, progress: Progress
) -> ModelFiles:
    """Fetch what is needed and not cached; the weights last, if the rest promises a causal LM."""
    small = SMALL_FILES + (["*.py"] if allowed.code else [])
    with progress.step(f"asking the hub for {name}"):
        folder = hub_snapshot(name, revision, small, allowed)
    files = ModelFiles(folder, hub=name, revision=folder.name)
    read_config(files, allowed)
    with progress.step(f"fetching the weights of {name} from the hub"):
        hub_snapshot(
            name, folder.name, shard_names(folder, SAFETENSORS_INDEX, SAFETENSORS), allowed
        )
        if allowed.pickles and not present_weights(folder, SAFETENSORS_INDEX, SAFETENSORS):
            hub_snapshot(name, folder.name, shard_names(folder, PICKLE_INDEX, PICKLE), allowed)
    return files


def hub_snapshot(
    name: str, revision: str | None, patterns: list[str], allowed: Permissions
) -> Path:
    """The hub cache's folder of one commit, with the files that match ``patterns``."""
    from huggingface_hub import snapshot_download

    try:
        with silence.silenced():
            return Path(
                snapshot_download(
                    name,
                    revision=revision,
                    allow_patterns=patterns,
                    ignore_patterns=["*/*"],
                    local_files_only=not allowed.network,
                )
            )
    except Exception as error:  # http, proxy, disk: huggingface_hub raises many kinds
        raise hub_error(error, name, revision, allowed) from error


def hub_error(error: Exception, name: str, revision: str | None, allowed: Permissions) -> WorkError:
    """What huggingface_hub raises, with a way out."""
    from huggingface_hub import errors

    by_hand = (
        "download it on another machine and give its folder,"
        f" or use --model {smollm2.NAME}, which needs no hub"
    )
    if isinstance(error, errors.GatedRepoError):
        return WorkError(
            f"the hub gives the model {name} only to users who accepted its terms",
            f"accept them on its page and run `hf auth login`, or {by_hand}",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return WorkError(
            f"the hub model {name} has no revision {revision}", "give a branch, tag or commit of it"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return WorkError(
            f"the hub has no model {name}, or it is private",
            f"check the name (or is it a missing folder?), run `hf auth login`, or {by_hand}",
        )
    if isinstance(error, errors.LocalEntryNotFoundError):
        reason = "the hub cannot be reached" if allowed.network else "--offline forbids the network"
        once = "" if allowed.network else "run once without --offline, or "
        return WorkError(f"the model {name} is not on this machine and {reason}", once + by_hand)
    return WorkError(f"cannot fetch the model {name}: {short_message(error)}", by_hand)
