"""Processing of lazy stacks, against scipy on the same images in memory and against dask-image.

``INTAKE_IMG_BENCH_GB`` is the size of the stack (0.5 by default). Images are made on the fly, results thrown away, so
that memory shows what is held on the way.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
import warnings
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from scipy import ndimage

import intake_img

GB = float(os.environ.get("INTAKE_IMG_BENCH_GB", "0.5"))
SIDE = 1024
FRAME = np.random.default_rng(0).integers(0, 4000, (SIDE, SIDE)).astype("u2")
FRAMES = max(8, int(GB * 1e9 / FRAME.nbytes))
WEIGHTS = np.random.default_rng(0).random((5, 5))
FILTERS = {
    "gaussian_filter": {"sigma": 2},
    "uniform_filter": {"size": 5},
    "median_filter": {"size": 3},
    "percentile_filter": {"percentile": 30, "size": 5},
    "rank_filter": {"rank": 2, "size": 3},
    "maximum_filter": {"size": 5},
    "minimum_filter": {"size": 5},
    "grey_opening": {"size": 5},
    "grey_closing": {"size": 5},
    "white_tophat": {"size": 5},
    "laplace": {},
    "gaussian_laplace": {"sigma": 2},
    "gaussian_gradient_magnitude": {"sigma": 2},
    "sobel": {},
    "prewitt": {},
    "convolve": {"weights": WEIGHTS},
    "correlate": {"weights": WEIGHTS},
    "threshold_local": {"block_size": 11},
}
SLOW = {"median_filter": 4, "percentile_filter": 8, "rank_filter": 4}
"""Filters that are applied to every n-th image only."""


def raw_filter(name: str) -> Any:
    """The filter of scipy, or of scikit-image."""
    if name == "threshold_local":
        return pytest.importorskip("skimage.filters").threshold_local
    return getattr(ndimage, name)


def plane_by_plane(options: dict[str, Any]) -> dict[str, Any]:
    """Arguments for an array with a further axis, whose images are not neighbours."""
    wide = {
        "sigma": lambda v: (0, v, v),
        "size": lambda v: (1, v, v),
        "block_size": lambda v: (1, v, v),
        "weights": lambda v: v[None],
    }
    return {k: wide[k](v) if k in wide else v for k, v in options.items()}


class Stack:
    """Images made when they are read."""

    def __init__(self, n: int, dtype: str = "u2", side: int = SIDE) -> None:
        self.shape, self.dtype, self.ndim = (n, side, side), np.dtype(dtype), 3
        self.frame = FRAME[:side, :side].astype(dtype)

    def __getitem__(self, key: Any) -> np.ndarray:
        return np.broadcast_to(self.frame, self.shape)[key].copy()

    def dask(self, chunks: tuple[int, int, int]) -> Any:
        import dask.array as da

        return da.from_array(self, chunks=chunks, asarray=False, meta=np.empty((0, 0, 0), self.dtype), name=False)

    def image(self, chunks: tuple[int, int, int]) -> xr.DataArray:
        return xr.DataArray(self.dask(chunks), dims=["t", "y", "x"], name="image")


class Sink:
    """Throws away what is stored."""

    def __setitem__(self, key: Any, value: Any) -> None:
        pass


def consume(array: Any, scheduler: str = "threads") -> None:
    import dask

    arrays = array if isinstance(array, list) else [array]
    with dask.config.set(scheduler=scheduler):
        da.store(arrays, [Sink() for _ in arrays], lock=False)


@pytest.mark.parametrize(
    ("dtype", "chunks"), [("u2", (1, SIDE, SIDE)), ("f4", (1, 512, 512))], ids=["u2-planes", "f4-tiles"]
)
@pytest.mark.parametrize("name", FILTERS)
def test_filter_per_core_against_scipy(name, dtype, chunks, versus):
    n = max(4, FRAMES // 8 // SLOW.get(name, 1))
    stack = Stack(n, dtype)

    def ours():
        consume(getattr(stack.image(chunks).img, name)(**FILTERS[name]).data, "sync")

    def raw():
        for _ in range(n):
            raw_filter(name)(stack.frame, **FILTERS[name])

    assert versus(ours, raw, rounds=3, clock=time.process_time) < 1.3  # making the images included


@pytest.mark.parametrize("chunks", [(1, SIDE, SIDE), (1, 512, 512)], ids=["planes", "tiles"])
@pytest.mark.parametrize("name", [n for n in FILTERS if "grey" not in n and "hat" not in n])  # dask-image has no others
def test_filter_against_dask_image(name, chunks, versus):
    filters = pytest.importorskip("dask_image.ndfilters")
    n = max(4, FRAMES // 4 // SLOW.get(name, 1))
    stack = Stack(n)
    options = plane_by_plane(FILTERS[name])

    def theirs():  # their laplace, sobel and prewitt know no planes: image by image
        array = stack.dask(chunks)
        if name in ("laplace", "sobel", "prewitt"):
            consume([getattr(filters, name)(array[k]) for k in range(n)])
        else:
            consume(getattr(filters, name)(array, **options))

    def ours():
        consume(getattr(stack.image(chunks).img, name)(**FILTERS[name]).data)

    versus(ours, theirs, rounds=3)


def peak(code: str) -> tuple[float, float]:
    """Seconds and peak memory in MB of a script in a separate process."""
    setup = """
    import time
    from test_bench_processing import Stack, consume
    def held():
        return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
    consume(Stack(2).image((1, 512, 512)).img.gaussian_filter(1).data)
    before, start = held(), time.perf_counter()
    """
    after = "\nprint(time.perf_counter() - start, held() - before)"
    script = textwrap.dedent(setup) + textwrap.dedent(code) + after
    path = os.pathsep.join([os.path.dirname(__file__), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    seconds, megabytes = done.stdout.split()
    return float(seconds), float(megabytes)


GROWING = [
    "gaussian_filter(2)",
    "median_filter(3)",
    "maximum_filter(5)",
    "map(lambda b: b, depth=8)",
    "normalize()",
    "localcorr()",
]


@pytest.mark.parametrize("what", GROWING)
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="peak memory is read from /proc")
def test_growth_as_the_stack_doubles(what, benchmark):
    n = max(16, FRAMES // (16 if "median" in what else 4))
    run = "consume(Stack({n}).image((1, 512, 512)).img.{what}.data)"
    small, large = (peak(run.format(n=k, what=what)) for k in (n, 2 * n))
    figure = f"time x{large[0] / small[0]:.2f}, memory {small[1]:.0f} -> {large[1]:.0f} MB"
    benchmark.extra_info.update(what=f"{what}: twice {n} images of 2 MB", figure=figure, gate="memory stays")
    benchmark.pedantic(lambda: None, rounds=1)
    assert large[1] < 1.5 * small[1] + 50


def test_localcorr(versus):
    n = max(100, int(1000 * GB))
    stack = Stack(n, "u2", 512)

    def ours():
        consume(stack.image((10, 512, 512)).img.localcorr(2).data, "sync")

    def raw():  # as it is written at first: everything in memory
        series = stack[:].astype(float)
        blurred = ndimage.uniform_filter(series, (0, 5, 5))
        series -= series.mean(axis=0)
        blurred -= blurred.mean(axis=0)
        top = (series * blurred).sum(axis=0)
        with np.errstate(invalid="ignore"):
            return top / np.sqrt((series**2).sum(axis=0) * (blurred**2).sum(axis=0))

    versus(ours, raw, rounds=1)


def test_localcorr_against_dask(versus):
    filters = pytest.importorskip("dask_image.ndfilters")
    n = max(100, int(1000 * GB))
    stack = Stack(n, "u2", 512)

    def ours():
        consume(stack.image((10, 512, 512)).img.localcorr(2).data)

    def raw():  # as it is written with dask
        series = stack.dask((10, 512, 512)).astype(float)
        blurred = filters.uniform_filter(series, (1, 5, 5))
        a, b = series - series.mean(axis=0), blurred - blurred.mean(axis=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the series are constant
            consume((a * b).sum(axis=0) / ((a**2).sum(axis=0) * (b**2).sum(axis=0)) ** 0.5)

    versus(ours, raw, rounds=1)


def test_localcorr_against_its_blur(versus):
    n = max(100, int(1000 * GB / 4))
    stack = Stack(n, "u2", 512)

    def ours():
        consume(stack.image((10, 512, 512)).img.localcorr(2).data, "sync")

    def raw():  # the blur alone, as scipy does it
        for _ in range(n):
            ndimage.uniform_filter(stack.frame.astype(float), 5)

    versus(ours, raw, rounds=2)


def test_map_overhead(versus):
    stack = Stack(2000, "u1", 32)

    def ours():
        consume(stack.image((1, 32, 32)).img.map(np.negative).data, "sync")

    def raw():
        consume(stack.dask((1, 32, 32)).map_blocks(np.negative, dtype="u1"), "sync")

    versus(ours, raw, rounds=3)


REDUCED = {
    "subsample": lambda image: image.img.subsample(2),
    "max": lambda image: image.img.max(skipna=False),
    "subtract": lambda image: image.img.subtract(5),
    "max_projection": lambda image: image.img.max_projection("y"),
}


@pytest.fixture(scope="module")
def in_files(tmp_path_factory, texture):
    """The same stack of 0.5 GB as compressed Zarr and as plain TIFF."""
    folder = tmp_path_factory.mktemp("reduced")
    planes = [np.roll(texture[:SIDE, :SIDE], 31 * k, axis=1) for k in range(8)]
    stack = da.stack([da.from_array(planes[k % 8], chunks=-1) for k in range(256)])
    image = xr.DataArray(stack, dims=list("tyx"), name="image")
    intake_img.imsave(image, folder / "stack.zarr", chunks={"t": 4, "y": SIDE, "x": SIDE})
    intake_img.imsave(image, folder / "stack.tif")
    return folder


@pytest.mark.parametrize("kind", ["zarr", "tif"])
@pytest.mark.parametrize("what", REDUCED)
def test_throughput_against_reading(what, kind, in_files, versus, benchmark):
    image = intake_img.imload(in_files / f"stack.{kind}", chunks={"t": 4}).image

    def ours():
        consume(REDUCED[what](image).data)

    def raw():
        consume(image.data)

    ratio = versus(ours, raw, rounds=3)
    if kind == "zarr":
        benchmark.extra_info["gate"] = "1.3"
        assert ratio < 1.3


@pytest.mark.parametrize("name", ["gaussian_filter", "maximum_filter", "median_filter"])
@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="peak memory is read from /proc")
def test_stack_in_a_file(name, benchmark, tmp_path):
    """From a file of the wanted size; against scipy for each image and core, with the peak of memory."""
    path = tmp_path / "stack.npy"
    shape = (max(8, int(GB * 1e9 / FRAME.nbytes)), SIDE, SIDE)
    values = np.lib.format.open_memmap(path, "w+", "u2", shape)
    for k in range(len(values)):
        values[k] = np.roll(FRAME, k)
    values.flush()
    del values
    options = ", ".join(f"{k}={v}" for k, v in FILTERS[name].items())
    run = f"""
    import intake_img, os
    ds = intake_img.imload({str(path)!r}, metadata={{"axes": "tyx"}}, chunks={{"t": 1, "y": 512, "x": 512}})
    consume(ds.img.{name}({options})["image"].data)
    """
    seconds, megabytes = peak(run)
    start = time.perf_counter()
    for _ in range(8):
        getattr(ndimage, name)(FRAME, **FILTERS[name])
    pure = (time.perf_counter() - start) / 8 * len(range(shape[0])) / (os.cpu_count() or 1)
    figure = f"{seconds:.1f} s, {megabytes:.0f} MB at most"
    benchmark.extra_info.update(
        what=f"{name}, {GB:g} GB in a file",
        figure=figure,
        raw_figure=f"{pure:.1f} s (scipy's pure computing, shared by the cores)",
    )
    benchmark.pedantic(lambda: None, rounds=1)
    path.unlink()
    assert megabytes < 400
