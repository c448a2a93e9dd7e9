"""What a model remembers from one call to the next, put back after the lens has run it."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from logitlens_cli.errors import ProofError
from logitlens_cli.model.anatomy import tensors

TORCH_OWN = frozenset(nn.Module().__dict__) | {"forward"}
"""attributes of a module that are no memory: its parts, hooks and flags"""
DEEPEST = 3
"""levels of lists, mappings and objects that are followed"""


class Memory:
    """What the modules of a model hold beside modules and parameters, as it was."""

    def __init__(self, model: nn.Module) -> None:
        self.held: list[tuple[str, Any, list[tuple[Any, Any]]]] = []
        """by name: what holds items, and those that it held"""
        self.copies: list[tuple[str, Tensor, int | None, Tensor]] = []
        """by name: a tensor, its count of writes, and what it held"""
        self.arrays: list[tuple[str, np.ndarray[Any, Any], np.ndarray[Any, Any]]] = []
        """by name: an array, and what it held"""
        self.seen: set[int] = set()
        for name, module in model.named_modules():
            self.note(name, module._buffers, DEEPEST)
            self.note(name, module, DEEPEST)

    def note(self, name: str, value: Any, depth: int) -> None:
        """Note what a value is made of, and what that is made of in turn."""
        if isinstance(value, (str, int, float, type(None))) or id(value) in self.seen or not depth:
            return
        self.seen.add(id(value))
        if isinstance(value, Tensor):
            if not isinstance(value, nn.Parameter) and not value.is_meta:
                self.copies.append((name, value, writes(value), value.detach().clone()))
            return
        if isinstance(value, np.ndarray):
            self.arrays.append((name, value, value.copy()))
            return
        items = items_of(value)
        if items is None:
            return
        self.held.append((name, value, items))
        for key, item in items:
            if not isinstance(item, nn.Module):
                self.note(f"{name}.{key}", item, depth - 1)

    def restore(self) -> list[str]:
        """Put everything back; the names of what had changed."""
        changed = []
        for name, tensor, count, before in self.copies:
            if (count is None or writes(tensor) != count) and not same(tensor, before):
                tensor.detach().copy_(before)
                changed.append(name)
        for name, array, held in self.arrays:
            if array.tobytes() != held.tobytes():
                array[...] = held
                changed.append(name)
        for name, holder, items in self.held:
            now = items_of(holder) or []
            if len(now) != len(items) or any(
                key != old_key or item is not old
                for (key, item), (old_key, old) in zip(now, items, strict=True)
            ):
                old = dict(items)
                new = [str(k) for k, v in now if k not in old or old[k] is not v]
                changed.append(f"{name}.{new[0]}" if new else name)
                put_back(holder, items)
        return [name.strip(".") for name in changed]


def writes(tensor: Tensor) -> int | None:
    """How often a tensor was written to; None where it does not count."""
    return None if tensor.is_inference() else tensor._version


def same(a: Tensor, b: Tensor) -> bool:
    """Do two tensors hold the same, where not a number is the same as not a number?"""
    return a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all())


def items_of(value: Any) -> list[tuple[Any, Any]] | None:
    """What a module, a list, a mapping or somebody's object holds, by key; None for the rest."""
    if isinstance(value, (list, deque)):
        return list(enumerate(value))
    if isinstance(value, dict):
        return list(value.items())
    if isinstance(value, set):
        return [(item, item) for item in value]
    if isinstance(value, nn.Module):
        return [(k, v) for k, v in value.__dict__.items() if k not in TORCH_OWN]
    if callable(value) or isinstance(value, (torch.dtype, torch.device)):
        return None
    attributes = getattr(value, "__dict__", None)
    slots = [(key, getattr(value, key)) for key in slots_of(value) if hasattr(value, key)]
    return [*slots, *attributes.items()] if isinstance(attributes, dict) else slots or None


def slots_of(value: Any) -> list[str]:
    """The names of the slots of an object, those of its bases too."""
    named = [getattr(kind, "__slots__", ()) for kind in type(value).__mro__]
    names = [name for names in named for name in ([names] if isinstance(names, str) else names)]
    return [name for name in names if not name.startswith("__")]


def put_back(holder: Any, items: list[tuple[Any, Any]]) -> None:
    """Have a holder hold these items, and no others."""
    if isinstance(holder, (list, deque)):
        holder.clear()
        holder.extend(item for _, item in items)
    elif isinstance(holder, set):
        holder.clear()
        holder.update(item for item, _ in items)
    else:
        slots = [] if isinstance(holder, (dict, nn.Module)) else slots_of(holder)
        space = holder if isinstance(holder, dict) else getattr(holder, "__dict__", {})
        for key, _ in items_of(holder) or []:
            if key in slots:
                delattr(holder, key)
            else:
                del space[key]
        for key, value in items:
            if key in slots:
                setattr(holder, key, value)
            else:
                space[key] = value


@contextmanager
def kept(model: nn.Module) -> Iterator[list[str]]:
    """Leave buffers and attributes of all modules as they were, also after an exception: a forward
    pass within starts from what the model's owner left, and leaves no trace.

    Gives a list that in the end names what had changed. Raises ProofError where a parameter has,
    since those are not copied.
    """
    memory, versions = Memory(model), parameter_versions(model)
    changed: list[str] = []
    try:
        yield changed
    finally:
        changed += memory.restore()
    for name, version in parameter_versions(model).items():
        if versions.get(name, version) != version:
            raise ProofError(
                f"{type(model).__name__} changes its parameter {name[0]} while it runs",
                tensors.UNSUPPORTED,
            )


def parameter_versions(model: nn.Module) -> dict[tuple[str, int], int | None]:
    """How often each parameter was written to, by name and object: those that are not in memory
    are other objects whenever they are loaded."""
    named = model.named_parameters(remove_duplicate=False)
    return {(name, id(p)): writes(p) for name, p in named if not p.is_meta}
