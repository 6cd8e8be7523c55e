"""Change one module in many small ways, one at a time, and list the changes that no test notices.

``python tests/mutate.py intake_img/kernels/runlengths.py tests/test_regions.py`` copies package and tests, changes the
module in the copy, and runs the tests for each change. What survives is a test to write, or code to drop.

Changed are comparisons, arithmetic, ``and`` and ``or``, ``not`` and minus, conditions, numbers, truth values and calls
that are statements. Annotations, decorators, errors that are raised, and blocks for type checkers stay as they are.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAIRS = "Lt LtE, Gt GtE, Eq NotEq, Is IsNot, In NotIn, Add Sub, Mult FloorDiv, And Or, BitAnd BitOr, LShift RShift"
OTHER: dict[type, type] = {ast.Div: ast.Mult, ast.Mod: ast.FloorDiv}
for _one, _other in (tuple(getattr(ast, n) for n in pair.split()) for pair in PAIRS.split(",")):
    OTHER.update({_one: _other, _other: _one})
LEFT_ALONE = ("annotation", "returns", "decorator_list", "type_params", "bases")


@dataclass(frozen=True)
class Mutant:
    """A change: its line, what stood there, what stands there now, and the module with it."""

    line: int
    before: str
    after: str
    source: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.before}  ->  {self.after}"


def mutants(source: str, name: str | None = None) -> list[Mutant]:
    """Return all changes of a module, or of one of its functions or classes."""
    found = []
    for node in visited(ast.parse(source), name is None, name):
        for old, new in changes(node):
            found.append(Mutant(old.lineno, ast.unparse(old), ast.unparse(new), replaced(source, old, new)))
    return found


def visited(node: ast.AST, inside: bool, name: str | None) -> Iterator[ast.AST]:
    """Yield the nodes that may be changed."""
    if isinstance(node, (ast.Raise, ast.Assert, ast.JoinedStr)) or for_checkers(node):
        return
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        inside = inside or node.name == name
    if inside:
        yield node
    for field, value in ast.iter_fields(node):
        children = value if isinstance(value, list) else [value]
        for child in children if field not in LEFT_ALONE else ():
            if isinstance(child, ast.AST):
                yield from visited(child, inside, name)


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


def survivors(found: Sequence[Mutant], killed: Callable[[Mutant], bool]) -> Iterator[Mutant]:
    """Yield the changes that no test notices, and show how far it is."""
    for k, mutant in enumerate(found, 1):
        if not killed(mutant):
            yield mutant
        print(f"\r{k} of {len(found)}", end="", file=sys.stderr)
    print(file=sys.stderr)


def run(folder: Path, tests: Sequence[str], seconds: float) -> bool:
    """Return whether the tests pass in a copy; tests that take too long fail."""
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=seconds)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the number of changes that survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("module", help="path of the module, from the root of the project")
    parser.add_argument("tests", nargs="+", help="files or names of tests, as for pytest")
    parser.add_argument("--name", help="change only this function or class")
    parser.add_argument("--sample", type=int, help="try so many changes, chosen at random")
    parser.add_argument("--seed", type=int, default=0, help="of the choice")
    parser.add_argument("--seconds", type=float, default=300, help="longest time of the tests of one change")
    given = parser.parse_args(arguments)
    found = mutants((ROOT / given.module).read_text(encoding="utf-8"), given.name)
    if given.sample and given.sample < len(found):
        found = sorted(random.Random(given.seed).sample(found, given.sample), key=lambda m: m.line)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("intake_img", "tests", "catalogs"):
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        if not run(folder, given.tests, given.seconds):
            parser.error("the tests fail without any change")

        def killed(mutant: Mutant) -> bool:
            (folder / given.module).write_text(mutant.source, encoding="utf-8")
            return not run(folder, given.tests, given.seconds)

        alive = list(survivors(found, killed))
    print(*alive, f"{len(found) - len(alive)} of {len(found)} changes were noticed", sep="\n")
    return len(alive)


if __name__ == "__main__":
    sys.exit(main() > 0)
