"""Fonts: what cannot be drawn is escaped, what is measured is what is drawn."""

from collections.abc import Iterator
from pathlib import Path

import matplotlib
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure

from logitlens_cli.errors import UsageError
from logitlens_cli.figures import fonts
from logitlens_cli.figures.fonts import BASE, Ruler, cut_points, escaped, fallback, require_fonts

UNASSIGNED = "\U000e0100"  # a variation selector, which no text font has


def test_plain_text_needs_the_base_font_only() -> None:
    assert fallback(["plain", "é · ↵ ⇥"]) == ([BASE], frozenset())


def test_characters_without_a_glyph_are_found_and_escaped() -> None:
    _, missing = fallback(["ok", f"x{UNASSIGNED}"])
    assert missing == {UNASSIGNED}
    assert escaped(f"x{UNASSIGNED}y", missing) == "x<U+E0100>y"
    assert escaped("plain", missing) == "plain"


def test_width_is_that_of_the_drawn_text() -> None:
    text, size = "·Sometimes WWW", 8.0
    with matplotlib.rc_context({"font.family": [BASE]}):
        figure = Figure(dpi=720)
        box = figure.text(0, 0, text, fontsize=size).get_window_extent()
    assert abs(Ruler([BASE]).width(text, size) - box.width / 720) < 0.01


def test_shortened_keeps_the_beginning_and_fits() -> None:
    ruler = Ruler([BASE])
    short = ruler.shortened("internationalization", 8, 0.5)
    assert short.endswith("…")
    assert "internationalization".startswith(short[:-1])
    assert ruler.width(short, 8) <= 0.5 < ruler.width(short[:-1] + "nn…", 8)
    assert ruler.shortened("ok", 8, 0.5) == "ok"


def test_notes_are_wrapped_into_few_lines() -> None:
    ruler = Ruler([BASE])
    assert ruler.wrapped(["one", "two"], 8, 5) == ["one  ·  two"]
    assert ruler.wrapped(["one", "two"], 8, 0.4) == ["one", "two"]


@pytest.mark.parametrize(
    ("text", "cuts"),
    [
        ("abc", [0, 1, 2]),
        ("e\u0301te\u0301", [0, 2, 3]),  # accents stay with their letters
        ("\u0928\u092e\u093f", [0, 1]),  # a vowel sign stays with its consonant
        ("\u2764\ufe0fx", [0, 2]),
        ("\U0001f469\u200d\U0001f4bbx", [0, 3]),  # one emoji of three characters
        ("a<U+6F22><0xE6>", [0, 1, 9]),
        ("<U+6F22>\u0301<0xE6", [0, 9, 10, 11, 12, 13]),  # an accent on an escape; none
        ("\U0001f1eb\U0001f1f7\U0001f1ee\U0001f1f9x", [0, 2, 4]),  # two flags
        ("\U0001f44b\U0001f3fdx", [0, 2]),  # a skin tone
        ("\u1112\u1161\u11ab", [0]),  # a syllable of three letters
    ],
)
def test_texts_are_cut_where_nothing_is_torn(text: str, cuts: list[int]) -> None:
    assert cut_points(text) == cuts


@pytest.fixture
def chinese(tmp_path: Path) -> Iterator[str]:
    """A font of one character, twice as wide as high, as if it were installed."""
    made = FontBuilder(1000)
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 800), (1800, 800), (1800, 0)):
        pen.lineTo(corner)
    pen.closePath()
    made.setupGlyphOrder([".notdef", "han"])
    made.setupCharacterMap({0x6F22: "han"})
    made.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "han": pen.glyph()})
    made.setupHorizontalMetrics({".notdef": (500, 0), "han": (2000, 0)})
    made.setupHorizontalHeader(ascent=800, descent=-200)
    made.setupNameTable({"familyName": "Made Han", "styleName": "Regular"})
    made.setupOS2()
    made.setupPost()
    made.save(tmp_path / "han.ttf")
    known = list(font_manager.fontManager.ttflist)
    font_manager.fontManager.addfont(tmp_path / "han.ttf")
    fonts.installed.cache_clear()
    yield "Made Han"
    font_manager.fontManager.ttflist[:] = known
    fonts.installed.cache_clear()


def test_an_installed_font_of_the_script_is_found_and_measured(chinese: str) -> None:
    families, missing = fallback(["a\u6f22"])
    assert chinese in families
    assert not missing
    # Two ems of its own, whatever an "a" is wide.
    ruler = Ruler(families)
    wide = ruler.width("a\u6f22", 10) - ruler.width("a", 10)
    assert wide == pytest.approx(2 * 10 / 72, abs=0.01)


def test_a_family_that_is_not_installed_is_refused() -> None:
    require_fonts(["DejaVu Serif", "DejaVu Sans"])
    with pytest.raises(UsageError, match="--font 'DejaVu Srif' is not installed; did you mean"):
        require_fonts(["DejaVu Srif"])
