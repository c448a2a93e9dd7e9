"""A fetched model, whole: every file against the hash of what was fetched or converted."""

from logitlens_cli.errors import UsageError, WorkError
from logitlens_cli.model import smollm2
from logitlens_cli.model.fetch import hub_snapshot, source_kind
from logitlens_cli.model.files import Permissions
from logitlens_cli.model.verified import changed_blobs, changed_files


def verified_files(name: str, revision: str | None) -> list[str]:
    """The files that were hashed, whatever their stamps say, and found right.

    Raises WorkError that names those that are not, or where the model is not fetched; UsageError
    for a folder or file of the user's own, which has nothing to be held against.
    """
    kind = source_kind(name, revision)
    if kind == "default":
        folder = smollm2.cached_folder()
        if folder is None:
            raise WorkError(f"the model {name} is not fetched yet", "logitlens models fetch")
        hashes = smollm2.hashes_of(folder)
        told, changed = sorted(hashes), changed_files(folder, hashes, always=True)
    elif kind == "hub":
        offline = Permissions(network=False, code=False, pickles=False)
        told, changed = changed_blobs(hub_snapshot(name, revision, ["*"], offline))
    else:
        raise UsageError(
            f"{name} is your own: there is no hash to hold it against",
            f"give {smollm2.NAME}, or a model of the hub",
        )
    if changed:
        raise WorkError(
            f"the model {name} is damaged: {', '.join(changed[:4])} "
            f"({len(changed)} of {len(told)} files)",
            "the next run converts it anew"
            if kind == "default"
            else "delete it from the hub's cache and fetch it again",
        )
    return told
