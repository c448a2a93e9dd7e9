"""A lens of the hub comes to this machine."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from logitlens_cli.errors import UsageError, WorkError
from logitlens_cli.lens.maps.published import TUNED_CONFIG
from logitlens_cli.model.fetch import check_hub_name, hub_error
from logitlens_cli.model.files import Permissions
from logitlens_cli.model.silence import silenced

FILES = ("*.safetensors", "*.pt")


def fetch_lens(name: str, revision: str | None, model: str, *, offline: bool) -> tuple[Path, str]:
    """The place of a lens in the hub's cache, and its commit.

    ``name`` is OWNER/REPOSITORY, or OWNER/REPOSITORY/FOLDER where that holds several; of a
    repository of several models' lenses the folder is found by the model's name.
    """
    owner, _, rest = name.partition("/")
    repository, _, inside = rest.partition("/")
    if not rest or ".." in name.split("/"):
        raise UsageError(
            f"there is no lens {name!r}: no such folder or file, and no hub name",
            "give plain, fitted, a file, a folder, or OWNER/REPOSITORY",
        )
    check_hub_name(f"{owner}/{repository}")
    short = model.rpartition("/")[2]
    folders = [inside] if inside else ["", model, short, f"lens/{model}", f"lens/{short}"]
    snapshot = lens_snapshot(f"{owner}/{repository}", revision, folders, offline)
    for folder in folders:
        place = snapshot / folder
        if place.is_file() or any(file for pattern in FILES for file in place.glob(pattern)):
            return place, snapshot.name
    raise UsageError(
        f"--lens {name} has nothing for the model {model}",
        f"give {owner}/{repository}/FOLDER or /FILE of what it holds",
    )


def lens_snapshot(
    repository: str, revision: str | None, folders: Sequence[str], offline: bool
) -> Path:
    """The hub cache's folder of one commit, with the lenses in some of its folders; WorkError where
    it cannot be had."""
    from huggingface_hub import errors, snapshot_download

    names = (TUNED_CONFIG, *FILES)
    patterns = [f"{folder}/{name}".strip("/") for folder in folders for name in names]
    patterns += [folder for folder in folders if folder.endswith((".pt", ".safetensors"))]
    kinds: tuple[Literal["model", "space"], ...] = ("model", "space")
    absent: Exception | None = None
    for kind in kinds:  # tuned-lens publishes its lenses as a space
        try:
            with silenced():
                return Path(
                    snapshot_download(
                        repository,
                        repo_type=kind,
                        revision=revision,
                        allow_patterns=patterns,
                        local_files_only=offline,
                    )
                )
        except (errors.RepositoryNotFoundError, errors.LocalEntryNotFoundError) as error:
            absent = absent or error
        except Exception as error:  # http, proxy, disk: huggingface_hub raises many kinds
            absent = error
            break
    assert absent is not None
    allowed = Permissions(network=not offline, code=False, pickles=False)
    told = hub_error(absent, repository, revision, allowed)
    raise WorkError(
        told.problem.replace("model", "lens", 1), "fetch it on another machine and give its folder"
    ) from absent
