"""Where fitted lenses are kept, and what files a lens is made of; loads nothing heavy."""

import os
from collections.abc import Iterator
from pathlib import Path

from logitlens_cli.model.smollm2 import cache_root

FITTED = "fitted"
"""what ``--lens`` calls the one that was fitted to the model on this machine"""
OWN_SUFFIX = ".lens.safetensors"


def fitted_path(model: str) -> Path:
    """Where the lens of a model is kept."""
    path = Path(os.path.expanduser(model))
    stem = path.resolve().name if path.exists() else model
    return cache_root() / f"{stem.replace('/', '--')}{OWN_SUFFIX}"


def lens_files(lens: str, model: str) -> Iterator[Path]:
    """The files on this machine that a lens is read from, as far as its name tells."""
    path = fitted_path(model) if lens == FITTED else Path(os.path.expanduser(lens))
    if path.is_dir():
        yield from sorted(file for file in path.iterdir() if file.is_file())
    elif path.is_file():
        yield path
