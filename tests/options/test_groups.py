"""Options that several commands share: what is drawn, what is written."""

from collections.abc import Callable

import pytest
from options_of import refusal

from logitlens_cli.commands.render import Render
from logitlens_cli.commands.topk import TopK


def test_texts_about_a_figure() -> None:
    assert TopK(text="a").texts == ()
    assert TopK(text="a", bare=True).texts == ("txt",)
    assert TopK(text="a", bare=True, caption=True).texts == ("txt",)
    assert TopK(text="a", table=" CSV,markdown,md,", caption=True).texts == ("txt", "csv", "md")


@pytest.mark.parametrize(
    ("given", "formats"),
    [
        ("png", ("png",)),
        ("svg,png", ("svg", "png")),
        (" PDF , png,pdf,", ("pdf", "png")),
    ],
)
def test_formats(given: str, formats: tuple[str, ...]) -> None:
    assert TopK(text="a", format=given).formats == formats


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: TopK(text="a", format="png,gif"),
            "--format 'gif' is unknown; choose from png, svg, pdf, parquet, or none",
        ),
        (
            lambda: TopK(text="a", format=" ,"),
            "--format ' ,' names no format; choose from png, svg, pdf, parquet, or none",
        ),
        (
            lambda: TopK(text="a", table="md,html"),
            "--table 'html' is unknown; give md, csv, or md,csv",
        ),
        (
            lambda: TopK(text="a", table=" ,"),
            "--table ' ,' names no format; give md, csv, or md,csv",
        ),
        (
            lambda: TopK(text="a", vmin=2, vmax=2),
            "--vmin 2 is not below --vmax 2; give a range",
        ),
        (
            lambda: TopK(text="a", vmax=float("nan")),
            "--vmax nan cannot be a colour limit; give a number",
        ),
        (
            lambda: Render(given=["d"], vmin=float("-inf")),
            "--vmin -inf cannot be a colour limit; give a number",
        ),
        (
            lambda: TopK(text="a", title="\udcff"),
            "--title '\\udcff' is not valid Unicode at character 0; give it as UTF-8",
        ),
    ],
)
def test_options_that_cannot_be(make: Callable[[], object], message: str) -> None:
    assert refusal(make) == message
