"""How an option is declared: its variable, and whether the dump holds it."""

from pathlib import Path

import pytest
import typer.main

from logitlens_cli.cli.app import build_app
from logitlens_cli.commands.topk import TopK
from logitlens_cli.lens.spec import Norm
from logitlens_cli.options.option import names_in, recorded_options


def test_every_option_can_come_from_the_environment() -> None:
    for name, command in typer.main.get_command(build_app()).commands.items():  # type: ignore[attr-defined]
        if name != "models":
            for option in command.params:
                if option.param_type_name == "option" and option.name != "help":
                    assert option.envvar == f"LOGITLENS_{option.name.upper()}", (name, option.name)


def test_where_a_result_goes_is_no_part_of_its_record() -> None:
    options = TopK(text="a", out=Path("o"), name="n", quiet=True, device="cpu", norm=Norm.none)
    recorded = recorded_options(options)
    assert (recorded["model"], recorded["norm"], recorded["k"]) == ("smollm2", "none", 5)
    assert not recorded.keys() & {"text", "out", "name", "quiet", "device", "jobs", "format"}


@pytest.mark.parametrize(
    ("given", "names"), [(None, ()), ("", ()), (" , ", ()), (" MD,csv,md,", ("md", "csv"))]
)
def test_names_in_a_list(given: str | None, names: tuple[str, ...]) -> None:
    assert names_in(given) == names
