"""Variables that are misspelt are noted, those of any command are not."""

import pytest
from conftest import Shell

from logitlens_cli.cli.environment import misspelt_variables, option_variables


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("LOGITLENS_EVRY", "did you mean LOGITLENS_EVERY? "),
        ("LOGITLENS_Skip_First", "did you mean LOGITLENS_SKIP_FIRST? "),
        ("LOGITLENS_ZZZ", ""),
        ("LOGITLENS_", ""),
    ],
)
def test_a_misspelt_variable(name: str, said: str) -> None:
    assert misspelt_variables({name: "2", "PATH": "/bin", "LOGITLENS": "x"}) == [
        f"the variable {name} is unknown; {said}it counts for nothing"
    ]


def test_variables_that_somebody_reads() -> None:
    """--minus and --share-scale are of one command each."""
    known = ("EVERY", "MINUS", "SHARE_SCALE", "INPUT_ROW", "CACHE", "DEBUG", "FIND", "TARGET")
    assert misspelt_variables({f"LOGITLENS_{name}": "1" for name in known}) == []
    assert "LOGITLENS_JSON" in option_variables()


@pytest.mark.parametrize(("flags", "count"), [([], 1), (["-q"], 0)])
def test_it_is_a_note(
    logitlens: Shell, monkeypatch: pytest.MonkeyPatch, flags: list[str], count: int
) -> None:
    monkeypatch.setenv("LOGITLENS_EVRY", "2")
    ran = logitlens("topk", "-t", "a", "--dry-run", "--format", "none", *flags)
    assert ran.code == 0
    assert len([line for line in ran.err if "LOGITLENS_EVRY is unknown" in line]) == count
