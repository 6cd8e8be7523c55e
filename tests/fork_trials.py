"""Writers in forks that are limited or stopped: ``python tests/fork_trials.py TRIAL [ARGUMENT ...]``.

They are run in an interpreter of their own: a fork of a process with threads may wait for ever for what these hold.
"""

from __future__ import annotations

import errno
import importlib
import os
import resource
import signal
import sys
from pathlib import Path

import numpy as np
import staging_laws as laws
import xarray as xr
from trees import content

from intake_img import imload, imsave, scan
from intake_img.errors import FormatError
from intake_img.formats.registry import formats
from intake_img.storage import local, renames

FORMATS = {
    "a.tif": {},
    "a.ome.tif": {},
    "a.zarr": {},
    "a.ome.zarr": {"chunks": {"y": 512, "x": 512}},
    "a.zarr.zip": {},
    "a.npz": {},
    "a.npy": {},
    "a.bin": {},
    "a.png": {},
    "a.gif": {},
    "a.czi": {},
    "a.mp4": {"lossy": True},
    "p.tif": {"partition": "yx"},
}

KINDS = {"a.npy": {}, "a.zarr": {}, "p.npy": {"partition": "yx"}}


def noise(*shape: int, seed: int = 0) -> xr.Dataset:
    values = np.random.default_rng(seed).integers(0, 255, shape, dtype="u1")
    return xr.Dataset({"image": (("t", "y", "x")[-len(shape) :], values)})


def disk_is_full(place: str, *names: str) -> None:
    """A limit on the size of files stands for the full disk: the system refuses to write further bytes."""
    for name in names:
        print(name, file=sys.stderr)
        folder = Path(place) / name.replace(".", "-")
        folder.mkdir()
        _disk_is_full(name, folder)


def _disk_is_full(name: str, folder: Path) -> None:
    target, options, shape, large = folder / name, FORMATS[name], (3, 64, 64), (3, 512, 512)
    if name == "a.png":
        shape, large = shape[1:], large[1:]
    assert laws.in_fork(lambda: imsave(noise(*shape), target, **options)) == 0
    before = content(folder)

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
        try:
            imsave(noise(*large, seed=1), target, **options, overwrite=True)
        except OSError as exc:
            caught = exc
        said = str(caught)
        assert "no space left for " in said, said
        assert "existing data are unchanged" in said, said
        assert caught.errno in (errno.ENOSPC, errno.EFBIG), caught.errno

    assert laws.in_fork(limited) == 0
    left = {k: v for k, v in content(folder).items() if "partition" not in options or not k.startswith(".")}
    assert left == before  # parts are kept for resume=True


def names_are_old(place: str) -> None:
    """Lists of names from before a commit that was killed give the old image, the new one, or an error."""
    outcomes = 0
    for at in range(12, 32, 2):
        folder = Path(place) / str(at)
        target = folder / "p.npy"

        def write(planes: int, target: Path = target) -> None:
            imsave(laws.image(planes), target, partition="yx", overwrite=planes == laws.NEW)

        assert laws.in_fork(lambda write=write: write(laws.OLD)) == 0
        names = sorted(str(p) for p in folder.iterdir())
        assert laws.stopped(lambda write=write: write(laws.NEW), at, False, folder) in (0, 77)
        found = laws.in_fork(lambda names=names: 64 + _found_by_names(names))
        assert 64 <= found < 72, f"killed at {at}"
        outcomes |= found - 64
        assert laws.in_fork(lambda folder=folder: _scanned(folder)) == 0, f"scan, killed at {at}"
    assert outcomes == 7, "not all of old, new and error occurred"


def _found_by_names(names: list[str]) -> int:
    """Return the sum of 1 for the old image, 2 for the new one, and 4 for an error, as they occurred."""
    old, new = (laws.image(k).image.values for k in (laws.OLD, laws.NEW))
    outcomes = 0
    for part in (names, names[: laws.NEW]):
        try:
            found = imload(part, axis="t").image.values
        except FileNotFoundError as exc:
            if "p.t_3.npy" not in str(exc):
                raise
            outcomes |= 4
            continue
        whole = [k for k, v in ((1, old), (2, new)) if np.array_equal(found, v[: len(part)])]
        assert whole, f"{found[:, 0, 0].tolist()}"
        outcomes |= whole[0]
    return outcomes


def _scanned(folder: Path) -> None:
    try:
        scanned = scan(folder)
    except FormatError:
        return
    (source,) = scanned.values()
    known = [laws.image(k).image.values for k in (laws.OLD, laws.NEW)]
    assert any(np.array_equal(source.read().image.values, v) for v in known)


def is_limited(place: str, without: str, *names: str) -> None:
    """Replacing is safe without links or locks; what a killed writer left, the next commit passes over or finishes."""
    for name in names:
        for at in range(2, 26, 5):
            print(f"{name}, killed at {at}", file=sys.stderr)
            _killed_without(without, Path(place) / str(at) / name.replace(".", "-") / name, at)


def _killed_without(without: str, target: Path, at: int) -> None:
    options = KINDS[target.name]

    def write(planes: int, overwrite: bool) -> None:
        renames.rename_flagged = lambda *_: errno.ENOSYS  # in the fork alone
        local.exchange = lambda *_: False
        if without == "locks":
            renames.fcntl = None
        else:
            del os.link
        imsave(laws.image(planes), target, **options, overwrite=overwrite)

    assert laws.in_fork(lambda: write(laws.OLD, False)) == 0
    laws.stopped(lambda: write(laws.NEW, True), at, False, target.parent)
    assert laws.in_fork(lambda: laws.check(target, options, True)) == 0
    assert laws.in_fork(lambda: write(laws.NEW, True)) == 0
    assert laws.in_fork(lambda: laws.check(target, options, True)) == 0


if __name__ == "__main__":
    for module in [*laws.MODULES.split(), "tqdm", "intake_img.formats.imageio.driver", "PIL.Image"]:  # not in each fork
        importlib.import_module(module)
    formats()
    {"disk_is_full": disk_is_full, "names_are_old": names_are_old, "is_limited": is_limited}[sys.argv[1]](*sys.argv[2:])
