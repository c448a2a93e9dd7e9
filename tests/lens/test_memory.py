"""The engine's memory is bounded, whatever the length of the text and the vocabulary."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="needs Linux's count of a process's memory"
)

# Logits of one layer of 512 positions alone would take 500 MiB.
SCRIPT = """
import json, sys
from pathlib import Path
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from logitlens_cli.lens import capture, grid
from logitlens_cli.lens.capture import INPUT, resid_post
from logitlens_cli.lens.direct import Direct
from logitlens_cli.metrics.sums import Needs
from logitlens_cli.model.anatomy.find import find_parts

def resident(line):
    return int(Path("/proc/self/status").read_text().split(line + ":")[1].split()[0]) / 1024

torch.set_num_threads(2)
config = LlamaConfig(vocab_size=256000, hidden_size=32, intermediate_size=32,
                     num_hidden_layers=3, num_attention_heads=2, num_key_value_heads=2)
model = LlamaForCausalLM(config).eval()
parts = find_parts(model)
rows = (INPUT, *(resid_post(n) for n in range(3)))
both = frozenset({"final", "input"})
needs = Needs(frozenset({"final"}), both, js=json.loads(sys.argv[1]))

def extra(length):
    ids = [n * 7919 % 256000 for n in range(length)]
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    text = capture.PromptSlice(ids, range(length), [length - 1])
    stream = capture.capture(model, parts, [text], rows)
    grid.grid(Direct(parts), stream, grid.GridSpec(rows, 5, needs, {}))
    return resident("VmHWM") - before

grid.KERNEL_MIN_LOGITS = 0
extra(16)  # also loads the kernel, whose code is no part of the bound
print(json.dumps([extra(length) for length in (64, 512)]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("js", ["false", "true"])
def test_memory_is_bounded(js: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, js],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    used = json.loads(done.stdout)
    assert max(used) < 150, used


# The stream of 4096 tokens is 248 MiB, all else is small: 8 texts are read side by side.
STREAM = """
import json
from pathlib import Path
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from logitlens_cli.lens import capture
from logitlens_cli.lens.capture import INPUT, resid_post
from logitlens_cli.model.anatomy.find import find_parts

def resident(line):
    return int(Path("/proc/self/status").read_text().split(line + ":")[1].split()[0]) / 1024

config = LlamaConfig(vocab_size=300, hidden_size=128, intermediate_size=32,
                     num_hidden_layers=123, num_attention_heads=2, num_key_value_heads=2)
model = LlamaForCausalLM(config).eval()
parts = find_parts(model)
rows = (INPUT, *(resid_post(n) for n in range(123)))

def extra(texts):
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    text = capture.PromptSlice([n % 300 for n in range(512)], range(512), [511])
    stream = capture.capture(model, parts, [text] * texts, rows)
    return stream.resid.nbytes / 2**20, resident("VmHWM") - before

extra(1)
print(json.dumps(extra(8)))
"""


@pytest.mark.slow
def test_the_stream_is_kept_once() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STREAM], capture_output=True, text=True, timeout=300, check=True
    )
    stream, used = json.loads(done.stdout)
    assert stream == 248
    assert used < stream + 150, used
