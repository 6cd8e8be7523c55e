"""Resources of a process (open files, peak memory, bytes read), and running a law in another process.

The numbers come from ``/proc``; without it, unknown numbers are None or empty.
"""

from __future__ import annotations

import functools
import importlib
import json
import multiprocessing
import os
import tempfile
from pathlib import Path
from typing import Any

__all__ = ["bytes_read", "class_of", "open_files", "peak_memory", "reset_peak", "run_module", "spec_of"]

_COMMON = ("dask.array", "dask.threaded", "distributed", "zarr")
"""Modules that most drivers, or dask, import at their first use; absent ones are passed over."""


def open_files(folder: str, *, mapped: bool = True) -> list[str]:
    """Return the files in a folder that this process has open, or `mapped` into memory."""
    inside = os.path.realpath(folder) + os.sep
    found = []
    for link in Path("/proc/self/fd").glob("*"):
        try:
            found.append(os.readlink(link))
        except OSError:  # the descriptor of this very listing
            continue
    maps = Path("/proc/self/maps")
    if mapped and maps.exists():
        found += [line.split(maxsplit=5)[-1] for line in maps.read_text().splitlines() if inside in line]
    return sorted(path for path in found if path.startswith(inside))


def peak_memory() -> int | None:
    """Return the peak resident memory, in bytes, since the start of the process or `reset_peak`."""
    return _proc("status", "VmHWM:", 1024)


def reset_peak() -> None:
    """Reset `peak_memory` to the current resident memory."""
    Path("/proc/self/clear_refs").write_text("5")


def bytes_read() -> int | None:
    """Return how many bytes this process has read through system calls (pages of memory maps are not counted)."""
    return _proc("io", "rchar:", 1)


def _proc(name: str, key: str, factor: int) -> int | None:
    try:
        text = Path("/proc/self", name).read_text()
    except OSError:
        return None
    return next(int(line.split()[1]) * factor for line in text.splitlines() if line.startswith(key))


def spec_of(driver: type) -> str:
    """Return the name by which another process finds a class."""
    return f"{driver.__module__}:{driver.__qualname__}"


def class_of(spec: str) -> Any:
    """Return the class that `spec_of` named."""
    module, _, name = spec.partition(":")
    return getattr(importlib.import_module(module), name)


def run_module(module: str, *arguments: str, timeout: float = 120) -> tuple[list[Any], str]:
    """Call `main` of a module of this package in a separate process, which has imported and done nothing else.

    Processes are forked from a server that has imported the modules, where the platform can fork: this takes
    milliseconds where a new Python takes seconds.

    Returns
    -------
    lines : list
        What it printed, parsed as one JSON value a line.
    trouble : str
        Empty if it ended well; else how it ended, and the end of its messages.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, messages = Path(folder, "out"), Path(folder, "messages")
        process = _context().Process(target=_main, args=(module, arguments, str(out), str(messages)))
        process.start()
        process.join(timeout)
        code = f"none within {timeout} s" if process.exitcode is None else process.exitcode
        process.kill()
        process.join()
        process.close()
        printed = [path.read_text(errors="replace") if path.exists() else "" for path in (out, messages)]
    lines = [json.loads(line) for line in printed[0].splitlines() if line.startswith(("{", "["))]
    return lines, "" if code == 0 else f"exit code {code}: {printed[1][-2000:]}"


@functools.cache
def _context() -> Any:
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    own = [f"{__package__}.{module}" for module in ("damage", "elsewhere", "streaming")]
    context.set_forkserver_preload([*own, *_COMMON])
    return context


def _main(module: str, arguments: tuple[str, ...], out: str, messages: str) -> None:
    for path, stream in ((out, 1), (messages, 2)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, stream)
        os.close(descriptor)
    importlib.import_module(f"{__package__}.{module}").main(*arguments)
