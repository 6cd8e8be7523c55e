"""Run the code blocks of one page as a reader would, with nothing importable but what the page says to install.

Use: ``python page_runner.py PAGE``, in the folder where the blocks are to run. Modules of distributions that neither
the package nor the extras named in the page's first lines bring cannot be imported.

``python page_runner.py`` imports the package alone, reads ``[PAGE, FOLDER, LOG]`` from each line of its input, runs the
page in a fork, and prints the exit code: this saves the time that a new interpreter takes to import everything.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import json
import os
import re
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Iterable, Mapping
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pages import blocks_of, write_files

_FIRST_LINES = 14
COMMON = ("dask.array", "dask.threaded", "scipy.ndimage", "scipy.stats", "tifffile", "zarr")
"""Modules of the package's own dependencies that most pages import."""


def extras_of(page: Path) -> list[str]:
    """Return the extras that a page names in its first lines, as in ``pip install 'intake_img[plot]'``."""
    if page.name == "README.md":
        return ["plot"]  # of its demo command, which comes first
    first = "\n".join(page.read_text(encoding="utf-8").splitlines()[:_FIRST_LINES])
    named = re.findall(r"(?:intake_img|\.)\[([\w,]+)\]", first)
    return sorted({extra for names in named for extra in names.split(",")})


def _brought(name: str, extras: Iterable[str], seen: set[tuple[str, str]]) -> None:
    """Collect the distributions that a distribution with some extras brings."""
    for extra in ["", *extras]:
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        for line in importlib.metadata.requires(name) or ():
            need = Requirement(line)
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                _follow(need, seen)


def _follow(need: Requirement, seen: set[tuple[str, str]]) -> None:
    try:
        importlib.metadata.distribution(need.name)
    except importlib.metadata.PackageNotFoundError:
        return
    _brought(canonicalize_name(need.name), need.extras, seen)


@functools.cache
def _owners() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


class Allowed:
    """Find modules on the path, except modules of distributions that the page does not name."""

    def __init__(self, extras: Iterable[str]) -> None:
        seen: set[tuple[str, str]] = set()
        _brought("intake-img", extras, seen)
        allowed = {name for name, _ in seen} | {"pip", "setuptools"}
        self.blocked = {m for m, by in _owners().items() if not {canonicalize_name(d) for d in by} & allowed}

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        """Return no spec for what is blocked, as if it were not installed."""
        return None if fullname.partition(".")[0] in self.blocked else PathFinder.find_spec(fullname, path, target)

    def find_distributions(self, *args: Any, **kwargs: Any) -> Any:
        """Find metadata of all distributions: packages ask for the versions of others."""
        return importlib.metadata.MetadataPathFinder.find_distributions(*args, **kwargs)


def run(page: Path) -> None:
    """Execute the blocks of a page, in order, in one namespace."""
    from intake_img.doors.cli import main

    blocks = blocks_of(page)
    write_files(blocks)
    namespace = {"__name__": "__main__"}
    for block in blocks:
        if block.mark.startswith(("not run: ", "file: ")) or block.mark in ("demo", "tests"):
            continue
        if block.language == "python":
            exec(compile("\n" * (block.line - 1) + block.text, page.name, "exec"), namespace)
        elif block.language == "console":
            for line in block.text.splitlines():
                assert line.startswith("$ intake-img "), f"line {block.line}: {line!r} would not be run: say so"
                command = shlex.split(line.removeprefix("$ "))[1:]
                assert command[0] == "demo" or main(command) == 0, line  # the demo was run before


def restricted(extras: Iterable[str]) -> Allowed:
    """Let this interpreter import what the package and these extras bring, and nothing else."""
    allowed = Allowed(extras)
    sys.meta_path[:] = [allowed if f is PathFinder or isinstance(f, Allowed) else f for f in sys.meta_path]
    loaded = sorted(m for m in sys.modules if m.partition(".")[0] in allowed.blocked - {"packaging"})
    assert not loaded, f"imported before the page began: {loaded}"
    return allowed


def serve() -> None:
    """Run pages in forks of an interpreter that has imported the package without extras."""
    restricted([])
    from intake_img.doors.cli import main  # noqa: F401
    from intake_img.formats.registry import formats

    formats()
    for module in COMMON:
        importlib.import_module(module)
    assert threading.active_count() == 1, "a thread was started: do not fork"
    for line in sys.stdin:
        page, folder, log = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os._exit(_in_fork(Path(page), folder, log))
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _in_fork(page: Path, folder: str, log: str) -> int:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    signal.alarm(300)
    os.chdir(folder)
    code = 1
    try:
        restricted(extras_of(page))
        run(page)
        code = 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    if len(sys.argv) == 1:
        serve()
    else:
        restricted(extras_of(Path(sys.argv[1])))
        run(Path(sys.argv[1]))
