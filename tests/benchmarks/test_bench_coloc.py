"""Colocalization against scikit-image, scipy, dense assignment and the mere reading of the data; growth with size.

Ratios are in ``extra_info`` of each benchmark. Laws that hold on any machine are asserted with room to spare.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import scipy.stats
import xarray as xr
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

import intake_img  # noqa: F401
from intake_img.kernels.matching import match

TOLERANCE = np.array([2.0, 5.0, 8.0])


def points(n, density=0.5, seed=0):
    """Half of the points of the second set lie near one of the first."""
    rng = np.random.default_rng(seed)
    edge = (np.prod(TOLERANCE) * 4 / 3 * np.pi * n / density) ** (1 / 3)
    a = rng.uniform(0, edge, (n, 3))
    near = a + rng.normal(0, 0.15, (n, 3)) * TOLERANCE
    return a, np.where(rng.random((n, 1)) < 0.5, near, rng.uniform(0, edge, (n, 3)))


def dense(a, b):
    """Dense assignment of all points, as MagellanMapper has it before it drops pairs beyond the tolerance."""
    i, j = linear_sum_assignment(cdist(a / TOLERANCE, b / TOLERANCE))
    return i, j


def dense_gated(a, b):
    """Dense assignment with the same optimum as ours."""
    return linear_sum_assignment(np.minimum(cdist(a / TOLERANCE, b / TOLERANCE), 1))


def pair(shape, dtype="uint16", chunks=None):
    rng = np.random.default_rng(0)
    a = rng.poisson(300, shape).astype(dtype)
    b = (a // 2 + rng.poisson(100, shape)).astype(dtype)
    both = np.stack([a, b])
    axes = "c" + "zyx"[-a.ndim :]
    return xr.Dataset({"image": (tuple(axes), da.from_array(both, chunks=chunks or both.shape))})


def seconds(function):
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


@pytest.mark.parametrize("n", [1_000, 10_000, 100_000])
def test_matching(benchmark, n):
    a, b = points(n)
    benchmark.pedantic(match, args=(a, b, TOLERANCE), rounds=3)
    ours = benchmark.stats.stats.min
    if n <= 10_000:
        theirs = seconds(lambda: dense(a, b))
        gated = seconds(lambda: dense_gated(a, b))
        benchmark.extra_info.update(dense_s=theirs, ratio=theirs / ours, dense_gated_s=gated, ratio_gated=gated / ours)
        if n == 10_000:
            assert theirs > 100 * ours


def test_a_million_blobs_with_a_million(benchmark):
    program = textwrap.dedent("""
        import sys, time
        sys.path.insert(0, sys.argv[1])
        from test_bench_coloc import TOLERANCE, match, points
        a, b = points(1_000_000)
        start = time.perf_counter()
        found = match(a, b, TOLERANCE)
        took = time.perf_counter() - start
        peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
        print(took, int(peak) / 2**20, len(found[0]))
    """)
    folder = __file__.rsplit("/", 1)[0]

    def run():
        return subprocess.run(
            [sys.executable, "-c", program, folder], capture_output=True, text=True, check=True
        ).stdout

    took, peak, pairs = map(float, benchmark.pedantic(run, rounds=1).split())
    benchmark.extra_info.update(seconds=took, peak_gib=peak, pairs=pairs)
    assert took < 60
    assert peak < 1


@pytest.mark.parametrize("planes", [4, 16, 64])
def test_all_measures_of_16_bits(benchmark, planes):
    """Time grows less than the number of pixels: the histogram is counted, all else is of its size."""
    ds = pair((planes, 512, 512), chunks=(2, 4, 512, 512))
    benchmark.pedantic(lambda: ds.img.coloc.measure(thresholds="costes"), rounds=2)
    benchmark.extra_info["ns_per_pixel"] = benchmark.stats.stats.min / ds.image[0].size * 1e9


def test_against_scikit_image_and_scipy(benchmark):
    from skimage.measure import manders_coloc_coeff, manders_overlap_coeff, pearson_corr_coeff

    ds = pair((4, 512, 512))
    a, b = ds.image.values

    def theirs():
        pearson_corr_coeff(a, b)
        manders_coloc_coeff(a, b > 0)
        manders_coloc_coeff(b, a > 0)
        manders_overlap_coeff(a.astype(float), b.astype(float))
        scipy.stats.spearmanr(a.ravel(), b.ravel())
        scipy.stats.kendalltau(a.ravel(), b.ravel())

    names = ["pearson", "manders_m1", "manders_m2", "overlap", "spearman", "kendall_tau"]
    benchmark.pedantic(lambda: ds.img.coloc.measure(measures=names), rounds=3)
    took = seconds(theirs)
    benchmark.extra_info.update(theirs_s=took, ratio=took / benchmark.stats.stats.min)


def test_a_hundred_thousand_labels(benchmark):
    ds = pair((16, 512, 512))
    labels = np.random.default_rng(1).integers(1, 100_001, (16, 512, 512)).astype(np.uint32)
    names = ["pearson", "manders_m1", "manders_m2", "overlap", "li_icq", "slope", "n"]
    found = benchmark.pedantic(lambda: ds.img.coloc.measure(measures=names, labels=labels), rounds=1)
    assert found.sizes["label"] == 100_000
    few = labels % 10_000 + 1
    loop = seconds(lambda: [np.corrcoef(*ds.image.values[:, few == k]) for k in range(1, 6)]) * 20_000
    benchmark.extra_info["ratio_to_loop"] = loop / benchmark.stats.stats.min
    benchmark.extra_info["us_per_label"] = benchmark.stats.stats.min * 10


LARGE = textwrap.dedent("""
    import sys, time, warnings
    import dask.array as da, numpy as np
    warnings.simplefilter("ignore")
    import intake_img
    parts = [intake_img.imload(path, chunks={"c": 1, "z": 4}).image.data for path in sys.argv[2:]]
    data = da.concatenate(parts, axis=1)
    start, used = time.perf_counter(), time.process_time()
    if sys.argv[1] == "read":
        first = lambda block: block[:1, :1, :1, :1]
        ones = tuple((1,) * n for n in data.numblocks)
        da.map_blocks(first, data, dtype=data.dtype, chunks=ones).sum().compute()
    else:
        import xarray as xr
        xr.Dataset({"image": (tuple("czyx"), data)}).img.coloc.measure(thresholds="costes")
    took = time.perf_counter() - start
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
    print(took, time.process_time() - used, int(peak) * 1024 / data.nbytes, data.nbytes)
""")


def forget(folders: list[str]) -> None:
    """Have the files read from the disk next time."""
    for file in (f for folder in folders for f in Path(folder).rglob("*") if f.is_file()):
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


@pytest.mark.parametrize("kind", ["raw", "zstd", "gzip", "noise of 12 bits", "noise of 16 bits"])
def test_larger_than_memory(benchmark, tmp_path, kind):
    """All measures against reading every chunk once. Noise (zstd) is an extreme case: all pairs of grey values
    occur, too many with 16 bits, so that it is read twice.
    """
    import zarr
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    base = np.exp(gaussian_filter(rng.normal(size=(2, 1024, 1024)), (0, 4, 4)) * 8) * 300
    base[1] = base[0] / 2 + base[1] / 2
    codecs = {"raw": None, "gzip": zarr.codecs.GzipCodec(level=5)}.get(kind, zarr.codecs.ZstdCodec())
    store = zarr.create_array(
        str(tmp_path / "a.zarr"),
        shape=(2, 64, 1024, 1024),
        chunks=(1, 4, 1024, 1024),
        dtype="u2",
        dimension_names=list("czyx"),
        compressors=codecs,
    )
    for k in range(0, 64, 4):
        if "noise" in kind:
            store[:, k : k + 4] = rng.integers(0, 4096 if "12" in kind else 65536, (2, 4, 1024, 1024), dtype="u2")
        else:
            store[:, k : k + 4] = rng.poisson(base[:, None], (2, 4, 1024, 1024)).astype("u2")
    # one image of 8.6 GB: links to the same file, or copies, as plain bytes are to be read from the disk each time
    copies = [str(tmp_path / f"{k}.zarr") for k in range(32)]
    for path in copies:
        (shutil.copytree if kind == "raw" else os.symlink)(tmp_path / "a.zarr", path)
    times, processor = {"read": [], "measure": []}, {"read": [], "measure": []}
    share = size = 0.0
    for _ in range(2):
        for what, found in times.items():
            if kind == "raw":
                forget(copies)
            out = subprocess.run(
                [sys.executable, "-c", LARGE, what, *copies], capture_output=True, text=True, check=True
            ).stdout.split()
            found.append(float(out[0]))
            processor[what].append(float(out[1]))
            share, size = float(out[2]), float(out[3])
    benchmark.pedantic(lambda: None, rounds=1)
    ratio = min(times["measure"]) / min(times["read"])
    used = min(processor["measure"]) / min(processor["read"])
    benchmark.extra_info.update(
        ratio=ratio, processor_ratio=used, read_s=min(times["read"]), memory_of_image=share, gb=size / 1e9
    )
    assert share < (0.2 if "noise" in kind else 0.1)
    assert "noise" in kind or ratio < 1.5
