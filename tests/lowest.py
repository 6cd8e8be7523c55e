"""Print constraints that pin each dependency to the lowest version that pyproject.toml allows.

Use: ``python tests/lowest.py > lowest.txt && pip install -c lowest.txt -e '.[all,test-tools]'``. Frameworks that are
not in the extra ``all`` are not pinned. ``python tests/lowest.py --tests`` prints the tests that run with them.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

TESTS = "io npy ome czi zarr_windows zarr_guards lazy computing remote detect variables reductions map"
"""Tests of the model, of files and of the older formats, which run with the lowest versions as well."""


def constraints(pyproject: Path) -> list[str]:
    """Return lines of a constraints file: the patch releases of each lower bound."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    needs = [*project["dependencies"], *_expanded("all", project["optional-dependencies"])]
    found = {need: re.match(r"([\w.-]+)(?:\[[\w,-]+\])?\s*>=\s*([\d.]+)", need) for need in needs}
    without = [need for need, match in found.items() if match is None]
    assert not without, f"dependencies without a lower bound: {without}"
    return [f"{m[1]}=={_patches(m[2])}{_marker(need)}" for need, m in found.items() if m is not None]


def _expanded(extra: str, extras: dict[str, list[str]]) -> list[str]:
    """Return what an extra requires, with the extras of this package that it names taken apart."""
    found = []
    for need in extras[extra]:
        own = re.fullmatch(r"intake_img\[(.*)\]", need)
        found += [need] if own is None else [n for e in own[1].split(",") for n in _expanded(e.strip(), extras)]
    return found


def _marker(need: str) -> str:
    _, semicolon, marker = need.partition(";")
    return f"{semicolon}{marker}"


def _patches(version: str) -> str:
    parts = version.split(".")
    return version if len(parts) > 2 else ".".join([*parts, *["0"] * (2 - len(parts)), "*"])


if __name__ == "__main__":
    if sys.argv[1:] == ["--tests"]:
        print(*(f"tests/test_{name}.py" for name in TESTS.split()))
    else:
        print("\n".join(constraints(Path(__file__).parent.parent / "pyproject.toml")))
