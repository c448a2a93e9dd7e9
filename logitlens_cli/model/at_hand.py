"""Models that can be opened without a download, for completion in a shell."""

from collections.abc import Iterator
from pathlib import Path

from logitlens_cli.model.inventory import available_models


def models_at_hand(beginning: str) -> list[str]:
    """Names and paths of models that begin with what was typed: the embedded one, those in the
    hub's cache, folders with a configuration and .gguf files; and folders on the way there."""
    names = [*(model.name for model in available_models()), *local_paths(beginning)]
    return sorted({name for name in names if name.startswith(beginning)})


def local_paths(beginning: str) -> Iterator[str]:
    """Models, and where a path was begun folders too, spelled as they were begun."""
    typed, _, _ = beginning.rpartition("/")
    folder = Path(typed or ("/" if beginning.startswith("/") else ".")).expanduser()
    prefix = f"{typed}/" if "/" in beginning else ""
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    for entry in entries:
        if entry.suffix == ".gguf" or (entry / "config.json").is_file():
            yield prefix + entry.name
        elif prefix and entry.is_dir():
            yield f"{prefix}{entry.name}/"
