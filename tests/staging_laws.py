"""Writers stopped at every call that changes a name: ``python tests/staging_laws.py FOLDER [STRIDE [NAME ...]]``.

Each trial is a fork of this process with an audit hook that counts the calls (opening for writing, renaming, linking,
removing, making and removing folders, and the flagged renames of Linux) and, at the k-th, ends the process, or raises
ENOSPC. The law: afterwards a reader sees the old image or the new one, complete; writing again succeeds and leaves
nothing behind.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from intake_img import imload, imsave
from intake_img.errors import FormatError
from intake_img.formats.registry import formats
from intake_img.storage import local, renames

MODULES = """distributed pint dask.array dask.threaded intake_img.accessor.processing.export
intake_img.collections.sequence intake_img.formats.npy.driver intake_img.formats.binary.driver
intake_img.formats.tif.write intake_img.formats.omezarr.driver intake_img.formats.tif.driver
intake_img.formats.omezarr.store tifffile zarr"""
EVENTS = {"os.rename", "os.remove", "os.link", "os.mkdir", "os.rmdir"}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

CASES: dict[str, dict[str, Any]] = {
    "a.npy": {},
    "a.bin": {},
    "a.zarr": {},
    "p.npy": {"partition": "yx"},
    "p.bin": {"partition": "yx"},
}
OLD, NEW = 4, 3  # planes: the new image has fewer, so that something is superseded


def image(planes: int) -> xr.Dataset:
    values = np.arange(planes * 16, dtype="u2").reshape(planes, 4, 4) + 1000 * planes
    return xr.Dataset({"image": (("t", "y", "x"), values)})


def in_fork(work: Callable[[], Any]) -> int:
    """Do something in a fork; return its exit code if it gives one, 28 for a full disk, 1 after another error.

    A fork that takes longer than five minutes is ended. What it imports is imported here as well: later forks need not.
    """
    with tempfile.TemporaryFile("w+") as imported:
        known = set(sys.modules)
        pid = os.fork()
        if pid == 0:
            code = 1
            signal.alarm(300)
            try:
                code = _code(work)
            finally:
                sys.stderr.flush()
                print(*(name for name in sys.modules if name not in known), file=imported, flush=True)
                os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        imported.seek(0)
        for name in imported.read().split():
            with contextlib.suppress(ImportError):  # some names are attributes
                importlib.import_module(name)
    return code


def _code(work: Callable[[], Any]) -> int:
    try:
        found = work()
    except OSError as exc:
        if exc.errno == errno.ENOSPC:
            return 28
        traceback.print_exc()
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return found if isinstance(found, int) else 0


def stopped(work: Callable[[], None], at: int, full: bool, folder: Path) -> int:
    """Do something in a fork that is stopped at the call number `at`; return its exit code.

    That is 77 if it was killed, 28 if it failed because the disk was full, and 78 if it ended well although it was.
    """

    def run() -> int:
        seen = 0

        def count(*_: Any) -> None:
            nonlocal seen
            seen += 1
            if seen == at:
                if full:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os._exit(77)

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & WRITING):
                return
            frees = event in ("os.remove", "os.rmdir")
            if (event in EVENTS or event == "open") and not (full and frees) and _inside(arguments, folder):
                count()

        flagged = renames.rename_flagged

        def counted(source: str, target: str, flag: str) -> int:
            count()
            return flagged(source, target, flag)

        renames.rename_flagged = counted
        sys.addaudithook(hook)
        work()
        return 78 if seen >= at else 0

    return in_fork(run)


def _inside(arguments: tuple[Any, ...], folder: Path) -> bool:
    names = [os.fsdecode(a) for a in arguments[:2] if isinstance(a, (str, bytes, os.PathLike))]
    return any(n.startswith(str(folder)) or not n.startswith("/") for n in names)  # rmtree gives names in a folder


def readings(target: Path, options: dict[str, Any]) -> list[Any]:
    """Return what each way of reading finds: an array, or None where there is nothing."""
    found = [_reading(target)]
    if options:
        stem, end = target.name.split(".")
        pattern = str(target.parent / f"{stem}.t_{{t}}.{end}")
        names = sorted(p for p in target.parent.iterdir() if p.name.startswith(f"{stem}.t_") and p.suffix == f".{end}")
        found.append(_reading(pattern))
        if names:
            found += [_reading(target.parent, ext=end), _reading(str(target.parent / f"{stem}.*.{end}"), axis="t")]
    return found


def _reading(uri: Any, **options: Any) -> Any:
    try:
        return imload(uri, **options).image.values
    except FileNotFoundError:
        return None
    except FormatError as exc:
        if "interrupted" in str(exc):
            return None
        raise


def check(target: Path, options: dict[str, Any], existed: bool) -> None:
    old, new = image(OLD).image.values, image(NEW).image.values
    for k, found in enumerate(readings(target, options)):
        assert found is not None or not existed, f"reading {k}: the old image is gone"
        whole = found is None or any(np.array_equal(found, v) for v in (old, new))
        assert whole, f"reading {k} gives {found[:, 0, 0].tolist()}"


def trial(folder: Path, name: str, at: int, existed: bool, full: bool) -> bool:
    """Return whether the write was stopped; False when it had fewer calls."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    target, options = folder / name, CASES[name]
    if existed:
        assert in_fork(lambda: imsave(image(OLD), target, **options)) == 0
    again = {**options, "overwrite": True}
    what = f"{name} stopped at call {at}, existed={existed}, full={full}"
    code = stopped(lambda: imsave(image(NEW), target, **options, overwrite=existed), at, full, folder)
    assert code in ((0, 28, 78) if full else (0, 77)), f"{what}: exit code {code}"
    assert in_fork(lambda: check(target, options, existed)) == 0, what
    assert in_fork(lambda: imsave(image(NEW), target, **again)) == 0, f"{what}: cannot be written again"
    left = sorted(p.name for p in folder.iterdir() if p.name.startswith("."))
    assert not left, f"{what}: {left} are left after writing again"
    assert in_fork(lambda: check(target, options, True)) == 0, f"{what}, then written again"
    return code != 0


def main(folder: Path, stride: int = 1, *names: str) -> None:
    for module in MODULES.split():  # so that a child need not
        importlib.import_module(module)
    formats()
    for portable in (False, True):
        if portable:  # as on a system without flagged renames
            renames.rename_flagged = lambda *_: errno.ENOSYS
            local.exchange = lambda *_: False
        for name in names or CASES:
            if portable and CASES[name]:
                continue  # parts need no flagged renames
            for existed, full in ((True, False), (False, False), (True, True)):
                at = 1
                while trial(folder / "t", name, at, existed, full) or at <= 3:
                    at += stride
                print(f"{name} existed={existed} full={full} portable={portable}: {at} calls", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1, *sys.argv[3:])
