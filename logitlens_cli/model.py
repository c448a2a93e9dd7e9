"""Open a causal language model and its tokenizer by name, folder or GGUF file.

Every road ends in a local folder (or file) that is checked before transformers sees it: only
safetensors and GGUF weights, no code but transformers' own, nothing that could reach the network.
"""

import fnmatch
import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from logitlens_cli import embedded, limits
from logitlens_cli.errors import LogitLensError, UsageError, WorkError
from logitlens_cli.progress import Progress

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

DTYPES = ("auto", "float32", "bfloat16", "float16")

_SAFETENSORS, _SAFETENSORS_INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLE, _PICKLE_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
_SMALL_FILES = ["*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken"]  # all but weights and code
_JSON_LIMIT = 128 * 2**20  # bytes; the largest tokenizers have some 40 MB
_MOST_GROWTH = 10_000  # of a text's length, by a tokenizer; none is known that makes more than 20
_USUAL = {" {2,}"}  # patterns of normalizers that the tools for converting tokenizers write
_READ_LIMIT = 60.0  # s; for a tokenizer, most of which go to transformers
_MOST_TENSORS = 2**18  # the largest mixtures of experts have half of that
_CAUSAL_HINT = "give a causal (decoder-only) language model"


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
    dtype: str  # of the body: "float32", "bfloat16", "float16"
    device: str  # "cpu", "cuda:0", "mps:0"
    context: int | None  # tokens the model can take; None where it states no limit


@dataclass(frozen=True, kw_only=True)
class AvailableModel:
    """A model that needs no network; a field is None where the configuration does not say."""

    name: str
    path: Path | None  # None: not fetched yet
    bytes: int | None  # on disk
    blocks: int | None
    width: int | None
    vocabulary: int | None


@dataclass(frozen=True)
class _Allowed:
    network: bool
    code: bool
    pickles: bool


@dataclass(frozen=True)
class _Files:
    """Where a model lies: its folder, and one of the other three."""

    folder: Path
    gguf: Path | None = None
    hub: str | None = None
    revision: str | None = None  # None: still to be computed

    def __str__(self) -> str:
        return str(self.hub or self.gguf or self.folder)

    def where(self) -> dict[str, Any]:
        """The arguments that make transformers read this very place."""
        # A GGUF file by its whole path: a bare name is looked for in the current folder first.
        return {"gguf_file": str(self.gguf)} if self.gguf else {}


def open_model(
    name: str,
    *,
    revision: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
    device_map: str | None = None,
    offline: bool = False,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
    progress: Progress,
) -> OpenedModel:
    """Open ``name``: "smollm2", a folder, a .gguf file, or else a hub name ("org/name", "name").

    device "auto": cuda, else mps, else cpu. dtype "auto": float32 on the cpu, the checkpoint's
    own elsewhere. ``device_map``: "auto", "balanced" or "sequential", accelerate's ways of
    spreading a model over devices. ``offline`` holds for the rest of the process. Raises
    UsageError for what cannot be asked, WorkError for what failed; nothing is opened half.
    """
    if offline:
        # A second fence; local_files_only is the first. It stays for the rest of the process: a
        # model's own code may run long after it was opened, and the hub's library looks at it once.
        os.environ["HF_HUB_OFFLINE"] = "1"
    allowed = _Allowed(network=not offline, code=trust_remote_code, pickles=allow_pickle)
    with _named_disk_errors(name):
        kind = _kind(name, revision)
        target, chosen_dtype = _pick_placement(device, device_map, dtype)
        files = _bring(kind, name, revision, allowed, progress)
        with progress.step(f"loading {name}"):
            config = _read_config(files, allowed)
            tokenizer = _read_tokenizer(files, config, allowed)
            files = _check_weights(files, config, allowed)
            model = _read_model(files, config, chosen_dtype, device_map, allowed, progress)
            _check_vocabulary(tokenizer, model)
            if not getattr(model, "hf_device_map", None):  # else accelerate has placed it
                _move(model, target)
    return OpenedModel(
        model=model,
        tokenizer=tokenizer,
        name=Path(name).resolve().name if kind in ("folder", "gguf") else name,
        source=str(files.gguf or files.folder),
        revision=files.revision or "",
        dtype=str(model.dtype).removeprefix("torch."),
        device=str(model.device),
        context=_context(config),
    )


@contextmanager
def _named_disk_errors(name: str) -> Iterator[None]:
    """Say what the operating system refuses in one line."""
    try:
        yield
    except OSError as error:
        raise WorkError(
            f"cannot open the model {name[:200]}: {error.strerror or _short(error)}",
            "check its path and its permissions",
        ) from error


def fetch_model(name: str, *, revision: str | None = None, progress: Progress) -> Path:
    """Bring the default model or one of the hub into the cache; returns its folder."""
    kind = _kind(name, revision)
    allowed = _Allowed(network=True, code=False, pickles=False)
    return _bring(kind, name, revision, allowed, progress).folder


# ---- which model, which device


def _kind(name: str, revision: str | None) -> Literal["embedded", "folder", "gguf", "hub"]:
    """What ``name`` is, without touching the network. Raises UsageError if it is nothing."""
    path = Path(os.path.expanduser(name))
    if name == embedded.NAME:
        kind: Literal["embedded", "folder", "gguf", "hub"] = "embedded"
    elif name and path.is_dir():
        kind = "folder"
    elif path.is_file():
        kind = "gguf"
    else:
        _check_hub_name(name)
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


def _check_hub_name(name: str) -> None:
    looks_like_path = name.startswith((".", "~", "/")) or name.lower().endswith(".gguf")
    named = re.fullmatch(r"(\w[\w.-]*/)?\w[\w.-]*", name, re.ASCII)
    if looks_like_path or not named or "--" in name or ".." in name:
        raise UsageError(
            f"there is no model {name!r}: no such folder or file, and no hub name",
            f"give {embedded.NAME}, an existing folder, a .gguf file, or a hub name such as gpt2",
        )


def _pick_placement(device: str, device_map: str | None, dtype: str) -> tuple[str, Any]:
    """The device and the dtype of torch to use; UsageError where they cannot be."""
    if device_map is not None and device != "auto":
        raise UsageError(
            f"--device {device} and --device-map {device_map} are both given", "give one"
        )
    target = _pick_device(device)
    return target, _pick_dtype(dtype, target)


def _pick_device(device: str) -> str:
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


def _pick_dtype(dtype: str, device: str) -> Any:
    if dtype not in DTYPES:
        raise UsageError(f"unknown dtype {dtype!r}", f"give one of {', '.join(DTYPES)}")
    import torch

    if dtype == "auto":  # half precision is slow on most processors, and needs no saving there
        return torch.float32 if device == "cpu" else "auto"
    return getattr(torch, dtype)


# ---- bring its files to this machine


def _bring(
    kind: str, name: str, revision: str | None, allowed: _Allowed, progress: Progress
) -> _Files:
    if kind == "embedded":
        folder = embedded.folder(offline=not allowed.network, progress=progress)
        return _Files(folder, revision=embedded.REVISION)
    if kind == "hub":
        return _bring_from_hub(name, revision, allowed, progress)
    path = Path(name).expanduser().absolute()
    return _Files(path) if kind == "folder" else _Files(path.parent, gguf=path)


def _bring_from_hub(
    name: str, revision: str | None, allowed: _Allowed, progress: Progress
) -> _Files:
    """Fetch what is needed and not cached; the weights last, if the rest promises a causal LM."""
    small = _SMALL_FILES + (["*.py"] if allowed.code else [])
    with progress.step(f"asking the hub for {name}"):
        folder = _snapshot(name, revision, small, allowed)
    files = _Files(folder, hub=name, revision=folder.name)
    _read_config(files, allowed)
    with progress.step(f"fetching the weights of {name} from the hub"):
        _snapshot(name, folder.name, _shards(folder, _SAFETENSORS_INDEX, _SAFETENSORS), allowed)
        if allowed.pickles and not _present(folder, _SAFETENSORS_INDEX, _SAFETENSORS):
            _snapshot(name, folder.name, _shards(folder, _PICKLE_INDEX, _PICKLE), allowed)
    return files


def _snapshot(name: str, revision: str | None, patterns: list[str], allowed: _Allowed) -> Path:
    """The hub cache's folder of one commit, with the files that match ``patterns``."""
    from huggingface_hub import snapshot_download

    try:
        with embedded.silenced():
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
        raise _hub_error(error, name, revision, allowed) from error


def _hub_error(error: Exception, name: str, revision: str | None, allowed: _Allowed) -> WorkError:
    """What huggingface_hub raises, with a way out."""
    from huggingface_hub import errors

    by_hand = (
        "download it on another machine and give its folder,"
        f" or use --model {embedded.NAME}, which needs no hub"
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
        return WorkError(f"the model {name} is not at hand and {reason}", once + by_hand)
    return WorkError(f"cannot fetch the model {name}: {_short(error)}", by_hand)


# ---- its configuration


def _read_config(files: _Files, allowed: _Allowed) -> "PretrainedConfig":
    """The configuration of a causal LM; whatever could reach beyond the folder is taken out."""
    raw = {} if files.gguf else _checked_json(files, allowed)
    what = "the header (damaged, or of an unknown kind)" if files.gguf else "the configuration"
    with _reading(what, files):
        from transformers import AutoConfig

        config: PretrainedConfig = AutoConfig.from_pretrained(
            files.folder, **files.where(), **_loading(allowed)
        )
        parts = (config, config.get_text_config())
        vars(parts[1])  # some take whatever config.json gives
    _check_causal(files, config, raw, allowed)
    for part in parts:
        part._attn_implementation = None  # could name a kernel (code) to fetch from the hub
        part._experts_implementation = None
        part.transformers_weights = None  # could name another file than the one checked
    return config


def _checked_json(files: _Files, allowed: _Allowed) -> dict[str, Any]:
    """config.json as it stands; WorkError if it is missing, broken, or asks for its own code."""
    folder = files.folder
    if not (folder / "config.json").is_file():
        ggufs = sorted(folder.glob("*.gguf"))
        hint = f"give the file {ggufs[0]}" if ggufs else "give the folder of a saved model"
        raise WorkError(f"{files} has no config.json, so it holds no model", hint)
    _check_small_files(files)
    raw = _read_json(folder / "config.json")
    kind = raw.get("model_type")
    if not isinstance(kind, str):
        raise WorkError(f"{folder / 'config.json'} names no model_type", "save the model anew")
    with embedded.silenced():
        import transformers
    if kind not in transformers.CONFIG_MAPPING and not (allowed.code and "auto_map" in raw):
        if "auto_map" in raw:
            raise _needs_code(files, f"its model type {kind!r} is not one of transformers'")
        raise WorkError(
            f"{folder} is of the model type {kind!r}, unknown to transformers"
            f" {transformers.__version__}",
            "upgrade transformers",
        )
    return raw


def _check_small_files(files: _Files) -> None:
    """Refuse small files that are not small, and links that lead out of the folder."""
    folder = files.folder.resolve()
    # The hub's cache is made of links, from snapshots/COMMIT to blobs.
    in_hub_cache = folder.parent.name == "snapshots"
    homes = (folder, folder.parents[1] / "blobs") if in_hub_cache else (folder,)
    for path in sorted(files.folder.rglob("*")):
        small = any(fnmatch.fnmatch(path.name, pattern) for pattern in _SMALL_FILES)
        if not small and not fnmatch.fnmatch(path.name, "*.safetensors"):
            continue
        target = Path(os.path.realpath(path))  # other than resolve(), not upset by a loop
        if path.is_symlink() and not any(target.is_relative_to(home) for home in homes):
            raise WorkError(
                f"{path} is a link that leads out of its folder, to {target}",
                "put a copy of that file into the folder, if you trust it",
            )
        if small and path.is_file():
            _check_length(path)


def _check_causal(
    files: _Files, config: "PretrainedConfig", raw: dict[str, Any], allowed: _Allowed
) -> None:
    from transformers.models.auto import modeling_auto as supported

    kind = config.model_type
    if getattr(config, "is_encoder_decoder", False):
        raise UsageError(f"the model {files} is an encoder-decoder ({kind})", _CAUSAL_HINT)
    both_sided = {*supported.MODEL_FOR_MASKED_LM_MAPPING_NAMES, "bert-generation", "xlnet"}
    if kind in both_sided and not getattr(config, "is_decoder", False):
        raise UsageError(f"the model {files} is a masked language model ({kind})", _CAUSAL_HINT)
    if kind in supported.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        return
    own_code = raw.get("auto_map")
    if not isinstance(own_code, dict) or "AutoModelForCausalLM" not in own_code:
        raise UsageError(f"the model {files} is not a causal language model ({kind})", _CAUSAL_HINT)
    if not allowed.code:
        raise _needs_code(files, f"transformers has no causal language model of type {kind}")


def _needs_code(files: _Files, why: str) -> WorkError:
    return WorkError(
        f"the model {files} brings its own code, which is not run: {why}",
        "read that code, then give --trust-remote-code if you trust it",
    )


def _context(config: "PretrainedConfig") -> int | None:
    """Tokens the model states it can take (the tokenizer's own figure is often a fantasy)."""
    text = config.get_text_config()
    for key in ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len"):
        length = getattr(text, key, None)
        if isinstance(length, int) and length > 0:
            return length
    return None


# ---- its tokenizer


def _read_tokenizer(
    files: _Files, config: "PretrainedConfig", allowed: _Allowed
) -> "PreTrainedTokenizerBase":
    present = files.gguf or (files.folder / "tokenizer.json").is_file()
    what = "the tokenizer" if present else "the tokenizer (there is no tokenizer.json)"
    _check_tokenizer_files(files)
    with _reading(what, files), limits.without_panics():
        from transformers import AutoTokenizer

        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            files.folder, config=config, **files.where(), **_loading(allowed)
        )
        if files.gguf:
            _drop_invented(tokenizer, config.get_text_config().vocab_size)
    if not len(tokenizer):
        raise WorkError(
            f"{files} has no tokenizer",
            "put the model's tokenizer.json beside its config.json",
        )
    return tokenizer


def _check_tokenizer_files(files: _Files) -> None:
    """Refuse a tokenizer_config.json that names a file outside the model's folder."""
    config, whole = (files.folder / f"tokenizer{end}.json" for end in ("_config", ""))
    if whole.is_file() and not files.gguf and _check_growth(whole) - _USUAL:
        _try_tokenizer(files)
    if files.gguf or not config.is_file():
        return
    for key, value in _read_json(config).items():
        # Where tokenizer.json is there, old paths in *_file are not read.
        if key == "fast_tokenizer_files" or (key.endswith("_file") and not whole.is_file()):
            for name in value if isinstance(value, list) else [value]:
                if isinstance(name, str) and Path(name).name != name:
                    raise WorkError(
                        f"{config} reaches outside its folder ({key}: {name})",
                        "put that file into the folder and correct the name",
                    )


class _Normalized(msgspec.Struct):
    """What is looked at of a tokenizer.json."""

    normalizer: Any = None


def _check_growth(path: Path) -> set[str]:
    """Refuse a normalizer that can blow any text up; its steps multiply. The patterns in it."""
    patterns: set[str] = set()
    try:
        todo = [msgspec.json.decode(path.read_bytes(), type=_Normalized).normalizer]
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
        if growth > _MOST_GROWTH:
            raise WorkError(
                f"{path} makes texts more than {_MOST_GROWTH} times as long",
                "fetch the model again",
            )
    return patterns


_TRY = """
import sys
from transformers import AutoTokenizer
AutoTokenizer.from_pretrained(sys.argv[1], local_files_only=True)
"""


def _try_tokenizer(files: _Files) -> None:
    """Read a tokenizer in a process of its own first. A normalizer runs over the tokens that are
    added when it is read, in Rust, and some patterns take years: nothing in this process could stop
    that, not even an interrupt."""
    with suppress(subprocess.TimeoutExpired):
        subprocess.run(
            [sys.executable, "-P", "-c", _TRY, str(files.folder)],
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_READ_LIMIT,
            check=False,  # what is wrong is told when it is read here
        )
        return
    raise WorkError(
        f"the tokenizer of {files} cannot be read within {_READ_LIMIT:.0f} s", "fetch it again"
    )


def _drop_invented(tokenizer: "PreTrainedTokenizerBase", rows: int) -> None:
    """Take out what transformers adds to a GGUF file's own vocabulary of ``rows`` tokens.

    That is GPT-2's ``<|endoftext|>``, as the unknown token of a byte-level tokenizer.
    """
    backend = tokenizer.backend_tokenizer
    state = json.loads(backend.to_str())
    original = [token for token in state["added_tokens"] if token["id"] < rows]
    if len(original) < len(state["added_tokens"]):
        backend.__setstate__(json.dumps(state | {"added_tokens": original}).encode())
        tokenizer.unk_token = None


def _check_vocabulary(tokenizer: "PreTrainedTokenizerBase", model: "PreTrainedModel") -> None:
    highest = max(tokenizer.get_vocab().values())
    rows = model.get_input_embeddings().weight.shape[0]
    if highest >= rows:
        raise WorkError(
            f"vocabulary mismatch: the tokenizer's ids go up to {highest}, but the model has"
            f" {rows} embeddings (ids 0 to {rows - 1})",
            "give the model the tokenizer that it was trained with",
        )


# ---- its weights


def _check_weights(files: _Files, config: "PretrainedConfig", allowed: _Allowed) -> _Files:
    """Check headers and sizes before anything is built; return ``files`` with its revision."""
    if files.revision == embedded.REVISION:
        return files  # written by ourselves
    weights = [files.gguf] if files.gguf else _weights(files, allowed)
    tensors = sum(_count_tensors(path) for path in weights)
    if tensors > _MOST_TENSORS:
        raise WorkError(
            f"corrupt model {files}: {tensors} tensors are more than any model has",
            "fetch or save the model again",
        )
    if not (allowed.code or allowed.pickles):  # who is trusted with code is trusted with sizes
        _check_scale(files, config, tensors, sum(path.stat().st_size for path in weights))
    return replace(files, revision=files.revision or _fingerprint(files, weights))


def _weights(files: _Files, allowed: _Allowed) -> list[Path]:
    """The weight files that transformers will read. Raises WorkError if they are pickles."""
    folder = files.folder
    for odd in ("adapter_config.json", "shard-*-model-*.safetensors"):
        for path in folder.glob(odd):  # transformers would read these instead, or on top
            raise WorkError(
                f"{path} makes {folder} an adapter or a training checkpoint",
                "merge it into one model first, and save that",
            )
    weights = _present(folder, _SAFETENSORS_INDEX, _SAFETENSORS)
    if weights:
        return weights
    pickles = _pickles(files, allowed)
    if not pickles:
        raise WorkError(
            f"{files} has no weights ({_SAFETENSORS})",
            "give a model saved (and fetched whole) as safetensors, or a .gguf file by name",
        )
    if not allowed.pickles:
        raise WorkError(
            f"{files} has its weights only as a pickle ({pickles[0]}), which can run"
            " code when read",
            "convert it to safetensors, or give --allow-pickle if you trust it",
        )
    return _present(folder, _PICKLE_INDEX, _PICKLE)


def _pickles(files: _Files, allowed: _Allowed) -> list[str]:
    """Names of the pickled weights in the folder or, if there are none, in the hub repository."""
    names = [path.name for path in files.folder.iterdir()]
    found = fnmatch.filter(names, "*.bin") + fnmatch.filter(names, "*.pt*")
    if files.hub and not found and allowed.network:
        from huggingface_hub import HfApi

        with suppress(Exception), embedded.silenced():  # it would only make the message better
            names = HfApi().list_repo_files(files.hub, revision=files.revision)
        found = fnmatch.filter(names, "*.bin") + fnmatch.filter(names, "*.pt*")
    return sorted(found)


def _present(folder: Path, index: str, single: str) -> list[Path]:
    """The weight files of one format, all of them or none: one file, else the index's shards."""
    if (folder / single).is_file():
        return [folder / single]
    if not (folder / index).is_file():
        return []
    shards = [folder / name for name in _shards(folder, index, single)]
    for shard in shards:
        if not shard.is_file():
            raise WorkError(
                f"{shard} is missing, though {index} names it", "fetch or save the model again"
            )
    return shards


def _shards(folder: Path, index: str, single: str) -> list[str]:
    """The file names that an index gives; ``[single]`` if there is no index."""
    if not (folder / index).is_file():
        return [single]
    named = _read_json(folder / index).get("weight_map")
    names = sorted({str(name) for name in named.values()}) if isinstance(named, dict) else []
    end = Path(single).suffix
    if not names or any(not re.fullmatch(rf"\w[\w.-]*\{end}", name, re.ASCII) for name in names):
        raise WorkError(f"{folder / index} names no usable weight files", "fetch the model again")
    return names


def _check_scale(files: _Files, config: "PretrainedConfig", tensors: int, size: int) -> None:
    """Refuse a configuration far larger than its weights (in bytes), before memory goes into it."""
    import torch

    parameters = 0
    with _reading("the configuration", files), torch.device("meta"):
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


def _count_tensors(path: Path) -> int:
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
            f"corrupt weights {path}: {_short(error)}", "fetch or save the model again"
        ) from error


_WRONG = {
    "missing_keys": "tensors missing",
    "mismatched_keys": "tensors of another shape than configured",
    "error_msgs": "errors",
}


def _read_model(
    files: _Files,
    config: "PretrainedConfig",
    dtype: Any,
    device_map: str | None,
    allowed: _Allowed,
    progress: Progress,
) -> "PreTrainedModel":
    """Load the weights; WorkError unless every tensor of the model came from the files."""
    with _reading("the weights", files):
        from transformers import AutoModelForCausalLM, GgufConfig

        unpacked = {"quantization_config": GgufConfig(dequantize=True)} if files.gguf else {}
        model, found = AutoModelForCausalLM.from_pretrained(
            files.folder,
            config=config,
            dtype=dtype,
            device_map=device_map,
            use_safetensors=None if allowed.pickles else True,
            ignore_mismatched_sizes=True,  # told by name below, not by a report to the log
            output_loading_info=True,
            **unpacked,
            **files.where(),
            **_loading(allowed),
        )
    for kind, what in _WRONG.items():
        wrong = sorted(str(key) for key in found.get(kind) or ())
        if wrong:
            raise WorkError(
                f"corrupt weights in {files}: {len(wrong)} {what}, among them {wrong[0]}",
                "fetch or save the model again, with the config.json that belongs to it",
            )
    unused = sorted(found.get("unexpected_keys") or ())
    if unused:
        progress.note(f"{len(unused)} tensors of the weights are not used, among them {unused[0]}")
    loaded: PreTrainedModel = model.eval().requires_grad_(False)
    return loaded


def _move(model: "PreTrainedModel", device: str) -> None:
    try:
        model.to(device)
    except RuntimeError as error:  # torch's out-of-memory among them
        raise WorkError(
            f"cannot put the model on {device}: {_short(error)}",
            "try --dtype bfloat16, or --device cpu",
        ) from error


def _fingerprint(files: _Files, weights: list[Path]) -> str:
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


# ---- what is at hand


def available_models() -> list[AvailableModel]:
    """The default model and the hub cache's causal LMs. Reads config.json only; loads no torch."""
    return [_embedded_model(), *_hub_cache()]


def _embedded_model() -> AvailableModel:
    folder = embedded.cached()
    return AvailableModel(
        name=embedded.NAME,
        path=folder,
        bytes=_size(folder) if folder else None,
        blocks=embedded.BLOCKS,
        width=embedded.WIDTH,
        vocabulary=embedded.VOCABULARY,
    )


def _hub_cache() -> Iterator[AvailableModel]:
    from huggingface_hub import constants

    for repository in sorted(Path(constants.HF_HUB_CACHE).glob("models--*")):
        configs = sorted(repository.glob("snapshots/*/config.json"), key=_age)
        if not configs:
            continue
        try:
            raw = _read_json(configs[-1])
        except WorkError:
            continue  # a list of what can be used
        if _claims_causal(raw):
            name = "/".join(repository.name.split("--")[1:])
            yield _describe(name, configs[-1].parent, raw)


def _age(path: Path) -> float:
    return path.lstat().st_mtime


def _claims_causal(raw: dict[str, Any]) -> bool:
    """Whether config.json names a class with a causal head. (The full check loads transformers.)"""
    classes = raw.get("architectures")
    heads = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
    return (
        isinstance(classes, list)
        and any(str(name).endswith(heads) for name in classes)
        and not raw.get("is_encoder_decoder")
    )


def _describe(name: str, folder: Path, raw: dict[str, Any]) -> AvailableModel:
    text = raw.get("text_config")
    text = raw | text if isinstance(text, dict) else raw

    def first(*keys: str) -> int | None:
        return next((text[key] for key in keys if isinstance(text.get(key), int)), None)

    return AvailableModel(
        name=name,
        path=folder,
        bytes=_size(folder),
        blocks=first("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
        width=first("hidden_size", "n_embd", "d_model", "dim"),
        vocabulary=first("vocab_size"),
    )


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


# ---- small things


def _loading(allowed: _Allowed) -> dict[str, Any]:
    """The arguments of every from_pretrained: all is local by now, but for trusted code."""
    return {
        "local_files_only": not (allowed.network and allowed.code),
        "trust_remote_code": allowed.code,
    }


@contextmanager
def _reading(what: str, files: _Files) -> Iterator[None]:
    """Read in silence; turn whatever transformers raises into one line."""
    try:
        with embedded.silenced():
            yield
    except LogitLensError:
        raise
    except BaseException as error:  # a broken or hostile file can raise anything, Rust's panic too
        if not isinstance(error, Exception) and not limits.is_panic(error):
            raise
        if "trust_remote_code" in str(error):  # transformers' way of asking for it
            raise _needs_code(files, f"{what} needs it") from error
        raise WorkError(
            f"cannot read {what} of {files}: {_short(error)}",
            "fetch or save the model again; a package that is named may have to be installed",
        ) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        _check_length(path)
        raw = json.loads(path.read_bytes())
        if not isinstance(raw, dict):
            raise ValueError("it holds no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise WorkError(
            f"cannot read {path}: {_short(error)}", "fetch or save the model again"
        ) from error
    return raw


def _check_length(path: Path) -> None:
    if path.stat().st_size > _JSON_LIMIT:
        raise WorkError(
            f"{path} is larger than {_JSON_LIMIT >> 20} MB, which no model needs",
            "fetch or save the model again",
        )


def _short(error: BaseException) -> str:
    """What ``error`` says, on one line of bounded length."""
    said = " ".join(str(error).split()) or type(error).__name__
    return said if len(said) <= 200 else f"{said[:200]} ..."
