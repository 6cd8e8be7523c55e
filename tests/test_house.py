"""The house rules that no linter knows: no circles of imports, no private names across modules."""

from __future__ import annotations

import ast
import gc
import re
import statistics
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

import intake_img

pytestmark = pytest.mark.thorough

ROOT = Path(intake_img.__file__).parent
SOURCES = {
    ".".join(p.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): p for p in ROOT.rglob("*.py")
}


def is_typing_only(node: ast.AST) -> bool:
    test = node.test if isinstance(node, ast.If) else None
    return getattr(test, "id", getattr(test, "attr", "")) == "TYPE_CHECKING"


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    """All statements that can run, also in functions; without blocks for type checkers."""
    left = [tree]
    while left:
        node = left.pop()
        for block in ("body", "orelse", "finalbody", "handlers", "cases"):
            inner = getattr(node, block, ())
            found = [n for n in (inner if isinstance(inner, list) else ()) if not is_typing_only(n)]
            yield from found
            left += found


def imported(module: str, tree: ast.AST) -> Iterator[tuple[str, str | None]]:
    """Modules of the package that a module imports, at any time, each with the name taken from it, if any."""
    for node in statements(tree):
        if isinstance(node, ast.Import):
            yield from ((a.name, None) for a in node.names if a.name.split(".")[0] == "intake_img")
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "intake_img":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield (inner, None) if inner in SOURCES else (node.module, alias.name)


def private_uses(module: str, tree: ast.AST) -> Iterator[str]:
    """Names of other modules that begin with an underscore: imported, or reached through the module."""
    aliases = set()
    for node in statements(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            base = getattr(node, "module", None) or ""
            for alias in node.names:
                name = f"{base}.{alias.name}".strip(".")
                if name in SOURCES:
                    aliases.add(alias.asname or alias.name.split(".")[0])
    for target, name in imported(module, tree):
        if is_private(name or target.rpartition(".")[2]):
            yield f"{module} imports {name or target} of {target}"
    for node in ast.walk(tree) if aliases else ():
        if isinstance(node, ast.Attribute) and is_private(node.attr) and getattr(node.value, "id", "") in aliases:
            yield f"{module} uses {node.value.id}.{node.attr}"


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


@cache
def read() -> tuple[dict[str, set[str]], list[str]]:
    """What each module imports, and all uses of private names."""
    arrows, private = {}, []
    gc.disable()  # it would walk through the trees again and again, three times as long as the test itself
    try:
        for module, path in SOURCES.items():
            tree = ast.parse(path.read_text(encoding="utf-8"))
            arrows[module] = {target for target, _ in imported(module, tree)} - {module}
            private += private_uses(module, tree)
    finally:
        gc.enable()
    return arrows, private


def circles(arrows: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components of more than one module (Tarjan's algorithm)."""
    numbers: dict[str, int] = {}
    lowest: dict[str, int] = {}
    path: list[str] = []
    found: list[list[str]] = []

    def visit(v: str) -> None:
        numbers[v] = lowest[v] = len(numbers)
        path.append(v)
        for w in sorted(arrows.get(v, ())):
            if w not in numbers:
                visit(w)
                lowest[v] = min(lowest[v], lowest[w])
            elif w in path:
                lowest[v] = min(lowest[v], numbers[w])
        if lowest[v] == numbers[v]:
            at = path.index(v)
            if len(path) - at > 1:
                found.append(sorted(path[at:]))
            del path[at:]

    for v in sorted(arrows):
        if v not in numbers:
            visit(v)
    return found


def test_imports_make_no_circle():
    arrows, _ = read()
    assert len(arrows) > 300
    assert circles(arrows) == []


def test_a_circle_is_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}) == [["a", "b", "c"]]
    tree = ast.parse("if TYPE_CHECKING:\n  import intake_img.io\ndef f():\n  from intake_img import io, imload\n")
    assert list(imported("x", tree)) == [("intake_img.io", None), ("intake_img", "imload")]


def test_no_module_uses_private_names_of_others():
    assert read()[1] == []
    tree = ast.parse(
        "from intake_img.model import units\nfrom intake_img.io import _b\nunits._c\nimport numpy as np\nnp._d"
    )
    assert len(list(private_uses("x", tree))) == 2


@cache
def sizes() -> tuple[list[int], list[int], dict[str, int]]:
    """Lines of each function, without its signature and docstring; its cyclomatic complexity; lines of each module."""
    lines, branches, modules = [], [], {}
    gc.disable()
    try:
        for module, path in SOURCES.items():
            text = path.read_text(encoding="utf-8")
            modules[module] = text.count("\n")
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    lines.append(body_lines(node))
                    branches.append(complexity(node))
    finally:
        gc.enable()
    return lines, branches, modules


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = function.body[ast.get_docstring(function) is not None :]
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def complexity(function: ast.AST) -> int:
    """One more than the branches, as mccabe counts them (conditional expressions not); inner functions apart."""
    count, left = 1, list(ast.iter_child_nodes(function))
    while left:
        node = left.pop()
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            count += isinstance(node, BRANCHES)
            left += ast.iter_child_nodes(node)
    return count


BRANCHES = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.match_case, ast.comprehension, ast.Lambda)


CIRCULAR = ("dask", "numcodecs", "pydicom", "scipy", "zarr")
"""Packages whose modules import each other: one is incomplete if it is imported while another thread imports all."""


def parts_before_the_whole(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Imports of a part of a package before a statement that waits for the whole: ``import x``, ``from x import y``."""
    scopes = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.Module)]
    outside = {name for node in _own(tree) for name, _ in _taken(node)}
    for scope in scopes:
        whole = set() if scope is tree else set(outside)
        for node in sorted(_own(scope), key=lambda n: n.lineno):
            for name, part in _taken(node):
                if part and name in CIRCULAR and name not in whole:
                    yield node.lineno, ast.unparse(node)
                whole.add(name)


def _own(scope: ast.AST) -> list[ast.Import | ast.ImportFrom]:
    """The imports of a scope, without those of the functions in it."""
    found: list[ast.Import | ast.ImportFrom] = []
    left = [scope]
    while left:
        for node in ast.iter_child_nodes(left.pop()):
            if isinstance(node, ast.Import | ast.ImportFrom):
                found.append(node)
            elif not is_typing_only(node) and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                left.append(node)
    return found


def _taken(node: ast.Import | ast.ImportFrom) -> list[tuple[str, bool]]:
    """The packages of an import, each with whether it is a part of it that is imported first."""
    names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
    return [(name.split(".")[0], "." in name) for name in names]


def test_a_package_is_imported_before_its_parts():
    found = {m: list(parts_before_the_whole(tree)) for m, tree in those_with("|".join(CIRCULAR))}
    assert len(found) > 50
    assert not {m: lines for m, lines in found.items() if lines}, (
        "write 'from dask import base', or 'import dask' first"
    )


def those_with(pattern: str) -> Iterator[tuple[str, ast.Module]]:
    """The modules whose text matches a pattern."""
    for module, path in SOURCES.items():
        if re.search(pattern, text := path.read_text(encoding="utf-8")):
            yield module, ast.parse(text)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("def f():\n    from dask.base import tokenize", [2]),
        ("def f():\n    import dask.array as da", [2]),
        ("from zarr.storage import LocalStore", [1]),
        ("def f():\n    import dask\n    import dask.array", []),
        ("def f():\n    from dask import array as da\n    from dask.base import tokenize", []),
        ("import zarr\ndef f():\n    from zarr.storage import LocalStore", []),
        ("if TYPE_CHECKING:\n    import dask.array", []),
        ("import json.decoder", []),
    ],
)
def test_parts_before_the_whole_are_found(text, lines):
    assert [line for line, _ in parts_before_the_whole(ast.parse(text))] == lines


def changes_of_warnings(tree: ast.AST) -> list[int]:
    """The lines that change the filters of warnings of all threads."""
    names = ("catch_warnings", "simplefilter", "filterwarnings", "resetwarnings")
    return [n.lineno for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr in names]


def test_the_filters_of_warnings_are_left_alone():
    allowed = {"intake_img.model.process_state", "intake_img.doors.cli.main"}  # the command has its process for itself
    found = {m for m, tree in those_with(r"\bwarnings\b") if changes_of_warnings(tree)}
    assert {m for m in found if not m.startswith("intake_img.testing.")} == allowed, (
        "write 'with quiet():' of model.process_state"
    )


def test_warnings_show_the_line_of_the_user():
    found = {m for m, tree in those_with(r"warnings\.warn\(")}
    assert {m for m in found if not m.startswith("intake_img.testing.")} == {"intake_img.errors"}, "call errors.warn"


def test_settings_of_other_packages_are_left_alone():
    """``config.set``, which two threads undo in the wrong order: under a lock, or where there is one thread."""
    allowed = {"intake_img.formats.omezarr.codecs", "intake_img.bridges.spark"}
    found = {m for m, tree in those_with(r"config\.set\(") for n in ast.walk(tree) if is_set_of_config(n)}
    assert {m for m in found if not m.startswith("intake_img.testing.")} == allowed


def test_locks_of_the_process_are_free_in_a_forked_child():
    """A lock that another thread holds at the time of a fork would stay locked in the child."""
    allowed = {"intake_img.storage.positioned", "intake_img.model.helpers"}  # renew their own
    found = {m for m, tree in those_with(r"threading\.R?Lock\(\)") if any(lasting_locks(tree))}
    assert found == allowed, "write ProcessLock() of storage.locks"


def lasting_locks(tree: ast.Module) -> Iterator[ast.Assign | ast.AnnAssign]:
    """Assignments of locks to names of a module, or of a class."""
    scopes = [tree, *(n for n in ast.walk(tree) if isinstance(n, ast.ClassDef))]
    for node in (n for scope in scopes for n in scope.body if isinstance(n, ast.Assign | ast.AnnAssign)):
        if node.value is not None and re.search(r"threading\.R?Lock\(\)", ast.unparse(node.value)):
            yield node


def is_set_of_config(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "set" and ast.unparse(node.value).endswith("config")


def test_modules_and_functions_are_small():
    lines, branches, modules = sizes()
    assert len(lines) > 3000
    assert {m: n for m, n in modules.items() if n > 500} == {}
    assert statistics.median(modules.values()) < 200
    assert statistics.median(lines) < 10
    assert statistics.quantiles(lines, n=10)[-1] <= 25
    assert statistics.quantiles(branches, n=10)[-1] <= 8


def test_branches_are_counted():
    tree = ast.parse("def f(a):\n  '''Doc.'''\n  if a:\n    return [b for b in a]\n  for c in a:\n    pass\n  return 1")
    assert (complexity(tree.body[0]), body_lines(tree.body[0])) == (4, 5)


@cache
def classes() -> dict[str, list[str]]:
    """The modules that define each public class, also in private modules."""
    found: dict[str, list[str]] = {}
    for module, path in SOURCES.items():
        for name in public_classes(path.read_text(encoding="utf-8")):
            found.setdefault(name, []).append(module)
    return found


def public_classes(text: str) -> list[str]:
    return re.findall(r"^ *class ([^\W_]\w*)(?=[:(\[])", text, re.MULTILINE)


def test_the_name_of_a_class_means_one_thing():
    assert len(classes()) > 400
    assert {name: modules for name, modules in classes().items() if len(modules) > 1} == {}


# Files that formats share by their role: each stands in the folder of a format and holds that format's part.
CONTRACT = {"describe", "driver", "handle", "header", "index", "metadata"}
# Names that several rooms share because they speak of one thing: what it is.
SAME = {
    "__main__": "what python -m runs",
    "arguments": "how arguments are read",
    "axes": "letters of axes, and what is known of axes",
    "blobs": "round spots: found by the accessor with the kernels",
    "checks": "arguments checked",
    "codecs": "encodings of chunks",
    "coloc": "colocalization, and its command",
    "datasets": "xarray Datasets",
    "demo": "the demonstration, and its command",
    "display": "what an object says of itself",
    "export": "results written to files",
    "facts": "what is known of an image beside its pixels",
    "file": "an open file of a format that several modules read",
    "frames": "images of a film or series that are decoded one by one",
    "hdf5": "the file format of The HDF Group",
    "jail": "what a catalog may open",
    "layout": "where pixels lie in files",
    "levels": "levels of a pyramid",
    "matching": "pairing of points: by the accessor with the kernels",
    "micromanager": "the microscopy software",
    "mosaic": "tiles side by side as one image",
    "n5": "the file format of Saalfeld's group",
    "napari": "the viewer, and its command",
    "objects": "overlap of two label images: by the accessor with the kernels",
    "options": "options of sources",
    "plate": "a multi-well plate",
    "plates": "multi-well plates",
    "portal": "the web portal, and its command",
    "privacy": "what a public header contains",
    "record": "metadata that a format has no field for, as JSON",
    "sample": "a tiny file for the conformance suite",
    "sampling": "random places of patches: by the accessor with the kernels",
    "scenes": "the images of a file",
    "significance": "chance of a correlation: by the accessor with the kernels",
    "source": "an Intake source",
    "sources": "the images that patches and stacks are made of",
    "splitting": "touching objects parted: by the accessor with the kernels",
    "tags": "tagged values of a file",
    "tree": "what a file contains, as a tree",
    "variables": "the variables of an image",
    "windows": "windows of brightness",
    "write": "how the images of a room are written",
}


def modules_of_one_name(names: Iterable[str]) -> dict[str, list[str]]:
    """Modules by their last name, where several have it."""
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(name.rpartition(".")[2], []).append(name)
    return {short: modules for short, modules in found.items() if len(modules) > 1}


def is_part_of_a_format(module: str) -> bool:
    return re.fullmatch(r"intake_img\.formats\.[^.]+\.[^.]+", module) is not None


def test_the_name_of_a_module_means_one_thing():
    several = {k: v for k, v in modules_of_one_name(SOURCES).items() if not is_private(k)}
    assert set(SAME) <= set(several)  # names that are shared no more leave the table
    strange = {k: v for k, v in several.items() if k not in SAME}
    assert {k: v for k, v in strange.items() if k not in CONTRACT or not all(map(is_part_of_a_format, v))} == {}
    assert set(strange) == CONTRACT


def test_modules_of_one_name_are_found():
    assert modules_of_one_name(["a.b", "c.b", "a.d", "b"]) == {"b": ["a.b", "c.b", "b"]}
    assert is_part_of_a_format("intake_img.formats.tif.index")
    assert not is_part_of_a_format("intake_img.portal.index")


def test_public_classes_are_found():
    text = "class A: pass\nclass _B: pass\nif True:\n  class C[T]: pass\n# class D:\ndef f():\n  class E(A): pass\n"
    assert public_classes(text) == ["A", "C", "E"]
