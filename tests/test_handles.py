"""The pool of open files: shared by threads, anew in forked processes, limited, and empty when nobody needs it."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import re
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr

from intake_img import autodetect, imload, imsave
from intake_img.errors import FormatError, SourceChangedError
from intake_img.formats.chunked import ChunkedArray
from intake_img.formats.npy.handle import NpyHandle
from intake_img.formats.omezarr.describe import _ZarrArray
from intake_img.formats.registry import formats
from intake_img.model.image import Coordinate
from intake_img.storage.handles import POOL, HandlePool
from intake_img.testing.process import open_files
from intake_img.testing.subjects import subjects_of

VALUES = np.random.default_rng(0).integers(0, 2**16, (12, 60, 50), dtype="uint16")


class Handle:
    """Counts how often it was opened and closed."""

    opened = 0
    closed = 0

    def __init__(self):
        type(self).opened += 1

    def close(self):
        type(self).closed += 1


@pytest.fixture
def handle():
    return type("Counted", (Handle,), {})


class User:
    """Whoever keeps a handle open."""


@pytest.fixture
def path(tmp_path):
    np.save(tmp_path / "a.npy", VALUES)
    return tmp_path / "a.npy"


# the pool alone


def test_a_handle_is_opened_once_and_closed_when_its_last_user_is_gone(handle):
    pool, users = HandlePool(), [User(), User()]
    pool.use("a", users[0])
    pool.use("a", users[1])
    for _ in range(3):
        with pool.lease("a", handle) as one, pool.lease("a", handle) as two:
            assert one is two
    assert (handle.opened, handle.closed, len(pool)) == (1, 0, 1)
    users.pop()
    gc.collect()
    assert handle.closed == 0
    users.pop()
    gc.collect()
    assert (handle.closed, len(pool)) == (1, 0)


def test_a_closed_handle_is_closed_when_its_last_lease_ends(handle):
    pool, user = HandlePool(), User()
    pool.use("a", user)
    with pool.lease("a", handle):
        pool.close("a")
        assert handle.closed == 0
        with pool.lease("a", handle):
            assert handle.opened == 2
    assert (handle.closed, len(pool)) == (2, 0)
    with pool.lease("a", handle):  # closed for good: later leases open and close by themselves
        pass
    assert (handle.opened, handle.closed, len(pool)) == (3, 3, 0)
    pool.use("a", other := User())
    with pool.lease("a", handle):
        pass
    assert len(pool) == 1
    del other, user


def test_the_least_recently_used_is_closed_beyond_the_limit(handle):
    pool, user = HandlePool(limit=3), User()
    keys = []

    def lease(key):
        pool.use(key, user)
        with pool.lease(key, lambda: keys.append(key) or handle()):
            pass

    for key in "abcacd":
        lease(key)
    assert keys == list("abcd")
    assert len(pool) == 3
    lease("a")
    assert keys == list("abcd")
    lease("b")
    assert keys == list("abcdb")
    assert handle.closed == 2


def test_handles_that_are_leased_are_not_closed_by_the_limit(handle):
    pool, user = HandlePool(limit=1), User()
    pool.use("a", user)
    pool.use("b", user)
    with pool.lease("a", handle), pool.lease("b", handle):
        assert handle.closed == 0
    assert len(pool) == 1


def test_an_opener_that_fails_leaves_nothing(handle):
    pool = HandlePool()

    def fail():
        raise OSError("no")

    for _ in range(2):
        with pytest.raises(OSError, match="no"), pool.lease("a", fail):
            pass
    assert len(pool) == 0
    assert not pool._entries
    with pool.lease("a", handle):
        pass


def test_threads_share_one_handle(handle):
    pool, user = HandlePool(), User()
    pool.use("a", user)
    barrier = threading.Barrier(16)

    def slow():
        time.sleep(0.02)
        return handle()

    def work(_):
        barrier.wait(5)
        with pool.lease("a", slow) as found:
            return id(found)

    with ThreadPoolExecutor(16) as threads:
        assert len(set(threads.map(work, range(16)))) == 1
    assert handle.opened == 1


def test_many_threads_and_few_handles(handle):
    pool, users = HandlePool(limit=2), [User() for _ in range(6)]
    rng = np.random.default_rng(0)
    keys = rng.integers(6, size=600).tolist()
    for key, user in enumerate(users):
        pool.use(key, user)

    def work(key):
        with pool.lease(key, handle):
            time.sleep(0)

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(work, keys))
    assert len(pool) <= 2
    assert handle.opened - handle.closed == len(pool)


# files


def test_what_is_garbage_is_closed(path):
    for chunks in ("auto", None):
        ds = imload(path, chunks=chunks)
        part = ds["image"][3]
        part.values  # noqa: B018
        assert set(open_files(str(path.parent))) == {str(path)}
        del ds
        gc.collect()
        assert set(open_files(str(path.parent))) == {str(path)}
        del part
        gc.collect()
        assert open_files(str(path.parent)) == []


def test_close_closes_and_lazy_data_compute_still(path):
    with imload(path) as ds:
        assert set(open_files(str(path.parent))) == {str(path)}
    assert open_files(str(path.parent)) == []
    np.testing.assert_array_equal(ds["image"].values, VALUES)
    assert open_files(str(path.parent)) == []


def test_a_file_that_cannot_be_described_does_not_stay_open(tmp_path):
    """Also while the error is alive, and in a circle of objects."""
    bad = tmp_path / "a.fits"
    imsave(np.zeros((4, 5), "u2"), bad)
    bad.write_bytes(bad.read_bytes().replace(b"= " + b"16".rjust(20), b"= " + b"17".rjust(20), 1))
    source = autodetect(bad)
    before = len(POOL)
    with pytest.raises(FormatError, match="BITPIX") as first:
        source.to_dask()
    assert len(POOL) == before
    with pytest.raises(FormatError, match="BITPIX") as second:
        imload(bad)
    assert len(POOL) == before
    assert first.value is not second.value
    del first, second, source
    gc.collect()


@pytest.mark.parametrize("values", [np.arange(11.0), np.arange(13.0), np.zeros((12, 2)), np.array("DAPI")], ids=repr)
def test_coordinates_that_do_not_fit_the_pixels_are_an_error_of_the_file(path, values, monkeypatch):
    """Whatever a driver makes of a damaged header, xarray is not the one who finds out."""
    before = NpyHandle.describe

    def describe(self, scene, level):
        return replace(before(self, scene, level), coords={"z": Coordinate(("z",), values)})

    monkeypatch.setattr(NpyHandle, "describe", describe)
    with pytest.raises(FormatError, match=re.escape(str(path)) + ".*along 'z'"):
        imload(path)
    gc.collect()  # the traceback


def test_two_datasets_of_one_file_share_it(path):
    one, two = imload(path), imload(path)
    assert len(POOL) == 1
    one.close()
    np.testing.assert_array_equal(two["image"].values, VALUES)
    assert open_files(str(path.parent)) == []


def test_closed_images_leave_nothing_in_the_pool(path):
    ds = imload(path, chunks=None)
    (key,) = POOL._users
    ds.close()
    np.testing.assert_array_equal(ds["image"].values, VALUES)
    assert key in POOL._closed
    del ds
    gc.collect()
    assert key not in POOL._closed
    assert key not in POOL._users


def test_closing_while_others_read(path):
    ds = imload(path, chunks=None)
    stop = time.monotonic() + 0.5
    wrong = []

    def read(k):
        while time.monotonic() < stop:
            if not (ds["image"][k].values == VALUES[k]).all():
                wrong.append(k)

    with ThreadPoolExecutor(8) as threads:
        done = [threads.submit(read, k) for k in range(8)]
        ds.close()  # once at least, however late this thread gets its turn
        while time.monotonic() < stop:
            time.sleep(0.001)
            ds.close()
        for d in done:
            d.result()
    assert not wrong
    assert open_files(str(path.parent)) == []


def test_many_threads_read_what_is_there(path):
    ds = imload(path, chunks={"z": 1})
    with ThreadPoolExecutor(16) as threads:
        for k, found in enumerate(threads.map(lambda k: ds["image"][k % 12].values, range(200))):
            np.testing.assert_array_equal(found, VALUES[k % 12])


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
def test_schedulers(scheduler, path):
    with dask.config.set(scheduler=scheduler):
        np.testing.assert_array_equal(imload(path, chunks={"z": 1})["image"].values, VALUES)


def test_the_scheduler_of_processes(path):
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
    with pool, dask.config.set(scheduler="processes", pool=pool):
        np.testing.assert_array_equal(imload(path, chunks={"z": 4})["image"].values, VALUES)


# other processes


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.tif", "a.zarr"])
def test_a_forked_child_computes_while_the_parent_holds_the_file(name, tmp_path):
    imsave(VALUES, tmp_path / name)
    ds = imload(tmp_path / name)
    with dask.config.set(scheduler="synchronous"):
        np.testing.assert_array_equal(ds["image"][0].values, VALUES[0])
        with POOL._lock:  # whatever other threads hold at the time of the fork
            child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if (ds["image"].values == VALUES).all() and (ds["image"][3].values == VALUES[3]).all() else 2
                ds.close()
            finally:
                os._exit(code)
        assert _exit_code(child) == 0
        np.testing.assert_array_equal(ds["image"].values, VALUES)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_in_the_middle_of_opening(handle):
    pool, user = HandlePool(), User()
    pool.use("a", user)
    opening, forked = threading.Event(), threading.Event()

    def slow():
        opening.set()
        forked.wait(10)
        return handle()

    def lease():
        with pool.lease("a", slow):
            pass

    thread = threading.Thread(target=lease)
    thread.start()
    opening.wait(10)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with pool.lease("a", handle):
                code = 0
        finally:
            os._exit(code)
    forked.set()
    thread.join()
    assert _exit_code(child) == 0


def _exit_code(child):
    for _ in range(1000):
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return "hangs"


def _mean(ds):
    return float(ds["image"].mean()), [str(p) for p in POOL._entries]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing(method, path):
    ds = imload(path, chunks=None)
    assert ds["image"][0, 0, 0] == VALUES[0, 0, 0]
    with ProcessPoolExecutor(1, multiprocessing.get_context(method)) as pool:
        for mean, _ in pool.map(_mean, [ds, ds.isel(z=slice(0, 6))]):
            assert mean in (pytest.approx(VALUES.mean()), pytest.approx(VALUES[:6].mean()))


# every driver on a cluster


@pytest.fixture(scope="module")
def subjects(tmp_path_factory):
    return {name: subjects_of(f.source, tmp_path_factory.mktemp(name)) for name, f in formats().items()}


@pytest.fixture(scope="module")
def cluster():
    distributed = pytest.importorskip("distributed")
    options = {"processes": True, "n_workers": 2, "threads_per_worker": 2, "dashboard_address": ":0"}
    with (
        dask.config.set({"distributed.worker.daemon": True}),
        distributed.LocalCluster(**options) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.mark.every_case
@pytest.mark.parametrize("driver", list(formats()))
def test_workers_of_a_cluster_compute(driver, cluster, subjects):
    assert subjects[driver]
    for subject in subjects[driver]:
        whole = formats()[driver].source(subject.path).read()
        for chunks in ("auto", 5):
            ds = formats()[driver].source(subject.path, chunks=chunks).to_dask()
            for name, variable in ds.data_vars.items():
                future = cluster.compute(variable.data, workers=list(cluster.scheduler_info()["workers"]))
                np.testing.assert_array_equal(future.result(timeout=60), whole[name].values)
            assert len(POOL) <= 1  # nothing was read in this process
            ds.close()


def test_a_cluster_is_used_while_writing(cluster, tmp_path):
    imsave(VALUES, tmp_path / "a.npz")
    ds = imload(tmp_path / "a.npz", chunks={"z": 3})
    imsave(ds + 1, tmp_path / "b.zarr")
    imsave(ds + 1, tmp_path / "b.tif")
    for name in ("b.zarr", "b.tif"):
        np.testing.assert_array_equal(imload(tmp_path / name, chunks=None)["image"].values, VALUES + 1)


# tasks


def test_tasks_carry_names_only(path):
    ds = imload(path, chunks={"z": 1})
    graph = dict(ds["image"].data.__dask_graph__())
    assert len(graph) == 12
    for task in graph.values():
        assert len(pickle.dumps(task)) < 1500
        assert str(path).encode() in pickle.dumps(task)


def test_unpickled_data_compute_after_the_pool_forgot_the_file(path):
    dumped = pickle.dumps(imload(path))
    gc.collect()
    assert open_files(str(path.parent)) == []
    ds = pickle.loads(dumped)
    with dask.config.set(scheduler="threads"):  # here, though a cluster may be running
        np.testing.assert_array_equal(ds["image"].values, VALUES)
    (key,) = POOL._entries  # no image was opened here: the handle stays among the idle ones, as in a worker
    POOL.shut(key)


@pytest.mark.skipif(not Path("/proc/self/fd").exists() or sys.platform != "linux", reason="counts descriptors")
def test_more_files_than_the_limit(tmp_path):
    import xarray as xr

    small = VALUES[0]
    for k in range(120):
        np.save(tmp_path / f"{k}.npy", small + k)
    parts = [imload(tmp_path / f"{k}.npy") for k in range(120)]
    assert len(open_files(str(tmp_path), mapped=False)) <= POOL.limit
    stack = xr.concat([p["image"] for p in parts], "t")
    np.testing.assert_array_equal(stack[:, 0, 0].values, small[0, 0] + np.arange(120))
    assert len(open_files(str(tmp_path), mapped=False)) <= POOL.limit + 4
    del parts, stack
    gc.collect()
    assert open_files(str(tmp_path)) == []


@pytest.mark.parametrize("chunks", ["auto", None])
@pytest.mark.parametrize(
    ("name", "inside", "options"),
    [
        ("a.zarr", "", {"chunks": {"z": 1}}),
        ("a.zarr", "0", {}),
        ("a.zarr", "", {"version": "0.4"}),
        ("a.zarr", "0", {"version": "0.4"}),
        ("a.precomputed", "", {}),
    ],
)
def test_a_folder_that_is_replaced_while_it_is_read_is_not_mixed(tmp_path, monkeypatch, name, inside, options, chunks):
    """It, or an array in it, is replaced after it was looked at, and before the files of its chunks are opened."""
    target, new = tmp_path / name, tmp_path / "new" / name
    image = xr.Dataset({"image": (["z", "y", "x"], np.ones((12, 60, 50), "uint16"))})
    imsave(image, target, **options)
    imsave(image + np.uint16(1), new, **options)
    ds = imload(target, chunks=chunks)
    kind, method = (_ZarrArray, "_read") if name.endswith("zarr") else (ChunkedArray, "read_into")
    reading = getattr(kind, method)

    def replaced(self, *others):
        if (new / inside).exists():
            (target / inside).rename(tmp_path / "old")
            (new / inside).rename(target / inside)
        return reading(self, *others)

    monkeypatch.setattr(kind, method, replaced)
    with dask.config.set(scheduler="synchronous"), pytest.raises(SourceChangedError, match="load it again"):
        ds.image.values.sum()
    assert not (new / inside).exists()


@pytest.mark.parametrize("extension", [".tif", ".npy", ".h5", ".nii", ".mrc", ".zarr"])
def test_a_file_that_is_replaced_while_it_is_opened_is_not_mixed(tmp_path, monkeypatch, extension):
    target = tmp_path / f"a{extension}"
    image = xr.Dataset({"image": (["z", "y", "x"], np.ones((2, 6, 5), "uint16"))})
    imsave(image, target)
    imsave(image + np.uint16(1), tmp_path / f"new{extension}")
    ds = imload(target, chunks=None)
    format = formats()[ds.attrs["driver"]]
    opening = type(format).open

    def replaced(self, file, *others):
        if (tmp_path / f"new{extension}").exists():
            target.rename(tmp_path / "old")
            (tmp_path / f"new{extension}").rename(target)
        return opening(self, file, *others)

    POOL.close_idle()
    monkeypatch.setattr(type(format), "open", replaced)
    with pytest.raises(SourceChangedError, match="load it again"):
        ds.image.values.sum()
    assert not (tmp_path / f"new{extension}").exists()
    assert imload(target).image.values.min() == 2
