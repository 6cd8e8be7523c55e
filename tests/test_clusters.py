"""Writing on a dask cluster: the bytes are those that threads write, nothing but names travels, each chunk is computed
once, and nothing reads as data before it is complete.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections import Counter
from itertools import product
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from thoroughness import THOROUGH
from trees import content

from intake_img import imload, imsave
from intake_img.errors import CannotWriteError, FormatError
from intake_img.storage.files import File
from intake_img.storage.handles import POOL
from intake_img.storage.shared import check_shared

pytestmark = pytest.mark.thorough

distributed = pytest.importorskip("distributed")

SECONDS = 60
"""After so long a test that waits for the cluster fails."""


@pytest.fixture
def client():
    """Two workers of one thread each, in this process."""
    made = distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0")
    with made as cluster, distributed.Client(cluster, timeout=SECONDS) as client:
        yield client
    for key in list(POOL._entries):  # workers keep files open for the next task
        POOL.shut(key)


def _source(tmp_path: Path) -> xr.Dataset:
    """An image in a file, in chunks that fit no chunk of a target."""
    values = np.random.default_rng(0).integers(0, 4000, (2, 3, 150, 130), "uint16")
    imsave(xr.Dataset({"image": (tuple("czyx"), values)}, coords={"c": ["DAPI", "GFP"]}), tmp_path / "source.tif")
    return imload(tmp_path / "source.tif", chunks={"y": 50, "x": 70})


def _derived(source: xr.Dataset) -> xr.Dataset:
    labels = da.from_array(np.arange(3 * 150 * 130, dtype="uint8").reshape(3, 150, 130) % 7, chunks=(1, 40, 130))
    return source.map(lambda v: v + 1).assign(nuclei=(tuple("zyx"), labels, {"kind": "labels"}))


STORES = [
    {"chunks": 64},
    {"chunks": 32, "shards": {"y": 64, "x": 64}},
    {"pyramid": 2, "chunks": 32},
    {"version": "0.4", "pyramid": 1, "compress": False},
]


def test_store_is_the_one_that_threads_write(client, tmp_path):
    """Computed, read from a file, and turned about: byte for byte the same store."""
    source = _source(tmp_path)
    turned = source.isel(z=[2, 0], y=slice(None, None, -1)).transpose("z", "c", "x", "y")
    turned.image.data = turned.image.data.rechunk(33)
    for k, (ds, options) in enumerate(product([_derived(source), source, turned], STORES)):
        for engine in ("dask", "threads"):
            imsave(ds, tmp_path / engine / f"{k}.zarr", engine=engine, **options)
        assert content(tmp_path / "dask") == content(tmp_path / "threads")


def test_parts_are_those_that_threads_write(client, tmp_path):
    source = _source(tmp_path)
    for k, (ds, partition) in enumerate(product([_derived(source), source], ["yx", "zyx"])):
        paths = imsave(ds, tmp_path / "dask" / f"{k}.tif", partition=partition)
        assert sorted(map(str, (tmp_path / "dask").glob(f"{k}.*"))) == sorted(paths)
        imsave(ds, tmp_path / "threads" / f"{k}.tif", partition=partition, engine="threads")
    assert content(tmp_path / "dask") == content(tmp_path / "threads")


SEEN: Counter[tuple[int, ...]] = Counter()
LOCK = threading.Lock()


def _counted(block_info=None):
    with LOCK:
        SEEN[tuple(block_info[None]["chunk-location"])] += 1
    assert threading.current_thread() is not threading.main_thread()
    return np.zeros(block_info[None]["chunk-shape"], "u2")


def test_chunks_are_computed_once_and_on_the_workers(client, tmp_path):
    """Of chunks that blocks cut, of levels of a pyramid, and of files; no pixel reaches the client."""
    array = da.map_blocks(_counted, chunks=((1, 1), (60, 60, 30), (70, 60)), dtype="u2")
    ds = xr.Dataset({"image": (tuple("cyx"), array)})
    for write in ({"uri": "a.zarr", "chunks": 64, "pyramid": 1}, {"uri": "a.tif", "partition": "yx"}):
        SEEN.clear()
        imsave(ds, tmp_path / write.pop("uri"), **write)
        assert sorted(SEEN.values()) == [1] * 12


def test_delayed(client, tmp_path):
    """The target is there when the delayed write is computed, and not before; it names what it wrote."""
    source = _source(tmp_path)
    ds = _derived(source)
    for name, options in (("a.zarr", {"pyramid": 1}), ("a.tif", {"partition": "zyx"})):
        later = imsave(ds, tmp_path / name, compute=False, **options)
        with pytest.raises(FormatError, match="not complete"):
            imload(tmp_path / name)
        with pytest.raises(FileExistsError, match="interrupted"):
            imsave(ds, tmp_path / name, **options)
        written = client.compute(later).result(timeout=SECONDS)
        assert all(map(os.path.exists, written))
        xr.testing.assert_equal(imload(tmp_path / name).compute(), ds.compute())
    assert not [n for n in os.listdir(tmp_path) if n.startswith(".")]


def test_engines_without_a_cluster(tmp_path):
    source = _source(tmp_path)
    ds = _derived(source)
    steps: list[str] = imsave(ds, tmp_path / "a.zarr", engine="dask", chunks=64)
    xr.testing.assert_equal(imload(steps[0]).compute(), ds.compute())
    with pytest.raises(CannotWriteError, match="one file"):
        imsave(source, tmp_path / "b.tif", compute=False)
    with pytest.raises(ValueError, match="'spark'"):
        imsave(source, tmp_path / "b.zarr", engine="spark")
    assert os.listdir(tmp_path).count("b.zarr") == 0


def test_failure_leaves_nothing(client, tmp_path):
    """An error of one chunk is raised; the old data stay, and no new ones are there."""

    def fail(block, block_info=None):
        if block_info[0]["chunk-location"] == (1, 1):
            raise ArithmeticError("no such pixel")
        return block

    good = xr.Dataset({"image": (tuple("yx"), np.ones((64, 64), "u1"))})
    imsave(good, tmp_path / "a.zarr")
    bad = good.map(lambda v: v.copy(data=da.ones((64, 64), chunks=32, dtype="u1").map_blocks(fail, dtype="u1")))
    for name, options in (("a.zarr", {"chunks": 32}), ("b.zarr", {"chunks": 32})):
        with pytest.raises(ArithmeticError, match="no such pixel"):
            imsave(bad, tmp_path / name, overwrite=True, **options)
    assert os.listdir(tmp_path) == ["a.zarr"]
    xr.testing.assert_equal(imload(tmp_path / "a.zarr").compute(), good)


@pytest.mark.parametrize(
    "place",
    [
        "memory://images",
        pytest.param("s3://images", marks=pytest.mark.skipif(not THOROUGH, reason="slow")),
    ],
)
def test_remote_store_is_filled_in_place(request, tmp_path, monkeypatch, place):
    """Nothing is staged locally; nothing reads as data before the end, or after an error; the old data stay."""
    on_cluster = place.startswith("s3:")
    storage = request.getfixturevalue("s3") if on_cluster else {}
    if on_cluster:
        request.getfixturevalue("client")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(tempfile, "mkdtemp", _no_folder if not on_cluster else tempfile.mkdtemp)
    values = np.random.default_rng(0).integers(0, 4000, (3, 64, 64), "uint16")
    lazy = da.from_array(values, chunks=(1, 64, 64)).map_blocks(_plus_one, dtype="uint16")
    ds = xr.Dataset({"image": (tuple("zyx"), lazy)})
    options = {"storage_options": storage, "chunks": {"z": 1}, "pyramid": 1}
    name = f"{place}/{tmp_path.name}.zarr"
    assert imsave(ds, name, **options) == [File.parse(name).path]
    bad = ds.map(lambda v: v.copy(data=v.data.map_blocks(_failing, dtype="uint16")))
    with pytest.raises(ArithmeticError):
        imsave(bad, name, overwrite=True, **options)
    parent = File.parse(name, storage).parent
    fs, path = parent.filesystem()
    fs.invalidate_cache()
    assert [p for p in fs.ls(path, detail=False) if ".partial" in p] == []
    full, half = (imload(name, storage_options=storage, level=k).image.values for k in (0, 1))
    np.testing.assert_array_equal(full, values + 1)
    mean = (values + 1).reshape(3, 32, 2, 32, 2).astype(int).sum((2, 4))
    np.testing.assert_array_equal(half, (mean + 2) // 4)
    if on_cluster:
        return
    later = imsave(ds, name.replace(".zarr", "-later.zarr"), compute=False, **options)
    with pytest.raises((FileNotFoundError, FormatError)):
        imload(name.replace(".zarr", "-later.zarr"))
    (written,) = later.compute()
    np.testing.assert_array_equal(imload(written).image.values, values + 1)


def _no_folder(*_, **__):
    raise AssertionError("a local folder is made")


def _plus_one(block):
    return block + 1


def _failing(block, block_info=None):
    if block_info[0]["chunk-location"][0] == 2:
        raise ArithmeticError("no such pixel")
    return block


def test_a_worker_that_does_not_see_the_target_says_so(tmp_path):
    with pytest.raises(CannotWriteError, match=r"does not see .*gone.* folder that all of them share"):
        check_shared(str(tmp_path / "gone"))
    check_shared(str(tmp_path))
