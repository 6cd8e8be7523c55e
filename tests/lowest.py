"""Print constraints that pin each dependency to the lowest version that pyproject.toml allows.

Use: ``python tests/lowest.py > lowest.txt && pip install -c lowest.txt -e '.[all,test-tools]'``. Frameworks that are
not in the extra ``all`` are not pinned.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path


def constraints(pyproject: Path) -> list[str]:
    """Return lines of a constraints file: the patch releases of each lower bound."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    named = re.search(r"\[(.*)\]", extras["all"][0])
    assert named is not None, "the extra 'all' names other extras"
    needs = [*project["dependencies"], *(r for extra in named[1].split(",") for r in extras[extra])]
    found = [re.match(r"([\w.-]+)(?:\[[\w,]+\])?>=([\d.]+)", r) for r in needs]
    without = [r for r, m in zip(needs, found, strict=True) if m is None]
    assert not without, f"dependencies without a lower bound: {without}"
    return [f"{m[1]}=={_patches(m[2])}" for m in found if m is not None]


def _patches(version: str) -> str:
    parts = version.split(".")
    return version if len(parts) > 2 else ".".join([*parts, *["0"] * (2 - len(parts)), "*"])


if __name__ == "__main__":
    print("\n".join(constraints(Path(__file__).parent.parent / "pyproject.toml")))
