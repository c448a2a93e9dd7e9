"""Whatever comes in, the program ends with a documented exit code and one line, and every file
that it writes can be read again."""

import copy
import hashlib
import json
import math
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
from conftest import Ran, Shell
from fuzz.targets import CORPUS, TARGETS
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from logitlens_cli.batch import prompts
from logitlens_cli.cli import app
from logitlens_cli.commands.topk import TopK
from logitlens_cli.commands.translate import read_spec
from logitlens_cli.errors import UsageError, one_line
from logitlens_cli.model import tokenizer
from logitlens_cli.reading import dump, marks, rounding

ROOT = Path(__file__).parents[1]
NASTY = (
    *("", "\x00", "\x1b[2J\x1b]0;x\x07", "\r\n", "\ud800", "\udcff", "\u202e", "\u200b\u200d", "א"),
    *("</text><script>alert(1)</script>", "&amp;<!--", "]]>", "$\\frac{", "{n}", "..", "../x"),
    *("/etc/passwd", "\ufffe", "\U000e0100", "e\u0301" * 9, "日本", "🏳️‍🌈", "a" * 300, "%s%n", "-"),
    *("NaN", "1e999", "id:1", "0:2", "-1:", ":", "0-3", "1/2", "\u2028", "\x7f\x80\x9f"),
)
TEXTS = st.one_of(
    st.sampled_from(NASTY),
    st.text(st.characters(), max_size=20),  # surrogates too
    st.text(st.characters(categories=["Cc", "Cf", "Co", "Cn", "Mn", "Zl", "Zp"]), max_size=8),
)
QUICK = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
MANY = settings(max_examples=200)


@pytest.fixture(scope="module")
def whole(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A dump as it should be."""
    out = tmp_path_factory.mktemp("dump")
    line = ["all", "-t", "the cat", "-m", str(tiny_folder), "-o", str(out), "--name", "x"]
    more = ["--target", "final", "--target", "auto", "--format", "none"]
    assert app.main([*line, *more]) == 0
    made: dict[str, Any] = json.loads((out / "x.all.json").read_bytes())
    return made


@pytest.fixture(scope="module")
def validator() -> Any:
    return jsonschema.Draft202012Validator(dump.dump_schema())


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def emptied(place: Path) -> Path:
    """Every example has a folder of its own, in which there is nothing yet."""
    for path in place.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (place / "in").mkdir()
    return place / "in" / "out"


def require_sound(ran: Ran, place: Path, out: Path, validator: Any) -> None:
    """The end is documented, nothing lies outside of ``out``, and what lies there can be read."""
    assert ran.code in (0, 1, 2, 3), ran
    if ran.code:
        assert (ran.out, len(ran.err)) == ([], 1), ran
    assert all(line == one_line(line) for line in ran.err), ran
    files = [path for path in place.rglob("*") if path.is_file()]
    known = {place / "in" / "x.json", place / "in" / "p.toml"}
    assert all(path.is_relative_to(out) for path in files if path not in known), files
    written = [path for path in files if path.is_relative_to(out)]
    assert not [path for path in written if path.name.startswith(".")]
    assert bool(written) == (ran.code == 0)
    for path in written:
        require_readable(path, validator)


def require_readable(path: Path, validator: Any) -> None:
    if path.suffix == ".png":
        Image.open(path).load()
    elif path.suffix == ".svg":
        require_harmless(ElementTree.parse(path))
    elif path.suffix == ".json":
        validator.validate(json.loads(path.read_bytes(), parse_constant=pytest.fail))
        dump.load_dump(path)
    else:
        assert path.read_bytes().startswith((b"%PDF", b"PAR1"))


def require_harmless(figure: Any) -> None:
    """No script, nothing that leads outside, nothing that acts."""
    for element in figure.iter():
        assert not element.tag.lower().endswith(("script", "foreignobject", "animate", "}a"))
        for key, value in element.attrib.items():
            assert not key.lower().startswith("on")
            # The colour bar is a picture within.
            assert not key.endswith("href") or value.startswith(("#", "data:image/png;base64,"))
            assert "url(" not in value or "url(#" in value


# ---- dumps

NUMBERS = st.one_of(
    st.sampled_from([0, -1, 1, 2**31, 2**63, 2**64, 10**30, 1e-320, 1e100, 1e101, 1e308, -1e308]),
    st.integers(-3, 3),
    st.floats(allow_nan=False, allow_infinity=False),
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=5,
)


def place_of(draw: st.DrawFn, value: Any) -> tuple[Any, Any]:
    """A container somewhere in the dump, and a key of it."""
    while True:
        if isinstance(value, dict):
            assume(value)
            key = draw(st.sampled_from(sorted(value)))
        else:
            assume(value)
            key = draw(st.integers(0, len(value) - 1))
        inner = value[key]
        if not isinstance(inner, dict | list) or not inner or draw(st.integers(0, 3)) == 0:
            return value, key
        value = inner


@st.composite
def spoilt(draw: st.DrawFn, dump: dict[str, Any]) -> bytes:  # noqa: C901  # one case per fault
    """A dump with one to three things wrong, or odd, in it."""
    dump = copy.deepcopy(dump)
    for _ in range(draw(st.integers(1, 3))):
        container, key = place_of(draw, dump)
        old = container[key]
        match draw(st.integers(0, 5)):
            case 0:
                del container[key]
            case 1 if isinstance(container, list):
                container.insert(key, copy.deepcopy(old))
            case 2 if isinstance(old, str):
                container[key] = draw(TEXTS)
            case 3 if isinstance(old, int | float):
                container[key] = draw(NUMBERS)
            case 4 if isinstance(old, list):
                container[key] = old * draw(st.integers(0, 3))
            case _:
                container[key] = draw(VALUES)
    text = json.dumps(dump)
    match draw(st.integers(0, 12)):
        case 0:
            at = draw(st.integers(0, len(text)))
            text = (
                text[:at] + draw(st.sampled_from(["NaN", "]", "[" * 5000, "\x00", ""])) + text[at:]
            )
        case 1:
            text = text[: draw(st.integers(0, len(text)))]
        case 2:
            text = text.replace('": ', f'": {"[" * 2000}', 1)
        case 3:
            text = text.replace('{"position"', '{"position": 1, "position"', 1)
    return text.encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("form", ["svg", "png", "parquet"])
def test_dumps(
    form: str, whole: dict[str, Any], place: Path, logitlens: Shell, validator: Any
) -> None:
    ends = set()

    @settings(QUICK, max_examples={"svg": 40, "png": 15, "parquet": 80}[form])
    @given(spoilt(whole), st.sampled_from(["", "topk", "rank-final", "followed", "kl-final"]))
    def draw(data: bytes, metric: str) -> None:
        out = emptied(place)
        (place / "in" / "x.json").write_bytes(data)
        line = ["render", place / "in" / "x.json", *filter(None, [metric]), "-o", out]
        ran = logitlens(*line, "--format", form, "--dpi", "40")
        require_sound(ran, place, out, validator)
        ends.add(ran.code)

    draw()
    assert {2} <= ends <= {0, 2}  # some are odd only, and are drawn


@QUICK
@given(
    words=st.lists(TEXTS, min_size=8, max_size=8),
    metric=st.sampled_from(["topk", "rank-final", "followed"]),
)
def test_texts_within_a_dump(
    words: list[str],
    metric: str,
    whole: dict[str, Any],
    place: Path,
    logitlens: Shell,
    validator: Any,
) -> None:
    """Every text of a dump may be anything that is Unicode."""
    words = [word.encode("utf-8", "replace").decode() for word in words]
    dump = copy.deepcopy(whole)
    token = dump["tokens"][0]
    dump["name"], dump["text"], dump["model"]["name"], dump["lens"]["chain"][0] = words[:4]
    dump["text_sha256"] = hashlib.sha256(dump["text"].encode()).hexdigest()
    token["label"], dump["layers"][0]["label"], dump["guesses"]["labels"][1][1][0] = words[4:7]
    token["next_label"] = dump["followed"]["labels"][0] = words[7]
    dump["metrics"]["rank-final"]["quantity"] = dump["metrics"]["rank-final"]["unit"] = words[0]
    out = emptied(place)
    (place / "in" / "x.json").write_text(json.dumps(dump))
    line = ["render", place / "in" / "x.json", "-o", out, "--format", "svg", "-q", "--input-row"]
    ran = logitlens(*line, metric)
    assert (ran.code, ran.err) == (0, [])
    require_sound(ran, place, out, validator)


# ---- command lines

OPTIONS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["--window", "--layers", "--title", "--name", "--cmap"]), TEXTS),
        st.tuples(st.sampled_from(["--target", "--format", "--shard", "--revision"]), TEXTS),
        st.tuples(
            st.sampled_from(["--every", "--k", "--split", "--vmin", "--vmax", "--skip-first"]),
            NUMBERS.map(str) | TEXTS,
        ),
        st.sampled_from([("--subblocks",), ("--input-row",), ("--changes-only",), ("--chat",)]),
    ),
    max_size=4,
).map(lambda pairs: [word for pair in pairs for word in pair])


@pytest.mark.parametrize("command", ["all", "rank"])
def test_command_lines(
    command: str, tiny_folder: Path, place: Path, logitlens: Shell, validator: Any
) -> None:
    @settings(QUICK, max_examples=20)
    @given(TEXTS, OPTIONS)
    def run(text: str, options: list[str]) -> None:
        out = emptied(place)
        line = [command, "-t", text, "-m", tiny_folder, "-o", out, "-q", "--format", "svg"]
        ran = logitlens(*line, *options)
        require_sound(ran, place, out, validator)

    run()


@QUICK
@given(
    preset=st.dictionaries(st.sampled_from(["every", "title", "layers", "k", "x"]) | TEXTS, VALUES)
)
def test_presets(preset: dict[str, Any], place: Path, logitlens: Shell, validator: Any) -> None:
    out = emptied(place)
    lines = [f"{json.dumps(key)} = {json.dumps(value)}" for key, value in preset.items()]
    data = "\n".join(lines).encode("utf-8", "surrogatepass")
    (place / "in" / "p.toml").write_bytes(data)
    line = ["topk", "-t", "a", "-o", out, "--dry-run", "--config", place / "in" / "p.toml"]
    ran = logitlens(*line)
    assert ran.code in (0, 2)
    assert len(ran.err) == (ran.code == 2)


# ---- small things


@MANY
@given(TEXTS)
def test_names_never_leave_their_folder(name: str) -> None:
    try:
        made = prompts.safe_name(name)
    except UsageError:
        return
    path = Path("/out") / made
    assert path.is_relative_to("/out")
    assert ".." not in path.parts
    assert not any(part.startswith((".", "-")) for part in path.parts[2:])
    assert made.isprintable()
    assert len(made.encode()) <= prompts.LONGEST_NAME
    made.encode()


@MANY
@given(TEXTS)
def test_what_a_terminal_is_told_cannot_act(text: str) -> None:
    for shown in (one_line(text), str(UsageError(text, text)), marks.with_marks(text)):
        assert shown.isprintable()


@MANY
@given(st.text(st.sampled_from("0123456789-, \u0663x"), max_size=12), st.integers(1, 50))
def test_layers(spec: str, blocks: int) -> None:
    try:
        rows = read_spec(TopK(text="a", layers=spec)).blocks(blocks)
    except UsageError:
        return
    assert rows == tuple(sorted(set(rows)))
    assert 0 <= rows[0] <= rows[-1] < blocks


@MANY
@given(st.one_of(TEXTS, st.from_regex(r"-?\d{0,3}:-?\d{0,3}", fullmatch=True)), st.integers(1, 40))
def test_windows(spec: str, count: int) -> None:
    spans = tuple((n, n + 1) for n in range(count))
    try:
        made = tokenizer.window_columns(
            spec, "x" * count, tokenizer.Encoded((0,) * count, spans, False)
        )
    except UsageError:
        return
    assert 0 <= made.start < made.stop <= count
    assert made.step == 1


@MANY
@given(st.floats() | st.floats(width=32))
def test_numbers_in_a_dump(value: float) -> None:
    made = rounding.rounded(value)
    if not math.isfinite(value):
        assert made is None
    elif 1e-12 < abs(value) < 1e22:
        assert made == pytest.approx(value, rel=1e-6)


@settings(QUICK, max_examples=40)
@given(lines=st.lists(st.binary(max_size=30), max_size=4))
def test_files_of_prompts(lines: list[bytes], place: Path) -> None:
    emptied(place)
    for name in ("a.txt", "a.jsonl"):
        path = place / "in" / name
        path.write_bytes(b"\n".join(lines))
        try:
            made = prompts.from_lines(path, None)
        except UsageError:
            continue
        assert len({prompt.name for prompt in made}) == len(made)


def test_a_line_of_a_megabyte(tiny_folder: Path, place: Path, logitlens: Shell) -> None:
    """It fails by itself, at once; the others go on."""
    out = emptied(place)
    (place / "in" / "x.txt").write_text("the cat " * 125_000 + "\nok\n")
    line = ["topk", "--lines", place / "in" / "x.txt", "-m", tiny_folder, "-o", out, "-q"]
    ran = logitlens(*line, "--format", "none", "--jobs", "0")
    assert (ran.code, len(ran.out), len(ran.err)) == (4, 1, 2)
    assert "tokens, tiny-llama takes 64" in ran.err[0] or "takes 64" in ran.err[0]


# ---- what `make fuzz` starts from

SEEDS = sorted(path.relative_to(CORPUS).as_posix() for path in CORPUS.rglob("*") if path.is_file())


@pytest.mark.parametrize("seed", SEEDS)
def test_seeds(seed: str, tmp_path: Path) -> None:
    target = seed.partition("/")[0]
    TARGETS[target]((CORPUS / seed).read_bytes(), tmp_path)


def test_every_target_has_seeds() -> None:
    assert {path.name for path in CORPUS.iterdir()} == TARGETS.keys()
    assert sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file()) < 2**15


@pytest.mark.parametrize("path", sorted((CORPUS / "dump").iterdir()), ids=lambda path: path.stem)
def test_seeds_are_dumps(path: Path, validator: Any) -> None:
    validator.validate(json.loads(path.read_bytes()))
    dump.load_dump(path)


def test_what_is_fuzzed_is_what_runs() -> None:
    """The same versions as those that a run is pinned to."""
    pins = [set(re.findall(r"^\w[^\s;]*", (ROOT / name).read_text(), re.MULTILINE))
            for name in ("requirements/run.txt", "requirements/fuzz.txt")]  # fmt: skip
    assert {pin.partition("==")[0] for pin in pins[1] - pins[0]} == {"atheris"}
