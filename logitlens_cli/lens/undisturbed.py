"""A read that nothing around it changes, and that leaves what is around it as it was.

A model in memory belongs to somebody: it may be in training mode, other threads may run it or read
it, and torch has settings of its own (autocast, a default device, coarser products of float32). A
read takes its turn, and norm, head and metrics are computed in float32 whatever is set.
"""

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import nn

from logitlens_cli.errors import WorkError

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


class ProductSetting(NamedTuple):
    """How torch computes products of float32, while somebody reads."""

    restore: Callable[[], None] = lambda: None
    """puts back the setting before"""
    is_exact: Callable[[], bool] = lambda: True
    """is it still as it was set?"""


class ExactProducts:
    """Products of float32 that are exact to float32, for the whole process: while anybody reads.

    torch can be told to compute them in TF32 or bfloat16 ("medium" changes ranks on a CPU too). The
    first who reads sets them back, and the last puts there what was set; where another thread has
    set it meanwhile, what was read is refused, and the setting is left.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.readers = 0
        self.setting = ProductSetting()

    @contextmanager
    def during_read(self) -> Iterator[None]:
        with self.lock:
            if self.readers == 0:
                self.setting = set_exact_products()
            self.readers += 1
        is_kept = True
        try:
            yield
        finally:
            with self.lock:
                self.readers -= 1
                is_kept = self.setting.is_exact()
                if self.readers == 0 and is_kept:
                    self.setting.restore()
        if not is_kept:
            raise WorkError(
                "another thread set torch's precision of float32 products while the model was read",
                "set it before the first read, or read again",
            )


def set_exact_products() -> ProductSetting:
    """Have products of float32 be exact."""
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:  # set for each library by itself, which cannot be told by this name
        return set_exact_libraries()
    torch.set_float32_matmul_precision("highest")

    def is_exact() -> bool:
        try:
            return torch.get_float32_matmul_precision() == "highest"
        except RuntimeError:
            return False

    return ProductSetting(lambda: torch.set_float32_matmul_precision(before), is_exact)


def set_exact_libraries() -> ProductSetting:
    """The same where each library has a setting of its own."""
    backends: Any = torch.backends
    holders = [backends.cuda.matmul, backends.mkldnn.matmul]
    before = [holder.fp32_precision for holder in holders]

    def assign(values: list[Any]) -> None:
        for holder, value in zip(holders, values, strict=True):
            holder.fp32_precision = value

    assign(["ieee"] * len(holders))
    return ProductSetting(
        lambda: assign(before), lambda: all(holder.fp32_precision == "ieee" for holder in holders)
    )


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
