"""Licences of dependencies are known and fit; pins are whole."""

import re
from importlib import metadata

import licences
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def test_every_licence_is_known_and_fits() -> None:
    told = {package: licences.licence(package) for package in licences.pinned()}
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
    for package in licences.READ:
        files = [f for f in metadata.files(package) or [] if "LICENSE" in f.name.upper()]
        text = " ".join(" ".join(f.read_text().split()) for f in files)
        assert "Redistributions in binary form must reproduce" in text, package
        assert re.search(r"[Nn]either the name|names of its contributors", text), package


def test_pins_are_whole() -> None:
    pinned = set(licences.pinned())
    missing = {
        (package, wanted.name)
        for package in pinned
        for wanted in map(Requirement, metadata.requires(package) or [])
        if wanted.marker is None or wanted.marker.evaluate({"extra": ""})
        if canonicalize_name(wanted.name) not in pinned
    }
    assert missing == set()
    assert licences.direct() <= pinned
