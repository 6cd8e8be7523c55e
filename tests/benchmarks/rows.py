"""Rows of files and of processing against the quickest tool for each: processor time and peak memory, as one table.

``python tests/benchmarks/rows.py`` measures and prints; ``--save run.json`` keeps the figures, ``--against old.json``
adds rows of another commit, ``--threads 1`` gives ours and OpenCV one thread, ``--elapsed`` measures elapsed time.
Ours and theirs take turns in one process, minimum of several rounds; memory is what numpy and Python hold at most above
what they held before.
"""

from __future__ import annotations

import argparse
import atexit
import functools
import json
import shutil
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import dask
import numpy as np
import tifffile
import xarray as xr
import zarr
from file_rows import FILE_ROWS
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.measure import regionprops_table
from skimage.morphology import disk, skeletonize
from skimage.segmentation import relabel_sequential
from skimage.transform import downscale_local_mean, resize

import intake_img
from intake_img.accessor.patches import CACHE

RNG = np.random.default_rng(0)
STACK = RNG.integers(0, 4000, (4, 2048, 2048)).astype("u2")
PLANE = STACK[0, :1024, :1024].copy()
BYTES = (PLANE >> 4).astype("u1")
FLOATS = STACK.astype("f4")
VOLUME = RNG.integers(0, 4000, (16, 1024, 1024)).astype("u2")
LONG = np.tile(VOLUME, (8, 1, 1))
SMOOTH = ndimage.gaussian_filter(RNG.random((2048, 2048)), 6)
MASK = np.percentile(SMOOTH, 88) < SMOOTH
WEIGHTS = RNG.random((5, 5))
BOX = np.ones((5, 5), "u1")
CHUNKED = xr.DataArray(LONG, dims=list("zyx")).chunk({"z": 4})
LABELS = ndimage.label(MASK)[0] * 3
LEVELS = (SMOOTH / SMOOTH.max() * 60000).astype("u2")
DISK = disk(5)
PROPERTIES = ("label", "area", "centroid", "bbox", "intensity_mean", "intensity_max")

Row = tuple[Callable[[], Any], Callable[[], Any], str]


def image(values: np.ndarray) -> Any:
    return xr.DataArray(values, dims=list("tyx")[-values.ndim :]).img


def each(func: Callable[..., Any], *arguments: Any) -> list[Any]:
    return [func(plane, *arguments) for plane in STACK]


def floats(func: Callable[..., Any], *arguments: Any) -> list[Any]:
    return [func(plane, *arguments) for plane in FLOATS]


def pyramid() -> None:
    levels = image(STACK).pyramid([2, 2, 2])
    dask.compute(*[levels[f"scale{k}"].image.data for k in (1, 2, 3)])


def their_pyramid() -> None:
    level = STACK
    for _ in range(3):
        level = np.rint(downscale_local_mean(level, (1, 2, 2))).astype("u2")


@functools.cache
def stored() -> tuple[zarr.Array, Any]:
    """A compressed image in chunks of 256 x 256, and patches of it."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    texture = ndimage.gaussian_filter(RNG.random((4096, 4096)), 3) * 9000 + RNG.integers(0, 40, (4096, 4096))
    codec = zarr.codecs.BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle")
    path = f"{folder}/image.zarr"
    array = zarr.create_array(path, data=texture.astype("u2"), chunks=(256, 256), compressors=codec)
    image = intake_img.imload(path, metadata={"axes": "yx"})
    return array, image.img.patches({"y": 64, "x": 64}, sample="random", n=1024, edge="drop")


@functools.cache
def mapped() -> str:
    """The path of an uncompressed TIFF file of 268 MB."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    tifffile.imwrite(f"{folder}/image.tif", LONG, photometric="minisblack", metadata={"axes": "ZYX"})
    return f"{folder}/image.tif"


def regions() -> Any:
    ds = xr.Dataset({"image": (("y", "x"), LEVELS), "labels": (("y", "x"), LABELS, {"kind": "labels"})})
    return ds.img.regionprops(properties=PROPERTIES)


def patches() -> None:
    limit, CACHE.limit = CACHE.limit, 2**23
    CACHE.clear()
    for _ in stored()[1].batches(64, lookahead=256, labelled=False):
        pass
    CACHE.limit = limit


def their_patches() -> list[Any]:
    array, found = stored()
    return [array[y : y + 64, x : x + 64].sum() for y, x in found.plan.start.tolist()]


ROWS: dict[str, Row] = {
    "median 3": (lambda: image(STACK).median_filter(3).load(), lambda: each(cv2.medianBlur, 3), "OpenCV"),
    "median 5": (lambda: image(STACK).median_filter(5).load(), lambda: each(cv2.medianBlur, 5), "OpenCV"),
    "median 15, uint8": (lambda: image(BYTES).median_filter(15).load(), lambda: cv2.medianBlur(BYTES, 15), "OpenCV"),
    "median 15, uint16": (
        lambda: image(PLANE).median_filter(15).load(),
        lambda: ndimage.median_filter(PLANE, 15),
        "scipy",
    ),
    "maximum 5": (lambda: image(STACK).maximum_filter(5).load(), lambda: each(cv2.dilate, BOX), "OpenCV"),
    "uniform 5": (
        lambda: image(STACK).uniform_filter(5).load(),
        lambda: each(ndimage.uniform_filter, 5),
        "scipy",
    ),
    "uniform 5, engine='opencv'": (
        lambda: image(STACK).uniform_filter(5, engine="opencv").load(),
        lambda: each(cv2.blur, (5, 5)),
        "OpenCV",
    ),
    "uniform 31, float32": (
        lambda: image(FLOATS).uniform_filter(31).load(),
        lambda: floats(ndimage.uniform_filter, 31),
        "scipy",
    ),
    "gaussian 2, float32": (
        lambda: image(FLOATS).gaussian_filter(2).load(),
        lambda: floats(ndimage.gaussian_filter, 2),
        "scipy",
    ),
    "the same, engine='opencv'": (
        lambda: image(FLOATS).gaussian_filter(2, engine="opencv").load(),
        lambda: floats(cv2.GaussianBlur, (17, 17), 2),
        "OpenCV",
    ),
    "sobel, float32, engine='opencv'": (
        lambda: image(FLOATS).sobel(engine="opencv").load(),
        lambda: floats(cv2.Sobel, cv2.CV_32F, 1, 0),
        "OpenCV",
    ),
    "correlate 5 x 5, float32, engine='opencv'": (
        lambda: image(FLOATS).correlate(WEIGHTS, engine="opencv").load(),
        lambda: floats(cv2.filter2D, cv2.CV_32F, WEIGHTS),
        "OpenCV",
    ),
    "label": (lambda: image(MASK).label().load(), lambda: ndimage.label(MASK), "scipy"),
    "pyramid, 3 levels": (pyramid, their_pyramid, "scikit-image"),
    "rescale by a half": (
        lambda: image(PLANE).rescale(0.5).load(),
        lambda: resize(PLANE, (512, 512), order=1, preserve_range=True, anti_aliasing=True),
        "scikit-image",
    ),
    "the same, not smoothed": (
        lambda: image(PLANE).rescale(0.5, anti_aliasing=False).load(),
        lambda: ndimage.zoom(PLANE, 0.5, order=1),
        "scipy",
    ),
    "mean, in memory": (lambda: image(VOLUME).mean(), lambda: VOLUME.mean(0), "numpy"),
    "max, in memory": (lambda: image(VOLUME).max(), lambda: VOLUME.max(0), "numpy"),
    "mean of chunks, 268 MB": (lambda: CHUNKED.img.mean("z").load(), lambda: LONG.mean(0), "numpy"),
    "max of chunks, 268 MB": (lambda: CHUNKED.img.max("z").load(), lambda: LONG.max(0), "numpy"),
    "std, in memory": (lambda: image(VOLUME).std(), lambda: VOLUME.std(0), "numpy"),
    "reduce(np.add), in memory": (lambda: image(VOLUME).reduce(np.add), lambda: np.add.reduce(VOLUME), "numpy"),
    "max_min_projection": (
        lambda: image(VOLUME).max_min_projection("t"),
        lambda: np.add(VOLUME.max(0), VOLUME.min(0), dtype="u4"),
        "numpy",
    ),
    "map(np.sqrt)": (lambda: image(STACK).map(np.sqrt), lambda: np.sqrt(STACK), "numpy"),
    "mean of a TIFF, 268 MB": (
        lambda: intake_img.imload(mapped())["image"].img.mean("z").load(),
        lambda: tifffile.memmap(mapped()).mean(0),
        "tifffile",
    ),
    "max of a TIFF, 268 MB": (
        lambda: intake_img.imload(mapped())["image"].img.max("z").load(),
        lambda: tifffile.memmap(mapped()).max(0),
        "tifffile",
    ),
    "gaussian 10, float32": (
        lambda: image(FLOATS).gaussian_filter(10).load(),
        lambda: floats(ndimage.gaussian_filter, 10),
        "scipy",
    ),
    "regionprops": (
        regions,
        lambda: regionprops_table(LABELS, LEVELS, properties=PROPERTIES),
        "scikit-image",
    ),
    "threshold('otsu')": (
        lambda: image(LEVELS).threshold("otsu"),
        lambda: threshold_otsu(LEVELS) < LEVELS,
        "scikit-image",
    ),
    "binary_opening(5)": (
        lambda: image(MASK).binary_opening(5),
        lambda: ndimage.binary_opening(MASK, DISK),
        "scipy",
    ),
    "relabel": (lambda: image(LABELS).relabel(), lambda: relabel_sequential(LABELS), "scikit-image"),
    "skeletonize": (lambda: image(MASK).skeletonize(), lambda: skeletonize(MASK), "scikit-image"),
    "peaks": (
        lambda: image(SMOOTH).peaks(min_distance=5),
        lambda: peak_local_max(SMOOTH, min_distance=5, exclude_border=False),
        "scikit-image",
    ),
    "distance_transform": (
        lambda: image(MASK).distance_transform(),
        lambda: ndimage.distance_transform_edt(MASK),
        "scipy",
    ),
    "1024 patches, cache of a quarter of the image": (patches, their_patches, "zarr"),
    **FILE_ROWS,
}


def spent(run: Callable[[], Any], clock: Callable[[], float]) -> float:
    start = clock()
    run()
    return (clock() - start) * 1e3


def held(run: Callable[[], Any]) -> float:
    tracemalloc.start()
    run()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


def measured(row: Row, rounds: int, clock: Callable[[], float]) -> dict[str, Any]:
    ours, theirs, best = row
    times = [(spent(ours, clock), spent(theirs, clock)) for _ in range(rounds)]
    a, b = (min(t) for t in zip(*times, strict=True))
    return {"ours": a, "theirs": b, "best": best, "held": held(ours), "held_theirs": held(theirs)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", help="words that the names of rows contain; by default all rows")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--save", type=Path)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--threads", type=int, help="of ours and of OpenCV; by default all processors")
    parser.add_argument("--elapsed", action="store_true", help="elapsed time instead of processor time")
    given = parser.parse_args()
    if given.threads:
        cv2.setNumThreads(given.threads)
        dask.config.set(num_workers=given.threads)
    clock = time.perf_counter if given.elapsed else time.process_time
    old = json.loads(given.against.read_text()) if given.against else {}
    figures = {}
    print("| what | ours | the best | ratio | peak memory, ours | theirs |" + " before |" * bool(old))
    print("| --- | --- | --- | --- | --- | --- |" + " --- |" * bool(old))
    for name, row in ROWS.items():
        if given.rows and not any(word in name for word in given.rows):
            continue
        f = figures[name] = measured(row, given.rounds, clock)
        cells = [name, f"{f['ours']:.1f} ms", f"{f['theirs']:.1f} ms ({f['best']})", f"{f['ours'] / f['theirs']:.2f}"]
        cells += [f"{f['held']:.0f} MB", f"{f['held_theirs']:.0f} MB"]
        if old:
            cells.append(f"{old[name]['ours']:.1f} ms" if name in old else "")
        print("| " + " | ".join(cells) + " |", flush=True)
    if given.save:
        given.save.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
