"""SPDX licences of what is installed with the tool, from the packages' own metadata."""

import tomllib
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
RUN = ["requirements/run.txt", "requirements/torch.txt"]
TESTS = ["requirements/dev.txt"]
# Where the metadata has no SPDX expression, but one of these words.
SPDX = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "Apache 2.0 License": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
# "BSD License" does not say which: these were read in the LICENSE file that is installed.
READ = dict.fromkeys(
    ["contourpy", "cycler", "jinja2", "kiwisolver", "mpmath", "seaborn", "sympy"], "BSD-3-Clause"
) | {"numba": "BSD-2-Clause"}
# May be used by, and shipped beside, a program under Apache-2.0. MPL-2.0 binds its own files only.
FIT = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause",
    "BSL-1.0", "CC0-1.0", "CNRI-Python", "ISC", "MIT", "MIT-CMU", "MPL-2.0", "PSF-2.0", "Zlib",
}  # fmt: skip


def pinned(files: list[str]) -> list[str]:
    """Packages that files of pins name for this machine, direct and not."""
    lines = [line for file in files for line in (ROOT / file).read_text().splitlines()]
    wanted = [Requirement(line.rstrip("\\")) for line in lines if line[:1].isalnum()]
    return sorted(
        {canonicalize_name(r.name) for r in wanted if r.marker is None or r.marker.evaluate()}
    )


def direct() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {canonicalize_name(Requirement(line).name) for line in project["dependencies"]}


def licence(package: str) -> str:
    """An SPDX expression; ValueError where none can be told."""
    if package in READ:
        return READ[package]
    told = metadata.metadata(package)
    if expression := told["License-Expression"]:
        return str(expression)
    words = [
        line.split(" :: ")[-1] for line in told.get_all("Classifier") or [] if "License ::" in line
    ]
    for word in [told["License"] or "", *words]:
        if word in SPDX or fits(word):
            return SPDX.get(str(word), str(word))
    raise ValueError(f"{package}: no licence that SPDX knows in {words} or {told['License']!r}")


def fits(expression: str) -> bool:
    """Are all licences joined by AND, and one of those joined by OR, fit? (No brackets occur.)"""
    return any(
        all(part.strip() in FIT for part in choice.split(" AND "))
        for choice in expression.split(" OR ")
    )


def table() -> str:
    by_licence: dict[str, list[str]] = {}
    own, run = direct(), pinned(RUN)
    for package in pinned(RUN + TESTS):
        sign = "**" if package in own else "" if package in run else "*"
        by_licence.setdefault(licence(package), []).append(f"{sign}{package}{sign}")
    rows = [f"| {name} | {', '.join(by_licence[name])} |" for name in sorted(by_licence)]
    return "\n".join(["| licence (SPDX) | packages |", "|---|---|", *rows])
