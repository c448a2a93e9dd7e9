"""Names of prompts whose files cannot lie side by side."""

import re
import tempfile
import unicodedata
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath

from logitlens_cli.batch.prompts import Prompt
from logitlens_cli.errors import UsageError
from logitlens_cli.reading.atomic import nearest_above

PIECE = re.compile(r"\.\d+(?=\.\w+$)")
"""the number of a piece of a figure that is split"""
HINT = "give the prompts other names"


def require_side_by_side(
    listed: Iterable[Prompt], endings: Collection[str], taken: Collection[str], out: Path
) -> None:
    """UsageError where the folder of one prompt's files would be a file of another one, or one of
    the files ``taken`` in ``out``; or where the system takes two names for one.

    ``endings`` of files follow a prompt's name and a full stop.
    """
    prompts = list(listed)
    names = {prompt.name for prompt in prompts}
    for prompt in prompts:
        for folder in PurePosixPath(prompt.name).parents:
            if str(folder) in taken:
                raise UsageError(
                    f"line {prompt.line}: the files of {prompt.name!r} need a folder {folder}, "
                    "which is a file of the batch itself",
                    HINT,
                )
            if is_file_of(str(folder), names, endings):
                raise UsageError(
                    f"line {prompt.line}: the files of {prompt.name!r} need a folder {folder}, "
                    "which is a file of another prompt",
                    HINT,
                )
    require_distinct(prompts, out)


def is_file_of(path: str, names: Collection[str], endings: Collection[str]) -> bool:
    """Is a path, relative to --out, one that a prompt's file has?"""
    whole = PIECE.sub("", path)
    return any(
        path[:at] in names and (path[at + 1 :] in endings or whole[at + 1 :] in endings)
        for at, sign in enumerate(path)
        if sign == "."
    )


def require_distinct(prompts: Iterable[Prompt], out: Path) -> None:
    """UsageError for names that differ by capitals or by the form of their letters only, where
    the file system takes them for one."""
    seen: dict[str, Prompt] = {}
    for prompt in prompts:
        other = seen.setdefault(folded(prompt.name), prompt)
        if other is not prompt and folds_names(out):
            raise UsageError(
                f"lines {other.line} and {prompt.line}: {other.name!r} and {prompt.name!r} are one "
                f"name in {out}",
                HINT,
            )


def folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def folds_names(folder: Path) -> bool:
    """Does a file system take capitals and small letters for one?"""
    with tempfile.NamedTemporaryFile(dir=nearest_above(folder), prefix=".logitlens-a") as file:
        path = Path(file.name)
        return path.with_name(path.name.replace(".logitlens-a", ".LOGITLENS-A")).exists()
