"""Writing on a cluster: read, gaussian filter, OME-Zarr, against dask's own writer to the same chunks.

The clock is the processor time of client, scheduler and both workers together, which other load does not change.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr

from intake_img import imload, imsave
from intake_img.storage.handles import POOL

distributed = pytest.importorskip("distributed")

PLANES = 48  # of 8 MiB
CHUNKS = (1, 512, 512)


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(params=["ome.tif", "ome.zarr"])
def smooth(request: pytest.FixtureRequest, big: Path, texture: np.ndarray) -> Iterator[xr.Dataset]:
    path = big / f"cluster.{request.param}"
    if not path.exists():
        values = np.stack([np.roll(texture[:2048, :2048], 97 * k, axis=1) for k in range(PLANES)])
        imsave(xr.Dataset({"image": (tuple("zyx"), values)}), path, engine="threads")
    yield imload(path).img.gaussian_filter({"y": 2, "x": 2})
    for key in list(POOL._entries):
        POOL.shut(key)


def _by_dask(smooth: xr.Dataset, path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    codec = zarr.codecs.BloscCodec(cname="zstd", clevel=3, shuffle="bitshuffle", typesize=2)
    array = zarr.create_array(path, shape=smooth.image.shape, chunks=CHUNKS, dtype="u2", compressors=codec)
    da.to_zarr(smooth.image.data, array)


def _by_us(smooth: xr.Dataset, path: Path, engine: Any = None) -> None:
    imsave(smooth, path, chunks=dict(zip("zyx", CHUNKS, strict=True)), engine=engine, overwrite=True)


def _spent(client: Any) -> Callable[[], float]:
    return lambda: time.process_time() + sum(client.run(time.process_time).values())


def test_write_on_a_cluster(client: Any, smooth: xr.Dataset, big: Path, versus: Any, benchmark: Any) -> None:
    benchmark.extra_info["gate"] = "1.1"
    raw, ours = big / "raw.zarr", big / "ours.ome.zarr"
    ratio = versus(lambda: _by_us(smooth, ours), lambda: _by_dask(smooth, raw), rounds=3, clock=_spent(client))
    np.testing.assert_array_equal(imload(ours).image[-1].values, zarr.open_array(raw, mode="r")[-1])
    assert ratio <= 1.1


def test_cluster_against_threads(client: Any, smooth: xr.Dataset, big: Path, versus: Any, benchmark: Any) -> None:
    benchmark.extra_info["gate"] = "1.35 of the processor time; two workers share it"
    ours = big / "ours.ome.zarr"
    threads = lambda: _by_us(smooth, ours, "threads")  # noqa: E731
    assert versus(lambda: _by_us(smooth, ours), threads, rounds=3, clock=_spent(client)) <= 1.35


@pytest.mark.parametrize("count", [10**5])
def test_graph_grows_with_the_chunks(count: int, tmp_path: Path, versus: Any, benchmark: Any, monkeypatch: Any) -> None:
    """Laying out a store and its tasks: ten times the chunks take ten times as long."""
    from intake_img.model.engine import Tasks

    class Made(Exception):
        pass

    def made(*_: Any) -> None:
        raise Made

    monkeypatch.setattr(Tasks, "run", made)
    benchmark.extra_info["gate"] = "12: ten times the chunks"

    def laid_out(chunks: int) -> None:
        array = da.zeros((chunks, 64, 64), chunks=(1, 64, 64), dtype="u2")
        with pytest.raises(Made):
            imsave(xr.Dataset({"image": (tuple("zyx"), array)}), tmp_path / "a.zarr", engine="dask", chunks=64)

    ratio = versus(lambda: laid_out(count), lambda: laid_out(count // 10), rounds=2, clock=time.process_time)
    assert ratio <= 12
