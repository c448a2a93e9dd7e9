"""What only the tokenizer knows is said before the model is open."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import transformers
from model_files import edit_json
from transformers.models.auto import tokenization_auto

from logitlens_cli.batch.job import ReadJob
from logitlens_cli.batch.prompts import Prompt
from logitlens_cli.batch.tokenizing import PromptTokenizer
from logitlens_cli.errors import UsageError
from logitlens_cli.lens.spec import ReadSpec
from logitlens_cli.model import tokenizer
from logitlens_cli.model.config import stated_context
from logitlens_cli.model.files import ModelFiles
from logitlens_cli.model.progress import Progress
from logitlens_cli.model.source import ModelSource
from logitlens_cli.model.tokenizer_files import OWN_CLASSES, reads_without_config

RUN = """
import os
import sys
from logitlens_cli.cli import app
code = app.main(sys.argv[1:])
used = os.times()
print(code, "torch" in sys.modules, used.user + used.system < 2)
"""
"""two seconds of a processor that nobody else uses"""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["rank", "-t", "a b", "--target", "two words"],
            "--target 'two words' is not one token but 2: two + ·words; give a single token (a "
            "leading space counts), or use id:N",
        ),
        (
            ["rank", "-t", "a b", "--window", "5:9"],
            "--window 5:9 is outside the text of 2 tokens; stay within 0:2",
        ),
        (
            ["topk", "-t", "a b", "--window", "c"],
            "--window 'c' does not occur in the text; give words of it, or positions A:B",
        ),
        (
            ["trace", "-t", "a b", "--position", "2"],
            "--position 2 is outside the text of 2 tokens; give 0 to 1, or -2 to -1",
        ),
        (
            ["trace", "-t", "a b", "--target", "next"],
            "--target next: nothing follows position 1, the last one; give an earlier --position",
        ),
        (
            ["logit-diff", "-t", "a", "--target", " Paris", "--minus", "in the city"],
            "--minus 'in the city' is not one token but 3: in + ·the + ·city; give a single token "
            "(a leading space counts), or use id:N",
        ),
    ],
)
def test_refused_before_torch_is_loaded(
    tmp_path: Path, smollm2: object, arguments: list[str], said: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments, "-o", str(tmp_path)],
        capture_output=True, text=True, check=True, timeout=100, env=dict(os.environ),
    )  # fmt: skip
    assert done.stderr == f"logitlens: {said}\n"
    assert done.stdout == "2 False True\n"


def test_tokens_without_a_model(tiny_folder: Path, tmp_path: Path) -> None:
    """The weights are not there at all."""
    folder = tmp_path / "light"
    shutil.copytree(tiny_folder, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    job = ReadJob(source=ModelSource(str(folder)), spec=ReadSpec(metrics={}, window="1:3"))
    text = PromptTokenizer(job, Progress()).tokenize(Prompt("x", "the cat"))
    assert list(text.ids) == [ord("t"), ord("h"), ord("e"), 261]
    assert text.columns == range(1, 3)


def test_a_tokenizer_that_stands_alone(tiny_folder: Path, tmp_path: Path) -> None:
    """Only a generic class, without code of its own, takes tokenizer.json as it is."""
    assert reads_without_config(ModelFiles(tiny_folder))
    folder = tmp_path / "own"
    shutil.copytree(tiny_folder, folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    for changes in (
        {"tokenizer_class": "GPT2Tokenizer"},
        {"tokenizer_class": None},
        {"tokenizer_class": ["TokenizersBackend"]},
        {"auto_map": {"AutoTokenizer": ["a.B", None]}},
    ):
        (folder / "tokenizer_config.json").write_text(json.dumps(config | changes))
        assert not reads_without_config(ModelFiles(folder)), changes
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    assert reads_without_config(ModelFiles(folder))
    edit_json(folder / "config.json", model_type="qwen2")
    assert not reads_without_config(ModelFiles(folder))


def test_transformers_takes_the_same_class(tiny_folder: Path) -> None:
    """For every type of model, a generic class in tokenizer_config.json means itself, or the type
    is named in OWN_CLASSES."""
    for kind in transformers.CONFIG_MAPPING:
        if not kind.startswith(OWN_CLASSES):
            config = transformers.PretrainedConfig()
            config.model_type = kind
            tokenizer = tokenization_auto.AutoTokenizer.from_pretrained(tiny_folder, config=config)
            assert type(tokenizer) is transformers.PreTrainedTokenizerFast, kind


def test_a_text_far_too_long_is_told_by_its_beginning(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "model"))
    edit_json(folder / "config.json", max_position_embeddings=1000)
    job = ReadJob(source=ModelSource(str(folder)), spec=ReadSpec(metrics={}))
    opened = PromptTokenizer(job, Progress())
    seen: list[int] = []
    encode = tokenizer.encode

    def counted(by: object, text: str, bos: str = "auto") -> tokenizer.Encoded:
        seen.append(len(text))
        return encode(by, text, bos)

    monkeypatch.setattr(tokenizer, "encode", counted)
    with pytest.raises(UsageError, match="the text has more than 199984 tokens in its first 2000"):
        opened.tokenize(Prompt("x", "a" * 2_000_000))
    assert seen == [200_000]
    # What a beginning does not tell is tokenized whole.
    seen.clear()
    edit_json(folder / "config.json", max_position_embeddings=250_000)
    opened.tokenize(Prompt("x", "a" * 210_000))
    assert seen[-1] == 210_000


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"max_position_embeddings": 8}, 8),
        ({"n_positions": 9}, 9),
        ({"max_position_embeddings": 8, "text_config": {"max_position_embeddings": 7}}, 7),
        ({"max_position_embeddings": "many"}, None),
        ({"max_position_embeddings": -1}, None),
        ({"text_config": 3}, None),
    ],
)
def test_a_stated_context(config: object, expected: int | None, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert stated_context(ModelFiles(tmp_path)) == expected
