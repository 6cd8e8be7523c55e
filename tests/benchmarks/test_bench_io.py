"""Opening, reading, cropping and writing against tifffile, zarr and pylibCZIrw on files of 0.5 to 2 GB."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import tifffile
import xarray as xr
import zarr

import intake_img
from intake_img import autodetect, imload, imsave

pytestmark = pytest.mark.filterwarnings("ignore")  # files that others leave open

PLANES = 16


def _tif(folder: Path, texture: np.ndarray, name: str, **options: object) -> Path:
    path = folder / name
    if not path.exists():
        stack = np.stack([np.roll(texture, 97 * k, axis=1) for k in range(PLANES)])
        tifffile.imwrite(path, stack, photometric="minisblack", metadata={"axes": "ZYX"}, **options)
    return path


@pytest.fixture(scope="session")
def tif_raw(big: Path, texture: np.ndarray) -> Path:
    return _tif(big, texture, "raw.tif", imagej=True)


@pytest.fixture(scope="session")
def tif_zlib(big: Path, texture: np.ndarray) -> Path:
    return _tif(big, texture, "zlib.ome.tif", compression="zlib", tile=(256, 256), ome=True)


@pytest.fixture(scope="session")
def tif_zstd(big: Path, texture: np.ndarray) -> Path:
    return _tif(big, texture, "zstd.ome.tif", compression="zstd", tile=(256, 256), ome=True)


@pytest.fixture(scope="session")
def zarr_store(big: Path, texture: np.ndarray) -> Path:
    path = big / "store.zarr"
    if not path.exists():
        array = zarr.create_array(
            str(path),
            shape=(PLANES, *texture.shape),
            chunks=(4, 512, 512),
            dtype="uint16",
            dimension_names=("z", "y", "x"),
        )
        for k in range(0, PLANES, 4):
            array[k : k + 4] = np.stack([np.roll(texture, 97 * j, axis=1) for j in range(k, k + 4)])
    return path


def _czi(path: Path, texture: np.ndarray, compression: str) -> Path:
    from pylibCZIrw import czi

    if not path.exists():
        with czi.create_czi(str(path), compression_options=compression) as writer:
            for k in range(256):
                corner = np.ascontiguousarray(texture[7 * k : 7 * k + 1024, 5 * k : 5 * k + 1024])
                writer.write(corner, plane={"Z": k})
            writer.write_metadata("bench", scale_x=1e-7, scale_y=1e-7, scale_z=1e-6)
    return path


@pytest.fixture(scope="session")
def czi_raw(big: Path, texture: np.ndarray) -> Path:
    return _czi(big / "raw.czi", texture, "uncompressed:")


@pytest.fixture(scope="session")
def czi_zstd(big: Path, texture: np.ndarray) -> Path:
    return _czi(big / "zstd.czi", texture, "zstd1:ExplicitLevel=1")


def _read_czi(path: Path) -> np.ndarray:
    from pylibCZIrw import czi

    with czi.open_czi(str(path)) as reader:
        planes = reader.total_bounding_box["Z"][1]
        first = reader.read(plane={"Z": 0})[..., 0]
        out = np.empty((planes, *first.shape), first.dtype)
        for k in range(planes):
            out[k] = reader.read(plane={"Z": k})[..., 0]
    return out


# opening


@pytest.mark.parametrize("name", ["tif_raw", "tif_zlib", "zarr_store", "czi_raw"])
def test_open(name: str, versus, benchmark, request) -> None:
    path = request.getfixturevalue(name)

    def raw() -> object:
        if path.suffix == ".zarr":
            return zarr.open_array(str(path), mode="r").shape
        if path.suffix == ".czi":
            from pylibCZIrw import czi

            with czi.open_czi(str(path)) as reader:
                return reader.total_bounding_box, reader.scenes_bounding_rectangle, reader.raw_metadata
        with tifffile.TiffFile(path) as tif:
            return tif.series[0].shape

    def ours() -> object:
        with autodetect(path) as source:
            return source.image().sizes

    versus(ours, raw, rounds=30)
    info = benchmark.extra_info
    info["gate"] = "3 ms above raw"
    assert info["ours_ms"] <= info["raw_ms"] + 3


def test_open_20000_pages(big: Path, versus, benchmark) -> None:
    path = big / "pages.tif"
    if not path.exists():
        tifffile.imwrite(
            path,
            shape=(20_000, 16, 16),
            dtype="uint16",
            photometric="minisblack",
            data=(np.full((16, 16), k % 7, "u2") for k in range(20_000)),
            compression="zlib",
        )

    def raw() -> list[int]:
        with tifffile.TiffFile(path) as tif:
            return [page.dataoffsets[0] for page in tif.series[0].pages]

    benchmark.extra_info["gate"] = "2"
    assert versus(lambda: autodetect(path).image(), raw, rounds=3) <= 2


def test_open_20000_subblocks(big: Path, versus, benchmark) -> None:
    from pylibCZIrw import czi

    path = big / "blocks.czi"
    if not path.exists():
        tile = np.arange(256, dtype="u2").reshape(16, 16)
        with czi.create_czi(str(path)) as writer:
            for k in range(20_000):
                writer.write(tile, plane={"T": k // 400}, location=(16 * (k % 20), 16 * (k // 20 % 20)))

    def raw() -> object:
        with czi.open_czi(str(path)) as reader:
            return reader.total_bounding_box, reader.scenes_bounding_rectangle, reader.raw_metadata

    benchmark.extra_info["gate"] = "2"
    assert versus(lambda: autodetect(path).image(), raw, rounds=5) <= 2


# reading


@pytest.mark.parametrize(
    ("name", "gate"),
    [("tif_zlib", 1.25), ("tif_zstd", 1.25), ("zarr_store", 1.25), ("czi_zstd", 1.25), ("tif_raw", 2), ("czi_raw", 2)],
)
def test_read(name: str, gate: float, versus, benchmark, request) -> None:
    path = request.getfixturevalue(name)
    raw = {".zarr": lambda: zarr.open_array(str(path), mode="r")[...], ".czi": lambda: _read_czi(path)}.get(
        path.suffix, lambda: tifffile.imread(path)
    )
    benchmark.extra_info["gate"] = f"{gate}"
    assert versus(lambda: autodetect(path).read(), raw) <= gate


@pytest.mark.parametrize("name", ["tif_raw", "tif_zlib", "zarr_store", "czi_raw", "czi_zstd"])
def test_peak_memory_of_read(name: str, peak_memory, benchmark, request) -> None:
    path = request.getfixturevalue(name)
    peak = benchmark.pedantic(
        lambda: peak_memory(f"from intake_img import autodetect; autodetect({str(path)!r}).read()"), rounds=1
    )
    nbytes = imload(path).image.nbytes / 2**20
    figure = f"{peak:.0f} MB of {nbytes:.0f} MB of pixels"
    gate = f"{1.2 * nbytes + 150:.0f} MB"
    benchmark.extra_info.update(what=f"peak_memory_of_read[{name}]", figure=figure, gate=gate)
    assert peak <= 1.2 * nbytes + 150


def test_crop(tif_zlib: Path, versus, benchmark) -> None:
    ds = imload(tif_zlib)
    store = zarr.open_array(tifffile.imread(tif_zlib, aszarr=True), mode="r")
    places = iter(np.random.default_rng(1).integers(0, 3800, (1000, 2)).tolist())

    def ours() -> np.ndarray:
        y, x = next(places)
        return ds.image[5, y : y + 256, x : x + 256].values

    def raw() -> np.ndarray:
        y, x = next(places)
        return store[5, y : y + 256, x : x + 256]

    benchmark.extra_info["gate"] = "10, and 15 ms"
    assert versus(ours, raw, rounds=40) <= 10
    assert benchmark.extra_info["ours_ms"] <= 15


# writing


@pytest.mark.parametrize("extension", [".ome.tif", ".zarr"])
def test_streaming_write_2_gb(extension: str, big: Path, texture: np.ndarray, versus, peak_memory, benchmark) -> None:
    shape, chunks = (64, 4096, 4096), (1, 4096, 4096)
    planes = da.map_blocks(lambda block_info=None: texture[None], chunks=(((1,) * 64), (4096,), (4096,)), dtype="u2")
    lazy = xr.Dataset({"image": (("z", "y", "x"), planes)})

    def raw() -> None:
        if extension == ".zarr":
            store = zarr.create_array(
                str(big / "raw-out.zarr"), shape=shape, chunks=(1, 1024, 1024), dtype="u2", overwrite=True
            )
            planes.rechunk(chunks).store(store, lock=False)
        else:
            with tifffile.TiffWriter(big / "raw-out.tif", bigtiff=True) as tif:
                each = (planes[k].compute() for k in range(shape[0]))
                tif.write(each, shape=shape, dtype="u2", photometric="minisblack")

    def ours() -> None:
        imsave(lazy, big / f"out{extension}", overwrite=True)

    benchmark.extra_info["gate"] = "1.5, and 500 MB"
    ratio = versus(ours, raw, rounds=2)
    peak = peak_memory(f"""
        import dask.array as da, numpy as np, xarray as xr
        from intake_img import imsave
        planes = da.ones({shape}, chunks={chunks}, dtype="u2")
        imsave(xr.Dataset({{"image": (("z", "y", "x"), planes)}}), {str(big / f"memory{extension}")!r}, overwrite=True)
    """)
    benchmark.extra_info["what"] += f" ({peak:.0f} MB)"
    assert peak < 500
    assert ratio <= 1.5


# importing


def test_import(benchmark) -> None:
    def seconds(statement: str) -> float:
        times = []
        for _ in range(5):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", statement], check=True)
            times.append(time.perf_counter() - start)
        return min(times)

    empty = seconds("pass")
    ours, xarray_alone = seconds("import intake_img") - empty, seconds("import xarray, intake") - empty
    benchmark.extra_info.update(
        what=f"import {intake_img.__name__}",
        figure=f"{ours * 1e3:.0f} ms",
        gate="400 ms",
        raw_figure=f"{xarray_alone * 1e3:.0f} ms (xarray and intake)",
    )
    benchmark.pedantic(lambda: None, rounds=1)
    assert ours < 0.4
