"""Which installed fonts can draw a text, and how wide it becomes.

A character that no font has is shown as an escape instead of a box.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache

import regex
from matplotlib import font_manager
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

from logitlens_cli.errors import UsageError, nearest

BASE = "DejaVu Sans"  # comes with matplotlib, so every machine draws alike
# Fonts for many scripts are preferred to whatever else is installed; then by name.
PREFERRED = ("Noto Sans", "Source Han", "WenQuanYi", "Droid Sans Fallback", "Unifont")


# Some fonts have glyphs for control characters; SVG must not hold them, and others turn what
# follows around.
UNDRAWN = ("Cc", "Cf", "Cs", "Cn", "Zl", "Zp")
# Boxes for every character there is, and fonts whose characters are not where Unicode has them.
UNFIT = ("Last Resort", "cmb", "cmex", "cmmi", "cmr", "cmss", "cmsy", "cmtt")


@cache
def charmap(path: str) -> frozenset[int]:
    """The code points that a font file has glyphs for."""
    return frozenset(font_manager.get_font(path).get_charmap())


@cache
def installed() -> tuple[tuple[str, str], ...]:
    """(family, file) of the upright fonts of normal weight, the preferred first."""
    files = {
        entry.name: entry.fname
        for entry in sorted(font_manager.fontManager.ttflist, key=lambda entry: entry.fname)
        if entry.style == "normal" and entry.weight in (400, "normal", "regular", "book")
    }
    fit = [item for item in files.items() if not item[0].startswith(UNFIT)]
    return tuple(sorted(fit, key=lambda item: (not item[0].startswith(PREFERRED), item[0])))


def require_fonts(families: Iterable[str]) -> None:
    """UsageError for a family of fonts that is not installed."""
    names = {entry.name for entry in font_manager.fontManager.ttflist}
    for family in families:
        if family not in names:
            raise UsageError(
                f"--font {family!r} is not installed",
                f"{nearest(family, names)}name a family as the system calls it",
            )


def fallback(texts: Iterable[str], wanted: Sequence[str] = ()) -> tuple[list[str], frozenset[str]]:
    """The families to draw ``texts`` with, in order, and the characters that none of them has.
    ``wanted`` come first, whatever they have."""
    families = list(dict.fromkeys([*wanted, BASE]))
    has_glyph = set[int]().union(*(charmap(font_manager.findfont(name)) for name in families))
    characters = set[str]().union(*texts)
    never = {char for char in characters if unicodedata.category(char) in UNDRAWN}
    missing = {char for char in characters - never if ord(char) not in has_glyph}
    for family, path in installed() if missing else ():
        try:
            has = {char for char in missing if ord(char) in charmap(path)}
        except (OSError, RuntimeError):  # a font file that matplotlib cannot read
            continue
        if has:
            families.append(family)
            missing -= has
        if not missing:
            break
    return families, frozenset(missing | never)


def escaped(text: str, missing: frozenset[str]) -> str:
    """``text`` with every character that has no glyph as ``<U+6F22>``."""
    if not missing.intersection(text):
        return text
    return "".join(f"<U+{ord(char):04X}>" if char in missing else char for char in text)


CJK = {"Hani", "Hira", "Kana", "Hang", "Bopo"}
"""scripts that share their signs, and a package of fonts"""
PACKAGES = {**dict.fromkeys(CJK, "fonts-noto-cjk"), "emoji": "fonts-symbola"}
"""the package of Debian and Ubuntu that brings a font; of all other scripts fonts-noto-core"""


def script_of(char: str) -> str:
    """ISO 15924 code of a character's script ("Hani"), or "emoji"."""
    from fontTools.unicodedata import script, script_extension

    if ord(char) >= 0x1F000 and script(char) == "Zyyy":  # of no script; with skin tones
        return "emoji"
    scripts: set[str] = script_extension(char)
    return "Hani" if len(scripts) > 1 and scripts & CJK else min(scripts)


def scripts_of(characters: Iterable[str]) -> dict[str, str]:
    """The names of the scripts of characters, each with a package that brings a font for it."""
    from fontTools.unicodedata import script_name

    names = {"emoji": "emoji", "Zyyy": "symbols"}  # which Unicode calls "Common"
    return {
        names.get(code) or script_name(code): PACKAGES.get(code, "fonts-noto-core")
        for code in sorted({script_of(char) for char in characters})
    }


CLUSTER = regex.compile(
    r"(?:<(?:U\+[0-9A-F]{4,6}|0x[0-9A-F]{2})>|‹[0-9A-F ]+›)"
    r"[\p{GCB=Extend}\p{GCB=SpacingMark}\p{GCB=ZWJ}]*|\X"
)
"""an escape with the marks upon it, or a grapheme cluster: a letter with its marks, a flag, an
emoji with its skin tone"""


FORMULA = regex.compile(r"[^\s()\[\]]*(?:\([^()]*\)|\[[^\[\]]*\])\S*|\S+")
"""a word, or what brackets hold together"""


def cut_points(text: str) -> list[int]:
    """Where a text may be cut: grapheme clusters and escapes stay whole."""
    return [cluster.start() for cluster in CLUSTER.finditer(text)]


class Ruler:
    """Measures texts in inches, in one set of families."""

    def __init__(self, families: list[str]) -> None:
        self.families = families
        self.paths = TextToPath()
        self.widths: dict[tuple[str, float], float] = {}

    def width(self, text: str, size: float, weight: str = "normal") -> float:
        """Width of one line at ``size`` points, in inches."""
        key = (text + weight, size)
        if key not in self.widths:
            font = FontProperties(family=self.families, size=size, weight=weight)
            width, _, _ = self.paths.get_text_width_height_descent(text, font, ismath=False)
            self.widths[key] = width / 72
        return self.widths[key]

    @staticmethod
    def most(size: float, limit: float) -> int:
        """More characters than fit into ``limit`` inches, so that no longer text is measured."""
        return 20 + int(10 * 72 * limit / size)  # the narrowest have a quarter of their size

    def rise(self, size: float) -> float:
        """Inches from the middle of a line, half-way up a tall letter, down to its baseline."""
        font = FontProperties(family=self.families, size=size)
        _, height, descent = self.paths.get_text_width_height_descent("lp", font, ismath=False)
        return (height - descent) / 144

    def shortened(self, text: str, size: float, limit: float, weight: str = "normal") -> str:
        """``text``, or as much of its beginning as fits into ``limit`` inches, with an ellipsis."""
        most = self.most(size, limit)
        if len(text) <= most and self.width(text, size, weight) <= limit:
            return text
        cuts = cut_points(text[: most + 1])
        low, high = 0, len(cuts) - 1
        while low < high:  # the longest beginning that fits
            middle = (low + high + 1) // 2
            if self.width(text[: cuts[middle]] + "…", size, weight) <= limit:
                low = middle
            else:
                high = middle - 1
        return text[: cuts[low]] + "…"

    def wrapped(
        self, parts: list[str], size: float, limit: float, between: str = "  ·  "
    ) -> list[str]:
        """``parts`` joined into as few lines of ``limit`` inches as they need; one is broken only
        where it is too long for a line of its own."""
        lines: list[str] = []
        for part in filter(None, parts):
            joined = f"{lines[-1]}{between}{part}" if lines else part
            if lines and self.width(joined, size) <= limit:
                lines[-1] = joined
            else:
                lines += self.broken(part, size, limit)
        return lines

    def broken(
        self, text: str, size: float, limit: float, weight: str = "normal", most: int = 99
    ) -> list[str]:
        """A text in at most ``most`` lines of ``limit`` inches, broken between words; what is too
        long all the same is shortened."""
        lines = [""]
        for word in self.unbroken(text, size, limit, weight):
            joined = f"{lines[-1]} {word}".strip()
            if len(lines) < most and lines[-1] and self.width(joined, size, weight) > limit:
                lines.append(word)
            else:
                lines[-1] = joined
        return [self.shortened(line, size, limit, weight) for line in lines if line]

    def unbroken(self, text: str, size: float, limit: float, weight: str) -> Iterator[str]:
        """The words of a text; a formula, KL(final || layer), is one if it fits into a line."""
        for found in FORMULA.finditer(text):
            whole = len(found[0]) <= self.most(size, limit)
            if whole and self.width(found[0], size, weight) <= limit:
                yield found[0]
            else:
                yield from found[0].split()
