"""The package: which folder may import which, where libraries may be named, how large things get,
and that every module has its tests."""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import logitlens_cli

PACKAGE = Path(logitlens_cli.__file__).parent
FOLDERS = (
    *("cli", "commands", "options", "batch", "figures", "lens", "model", "reading", "metrics"),
)
"""each imports only what stands after it"""
LIBRARIES = {
    "typer": {"cli", "options", "commands"},
    "rich": {"commands"},
    "torch": {"lens", "model"},
    "transformers": {"model"},
    "matplotlib": {"figures"},
    "seaborn": {"figures"},
    "pyarrow": {"reading"},
    "numba": {"lens"},
    "ray": {"batch"},
}
"""the folders in which a library may be named, also within functions"""
TOP = {"__init__.py", "__main__.py", "README.md", "errors.py", "py.typed", *FOLDERS}
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in PACKAGE.rglob("*.py")
)
IN_FOLDERS = [module for module in MODULES if "." in module]


def path_of(module: str) -> Path:
    return PACKAGE.joinpath(*module.split(".")).with_suffix(".py")


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(path_of(module).read_text("utf-8"))


def folder(module: str) -> str:
    return module.partition(".")[0]


def imported(nodes: Iterator[ast.AST]) -> set[str]:
    """Full names of the modules, or of what is taken from them, in import statements."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


@cache
def anywhere(module: str) -> frozenset[str]:
    """Also within functions, and for type checking only."""
    return frozenset(imported(ast.walk(tree(module))))


def at_once(node: ast.AST) -> Iterator[ast.AST]:
    """The statements that run when a module is imported."""
    for child in ast.iter_child_nodes(node):
        lazy = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            lazy = True
        if not lazy:
            yield child
            yield from at_once(child)


def modules_in(names: frozenset[str] | set[str]) -> set[str]:
    """Which of our modules are among the imported names."""
    found = set()
    for name in names:
        if name.startswith("logitlens_cli."):
            inner = name.removeprefix("logitlens_cli.")
            found.add(inner if inner in MODULES else inner.rpartition(".")[0] or inner)
    assert found <= set(MODULES), "what is imported is a module, or is taken from one"
    return found


def test_the_package_has_few_entries() -> None:
    entries = {path.name for path in PACKAGE.iterdir()} - {"__pycache__"}
    assert entries == TOP
    assert len(TOP) <= 14


@pytest.mark.parametrize("name", FOLDERS)
def test_every_folder_says_what_it_is_and_names_its_files(name: str) -> None:
    words = ast.get_docstring(tree(f"{name}.__init__")) or ""
    assert "knows n" in words.lower()  # what it does not know
    files = {p.stem for p in (PACKAGE / name).glob("*.py")} - {"__init__"}
    assert {file for file in files if f"``{file}``" not in words} == set()


@pytest.mark.parametrize("module", IN_FOLDERS)
def test_imports_go_down_only(module: str) -> None:
    above = FOLDERS[: FOLDERS.index(folder(module))]
    assert {other for other in modules_in(anywhere(module)) if folder(other) in above} == set()


def test_no_import_comes_back() -> None:
    """Within folders too, whatever is loaded late or for types only."""
    left = {module: modules_in(anywhere(module)) - {module} for module in MODULES}
    while left:
        free = {module for module, needs in left.items() if not needs & left.keys()}
        assert free, f"these import each other in a circle, or need who does: {sorted(left)}"
        left = {module: needs for module, needs in left.items() if module not in free}


@pytest.mark.parametrize("library", LIBRARIES)
def test_libraries_stay_in_their_folders(library: str) -> None:
    users = {
        folder(module)
        for module in MODULES
        if any(name.partition(".")[0] == library for name in anywhere(module))
    }
    assert users == LIBRARIES[library]


def loaded_by(statement: str) -> set[str]:
    """The modules that a new process has after a statement."""
    code = f"import sys; {statement}; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


def test_the_command_line_is_light() -> None:
    """Help and completion load neither a model's libraries nor numpy."""
    loaded = loaded_by("from logitlens_cli.cli.app import build_app; build_app()")
    heavy = {"numpy", "torch", "transformers", "matplotlib", "msgspec", "rich.console", "psutil"}
    assert loaded & heavy == set()
    light = {"cli", "commands", "options", "errors", "metrics", "lens", "model", "figures"}
    ours = {name.split(".")[1] for name in loaded if name.startswith("logitlens_cli.")}
    assert ours <= light


def test_the_librarys_face_does_not_stand_on_the_command_line() -> None:
    assert "typer" not in loaded_by("import logitlens_cli") | loaded_by(
        "import logitlens_cli.lens.api"
    )
    reached, todo = set[str](), ["lens.api"]
    while todo:
        module = todo.pop()
        reached.add(module)
        todo += modules_in(anywhere(module)) - reached
    assert {folder(module) for module in reached} & {"cli", "options", "commands"} == set()


def test_only_the_command_line_knows_exit_codes() -> None:
    ends = {"exit", "_exit", "Exit", "Abort", "SystemExit", "quit", "abort", "EXIT_CODES"}
    users = {
        folder(module)
        for module in MODULES
        for node in ast.walk(tree(module))
        if (isinstance(node, ast.Name) and node.id in ends)
        or (isinstance(node, ast.Attribute) and node.attr in ends)
    }
    assert users == {"cli", "__main__"}  # which ends the process


def test_options_stop_at_commands() -> None:
    users = {
        folder(m) for m in MODULES if any(folder(o) == "options" for o in modules_in(anywhere(m)))
    }
    assert users == {"options", "commands", "cli"}


def definitions(module: str) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node


@pytest.mark.parametrize("module", MODULES)
def test_nothing_is_long(module: str) -> None:
    assert len(path_of(module).read_text("utf-8").splitlines()) <= 400
    for node in definitions(module):
        assert node.end_lineno is not None
        limit = 50 if isinstance(node, ast.FunctionDef) else 150
        assert node.end_lineno - node.lineno + 1 <= limit, node.name


def test_no_two_modules_define_the_same_name() -> None:
    """A function or class at the top of a module has no namesake in another one."""
    homes: dict[str, list[str]] = {}
    for module in MODULES:
        for node in tree(module).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                homes.setdefault(node.name, []).append(module)
    assert {name: at for name, at in homes.items() if len(at) > 1} == {}


# ---- tests

TESTS = Path(__file__).parent
PENDING = {
    "model.anatomy.trials",
    "model.anatomy.stacks",
    "model.anatomy.slots",
    "model.anatomy.passages",
    "model.anatomy.state",
    "lens.text_proof",
    "lens.proven",
    "lens.norms",
    "lens.machine",
    "figures.reading_panels",
    "lens.decoder",
    "lens.decoders",
    "lens.followed",
    "lens.lens_model",
    "lens.prompt",
    "lens.proof_report",
    "lens.records",
    "lens.rounding",
    "lens.rows",
    "lens.spec",
    "lens.targets",
    "lens.tile",
    "lens.tiles_numba",
    "model.anatomy.find",
    "model.anatomy.mids",
    "model.anatomy.parts",
    "model.anatomy.passes",
    "model.anatomy.tail",
    "model.anatomy.tensors",
    "model.progress",
    "model.silence",
    "model.source",
}
"""modules that have no test file yet; those of these folders only"""
TESTED = [module for module in MODULES if module.rpartition(".")[2] not in ("__init__", "__main__")]


def files_that_test(module: str) -> set[str]:
    """The test files of a module: in the folder of its name, called ``test_NAME.py``, or with more
    before or after the name. One that is called as another module there is that one's."""
    *folders, name = module.split(".")
    names = {other.rpartition(".")[2] for other in TESTED if folder(other) == folder(module)}
    files = (TESTS / folders[0]).rglob("test_*.py") if folders else TESTS.glob("test_*.py")
    stems = {path.stem.removeprefix("test_") for path in files}
    near = {stem for stem in stems if stem.endswith(f"_{name}") or stem.startswith(f"{name}_")}
    return (stems & {name}) | (near - names)


@pytest.mark.parametrize("module", TESTED)
def test_every_module_has_a_test_file(module: str) -> None:
    if module in PENDING:
        assert not files_that_test(module), f"take {module} out of PENDING"
    else:
        assert files_that_test(module), f"{module} has no test file"


def test_what_is_pending() -> None:
    assert set(TESTED) >= PENDING
    assert {folder(module) for module in PENDING} <= {"figures", "lens", "model"}


def test_names_of_test_files_are_unique() -> None:
    """pytest imports each as a module of its name alone."""
    counts = Counter(path.stem for path in TESTS.rglob("test_*.py"))
    assert [stem for stem, count in counts.items() if count > 1] == []
