"""A read that nothing around it changes, and that leaves what is around it as it was.

A model in memory belongs to somebody: it may be in training mode, other threads may run it or read
it, and torch has settings of its own (autocast, a default device, coarser products of float32). A
read takes its turn, and norm, head and metrics are computed in float32 whatever is set.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

AUTOCAST_DEVICES = ("cpu", "cuda", "mps", "xpu")


class ModelLocks:
    """A lock for each model, as long as there is the model."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.locks: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()

    def of(self, model: nn.Module) -> Any:
        """The lock of a model, which one thread may take several times."""
        with self.lock:
            return self.locks.setdefault(model, threading.RLock())


class ExactProducts:
    """Products of float32 that are exact to float32, for the whole process: while anybody reads.

    torch can be told to compute them in TF32 or bfloat16 ("medium" changes ranks on a CPU too). The
    first who reads sets them back, and the last puts there what was set.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.readers = 0
        self.restore: Callable[[], None] = lambda: None

    @contextmanager
    def during_read(self) -> Iterator[None]:
        with self.lock:
            if self.readers == 0:
                self.restore = set_exact_products()
            self.readers += 1
        try:
            yield
        finally:
            with self.lock:
                self.readers -= 1
                if self.readers == 0:
                    self.restore()


def set_exact_products() -> Callable[[], None]:
    """Have products of float32 be exact; what puts back the setting before."""
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:  # set for each library by itself, which cannot be told by this name
        return set_exact_libraries()
    torch.set_float32_matmul_precision("highest")
    return lambda: torch.set_float32_matmul_precision(before)


def set_exact_libraries() -> Callable[[], None]:
    """The same where each library has a setting of its own."""
    backends: Any = torch.backends
    holders = [backends.cuda.matmul, backends.mkldnn.matmul]
    before = [holder.fp32_precision for holder in holders]

    def assign(values: list[Any]) -> None:
        for holder, value in zip(holders, values, strict=True):
            holder.fp32_precision = value

    assign(["ieee"] * len(holders))
    return lambda: assign(before)


model_locks = ModelLocks()
exact_products = ExactProducts()


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Read a model while no other thread reads it, without dropout; every module's own flag comes
    back at the end, also after an exception."""
    with model_locks.of(model), exact_products.during_read():
        flags: Mapping[nn.Module, bool] = {m: m.training for m in model.modules()}
        model.eval()
        try:
            yield
        finally:
            for module, flag in flags.items():
                module.training = flag


@contextmanager
def without_autocast() -> Iterator[None]:
    """Compute in the dtypes that the code names, on the CPU where it names no device. For all but
    the model's own pass over a text, which is what its owner would have made it."""
    with ExitStack() as stack:
        for device in AUTOCAST_DEVICES:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        yield
