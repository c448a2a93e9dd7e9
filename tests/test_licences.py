"""Licences of dependencies are known and fit; pins are hashed and whole."""

import re
from importlib import metadata
from pathlib import Path

import licences
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def test_every_licence_is_known_and_fits() -> None:
    pinned = licences.pinned(licences.RUN + licences.TESTS)
    told = {package: licences.licence(package) for package in pinned}
    assert {package: name for package, name in told.items() if not licences.fits(name)} == {}


@pytest.mark.parametrize(
    ("expression", "fit"),
    [
        ("MIT", True),
        ("MIT AND GPL-3.0-only", False),
        ("GPL-3.0-only OR MIT", True),
        ("Apache-2.0 WITH LLVM-exception AND MIT", True),
        ("LicenseRef-Own", False),
        ("", False),
    ],
)
def test_fit(expression: str, fit: bool) -> None:
    assert licences.fits(expression) is fit


def test_read_licences_are_what_the_files_say() -> None:
    for package, licence in licences.READ.items():
        files = [f for f in metadata.files(package) or [] if "LICENSE" in f.name.upper()]
        text = " ".join(" ".join(f.read_text().split()) for f in files)
        assert "Redistributions in binary form must reproduce" in text, package
        third = re.search(r"[Nn]either the name|names of its contributors", text)
        assert third or licence == "BSD-2-Clause", package


@pytest.mark.parametrize("files", [licences.RUN, licences.RUN + licences.TESTS])
def test_pins_are_whole(files: list[str]) -> None:
    pinned = set(licences.pinned(files))
    missing = {
        (package, wanted.name)
        for package in pinned
        for wanted in map(Requirement, metadata.requires(package) or [])
        if wanted.marker is None or wanted.marker.evaluate({"extra": ""})
        if canonicalize_name(wanted.name) not in pinned
    }
    assert missing == set()
    assert licences.direct() <= pinned


@pytest.mark.parametrize(
    "file", sorted(licences.ROOT.glob("requirements/*.txt")), ids=lambda f: f.name
)
def test_every_pin_has_a_hash(file: Path) -> None:
    if file.name == "lowest.txt":
        pytest.skip("for one test's environment only")
    pins = re.split(r"\n(?=[^\s#])", file.read_text())
    bare = [pin for pin in pins if not pin.startswith("#") and "--hash=sha256:" not in pin]
    assert any("--hash" in pin for pin in pins)
    assert bare == []
