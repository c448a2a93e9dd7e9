"""Files of figures: whatever a token is, the words in them, the same bytes."""

import io
import xml.etree.ElementTree as ET

import pytest
from PIL import Image
from readings import (
    make,
)

from logitlens_cli.figures import caption, heatmap, reading_panels
from logitlens_cli.figures.style import FigureStyle

HOSTILE = ["$a$ $b", "%d%", "\\frac{1}{2}", "<b>&amp;", "_^{}", "😀", "漢字", "ي", "#", "a" * 300]


@pytest.mark.parametrize("form", ["png", "svg", "pdf"])
def test_any_token_is_drawn_as_it_is(form: str) -> None:
    reading = make([HOSTILE, HOSTILE[::-1]])
    for drawing in heatmap.draw_heatmaps(reading, "topk", FigureStyle()):
        file = io.BytesIO()
        drawing.save(file, form, 100)
        data = file.getvalue()
        if form == "png":
            Image.open(io.BytesIO(data)).verify()
        elif form == "svg":
            texts = ["".join(e.itertext()) for e in ET.fromstring(data).iter()
                     if e.tag.endswith("}text")]  # fmt: skip
            assert {"$a$ $b", "%d%", "\\frac{1}{2}", "<b>&amp;"} <= set(texts)  # text stays text
        else:
            assert data.startswith(b"%PDF")


def test_files_say_in_words_what_they_show() -> None:
    title = 'Of <script>alert("&")</script> ]]> \\ (漢)'
    style = FigureStyle(title=title + "\x1b\n\ufffe")
    (drawing,) = heatmap.draw_heatmaps(make(), "kl-final", style)
    shown = title + "<U+001B>↵<U+FFFE>"
    words = caption.alt_text(reading_panels.panels(make(), "kl-final", style)[0])
    assert words.startswith(f"Heatmap: {shown}. KL(final || layer) – hand-made. 3 rows, ")

    def saved(form: str) -> bytes:
        drawing.save(file := io.BytesIO(), form, 80)
        return file.getvalue()

    with Image.open(io.BytesIO(saved("png"))) as image:
        assert image.info["Title"] == shown
        assert image.info["Description"] == words
    root = ET.fromstring(saved("svg"))
    svg, dc = "{http://www.w3.org/2000/svg}", "{http://purl.org/dc/elements/1.1/}"
    assert [child.tag for child in root][:2] == [f"{svg}title", f"{svg}desc"]
    assert [child.text for child in root][:2] == [shown, words]
    assert {e.text for e in root.iter(f"{dc}description")} == {words}
    assert not list(root.iter("script"))
    pdf = saved("pdf")
    assert b"/Subject" in pdf
    assert b"/Title" in pdf


def test_same_reading_same_bytes() -> None:
    def bytes_of(form: str) -> bytes:
        file = io.BytesIO()
        heatmap.draw_heatmaps(make(), "topk", FigureStyle())[0].save(file, form, 80)
        return file.getvalue()

    for form in ("png", "svg", "pdf"):
        assert bytes_of(form) == bytes_of(form)
