"""Open a causal language model and its tokenizer by name, folder or GGUF file.

Every road ends in a local folder (or file) that is checked before transformers sees it: only
safetensors and GGUF weights, no code but transformers' own, nothing that could reach the network.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from logitlens_cli.errors import UsageError, WorkError
from logitlens_cli.model.progress import Progress
from logitlens_cli.model.source import Dtype, ModelSource

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from logitlens_cli.model.config import context_length, read_config
from logitlens_cli.model.fetch import bring_files, source_kind
from logitlens_cli.model.files import ModelFiles, Permissions, short_message
from logitlens_cli.model.tokenizer_files import read_tokenizer, reads_without_config
from logitlens_cli.model.weights import check_weights, read_model


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenedModel:
    """A causal language model, ready to run, and where it came from."""

    model: "PreTrainedModel"  # in eval mode, without gradients, on ``device``
    tokenizer: "PreTrainedTokenizerBase"
    name: str  # as given; of a folder or file its own name, for figures are not to tell of disks
    source: str  # the folder or file read
    revision: str
    """What exactly was read: the commit of a hub model; "gguf-sha256:..." of a GGUF file;
    "sampled-sha256:..." of a folder: config.json, and of each weight file its name, size, header
    and 64 pages spread over it (two fine-tunes differ there; a few flipped bits may not)."""
    verified: str | None
    """Hash of the weights' file, where it was held against the one that was written."""
    dtype: str  # of the body: "float32", "bfloat16", "float16"
    device: str  # "cpu", "cuda:0", "mps:0"
    context: int | None  # tokens the model can take; None where it states no limit


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenedTokenizer:
    """A tokenizer whose model is still on disk: what it alone knows is refused before the model's
    weights, and mostly torch, are read."""

    tokenizer: "PreTrainedTokenizerBase"
    source: ModelSource
    name: str  # as OpenedModel's
    files: ModelFiles
    allowed: Permissions
    config: "PretrainedConfig | None"  # None where the tokenizer could be read without it


def open_tokenizer(source: ModelSource, progress: Progress) -> OpenedTokenizer:
    """Bring a model's files to this machine, and open its tokenizer. ``offline`` holds for the rest
    of the process. Raises UsageError for what cannot be asked, WorkError for what failed."""
    name = source.model
    if source.offline:
        # A second fence; local_files_only is the first. It stays for the rest of the process: a
        # model's own code may run long after it was opened, and the hub's library looks at it once.
        os.environ["HF_HUB_OFFLINE"] = "1"
    allowed = Permissions(
        network=not source.offline, code=source.trust_remote_code, pickles=source.allow_pickle
    )
    with named_disk_errors(name):
        kind = source_kind(name, source.revision)
        check_placement(source)
        files = bring_files(kind, name, source.revision, allowed, progress)
        with progress.step(f"loading the tokenizer of {name}"):
            config = None if reads_without_config(files) else read_config(files, allowed)
            tokenizer = read_tokenizer(files, config, allowed)
    return OpenedTokenizer(
        tokenizer=tokenizer,
        source=source,
        name=Path(name).resolve().name if kind in ("folder", "gguf") else name,
        files=files,
        allowed=allowed,
        config=config,
    )


def open_model(source: ModelSource, progress: Progress) -> OpenedModel:
    """Open a model and its tokenizer."""
    return open_weights(open_tokenizer(source, progress), progress)


def open_weights(opened: OpenedTokenizer, progress: Progress) -> OpenedModel:
    """Open the model of a tokenizer.

    device "auto": cuda, else mps, else cpu. dtype "auto": float32 on the cpu, the checkpoint's
    own elsewhere. Raises UsageError for what cannot be asked, WorkError for what failed; a failure
    leaves nothing half-opened.
    """
    source, allowed, tokenizer = opened.source, opened.allowed, opened.tokenizer
    with named_disk_errors(source.model), progress.step(f"loading {source.model}"):
        target, chosen_dtype = pick_placement(source.device, source.device_map, source.dtype)
        config = opened.config or read_config(opened.files, allowed)
        files = check_weights(opened.files, config, allowed)
        model = read_model(files, config, chosen_dtype, source.device_map, allowed, progress)
        if not getattr(model, "hf_device_map", None):  # else accelerate has placed it
            move_model(model, target)
    return OpenedModel(
        model=model,
        tokenizer=tokenizer,
        name=opened.name,
        source=str(files.gguf or files.folder),
        revision=files.revision or "",
        verified=files.verified,
        dtype=str(model.dtype).removeprefix("torch."),
        device=str(model.device),
        context=context_length(config),
    )


@contextmanager
def named_disk_errors(name: str) -> Iterator[None]:
    """Say what the operating system refuses in one line."""
    try:
        yield
    except OSError as error:
        raise WorkError(
            f"cannot open the model {name[:200]}: {error.strerror or short_message(error)}",
            "check its path and its permissions",
        ) from error


def check_placement(source: ModelSource) -> None:
    """Refuse a device that this machine does not have before anything is fetched for it. What all
    machines have is not looked for, which would load torch."""
    if source.device_map is not None or source.device not in ("auto", "cpu"):
        pick_placement(source.device, source.device_map, source.dtype)


def pick_placement(device: str, device_map: str | None, dtype: str) -> tuple[str, Any]:
    """The device and the dtype of torch to use; UsageError where they cannot be."""
    if device_map is not None and device != "auto":
        raise UsageError(
            f"--device {device} and --device-map {device_map} are both given", "give one"
        )
    target = pick_device(device)
    return target, pick_dtype(dtype, target)


def pick_device(device: str) -> str:
    """The name of the device to use; UsageError if this machine has none of that name."""
    if device == "cpu":
        return device
    import torch

    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return next((kind for kind, present in available.items() if present), "cpu")
    kind, _, number = device.partition(":")
    if kind not in available or not re.fullmatch(r"(:\d+)?", device.removeprefix(kind), re.ASCII):
        raise UsageError(f"unknown device {device!r}", "give auto, cpu, cuda, cuda:N or mps")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if not available[kind] or int(number or 0) >= count:
        raise UsageError(
            f"this machine has no device {device}", "use --device auto or --device cpu"
        )
    return device


def pick_dtype(dtype: str, device: str) -> Any:
    if dtype not in list(Dtype):
        raise UsageError(f"unknown dtype {dtype!r}", f"give one of {', '.join(Dtype)}")
    import torch

    if dtype == "auto":  # half precision is slow on most processors, and needs no saving there
        return torch.float32 if device == "cpu" else "auto"
    return getattr(torch, dtype)


def move_model(model: "PreTrainedModel", device: str) -> None:
    try:
        model.to(device)
    except RuntimeError as error:  # torch's out-of-memory among them
        raise WorkError(
            f"cannot put the model on {device}: {short_message(error)}",
            "try --dtype bfloat16, or --device cpu",
        ) from error
