"""Fonts: what cannot be drawn is escaped, what is measured is what is drawn."""

import matplotlib
from matplotlib.figure import Figure

from logitlens_cli.fonts import BASE, Ruler, escaped, fallback

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
