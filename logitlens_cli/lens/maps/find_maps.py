"""What ``--lens`` names -> maps that fit the model."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from logitlens_cli.errors import UsageError, WorkError
from logitlens_cli.lens.lens_model import LensModel
from logitlens_cli.lens.maps.fit_of_maps import require_fits_model, warnings_of
from logitlens_cli.lens.maps.hub_lens import FILES, fetch_lens
from logitlens_cli.lens.maps.lens_maps import LensMaps
from logitlens_cli.lens.maps.mapped_rows import rows_with_maps
from logitlens_cli.lens.maps.maps_file import read_maps
from logitlens_cli.lens.maps.published import (
    TUNED_CONFIG,
    TUNED_WEIGHTS,
    read_jacobian,
    read_tuned,
)
from logitlens_cli.lens.spec import PLAIN, ReadSpec
from logitlens_cli.model.lens_files import FITTED, fitted_path


@dataclass(frozen=True)
class LensSource:
    """A lens on this machine."""

    path: Path
    """a file, or the folder of a tuned lens"""
    name: str
    revision: str | None = None
    """commit of the hub's repository that it is from"""


def find_lens(
    name: str, revision: str | None, model: str, *, offline: bool = False
) -> LensSource | None:
    """The file or folder that a name means for a model, fetched if it is on the hub; None for the
    plain lens. Raises UsageError where it is nothing, WorkError where it cannot be had."""
    path = Path(os.path.expanduser(name))
    is_local = bool(name) and path.exists()
    if revision is not None and (name in (PLAIN, FITTED) or is_local):
        raise UsageError(
            f"--lens-revision {revision} does not go with --lens {name}, which is not from the hub",
            "leave --lens-revision out",
        )
    if name == PLAIN:
        return None
    if name == FITTED:
        fitted = fitted_path(model)
        if not fitted.is_file():
            raise UsageError(
                f"--lens {FITTED}: no lens is fitted to {model} yet",
                f"`make lens` does it for the default model, logitlens fit --model {model} "
                f"--out {fitted} for any",
            )
        return LensSource(fitted, FITTED)
    if is_local:
        return LensSource(lens_in(path.absolute(), name), path.resolve().name)
    place, commit = fetch_lens(name, revision, model, offline=offline)
    return LensSource(lens_in(place, name), name, commit)


def lens_in(path: Path, name: str) -> Path:
    """A file as it is; of a folder the tuned lens in it, or the only file that can be a lens."""
    if not path.is_dir():
        return path
    if (path / TUNED_WEIGHTS).is_file():
        return path
    found = sorted(file for pattern in FILES for file in path.glob(pattern))
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(file.name for file in found[:4])
        raise UsageError(f"--lens {name} holds several lenses ({names})", "name one of the files")
    raise UsageError(
        f"--lens {name} holds no lens",
        f"a tuned lens has {TUNED_CONFIG} and {TUNED_WEIGHTS}, others are one {' or '.join(FILES)}",
    )


def read_lens(source: LensSource) -> LensMaps:
    """Maps of a file or folder, by what it holds; WorkError for what is none."""
    path = source.path
    if path.is_dir():
        return read_tuned(path, source.name, source.revision)
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise WorkError(
            f"cannot read the lens {path}: {error.strerror}", "check its path and permissions"
        ) from error
    if start[8:] == b"{":
        maps = read_maps(path, source.name)
        record = msgspec.structs.replace(maps.record, source_revision=source.revision)
        return replace(maps, record=record)
    if path.name == TUNED_WEIGHTS:
        return read_tuned(path.parent, source.name, source.revision)
    return read_jacobian(path, source.name, source.revision)


def with_lens(
    lens_model: LensModel, spec: ReadSpec, source: LensSource | None, note: Callable[[str], None]
) -> tuple[LensModel, ReadSpec]:
    """The model with the maps of a lens, and what of ``spec`` they can show.

    Raises UsageError for maps that do not fit the model, or rows that were asked for and have no
    map; other rows without one are left out, and ``note`` is told.
    """
    if source is None:
        return lens_model, spec
    maps = read_lens(source)
    require_fits_model(maps, lens_model)
    for warning in warnings_of(maps, lens_model):
        note(warning)
    spec = rows_with_maps(maps, spec, lens_model.record.blocks, note)
    return replace(lens_model, maps=maps.on(lens_model.parts.inner.device)), spec
