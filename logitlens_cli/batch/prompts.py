"""--text, --file, standard input, --lines -> prompts with names.

Reads text and names outputs; knows nothing of tokens or models.
"""

import errno
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from logitlens_cli.errors import UsageError
from logitlens_cli.model.progress import Progress

LARGEST_FILE = 2**30
"""bytes of a file of texts"""

JSON_KEYS = {"text", "name"}
MOST_TOLD = 10
"""wrong lines of a file, or unknown keys, that are told one by one"""
NAME_LENGTH = 40
LONGEST_NAME, LONGEST_PART = 1000, 200
"""bytes; systems take 4096 and 255, and what follows the name needs some"""


@dataclass(frozen=True)
class Prompt:
    """One text to read, and the stem of the files that come of it."""

    name: str
    text: str
    line: int | None = None
    """number of its line in the file of --lines, from 1"""


def from_text(text: str, name: str | None, source: str = "--text") -> Prompt:
    """A prompt from the command line; its default name is its first words."""
    require_text(text, source)
    return Prompt(safe_name(slug(text) if name is None else name), text)


def from_file(path: Path, name: str | None) -> Prompt:
    """A prompt from a whole file, or from standard input if ``path`` is "-".

    One line end at the very end belongs to the file, not to the text.
    """
    text = read_text_file(path, "--file").removesuffix("\n").removesuffix("\r")
    require_text(text, f"--file {path}")
    return Prompt(safe_name(stem_of(path) if name is None else name), text)


def from_lines(
    path: Path, name: str | None, *, named: bool = True, progress: Progress | None = None
) -> list[Prompt]:
    """One prompt per line; lines without text are passed over. In JSON lines (``are_json``) each is
    an object with "text" and perhaps "name", which counts for nothing unless ``named``.

    ``progress`` is told what is passed over or changed, and every line that is wrong before
    UsageError is raised."""
    # Lines end at line feeds only: other separators of Unicode may stand within a prompt.
    lines = [line.removesuffix("\r") for line in read_text_file(path, "--lines").split("\n")]
    if not lines[-1]:  # what follows the last line feed is no line
        lines.pop()
    filled = [(n, line) for n, line in enumerate(lines, 1) if line.strip()]
    if not filled:
        raise UsageError(f"--lines {path} has no line with text", "write one prompt per line")
    is_json = are_json(path, lines, filled[0][1])
    pattern = stem_of(path) + "-{n}" if name is None else name
    if "{n}" not in pattern and len(filled) > 1 and not is_json:
        raise UsageError(
            f"--name {name!r} cannot name {len(filled)} prompts",
            "put {n} where the number goes",
        )
    progress = progress or Progress()
    source = LinesSource(path, pattern, len(str(filled[-1][0])), name is not None, named)
    source.add_lines(filled, is_json)
    if source.wrong:
        source.raise_all(progress)
    source.note(len(lines) - len(filled), progress)
    return source.prompts


class LinesSource:
    """The prompts of a file, what is wrong with its lines, and what was changed."""

    def __init__(
        self, path: Path, pattern: str, digits: int, pattern_given: bool, named: bool
    ) -> None:
        self.path, self.pattern, self.digits = path, pattern, digits
        self.pattern_given, self.named = pattern_given, named
        self.prompts: list[Prompt] = []
        self.errors: list[UsageError] = []
        """the first ones"""
        self.wrong = 0
        """lines"""
        self.lines_by_name: dict[str, int] = {}
        self.unknown_keys: Counter[str] = Counter()
        self.renamed: list[tuple[str, str]] = []
        """names as they were given, and as the files have them"""

    def add_lines(self, filled: Iterable[tuple[int, str]], is_json: bool) -> None:
        """Lines with text, by their numbers."""
        for n, line in filled:
            try:
                given, text = self.from_json_line(line, n) if is_json else (None, line)
                self.prompts.append(self.prompt(given, text, n))
            except UsageError as error:
                self.wrong += 1
                if self.wrong <= MOST_TOLD:
                    self.errors.append(error)

    def prompt(self, given: str | None, text: str, n: int) -> Prompt:
        """A line as a prompt, by its own name or by the pattern."""
        stem = self.pattern.replace("{n}", f"{n:0{self.digits}d}")
        flag = "--name"
        if given is not None and self.named:
            stem, flag = given, f"--lines {self.path}, line {n}: name"
        name = safe_name(stem, flag)
        if name != stem and (flag != "--name" or self.pattern_given):
            self.renamed.append((stem, name))
        first = self.lines_by_name.setdefault(name, n)
        if first != n:
            raise UsageError(
                f"--lines {self.path}: lines {first} and {n} would both write {name!r}",
                "give them different names",
            )
        return Prompt(name, text, n)

    def from_json_line(self, line: str, n: int) -> tuple[str | None, str]:
        """The name and text of a line of JSON."""
        try:
            value: Any = msgspec.json.decode(line)
        except (msgspec.DecodeError, RecursionError) as error:
            raise UsageError(
                f"--lines {self.path}, line {n}: not JSON ({error})", "correct the line"
            ) from error
        entry = value if isinstance(value, dict) else {}
        text, name = entry.get("text"), entry.get("name")
        if not isinstance(text, str) or not isinstance(name, str | None):
            raise UsageError(
                f'--lines {self.path}, line {n}: not an object with a string "text"',
                'write {"text": "...", "name": "..."}',
            )
        self.unknown_keys.update(entry.keys() - JSON_KEYS)
        return name, text

    def raise_all(self, progress: Progress) -> NoReturn:
        """Raise the only error; of several, tell the first ones and raise how many there are."""
        if self.wrong == 1:
            raise self.errors[0]
        for error in self.errors:
            progress.failure(str(error))
        more = self.wrong - len(self.errors)
        raise UsageError(
            f"--lines {self.path}: {self.wrong} lines are wrong"
            + (f", {more} more than these" if more else ""),
            "correct them; nothing was read",
        )

    def note(self, blank: int, progress: Progress) -> None:
        """Say what was passed over and what was changed, once each."""
        if blank:
            progress.note(f"--lines {self.path}: {counted(blank, 'line')} without text passed over")
        if self.unknown_keys:
            keys = ", ".join(f"{key!r} ({counted(n, 'line')})" for key, n in
                             sorted(self.unknown_keys.items())[:MOST_TOLD])  # fmt: skip
            progress.note(
                f'--lines {self.path}: keys other than "text" and "name" count for nothing: {keys}'
            )
        if self.renamed:
            given, name = self.renamed[0]
            progress.note(
                f"--lines {self.path}: {counted(len(self.renamed), 'name')} changed to be safe as "
                f"the name of a file, the first from {given!r} to {name!r}"
            )


JSON_LINES = (".jsonl", ".ndjson")


def are_json(path: Path, lines: Sequence[str], first_line: str) -> bool:
    """Are the lines of a file JSON? Its name says so, or its first line with text is an object with
    "text"; where the name does not end in .txt, any object will do, to be refused if it has none.

    UsageError for a file that is JSON as a whole.
    """
    suffix = path.suffix.lower()
    if suffix in JSON_LINES:
        return True
    value = json_value(first_line)
    if isinstance(value, dict):
        return "text" in value or suffix != ".txt"
    if suffix == ".json" or (suffix != ".txt" and holds_objects(json_value("\n".join(lines)))):
        raise UsageError(
            f"--lines {path}: its first line is no JSON object, so it is not JSON lines",
            'write one object a line, {"text": "..."}, as jq -c \'.[]\' makes of a list',
        )
    return False


def is_json_line(line: str) -> bool:
    """Is a line what a line of JSON lines is: an object with "text"?"""
    value = json_value(line)
    return isinstance(value, dict) and "text" in value


def json_value(text: str) -> Any:
    """What a text is in JSON; None where it is none."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None


def holds_objects(value: Any) -> bool:
    """Is a value of JSON an object, or a list of some?"""
    return isinstance(value, dict) or (
        isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)
    )


def counted(number: int, noun: str) -> str:
    """ "1 line", "2 lines"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def read_text_file(path: Path, option: str) -> str:
    """A text file as UTF-8, without a byte order mark; "-" is standard input."""
    try:
        if str(path) == "-" and sys.stdin is None:
            raise OSError(errno.EBADF, "standard input is closed")
        if str(path) == "-":
            data = sys.stdin.buffer.read(LARGEST_FILE + 1)
        else:
            with path.open("rb") as file:
                data = file.read(LARGEST_FILE + 1)
        if len(data) > LARGEST_FILE:  # perhaps it has no end
            raise OSError(errno.EFBIG, f"it has more than {LARGEST_FILE >> 20} MB")
    except IsADirectoryError as error:
        raise UsageError(f"{option} {path} is a folder", "name a text file") from error
    except FileNotFoundError as error:
        raise UsageError(f"{option} {path} does not exist", "name a text file") from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        why = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"{option} {path}: {why}", "name a readable file") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{option} {path} is not UTF-8 (byte 0x{data[error.start]:02X} at {error.start})",
            "save it as UTF-8",
        ) from error


PIPES = (Path("/dev/fd"), Path("/proc/self/fd"))


def stem_of(path: Path) -> str:
    """What files are named by; a pipe (``<(...)``) has a number that says nothing."""
    is_pipe = str(path) in ("-", "/dev/stdin") or path.parent in PIPES
    return "stdin" if is_pipe else path.stem


def require_text(text: str, source: str) -> str:
    """Refuse what cannot be tokenized."""
    if not text:
        raise UsageError(f"{source}: the prompt is empty", "give some text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{source}: the prompt is not valid Unicode at character {error.start}",
            "give it as UTF-8",
        ) from error
    return text


def slug(text: str) -> str:
    """The first words of a text, fit for a file name."""
    words = re.sub(r"[^\w]+", "-", text[: 4 * NAME_LENGTH].lower()).strip("-_")
    if len(words) > NAME_LENGTH:  # end with a whole word, if there is an end
        cut = words[: NAME_LENGTH + 1]
        words = cut.rpartition("-")[0] or cut[:NAME_LENGTH]
    return words.strip("-_") or "prompt"


def safe_name(name: str, source: str = "--name") -> str:
    """A relative path without anything that leaves its folder or that a shell trips over."""
    cleaned = [re.sub(r"[^\w.,+=@{}-]+", "-", part).lstrip(".-") for part in name.split("/")]
    parts = [part for part in cleaned if part]
    if not parts:
        raise UsageError(f"{source} {name!r} holds no letter or digit", "give another name")
    path = "/".join(parts)
    if len(path.encode()) > LONGEST_NAME or any(len(p.encode()) > LONGEST_PART for p in parts):
        raise UsageError(
            f"{source} {name[:NAME_LENGTH]!r}... is too long ({len(name)} characters)",
            f"give a name of at most {LONGEST_PART} bytes between slashes, {LONGEST_NAME} in all",
        )
    return path
