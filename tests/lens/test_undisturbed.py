"""A read is what it is alone, whatever torch is set to and whatever other threads do."""

import ast
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tiny_llama

import logitlens_cli
from logitlens_cli.errors import WorkError
from logitlens_cli.lens.undisturbed import exact_products, undisturbed
from logitlens_cli.reading.record import Reading

TEXTS = ("the cat and the cat", "a dog saw the cat")
EVERYTHING: dict[str, Any] = {
    "target": ["final", "next", "id:7", "auto"], "color": "js", "direction": "reverse",
    "next_ranks": True, "k": 3,
}  # fmt: skip


def values(reading: Reading) -> dict[str, Any]:
    """All that was computed of a text."""
    assert reading.followed is not None
    return {
        **{key: reading.values(key) for key in reading.metrics},
        "guesses": np.array(reading.guesses.ids),
        "probs": np.array(reading.guesses.probs),
        "followed": np.array(reading.followed.ranks),
        "next": np.array(reading.next_ranks, float),
    }


def read_all(model: Any, tokenizer: Any, text: str = TEXTS[0], **more: Any) -> dict[str, Any]:
    return values(logitlens_cli.read(model, tokenizer, text, **EVERYTHING, **more))


def require_same(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert a.keys() == b.keys()
    for key, value in a.items():
        np.testing.assert_array_equal(value, b[key], key)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
        assert torch.get_default_dtype() == dtype
    finally:
        torch.set_default_dtype(torch.float32)


@contextmanager
def precision(name: str) -> Iterator[None]:
    torch.set_float32_matmul_precision(name)
    try:
        yield
        assert torch.get_float32_matmul_precision() == name
    finally:
        torch.set_float32_matmul_precision("highest")


@contextmanager
def precision_of_one_library() -> Iterator[None]:
    backends: Any = torch.backends
    library = backends.mkldnn.matmul
    library.fp32_precision = "bf16"
    try:
        yield
        assert library.fp32_precision == "bf16"
    finally:
        library.fp32_precision = "ieee"
        torch.set_float32_matmul_precision("highest")


SETTINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "default bfloat16": lambda: default_dtype(torch.bfloat16),
    "default float16": lambda: default_dtype(torch.float16),
    "default float64": lambda: default_dtype(torch.float64),
    "products of float32 in bfloat16": lambda: precision("medium"),
    "products of one library in bfloat16": precision_of_one_library,
    "gradients": torch.enable_grad,
    "inference": torch.inference_mode,
    "another generator": lambda: torch.random.fork_rng(),
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize(
    "rows", [{}, {"decoder_blocks": 1}, {"norm": "no-affine", "subblocks": True}], ids=str
)
def test_torchs_settings_change_nothing(tokenizer: Any, setting: str, rows: Any) -> None:
    model = tiny_llama()
    before = read_all(model, tokenizer, **rows)
    with SETTINGS[setting]():
        within = read_all(model, tokenizer, **rows)
    require_same(before, within)


def in_float32(model: Any) -> Any:
    """The body itself in float32 within autocast too: only what the lens adds can differ."""
    plain = model.model.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast("cpu", enabled=False):
            return plain(*args, **kwargs)

    model.model.forward = forward
    return model


@pytest.mark.parametrize("norm", ["full", "no-affine", "none"])
def test_autocast_ends_before_norm_head_and_metrics(tokenizer: Any, norm: str) -> None:
    model = in_float32(tiny_llama())
    before = read_all(model, tokenizer, norm=norm)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        require_same(before, read_all(model, tokenizer, norm=norm))
        assert torch.is_autocast_enabled("cpu")


def test_the_models_own_pass_is_in_autocast(tokenizer: Any) -> None:
    """It is what its owner would have made it."""
    model = tiny_llama()
    plain = read_all(model, tokenizer)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        within = logitlens_cli.read(model, tokenizer, TEXTS[0])
        with torch.no_grad():
            own = model(torch.tensor([within.text_ids])).logits[0]
    assert own.dtype == torch.bfloat16
    last = within.values("final-logit")[-1]
    np.testing.assert_allclose(last, own.float().max(-1).values, rtol=0.01)
    assert not np.array_equal(within.values("kl-final"), plain["kl-final"])


def test_a_default_device_is_not_the_lenss(tokenizer: Any) -> None:
    model = tiny_llama()
    before = read_all(model, tokenizer)
    plain = model.forward

    def forward(*args: Any, **kwargs: Any) -> Any:  # the model itself counts positions there
        with torch.device("cpu"):
            return plain(*args, **kwargs)

    model.forward = forward
    with torch.device("meta"):
        require_same(before, read_all(model, tokenizer))


def test_a_constant_is_that_of_float32_whenever_it_is_loaded() -> None:
    code = (
        "import torch; torch.set_default_dtype(torch.bfloat16);"
        "from logitlens_cli.lens.tile import LOG2_E; print(LOG2_E)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(ran.stdout) == float(np.float32(np.log2(np.e)))


class Companion:
    """Another thread that does something while the first one is in a block of the model."""

    def __init__(self, model: Any, work: Callable[[], Any], patience: float = 30) -> None:
        self.owner, self.work, self.patience = threading.get_ident(), work, patience
        self.results: list[Any] = []
        self.threads: list[threading.Thread] = []
        self.handle = model.model.layers[2].register_forward_hook(self.meet)

    def meet(self, *_: Any) -> None:
        if threading.get_ident() == self.owner:
            thread = threading.Thread(target=lambda: self.results.append(self.work()))
            self.threads.append(thread)
            thread.start()
            thread.join(self.patience)

    def end(self) -> list[Any]:
        self.handle.remove()
        for thread in self.threads:
            thread.join()
        assert len(self.results) == len(self.threads) > 0
        return self.results


@pytest.mark.parametrize("rows", [{}, {"decoder_blocks": 1}], ids=str)
def test_passes_of_other_threads_are_neither_seen_nor_changed(tokenizer: Any, rows: Any) -> None:
    model = tiny_llama()
    alone = read_all(model, tokenizer, **rows)
    ids = torch.tensor([tokenizer(TEXTS[1])["input_ids"]])

    def own_pass() -> Any:
        with torch.no_grad():
            return model(ids).logits

    expected = own_pass()
    companion = Companion(model, own_pass)
    together = read_all(model, tokenizer, **rows)
    for logits in companion.end():
        assert torch.equal(logits, expected)
    require_same(alone, together)


def test_threads_that_read_one_model_wait_for_each_other(tokenizer: Any) -> None:
    model = tiny_llama(attention_dropout=0.5)
    alone = [read_all(model, tokenizer, text) for text in TEXTS]
    model.train()
    companion = Companion(model, lambda: read_all(model, tokenizer, TEXTS[1]), patience=0.2)
    first = read_all(model, tokenizer, TEXTS[0])
    others = companion.end()
    require_same(alone[0], first)
    for other in others:
        require_same(alone[1], other)
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_settings_come_back_when_the_last_reader_is_done() -> None:
    one, other = tiny_llama(), tiny_llama()
    with precision("high"):
        first, second = undisturbed(one), undisturbed(other)
        first.__enter__()
        second.__enter__()
        assert torch.get_float32_matmul_precision() == "highest"
        first.__exit__(None, None, None)
        assert torch.get_float32_matmul_precision() == "highest"
        second.__exit__(None, None, None)
        assert torch.get_float32_matmul_precision() == "high"
    assert exact_products.readers == 0


def test_a_setting_of_another_thread_is_left_and_what_was_read_is_refused(tokenizer: Any) -> None:
    model = tiny_llama()
    companion = Companion(model, lambda: torch.set_float32_matmul_precision("medium"))
    try:
        with pytest.raises(WorkError, match="another thread set torch's precision"):
            logitlens_cli.read(model, tokenizer, TEXTS[0])
        assert torch.get_float32_matmul_precision() == "medium"
        companion.end()
    finally:
        torch.set_float32_matmul_precision("highest")
    logitlens_cli.read(model, tokenizer, TEXTS[0])


def test_two_models_do_not_wait_for_each_other() -> None:
    entered = threading.Event()

    def enter(model: Any) -> None:
        with undisturbed(model):
            entered.set()

    with undisturbed(tiny_llama()):
        threading.Thread(target=enter, args=(tiny_llama(),)).start()
        assert entered.wait(30)


def test_every_hook_is_of_one_thread() -> None:
    count = 0
    for path in Path(logitlens_cli.__file__).parent.rglob("*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
        wrapped = {
            node.name
            for node in nodes
            if isinstance(node, ast.FunctionDef)
            and any("in_this_thread" in ast.unparse(line) for line in node.decorator_list)
        } | {
            target.id
            for node in nodes
            if isinstance(node, ast.Assign) and "in_this_thread" in ast.unparse(node.value)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for call in nodes:
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
                continue
            if call.func.attr.startswith("register_") and "hook" in call.func.attr:
                hook = ast.unparse(call.args[0])
                assert hook in wrapped or "in_this_thread" in hook, f"{path.name}: {hook}"
                count += 1
    assert count > 15
