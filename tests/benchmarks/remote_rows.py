"""Requests and bytes of reading one plane of a remote image: ``python tests/benchmarks/remote_rows.py [FOLDER]``.

The optimum is one request for the header and one for the plane, and the bytes in which the plane is stored: those of
the file, divided by the number of planes. Requests that ask only for size and version count, too. Files of formats that
this package writes have 24 planes of 1024² uint16; of others, the largest in the folder are read.
"""

from __future__ import annotations

import math
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

sys.path.insert(0, str(Path(__file__).parent.parent))
from servers import Handler, serving

from intake_img import imload, imsave
from intake_img.errors import IntakeImgError
from intake_img.storage.handles import POOL

PLANES, SIZE = 24, 1024
WRITTEN: dict[str, dict[str, Any]] = {
    "a.tif": {"compress": False},
    "tiled.ome.tif": {"compress": "zlib"},
    "a.ome.zarr": {"chunks": {"z": 1, "y": SIZE, "x": SIZE}},
    "shards.ome.zarr": {"chunks": {"z": 1, "y": 256, "x": 256}, "shards": {"z": 8, "y": SIZE, "x": SIZE}},
    "a.zarr.zip": {"chunks": {"z": 1, "y": SIZE, "x": SIZE}},
    "a.npy": {},
    "a.npz": {"compress": False},
    "a.bin": {},
    "a.h5": {},
    "a.nii": {},
    "a.nrrd": {"compress": False},
    "a.mha": {"compress": False},
    "a.mrc": {},
    "a.fits": {},
}


def image() -> xr.Dataset:
    rng = np.random.default_rng(0)
    return xr.Dataset({"image": (tuple("zyx"), rng.integers(0, 4096, (PLANES, SIZE, SIZE), "uint16"))})


def size_of(path: Path) -> int:
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file()) if path.is_dir() else path.stat().st_size


def _head(handler: Handler) -> None:
    handler.log.append((handler.path, 0))
    handler.do_GET()


def row(root: Path, name: str) -> tuple[str, int, int, float, float] | None:
    """Return requests and MB of opening and of reading a plane, and how many times the bytes of the plane were read."""
    with serving(root, do_HEAD=_head) as (url, handler):
        ds = imload(f"{url}/{name}")
        array = next(iter(ds.data_vars.values()))
        opening = len(handler.log)
        plane = {axis: n // 2 for axis, n in array.sizes.items() if axis not in "yxs" and axis != "c"}
        array.isel(plane).compute()
        for key in list(POOL._entries):
            POOL.shut(key)
        bytes_read = sum(n for _, n in handler.log)
        planes = math.prod(array.sizes[axis] for axis in plane)
    stored = size_of(root / name) / planes
    return name, opening, len(handler.log) - opening, bytes_read / 1e6, bytes_read / stored


def files(root: Path, folder: Path | None) -> Iterator[tuple[Path, str]]:
    for name, options in WRITTEN.items():
        imsave(image(), root / name, **options)
        yield root, name
    largest: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")) if folder else ():
        if path.is_file() and path.stat().st_size > largest.get(path.suffix, Path(os.devnull)).stat().st_size:
            largest[path.suffix] = path
    yield from ((path.parent, path.name) for path in largest.values() if path.stat().st_size > 300_000)


def main(folder: Path | None) -> None:
    print("| file | requests: opening, plane | MB read | times the bytes of the plane |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as root:
        for place, name in files(Path(root), folder):
            try:
                _, opening, reading, read, ratio = row(place, name)
            except (IntakeImgError, OSError, ValueError) as exc:
                print(f"# {name}: {exc}", file=sys.stderr)
            else:
                print(f"| {name} | {opening}, {reading} | {read:.2f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
