"""The rows of reading, selecting, writing and opening files, each with the quickest tool for it; see `rows.py`."""

from __future__ import annotations

import atexit
import functools
import glob
import itertools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore
import tifffile
import xarray as xr
import zarr

import intake_img

Row = tuple[Callable[[], Any], Callable[[], Any], str]

SHAPE = (128, 1024, 1024)
STRIDES = (slice(None, None, 4), slice(None, None, 8), slice(None, None, 8))
CROP = (slice(5, 6), slice(300, 556), slice(300, 556))
CUBE = (slice(20, 28), slice(300, 364), slice(300, 364))
CODECS = {
    "zstd": zarr.codecs.ZstdCodec(level=3, checksum=True),
    "blosc": zarr.codecs.BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle"),
    "gzip": zarr.codecs.GzipCodec(level=1),
}


@functools.cache
def folder() -> Path:
    made = tempfile.mkdtemp(prefix="rows-")
    atexit.register(shutil.rmtree, made)
    return Path(made)


@functools.cache
def volume() -> np.ndarray:
    """268 MB of uint16 that compress about 2:1, like a camera's images."""
    rng = np.random.default_rng(0)
    smooth = np.add.outer(np.sin(np.arange(1024) / 70), np.cos(np.arange(1024) / 90)) * 300 + 800
    return (smooth + rng.normal(0, 8, SHAPE)).astype("u2")


@functools.cache
def stored_zarr(chunks: tuple[int, ...], shards: tuple[int, ...] | None = None, codec: str = "zstd") -> str:
    path = str(folder() / f"{chunks}-{shards}-{codec}.zarr")
    zarr.create_array(path, data=volume(), chunks=chunks, shards=shards, compressors=CODECS[codec])
    return path


@functools.cache
def stored_tif(**layout: Any) -> str:
    path = str(folder() / f"{'-'.join(map(str, layout.values()))}.tif")
    tifffile.imwrite(path, volume(), photometric="minisblack", metadata={"axes": "ZYX"}, **layout)
    return path


def strips() -> str:
    return stored_tif(compression="zlib", rowsperstrip=4)


def tiles() -> str:
    return stored_tif(compression="zlib", tile=(256, 256))


def mapped() -> str:
    return stored_tif(contiguous=True)


@functools.cache
def planes() -> str:
    """128 uncompressed TIFF of 512 x 512."""
    for k, plane in enumerate(volume()[:, :512, :512]):
        tifffile.imwrite(folder() / f"plane_{k:03d}.tif", plane)
    return str(folder() / "plane_*.tif")


@functools.cache
def image(path: str, chunks: Any = "auto") -> xr.DataArray:
    return intake_img.imload(path, chunks=chunks, metadata={"axes": "zyx"}).image


@functools.cache
def over_tifffile(path: str) -> zarr.Array:
    opened = zarr.open(tifffile.imread(path, aszarr=True), mode="r")
    return opened if isinstance(opened, zarr.Array) else opened["0"]


@functools.cache
def over_zarr(path: str) -> zarr.Array:
    return zarr.open_array(path, mode="r")


@functools.cache
def over_tensorstore(path: str) -> Any:
    return tensorstore.open({"driver": "zarr3", "kvstore": {"driver": "file", "path": path}}).result()


@functools.cache
def memory_map(path: str) -> np.ndarray:
    return tifffile.memmap(path, mode="r")


def read(path: str) -> np.ndarray:
    return image(path).values


SMALL, LARGE = (8, 64, 64), (1, 1024, 1024)


def small() -> str:
    return stored_zarr(SMALL)


def shards() -> str:
    return stored_zarr((1, 256, 256), (8, 1024, 1024))


def fresh(name: str) -> str:
    """A path for a new store; the one before is removed."""
    path = folder() / "written" / name
    shutil.rmtree(path.parent, ignore_errors=True)
    path.parent.mkdir()
    return str(path)


def write(**options: Any) -> None:
    intake_img.imsave(xr.DataArray(volume(), dims=list("zyx")), fresh("ours.zarr"), **options)


def write_zarr(codec: Any = None, **layout: Any) -> None:
    array = zarr.create_array(fresh("theirs.zarr"), shape=SHAPE, dtype="u2", compressors=codec, **layout)
    array[...] = volume()


def write_tensorstore() -> None:
    zstd = {"name": "zstd", "configuration": {"level": 3, "checksum": True}}
    codecs = [{"name": "bytes", "configuration": {"endian": "little"}}, zstd]
    grid = {"name": "regular", "configuration": {"chunk_shape": LARGE}}
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": fresh("theirs.zarr")},
        "metadata": {"shape": SHAPE, "data_type": "uint16", "chunk_grid": grid, "codecs": codecs},
    }
    tensorstore.open(spec, create=True).result()[...] = volume()


def reading() -> dict[str, Row]:
    return {
        "read Zarr, chunks of 8 x 64 x 64": (
            lambda: read(small()),
            lambda: over_tensorstore(small()).read().result(),
            "tensorstore",
        ),
        "read Zarr, shards, chunks of 256 x 256": (
            lambda: read(shards()),
            lambda: over_tensorstore(shards()).read().result(),
            "tensorstore",
        ),
        "read Zarr, chunks of 1024 x 1024, zstd": (
            lambda: read(stored_zarr(LARGE)),
            lambda: over_zarr(stored_zarr(LARGE))[...],
            "zarr",
        ),
        "read Zarr, chunks of 1024 x 1024, blosc": (
            lambda: read(stored_zarr(LARGE, codec="blosc")),
            lambda: over_zarr(stored_zarr(LARGE, codec="blosc"))[...],
            "zarr",
        ),
        "the same by compute()": (
            lambda: image(stored_zarr(LARGE, codec="blosc")).compute(),
            lambda: over_zarr(stored_zarr(LARGE, codec="blosc"))[...],
            "zarr",
        ),
        "read Zarr, chunks of 1024 x 1024, gzip": (
            lambda: read(stored_zarr(LARGE, codec="gzip")),
            lambda: over_tensorstore(stored_zarr(LARGE, codec="gzip")).read().result(),
            "tensorstore",
        ),
        "read TIFF, zlib strips of 8 KB": (lambda: read(strips()), lambda: tifffile.imread(strips()), "tifffile"),
        "read TIFF, not compressed": (lambda: read(mapped()), lambda: tifffile.imread(mapped()), "tifffile"),
        "the same by compute(), not compressed": (
            lambda: image(mapped()).compute(),
            lambda: tifffile.imread(mapped()),
            "tifffile",
        ),
        "read 128 TIFF, not compressed": (
            lambda: intake_img.imload(planes()).image.values,
            lambda: tifffile.imread(sorted(glob.glob(planes()))),
            "tifffile",
        ),
    }


def selecting() -> dict[str, Row]:
    """Rows of selections, each of dask arrays and of `chunks=None`."""
    sources: dict[str, tuple[Any, Any, Callable[[], str], Any, str]] = {
        "8 x 64 x 64 of zlib tiles": (CUBE, over_tifffile, tiles, np.asarray, "zarr over tifffile"),
        "strides 4, 8, 8 of zlib tiles": (STRIDES, over_tifffile, tiles, np.asarray, "zarr over tifffile"),
        "strides 4, 8, 8 of a memory map": (STRIDES, memory_map, mapped, np.array, "numpy"),
        "256 x 256 of a memory map": (CROP, memory_map, mapped, np.array, "numpy"),
        "256 x 256 of Zarr, chunks of 8 x 64 x 64": (CROP, over_tensorstore, small, np.asarray, "tensorstore"),
        "256 x 256 of Zarr, shards": (CROP, over_tensorstore, shards, np.asarray, "tensorstore"),
    }
    rows: dict[str, Row] = {}
    for name, chunks in itertools.product(sources, ("auto", None)):
        index, opened, path, made, tool = sources[name]
        rows[name if chunks else f"{name}, chunks=None"] = (
            functools.partial(_ours, path, chunks, index),
            functools.partial(_theirs, path, opened, made, index),
            tool,
        )
    return rows


def _ours(path: Callable[[], str], chunks: Any, index: Any) -> np.ndarray:
    return image(path(), chunks)[index].values


def _theirs(path: Callable[[], str], opened: Any, made: Any, index: Any) -> np.ndarray:
    return made(opened(path())[index])


def writing() -> dict[str, Row]:
    sharded = {"chunks": (1, 256, 256), "shards": (8, 1024, 1024)}
    return {
        "write Zarr, not compressed": (
            lambda: write(compress=False, chunks={"z": 1, "y": 1024, "x": 1024}),
            lambda: write_zarr(chunks=LARGE),
            "zarr",
        ),
        "write Zarr, zstd": (
            lambda: write(compress="zstd", chunks={"z": 1, "y": 1024, "x": 1024}),
            lambda: write_zarr(CODECS["zstd"], chunks=LARGE),
            "zarr",
        ),
        "the same against tensorstore": (
            lambda: write(compress="zstd", chunks={"z": 1, "y": 1024, "x": 1024}),
            write_tensorstore,
            "tensorstore",
        ),
        "write Zarr, shards, zstd": (
            lambda: write(compress="zstd", chunks={"z": 1, "y": 256, "x": 256}, shards={"z": 8, "y": 1024, "x": 1024}),
            lambda: write_zarr(CODECS["zstd"], **sharded),
            "zarr",
        ),
    }


def _png(path: str) -> tuple[int, ...]:
    from PIL import Image

    with Image.open(path) as picture:
        return picture.size


def _tif(path: str) -> tuple[int, ...]:
    with tifffile.TiffFile(path) as tif:
        return tif.series[0].shape


LIBRARIES: dict[str, tuple[Callable[[str], Any], str]] = {
    ".npy": (lambda path: np.load(path, mmap_mode="r").shape, "numpy"),
    ".tif": (_tif, "tifffile"),
    ".ome.tif": (_tif, "tifffile"),
    ".zarr": (lambda path: zarr.open_group(path, mode="r", use_consolidated=False)["0"].shape, "zarr"),
    ".png": (_png, "Pillow"),
}


@functools.cache
def saved(ending: str) -> str:
    axes = "yx" if ending == ".png" else "zyx"
    path = folder() / f"opened{ending}"
    intake_img.imsave(xr.Dataset({"image": (tuple(axes), volume()[(0,) * (3 - len(axes))])}), path)
    return str(path)


def _repeated(run: Callable[[str], Any], path: Callable[[], str], times: int = 20) -> None:
    place = path()
    for _ in range(times):
        run(place)


def opening() -> dict[str, Row]:
    return {
        f"open 20 times {ending}": (
            functools.partial(_repeated, intake_img.imload, functools.partial(saved, ending)),
            functools.partial(_repeated, library, functools.partial(saved, ending)),
            tool,
        )
        for ending, (library, tool) in LIBRARIES.items()
    }


FILE_ROWS: dict[str, Row] = reading() | selecting() | writing() | opening()
