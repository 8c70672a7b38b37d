"""The shape of the project: who imports whom, how many files, one name for one thing, documented and annotated."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.tracked_files import relative, tracked_files
from util.files import PROJECT

# What each package may import apart from itself (docs/architecture.md, "Floors").
ALLOWED_IMPORTS: dict[str, set[str]] = {
    "util": set(),
    "episodes": {"util"},
    "model": {"util"},
    "masks": {"episodes", "model", "util"},
    "prepare": {"episodes", "util"},
    "engine": {"model", "util"},
    "commands": {"engine", "episodes", "masks", "model", "prepare", "util"},
    "web": {"engine", "prepare", "segmenter", "util"},
}
# Modules beside the packages that packages may import; they stand above engine/ and masks/.
ENTRANCES = {"segmenter"}
# Entries on the first level of a package, without __init__.py.
MOST_ENTRIES = {"commands": 9, "prepare": 12, "masks": 17, "model": 19, "util": 19, "web": 12}
MOST_YAML_FILES = 26
# File names that several packages may have.
SHARED_FILE_NAMES = {
    "__init__.py": "Python's",
    "__main__.py": "Python's",
    "build.py": "the only file of its package that knows the configuration's keys",
    "reference.py": "what a native operator is compared with",
}
# Public names that several modules may define.
SHARED_NAMES = {
    "main": "a command's entrance",
    "add_arguments": "a subcommand of prepare",
    "run": "a subcommand of prepare",
    "backend": "each package of native operators",
    "deform_attn": "operator and reference",
    "felzenszwalb": "operator and reference",
    "hamming_kmeans": "operator and reference",
    "lsh_hash": "operator and reference",
    "ITERATIONS": "of either k-means, on features or on hash codes",
    "LAYERS": "of either transformer, on the support's or the query's side",
}


class Definition(NamedTuple):
    """A public class, function or constant on the first level of a module."""

    name: str
    module: str


def test_imports_go_down() -> None:
    wrong, modules = [], _project_modules()
    for path in _sources(*ALLOWED_IMPORTS):
        package = path.relative_to(PROJECT).parts[0]
        allowed = ALLOWED_IMPORTS[package]
        for line, imported in _imports(path):
            if imported in modules and imported not in {package, *allowed}:
                permitted = ", ".join(sorted(allowed)) or "no other package"
                wrong.append(f"{relative(path)}:{line}: imports {imported}; {package} may import {permitted}")
    assert not wrong, "\n".join(wrong)


def test_allowed_imports_make_no_circle() -> None:
    order: list[str] = []
    while len(order) < len(ALLOWED_IMPORTS):
        remaining = {name: below - ENTRANCES for name, below in ALLOWED_IMPORTS.items() if name not in order}
        lowest = [name for name, below in remaining.items() if below <= set(order)]
        assert lowest, f"a circle among {set(ALLOWED_IMPORTS) - set(order)}"
        order += lowest


def test_every_package_has_a_place() -> None:
    packages = {path.parent.name for path in _sources() if path.name == "__init__.py" and path.parents[1] == PROJECT}
    assert packages == set(ALLOWED_IMPORTS)


@pytest.mark.parametrize("package", MOST_ENTRIES)
def test_packages_have_few_entries(package: str) -> None:
    entries = {
        path.relative_to(PROJECT / package).parts[0]
        for path in tracked_files()
        if path.is_relative_to(PROJECT / package)
    }
    entries -= {"__init__.py"}
    assert 1 < len(entries) <= MOST_ENTRIES[package], f"{len(entries)} entries: {', '.join(sorted(entries))}"


def test_few_yaml_files() -> None:
    files = tracked_files(".yaml", ".yml")
    assert 10 < len(files) <= MOST_YAML_FILES, f"{len(files)} YAML files, at most {MOST_YAML_FILES}"


def test_no_two_files_have_one_name() -> None:
    paths = defaultdict(list)
    for path in _sources():
        if path.name not in SHARED_FILE_NAMES:
            paths[path.name].append(relative(path))
    repeated = [f"{name}: {', '.join(places)}" for name, places in paths.items() if len(places) > 1]
    assert not repeated, "\n".join(repeated)


def test_no_two_things_have_one_name() -> None:
    """Public classes, functions and constants, over all packages."""
    modules = defaultdict(list)
    for path in _sources(*ALLOWED_IMPORTS):
        for name, module in _public_definitions(path):
            if name not in SHARED_NAMES:
                modules[name].append(module)
    repeated = [f"{name}: {', '.join(places)}" for name, places in sorted(modules.items()) if len(places) > 1]
    assert not repeated, "\n".join(repeated)


def test_exceptions_are_needed() -> None:
    definitions = [name for path in _sources(*ALLOWED_IMPORTS) for name, _ in _public_definitions(path)]
    assert not [name for name in SHARED_NAMES if definitions.count(name) < 2]
    names = [path.name for path in _sources()]
    assert not [name for name in SHARED_FILE_NAMES if names.count(name) < 2]


def test_every_module_has_a_docstring() -> None:
    assert not [relative(path) for path in tracked_files(".py") if not ast.get_docstring(_tree(path))]


def test_every_signature_is_annotated() -> None:
    incomplete = [
        f"{relative(path)}:{function.lineno}: {function.name}"
        for path in tracked_files(".py")
        for function in ast.walk(_tree(path))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and not _is_annotated(function)
    ]
    assert not incomplete, "\n".join(incomplete)


def _sources(*packages: str) -> list[Path]:
    """Python files outside the tests; of the ``packages`` alone if any is given."""
    paths = [path.relative_to(PROJECT) for path in tracked_files(".py")]
    return [PROJECT / path for path in paths if path.parts[0] in packages or not (packages or path.parts[0] == "tests")]


def _project_modules() -> set[str]:
    """Names by which something of the project can be imported."""
    return {path.relative_to(PROJECT).parts[0].removesuffix(".py") for path in tracked_files(".py")}


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and first name of every import, also of those inside functions."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.split(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{relative(path)}:{node.lineno}: relative import"
            yield node.lineno, node.module.split(".")[0]


def _public_definitions(path: Path) -> Iterator[Definition]:
    for node in _tree(path).body:
        names = []
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names = [node.name]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = [target.id for target in targets if isinstance(target, ast.Name)]
        yield from (Definition(name, relative(path)) for name in names if not name.startswith("_"))


def _is_annotated(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    parameters = function.args
    positional = [*parameters.posonlyargs, *parameters.args]
    if positional and positional[0].arg in ("self", "cls"):
        positional = positional[1:]
    further = [parameters.vararg, parameters.kwarg]
    every = [*positional, *parameters.kwonlyargs, *(parameter for parameter in further if parameter is not None)]
    return function.returns is not None and all(parameter.annotation is not None for parameter in every)


@cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())
