"""Shared fixtures: a tiny model and tokenizer made in memory, and the real default model."""

import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from logitlens_cli.batch.session import open_lens_model
from logitlens_cli.cli import app
from logitlens_cli.lens import grid, tiles
from logitlens_cli.lens.lens_model import LensModel, lens_model_of
from logitlens_cli.model.open import open_tokenizer
from logitlens_cli.model.progress import Progress
from logitlens_cli.model.smollm2 import default_model_folder
from logitlens_cli.model.source import ModelSource
from logitlens_cli.model.tokenizer import byte_alphabet

torch.set_num_threads(1)  # the tests share two cores
hypothesis.settings.register_profile("steady", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("steady")
pytest_plugins = ("model_fixtures", "dump_fixtures")
"""in tests/tools"""
PLASMA = (
    "Sometimes, when people say plasma, they mean a state of matter. "
    "Other times, when people say plasma"
)


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's LOGITLENS_ variables must not reach the tests; the cache folder may."""
    for name in list(os.environ):
        if name.startswith("LOGITLENS_") and name != "LOGITLENS_CACHE":
            monkeypatch.delenv(name)


@pytest.fixture(params=["torch", "numba"])
def sums_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two ways of reducing a tile."""
    if request.param == "torch":
        monkeypatch.setattr(tiles, "numba_kernel", lambda: None)
    else:
        pytest.importorskip("numba")
        monkeypatch.setattr(grid, "KERNEL_MIN_LOGITS", 0)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level, without merges but for a few words: ids 0-255 are bytes, then words, then
    special tokens."""
    vocabulary = {char: byte for char, byte in byte_alphabet().items()}
    merges: list[tuple[str, str]] = []
    for word in ("Ġthe", "Ġcat"):
        made = word[0]
        for char in word[1:]:
            merges.append((made, char))
            made += char
            vocabulary.setdefault(made, len(vocabulary))
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        clean_up_tokenization_spaces=False,
    )


def tiny_llama(**changes: Any) -> LlamaForCausalLM:
    """Four blocks of width 32, random, with gains and logits large enough that mistakes show."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
        initializer_range=0.15, **changes,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
        model.lm_head.weight.mul_(8)
    return model.requires_grad_(False)


def as_lens_model(model: Any, tokenizer: Any, context: int | None = 64) -> LensModel:
    """A model that was made in memory, taken apart."""
    return lens_model_of(model, tokenizer, name="tiny", revision="memory", context=context)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return byte_tokenizer()


@pytest.fixture(scope="session")
def tiny(tokenizer: PreTrainedTokenizerFast) -> LensModel:
    return as_lens_model(tiny_llama(), tokenizer)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    """The tiny model and its tokenizer as a folder for --model."""
    folder = tmp_path_factory.mktemp("tiny") / "tiny-llama"
    tiny_llama().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def smollm2() -> LensModel:
    """The real default model."""
    default_model_folder(offline=False, progress=Progress())
    source = ModelSource("smollm2", device="cpu", offline=True)
    opened = open_tokenizer(source, Progress())
    return open_lens_model(opened, Progress(), subblocks=False)


@dataclass(frozen=True)
class Ran:
    """What a command line left behind."""

    code: int
    out: list[str]
    err: list[str]

    def refusal(self, code: int) -> str:
        """The one line that a command which failed with ``code`` may print."""
        assert (self.code, self.out, len(self.err)) == (code, [], 1), self
        assert self.err[0].startswith("logitlens: "), self
        return self.err[0].removeprefix("logitlens: ")


def heed_interrupts() -> None:
    """In a new process: a shell that runs the tests in the background has it ignore them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def next_line(child: subprocess.Popen[str]) -> str:
    """A line that a process prints, and nothing after it: ``readline`` would take more than it
    gives, and ``communicate`` does not look there."""
    assert child.stdout is not None
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(child.stdout.fileno(), 1)):
        line += byte
    return line.decode()


Shell = Callable[..., Ran]


@pytest.fixture
def logitlens(capsys: pytest.CaptureFixture[str]) -> Shell:
    """The real command line, in this process."""

    def run(*arguments: object) -> Ran:
        code = app.main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "internal error" not in err, err  # that is never right; LOGITLENS_DEBUG=1 shows it
        return Ran(code, out.splitlines(), err.splitlines())

    return run


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def read(logitlens: Shell, tiny_folder: Path, out: Path) -> Shell:
    """A command on the tiny model, small figures, no notes."""

    def run(command: str, *arguments: object) -> Ran:
        model, small = ["-m", tiny_folder, "-o", out], ["--format", "svg", "-q"]
        jobs = [] if command == "stats" else ["--jobs", "0"]  # it draws once, in this process
        return logitlens(command, *model, *small, *jobs, *arguments)

    return run


@pytest.fixture
def preset(tmp_path: Path) -> Callable[[str], Path]:
    """Write a preset; where it lies."""

    def write(text: str) -> Path:
        path = tmp_path / "preset.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write
