"""Fixtures: small models as files, and a hub that holds them."""

import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub
import pytest
from model_files import save_gguf, save_tiny


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny Llama; not to be changed."""
    return save_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def model_copy(saved_model: Path, tmp_path: Path) -> Path:
    """A copy that the test may spoil."""
    return Path(shutil.copytree(saved_model, tmp_path / "tiny"))


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening offline forbids the network for the rest of the process; not in other tests."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")


@pytest.fixture(scope="module")
def gguf_file(saved_model: Path) -> Path:
    save_gguf(saved_model, saved_model.parent / "tiny.gguf")
    return saved_model.parent / "tiny.gguf"


class Hub:
    """A hub of this machine's own: one repository at one commit."""

    commit = "c" * 40

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.files: dict[str, bytes] = {}
        self.trouble: tuple[int, str] | None = None

    def hold(self, folder: Path) -> None:
        self.files = {path.name: path.read_bytes() for path in folder.iterdir()}

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        self.asked.append(path)
        if self.trouble:
            return self.trouble[0], {"X-Error-Code": self.trouble[1]}, b"{}"
        name = path.rpartition("/")[2]
        if "/resolve/" in path:
            body = self.files[name]
            return 200, {"ETag": f'"{hash(body):x}"', "X-Repo-Commit": self.commit}, body
        if "/tree/" in path:
            kept = [
                {"type": "file", "path": key, "size": len(body), "oid": "0" * 40}
                for key, body in self.files.items()
            ]
            return 200, {}, json.dumps(kept).encode()
        if "/revision/" in path and not path.endswith(("/main", self.commit)):
            return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
        kept = [{"rfilename": key} for key in self.files]
        return 200, {}, json.dumps({"id": "x", "sha": self.commit, "siblings": kept}).encode()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server_files = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = server_files.answer(self.path.partition("?")[0])
            self.send_response(status)
            for key, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815  # as http.server calls it

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    constants = huggingface_hub.constants
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield server_files
    server.shutdown()
    server.server_close()
