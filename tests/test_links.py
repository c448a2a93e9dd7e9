"""Every link of a document to a file of this project, or to a heading in one, leads somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Not all *.md below the root: `--table md` writes such files too.
FOLDERS = [ROOT / name for name in ("configs", "logitlens_cli", "tests")]
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted(path for folder in FOLDERS for path in folder.rglob("*.md")),
    ROOT / "outputs" / "README.md",
]
CODE_BLOCK = re.compile(r"^```.*?^```$|^(?: {4}[^\n]*\n)+", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)|^\[[^]]+\]:\s*(\S+)", re.MULTILINE)


def prose(document: Path) -> str:
    """A document without its blocks of code."""
    return CODE_BLOCK.sub("", document.read_text("utf-8"))


def links(text: str) -> list[str]:
    """Targets of all links and pictures, those to other sites left out."""
    targets = (
        inline or defined for inline, defined in LINK.findall(re.sub(r"`[^`]*`", "``", text))
    )
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors(text: str) -> set[str]:
    """Names of a text's headings, as GitHub makes them: small letters, spaces as hyphens, other
    signs left out, and a number where a name comes again."""
    names: set[str] = set()
    for heading in re.findall(r"^#{1,6} (.+?)\s*$", text, re.MULTILINE):
        name = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        number = 0
        while (unique := f"{name}-{number}" if number else name) in names:
            number += 1
        names.add(unique)
    return names


def leads_somewhere(link: str, document: Path) -> bool:
    path, _, anchor = link.partition("#")
    target = (document.parent / path).resolve() if path else document
    if not target.exists() or not target.is_relative_to(ROOT):
        return False
    return not anchor or (target.suffix == ".md" and anchor in anchors(prose(target)))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links(document: Path) -> None:
    broken = [link for link in links(prose(document)) if not leads_somewhere(link, document)]
    assert broken == []


@pytest.mark.parametrize(
    "link", ["nothing.md", "README.md#nothing", "#nothing", "../outside.md", "Makefile#demo"]
)
def test_a_broken_link_is_found(link: str) -> None:
    assert not leads_somewhere(link, ROOT / "README.md")


def test_readme_leads_to_every_document() -> None:
    """Directly, or by a document that it links to."""
    seen, todo = set[Path](), [ROOT / "README.md"]
    while todo:
        document = todo.pop()
        seen.add(document)
        targets = (link.partition("#")[0] for link in links(prose(document)))
        paths = {(document.parent / target).resolve() for target in targets if target}
        todo += sorted({path for path in paths if path.suffix == ".md"} - seen)
    assert seen == set(DOCUMENTS)


def test_links_are_found() -> None:
    text = "[a](b.md) ![p](<c.png>)\n[d](#e-f) [s](https://x.org) `[no](code)`\n[r]: g.md\n"
    assert links(text) == ["b.md", "c.png", "#e-f", "g.md"]


def test_anchors_are_as_on_github() -> None:
    text = "# In a Makefile\n## KL, the `--width`\n## In a Makefile\n"
    assert anchors(text) == {"in-a-makefile", "kl-the---width", "in-a-makefile-1"}
