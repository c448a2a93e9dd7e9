"""A model's weights, checked before they are read."""

import fnmatch
import hashlib
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from logitlens_cli.errors import WorkError
from logitlens_cli.model import silence, smollm2
from logitlens_cli.model.progress import Progress

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel
from logitlens_cli.model.files import (
    PICKLE,
    PICKLE_INDEX,
    SAFETENSORS,
    SAFETENSORS_INDEX,
    ModelFiles,
    Permissions,
    loading_arguments,
    part_of_gguf,
    present_weights,
    reading_errors,
    short_message,
)

TENSOR_LIMIT = 2**18  # the largest mixtures of experts have half of that


def check_weights(
    files: ModelFiles, config: "PretrainedConfig", allowed: Permissions
) -> ModelFiles:
    """Check headers and sizes before anything is built; return ``files`` with its revision."""
    if files.revision == smollm2.REVISION:
        return files  # written by ourselves
    weights = [files.gguf] if files.gguf else weight_files(files, allowed)
    tensors = sum(count_tensors(path) for path in weights)
    if tensors > TENSOR_LIMIT:
        raise WorkError(
            f"corrupt model {files}: {tensors} tensors are more than any model has",
            "fetch or save the model again",
        )
    if not (allowed.code or allowed.pickles):  # who is trusted with code is trusted with sizes
        check_scale(files, config, tensors, sum(path.stat().st_size for path in weights))
    return replace(files, revision=files.revision or fingerprint(files, weights))


def weight_files(files: ModelFiles, allowed: Permissions) -> list[Path]:
    """The weight files that transformers will read. Raises WorkError if they are pickles."""
    folder = files.folder
    for odd in ("adapter_config.json", "shard-*-model-*.safetensors"):
        for path in folder.glob(odd):  # transformers would read these instead, or on top
            raise WorkError(
                f"{path} makes {folder} an adapter or a training checkpoint",
                "merge it into one model first, and save that",
            )
    weights = present_weights(folder, SAFETENSORS_INDEX, SAFETENSORS)
    if weights:
        return weights
    pickles = pickle_names(files, allowed)
    if not pickles:
        raise WorkError(
            f"{files} has no weights ({SAFETENSORS})",
            "give a model saved (and fetched whole) as safetensors, or a .gguf file by name",
        )
    if not allowed.pickles:
        raise WorkError(
            f"{files} has its weights only as a pickle ({pickles[0]}), which can run"
            " code when read",
            "convert it to safetensors, or give --allow-pickle if you trust it",
        )
    return present_weights(folder, PICKLE_INDEX, PICKLE)


def pickle_names(files: ModelFiles, allowed: Permissions) -> list[str]:
    """Names of the pickled weights in the folder or, if there are none, in the hub repository."""
    names = [path.name for path in files.folder.iterdir()]
    found = fnmatch.filter(names, "*.bin") + fnmatch.filter(names, "*.pt*")
    if files.hub and not found and allowed.network:
        from huggingface_hub import HfApi

        with suppress(Exception), silence.silenced():  # it would only make the message better
            names = HfApi().list_repo_files(files.hub, revision=files.revision)
        found = fnmatch.filter(names, "*.bin") + fnmatch.filter(names, "*.pt*")
    return sorted(found)


def check_scale(files: ModelFiles, config: "PretrainedConfig", tensors: int, size: int) -> None:
    """Refuse a configuration far larger than its weights (in bytes), before memory goes into it."""
    import torch

    parameters = 0
    with reading_errors("the configuration", files), torch.device("meta"):
        from transformers import AutoModelForCausalLM

        blocks = int(getattr(config.get_text_config(), "num_hidden_layers", 0))
        if blocks <= tensors:  # else building it, even without memory, could take for ever
            model = AutoModelForCausalLM.from_config(config)
            parameters = sum(parameter.numel() for parameter in model.parameters())
    if blocks > tensors or parameters > 8 * size:  # a bit each; the tightest formats take 1.5
        raise WorkError(
            f"corrupt model {files}: its configuration ({blocks} blocks, {parameters or 'more'}"
            f" parameters) is far larger than its weights ({tensors} tensors, {size} bytes)",
            "fetch or save the model again",
        )


def count_tensors(path: Path) -> int:
    """The number of tensors in a weight file; a safetensors header is checked against its size.

    (A GGUF header has been checked by then: transformers read the configuration from it.)
    """
    if path.suffix != ".safetensors":
        with path.open("rb") as file:  # magic, version, number of tensors
            return int.from_bytes(file.read(16)[8:], "little")
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            return len(file.keys())
    except (SafetensorError, OSError) as error:
        raise WorkError(
            f"corrupt weights {path}: {short_message(error)}", "fetch or save the model again"
        ) from error


LOADING_FAULTS = {
    "missing_keys": "tensors missing",
    "mismatched_keys": "tensors of another shape than configured",
    "error_msgs": "errors",
}


def read_model(
    files: ModelFiles,
    config: "PretrainedConfig",
    dtype: Any,
    device_map: str | None,
    allowed: Permissions,
    progress: Progress,
) -> "PreTrainedModel":
    """Load the weights; WorkError unless every tensor of the model came from the files."""
    with reading_errors("the weights", files):
        from transformers import AutoModelForCausalLM, GenerationConfig, GgufConfig

        unpacked = {"quantization_config": GgufConfig(dequantize=True)} if files.gguf else {}
        model, found = AutoModelForCausalLM.from_pretrained(
            files.folder,
            config=config,
            dtype=dtype,
            device_map=device_map,
            use_safetensors=None if allowed.pickles else True,
            ignore_mismatched_sizes=True,  # told by name below, not by a report to the log
            output_loading_info=True,
            generation_config=GenerationConfig(),  # nothing is generated, so its file is not read
            **unpacked,
            **files.where(),
            **loading_arguments(allowed),
        )
    for kind, what in LOADING_FAULTS.items():
        wrong = sorted(str(key) for key in found.get(kind) or ())
        if wrong:
            require_whole(files)
            raise WorkError(
                f"corrupt weights in {files}: {len(wrong)} {what}, among them {wrong[0]}",
                "fetch the file again"
                if files.gguf
                else "fetch or save the model again, with the config.json that belongs to it",
            )
    unused = sorted(found.get("unexpected_keys") or ())
    if unused:
        progress.note(f"{len(unused)} tensors of the weights are not used, among them {unused[0]}")
    loaded: PreTrainedModel = model.eval().requires_grad_(False)
    return loaded


def require_whole(files: ModelFiles) -> None:
    """WorkError for a GGUF file that says that it is a part of a model, whatever its name."""
    if files.gguf is None:
        return
    from gguf import GGUFReader

    parts = GGUFReader(files.gguf).fields.get("split.count")
    if parts is not None and int(parts.contents()) > 1:
        raise part_of_gguf(files.gguf, int(parts.contents()))


def fingerprint(files: ModelFiles, weights: list[Path]) -> str:
    """A name for the content: whole for a GGUF file, sampled for a folder (see OpenedModel)."""
    if files.gguf:
        with files.gguf.open("rb") as file:
            return f"gguf-sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    digest = hashlib.sha256((files.folder / "config.json").read_bytes())
    for path in weights:
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            header = int.from_bytes(file.read(8), "little") if path.suffix == ".safetensors" else 0
            digest.update(file.read(header))
            for page in range(64):
                file.seek(size * page // 64)
                digest.update(file.read(4096))
    return f"sampled-sha256:{digest.hexdigest()}"
