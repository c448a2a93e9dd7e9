"""Modules import in one direction, and heavy libraries stay in their rooms."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import logitlens_cli

PACKAGE = Path(logitlens_cli.__file__).parent
ORDER = (
    *("errors", "progress", "files", "metrics", "request", "prompts", "limits", "tokens"),
    *("embedded", "model", "anatomy", "capture", "decode", "reading", "kernel", "reduction"),
    *("lens", "stats", "reader", "panels", "compare", "traces", "caption", "fonts", "pages"),
    *("layout", "figure", "curves", "lines", "parquet", "tables", "show", "terminal", "outputs"),
    *("batch", "session", "cluster", "run", "redraw", "corpus", "api", "cli", "__main__"),
)
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")


def tree(module: str) -> ast.Module:
    return ast.parse((PACKAGE / f"{module}.py").read_text("utf-8"))


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


def anywhere(module: str) -> set[str]:
    """Also within functions, and for type checking only."""
    return imported(ast.walk(tree(module)))


def at_once(node: ast.AST) -> Iterator[ast.AST]:
    """The statements that run when a module is imported."""
    for child in ast.iter_child_nodes(node):
        lazy = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            lazy = True
        if not lazy:
            yield child
            yield from at_once(child)


def libraries(module: str) -> set[str]:
    """Libraries that importing the module loads by name."""
    return {name.partition(".")[0] for name in imported(at_once(tree(module)))}


def own(names: set[str]) -> set[str]:
    """Which of our modules are among the imported names."""
    parts = [name.split(".") for name in names]
    found = {part[1] for part in parts if part[0] == "logitlens_cli" and len(part) > 1}
    assert found <= set(MODULES), "what is taken from the package are modules"
    return found


def test_every_module_has_its_place() -> None:
    assert set(MODULES) == set(ORDER)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_up_only(module: str) -> None:
    assert own(anywhere(module)) <= set(ORDER[: ORDER.index(module)])


@pytest.mark.parametrize(
    ("library", "rooms"),
    [
        ("torch", {"anatomy", "capture", "decode", "reduction", "lens"}),
        ("numba", {"kernel"}),
        ("ray", {"cluster"}),
        ("pyarrow", {"parquet"}),
        ("transformers", set()),
        ("matplotlib", {"fonts", "figure", "curves", "lines"}),
        ("seaborn", {"figure", "curves", "lines"}),
        ("typer", {"request", "cli"}),
    ],
)
def test_libraries_stay_in_their_rooms(library: str, rooms: set[str]) -> None:
    assert {module for module in MODULES if library in libraries(module)} == rooms


@pytest.mark.parametrize("library", ["matplotlib", "seaborn"])
def test_nothing_is_drawn_elsewhere(library: str) -> None:
    """Not even within functions."""
    rooms = {
        module
        for module in MODULES
        if any(name.partition(".")[0] == library for name in anywhere(module))
    }
    assert rooms <= {"fonts", "figure", "curves", "lines"}


def test_the_command_line_is_light() -> None:
    """What cli and request load by themselves, and through our own modules."""
    known, todo = set[str](), ["cli"]
    while todo:
        module = todo.pop()
        known.add(module)
        todo += own(imported(at_once(tree(module)))) - known
    assert known == {"cli", "request", "errors", "metrics"}
    loaded = {name for module in known for name in libraries(module)}
    standard = {"collections", "contextlib", "dataclasses", "enum", "gc", "importlib", "math"}
    standard |= {"os", "pathlib", "re", "signal", "time"}
    standard |= {"sys", "tomllib", "typing", "__future__", "abc"}
    assert loaded - standard == {"logitlens_cli", "typer"}


def test_only_the_command_line_knows_exit_codes() -> None:
    ends = {"exit", "_exit", "Exit", "Abort", "SystemExit", "quit", "abort", "EXIT_CODES"}
    users = {
        module
        for module in MODULES
        for node in ast.walk(tree(module))
        if (isinstance(node, ast.Name) and node.id in ends)
        or (isinstance(node, ast.Attribute) and node.attr in ends)
    }
    assert users == {"cli", "__main__"}  # which ends the process


def test_a_request_stops_at_run() -> None:
    users = {module for module in MODULES if "request" in own(anywhere(module))}
    assert users <= {"outputs", "session", "cluster", "run", "redraw", "corpus", "api", "cli"}
