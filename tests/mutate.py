"""Change modules in many small ways, one at a time, and list the changes that no test notices.

``python tests/mutate.py intake_img/kernels/runlengths.py tests/test_regions.py`` copies package and tests and runs the
tests once to learn which of them run which line. Then it makes one change after the other in the copy, and runs for
each the tests that run its line. A change that survives is a test to write, or code to drop.

Without names of tests, ``TESTS`` and the imports of the tests say which ones matter for a module. ``--module`` takes
patterns: ``--module 'kernels/*' --module 'model/*' --module 'storage/*'`` is the whole of what this tool is meant for.
``--log`` appends each result to a file as soon as it is known. The next run with the same file skips the changes that
are in it; with ``--again`` it repeats those that survived.

Changed are comparisons, arithmetic, ``and`` and ``or``, ``not`` and minus, conditions, numbers, truth values and calls
that are statements. Annotations, decorators, errors that are raised, and blocks for type checkers stay as they are.
"""

from __future__ import annotations

import argparse
import ast
import compileall
import copy
import hashlib
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAIRS = "Lt LtE, Gt GtE, Eq NotEq, Is IsNot, In NotIn, Add Sub, Mult FloorDiv, And Or, BitAnd BitOr, LShift RShift"
OTHER: dict[type, type] = {ast.Div: ast.Mult, ast.Mod: ast.FloorDiv}
for _one, _other in (tuple(getattr(ast, n) for n in pair.split()) for pair in PAIRS.split(",")):
    OTHER.update({_one: _other, _other: _one})
LEFT_ALONE = ("annotation", "returns", "decorator_list", "type_params", "bases")

# Tests that matter for modules beside the tests which import them.
TESTS = {
    "kernels/measures": "test_coloc_pixels test_coloc_rows",
    "kernels/objects": "test_coloc_objects",
    "model/agreement": "test_stack test_agreement test_series",
    "model/stacking": "test_stack test_image test_series",
    "model/lazy_arrays": "test_lazy test_selections",
    "storage/journal": "test_export test_patch_writing",
    "storage/staged": "test_staging test_staging_faults test_export",
}

# Imported before the tests of each change are: they take longer than most tests.
HEAVY = [
    *("numpy", "scipy.ndimage", "scipy.stats", "pandas", "xarray", "dask.array", "zarr", "tifffile", "fsspec", "yaml"),
    *("PIL.Image", "skimage.measure", "pytest", "hypothesis.extra.numpy", "_hypothesis_pytestplugin", "pytest_cov"),
    *("xdist", "pytest_timeout", "pytest_benchmark.plugin"),
]
NOT_FOR_IT = {"test_house", "test_docs"}  # of all modules, or of texts
BYTES = 8 << 30  # of memory that the tests of a change may take
OPTIONS = ["-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]
STARTED = time.monotonic()


@dataclass(frozen=True)
class Mutant:
    """A change: its line, what stood there, what stands there now, and the module with it."""

    line: int
    before: str
    after: str
    source: str
    lines: range = field(default=range(0), compare=False)  # of the statement

    def __str__(self) -> str:
        return f"line {self.line}: {self.before}  ->  {self.after}"


@dataclass
class Learnt:
    """What the tests do without any change: which ones run a line, and the seconds that each takes."""

    lines: dict[int, set[str]]
    seconds: dict[str, float]
    longest: float = float("inf")  # of the tests that are run

    def tests(self, mutant: Mutant) -> list[str]:
        """Return the tests that run the statement, quick ones first; all if none does in this process."""
        found = set().union(*(self.lines.get(line, ()) for line in mutant.lines))
        times = {name: self.seconds.get(name, 0) for name in found or self.seconds}
        return sorted((n for n in times if times[n] <= self.longest), key=lambda name: (times[name], name))

    def limit(self, tests: Iterable[str]) -> float:
        """Return the seconds after which tests count as failed."""
        return 15 + 5 * sum(self.seconds.get(name, 0) for name in tests)


def mutants(source: str, name: str | None = None) -> list[Mutant]:
    """Return all changes of a module, or of one of its functions or classes."""
    found = []
    tree = ast.parse(source)
    for node, lines in visited(tree, name is None, name, range(0)):
        for old, new in changes(node):
            found.append(Mutant(old.lineno, ast.unparse(old), ast.unparse(new), replaced(source, old, new), lines))
    return found


def visited(node: ast.AST, inside: bool, name: str | None, lines: range) -> Iterator[tuple[ast.AST, range]]:
    """Yield the nodes that may be changed, each with the lines of its statement."""
    if isinstance(node, (ast.Raise, ast.Assert, ast.JoinedStr)) or for_checkers(node):
        return
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        inside = inside or node.name == name
    if isinstance(node, ast.stmt):
        lines = own_lines(node)
    if inside:
        yield node, lines
    for part, value in ast.iter_fields(node):
        children = value if isinstance(value, list) else [value]
        for child in children if part not in LEFT_ALONE else ():
            if isinstance(child, ast.AST):
                yield from visited(child, inside, name, lines)


def own_lines(node: ast.stmt) -> range:
    """Return the lines of a statement, without the block that it holds."""
    block = getattr(node, "body", None)
    return range(node.lineno, max(block[0].lineno, node.lineno + 1) if block else (node.end_lineno or node.lineno) + 1)


def for_checkers(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def changes(node: ast.AST) -> Iterator[tuple[Any, ast.AST]]:
    """Yield pairs of a node and what is to stand in its place."""
    if isinstance(node, ast.Compare):
        for k, op in enumerate(node.ops):
            yield node, with_fields(node, ops=[*node.ops[:k], OTHER[type(op)](), *node.ops[k + 1 :]])
    elif isinstance(node, (ast.BinOp, ast.BoolOp, ast.AugAssign)) and type(node.op) in OTHER:
        yield node, with_fields(node, op=OTHER[type(node.op)]())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
        yield node, node.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float)):
        yield node, ast.Constant(not node.value if isinstance(node.value, bool) else node.value + 1)
    elif isinstance(node, (ast.If, ast.IfExp)):
        yield from ((node.test, ast.Constant(value)) for value in (True, False))
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield node, ast.Pass()


def with_fields(node: ast.AST, **fields: Any) -> ast.AST:
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def replaced(source: str, old: Any, new: ast.AST) -> str:
    """Return a source with one node replaced; the rest stays as it is, to the letter."""
    text = ast.unparse(new)
    lines = source.encode().splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    begin, end = starts[old.lineno - 1] + old.col_offset, starts[old.end_lineno - 1] + old.end_col_offset
    code = text if isinstance(new, ast.stmt) else f"({text})"
    content = b"".join(lines)
    return (content[:begin] + code.encode() + content[end:]).decode()


class Log:
    """Results, one JSON object a line; a file is read first, and new results are appended to it."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines() if path and path.exists() else []
        self.results = {row["key"]: row["result"] for row in map(json.loads, lines)}

    def add(self, module: str, mutant: Mutant, result: str) -> None:
        key = self.key(module, mutant)
        self.results[key] = result
        if self.path:
            row = {"module": module, "line": mutant.line, "before": mutant.before, "after": mutant.after}
            with self.path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({**row, "result": result, "key": key}) + "\n")

    def known(self, module: str, mutant: Mutant) -> str | None:
        """Return the result of a change of the same text, if there is one."""
        return self.results.get(self.key(module, mutant))

    @staticmethod
    def key(module: str, mutant: Mutant) -> str:
        return hashlib.sha256(f"{module}\n{mutant.source}".encode()).hexdigest()[:20]


def modules_like(patterns: Sequence[str]) -> list[str]:
    """Return the paths of modules, from the root of the project, that fit patterns such as ``model/*``."""
    names = sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "intake_img").rglob("*.py"))
    parts = {n: n.removeprefix("intake_img/").removesuffix(".py") for n in names}
    return [n for n, part in parts.items() if any(fnmatch(part, p) or n == p for p in patterns)]


def tests_of(module: str) -> list[str]:
    """Return what tests a module: the files that import it, what ``TESTS`` adds, and its doctests.

    These come last: pytest imports a module anew for its doctests if nothing has imported it before.
    """
    part = module.removeprefix("intake_img/").removesuffix(".py")
    room, _, name = f"intake_img/{part}".replace("/", ".").rpartition(".")
    imports = re.compile(rf"(from|import) {re.escape(room)}\.{name}\b|from {re.escape(room)} import .*\b{name}\b")
    files = [p for p in sorted((ROOT / "tests").glob("test_*.py")) if imports.search(p.read_text(encoding="utf-8"))]
    names = {p.stem for p in files} - NOT_FOR_IT | set(TESTS.get(part, "").split())
    return [*(f"tests/{n}.py" for n in sorted(names)), module]  # the module for its doctests


class Watcher:
    """A plug-in of pytest: keeps the wanted tests in the wanted order, and notes the seconds of each."""

    def __init__(self, wanted: Sequence[str] | None) -> None:
        self.wanted = {name: k for k, name in enumerate(wanted)} if wanted is not None else None
        self.seconds: dict[str, float] = {}

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        if self.wanted is not None:
            items[:] = sorted((i for i in items if i.nodeid in self.wanted), key=lambda i: self.wanted[i.nodeid])

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0) + report.duration


def pytest_process(folder: str, arguments: list[str], wanted: list[str] | None, notes: str | None) -> None:
    """Run pytest in the copy, in this new process; exit with its code."""
    import pytest

    if hasattr(os, "setsid"):
        os.setsid()  # what tests start ends with this process
    os.chdir(folder)
    os.environ.update(PYTHONPATH=folder, PYTHONDONTWRITEBYTECODE="1")
    sys.dont_write_bytecode = wanted is not None
    sys.path[:0] = [folder, f"{folder}/tests"]
    output = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    limit_memory()
    watcher = Watcher(wanted)
    code = pytest.main([*OPTIONS, *arguments], plugins=[watcher])
    if notes:
        Path(notes).write_text(json.dumps(watcher.seconds), encoding="utf-8")
    os._exit(int(code))


def limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))


def run(
    folder: Path,
    arguments: Sequence[str],
    limit: float,
    wanted: Sequence[str] | None = None,
    notes: Path | None = None,
) -> str:
    """Run pytest in a copy and return ``"passed"``, ``"failed"`` or ``"timeout"``."""
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    context.set_forkserver_preload(HEAVY)
    names = list(wanted) if wanted is not None else None
    path = str(notes) if notes else None
    process = context.Process(target=pytest_process, args=(str(folder), list(arguments), names, path))
    process.start()
    process.join(limit)
    late = process.is_alive()
    stop(process)
    return "timeout" if late else "passed" if process.exitcode == 0 else "failed"


def stop(process: Any) -> None:
    """End a process, and what it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (AttributeError, ProcessLookupError, PermissionError):
        process.kill()
    process.join()


def learn(folder: Path, module: str, tests: Sequence[str], given: argparse.Namespace) -> Learnt:
    """Run the tests without any change under coverage."""
    from coverage import CoverageData

    config, notes, data = folder / "coveragerc", folder / "notes.json", folder / ".coverage"
    config.write_text(f"[run]\ninclude = {folder / module}\ndata_file = {data}\n", encoding="utf-8")
    options = ["--cov", f"--cov-config={config}", "--cov-context=test", "--cov-report="]
    result = run(folder, [*tests, *options], 10 * given.seconds, notes=notes)
    if result != "passed":
        output = (folder / "output.txt").read_text(encoding="utf-8", errors="replace")
        raise SystemExit(f"{output[-3000:]}\n{module}: without any change, the tests end with {result!r}")
    found = CoverageData(str(data))
    found.read()
    lines = {
        line: {name.partition("|")[0] for name in names if name}
        for line, names in found.contexts_by_lineno(str(folder / module)).items()
    }
    return Learnt(lines, json.loads(notes.read_text(encoding="utf-8")), given.longest)


def copied(folder: Path) -> None:
    """Copy the package, the tests and what they need."""
    for part in ("intake_img", "tests", "catalogs"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    compileall.compile_dir(folder / "intake_img", quiet=1)


def tried(
    folder: Path, module: str, found: Sequence[Mutant], tests: Sequence[str], log: Log, given: argparse.Namespace
) -> Iterator[Mutant]:
    """Make each change in the copy, run its tests, log the result; yield the changes that survive."""
    learnt = learn(folder, module, tests, given)
    path = folder / module
    original = path.read_text(encoding="utf-8")
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
        compiled.unlink()  # it may look as new as a change of the same length
    for k, mutant in enumerate(found, 1):
        if given.minutes and time.monotonic() - STARTED > 60 * given.minutes:
            break
        wanted = learnt.tests(mutant)
        files = sorted({name.partition("::")[0] for name in wanted})
        path.write_text(mutant.source, encoding="utf-8")
        result = run(folder, ["-x", *files], min(given.seconds, learnt.limit(wanted)), wanted)
        log.add(module, mutant, {"passed": "survived", "failed": "killed"}.get(result, result))
        if result == "passed":
            yield mutant
        print(f"\r{module}: {k} of {len(found)}", end="", file=sys.stderr)
    path.write_text(original, encoding="utf-8")
    print(file=sys.stderr)


def chosen(module: str, given: argparse.Namespace, log: Log) -> list[Mutant]:
    """Return the changes of a module that are to be tried in this run."""
    found = mutants((ROOT / module).read_text(encoding="utf-8"), given.name)
    if given.sample and given.sample < len(found):
        found = sorted(random.Random(given.seed).sample(found, given.sample), key=lambda m: m.line)
    skip = ("killed", "timeout") if given.again else ("killed", "timeout", "survived")
    return [m for m in found if log.known(module, m) not in skip]


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the number of changes that survived in this run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "paths", nargs="*", help="path of a module, from the root of the project, then tests for pytest"
    )
    parser.add_argument("--module", action="append", default=[], help="further modules, as a pattern such as model/*")
    parser.add_argument("--name", help="change only this function or class")
    parser.add_argument("--sample", type=int, help="of each module, try so many changes, chosen at random")
    parser.add_argument("--seed", type=int, default=0, help="of the choice")
    parser.add_argument("--seconds", type=float, default=120, help="longest time of the tests of one change")
    parser.add_argument(
        "--longest", type=float, default=float("inf"), help="leave out tests that take longer, in seconds"
    )
    parser.add_argument("--minutes", type=float, help="begin no change after so many minutes")
    parser.add_argument("--log", type=Path, help="file that results are appended to, and from which a run continues")
    parser.add_argument("--again", action="store_true", help="repeat the changes that survived in an earlier run")
    given = parser.parse_args(arguments)
    tests = [p for p in given.paths if p.startswith("tests/")]
    modules = modules_like([p for p in given.paths if p not in tests] + given.module)
    if not modules:
        parser.error("no module of this name: give a path such as intake_img/model/units.py, or --module model/*")
    log = Log(given.log)
    alive = []
    with tempfile.TemporaryDirectory() as name:
        copied(Path(name))
        for module in modules:
            found = chosen(module, given, log)
            if not found:
                continue
            wanted = [*tests, module] if tests else tests_of(module)
            for mutant in tried(Path(name), module, found, wanted, log, given):
                alive.append(f"{module} {mutant}")
                print(alive[-1], flush=True)
    return len(alive)


if __name__ == "__main__":
    sys.exit(main() > 0)
