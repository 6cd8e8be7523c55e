"""Precomputed volumes written by workers: the bytes are those that threads write, and each chunk is computed once."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from trees import content

from intake_img import imload, imsave
from intake_img.errors import CannotWriteError, FormatError
from intake_img.formats.precomputed.driver import Precomputed
from intake_img.model.image import Image
from intake_img.storage.files import File

distributed = pytest.importorskip("distributed")
SECONDS = 60


@pytest.fixture
def client():
    made = distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0")
    with made as cluster, distributed.Client(cluster, timeout=SECONDS) as client:
        yield client


def image(chunks):
    values = np.random.default_rng(0).integers(0, 4000, (2, 5, 70, 90), "uint16")
    ds = xr.Dataset({"image": (tuple("czyx"), values)}, coords={"c": ["DAPI", "GFP"]})
    return ds.chunk(chunks) if chunks else ds


def pyramid(ds):
    return ds.img.pyramid([{"y": 2, "x": 2}])


@pytest.mark.parametrize("chunks", [None, {"z": 2, "y": 33, "x": 40}, {"c": 1, "x": 7}])
def test_volume_is_the_one_that_threads_write(client, tmp_path, chunks):
    for k, (made, options) in enumerate(
        (
            (image(chunks), {"chunks": 16}),
            (pyramid(image(chunks)), {}),
            (image(chunks).isel(c=[0]).astype("uint32"), {"compress": "compressed_segmentation"}),
            (
                image(chunks).isel(z=[3, 1], y=slice(None, None, -1)).transpose("z", "c", "x", "y"),
                {"chunks": {"x": 20}},
            ),
        )
    ):
        for engine in ("dask", "threads"):
            imsave(made, tmp_path / engine / f"{k}.precomputed", engine=engine, **options)
    assert content(tmp_path / "dask") == content(tmp_path / "threads")
    found = imload(tmp_path / "dask" / "0.precomputed")
    np.testing.assert_array_equal(found.image.transpose(*"czyx"), image(None).image)


SEEN: Counter[tuple[int, ...]] = Counter()
LOCK = threading.Lock()


def _counted(block_info=None):
    with LOCK:
        SEEN[tuple(block_info[None]["chunk-location"])] += 1
    assert threading.current_thread() is not threading.main_thread()
    return np.ones(block_info[None]["chunk-shape"], "u2")


def test_chunks_are_computed_once_on_the_workers(client, tmp_path):
    SEEN.clear()
    array = da.map_blocks(_counted, chunks=((2,), (30, 30, 20), (35, 45)), dtype="u2")
    told: list[int] = []
    imsave(
        pyramid(xr.Dataset({"image": (tuple("zyx"), array)})),
        tmp_path / "a.precomputed",
        chunks=32,
        progress=told.append,
    )
    assert sorted(SEEN.values()) == [1] * 6
    assert sum(told) == 2 * (2 * 80 * 80 + 2 * 40 * 40)


def test_delayed(client, tmp_path):
    ds = image({"y": 30})
    later = imsave(ds, tmp_path / "a.precomputed", compute=False)
    with pytest.raises((FormatError, FileNotFoundError)):
        imload(tmp_path / "a.precomputed")
    assert list(client.compute(later).result(timeout=SECONDS)) == [str(tmp_path / "a.precomputed")]
    xr.testing.assert_equal(imload(tmp_path / "a.precomputed").compute(), ds.compute())
    assert os.listdir(tmp_path) == ["a.precomputed"]


@pytest.mark.parametrize("engine", ["dask", "threads"])
def test_servers_are_written_directly(tmp_path, monkeypatch, engine):
    """No folder of the volume is made here; without the info nothing reads as a volume."""
    monkeypatch.setattr(os, "makedirs", None)
    ds = image({"y": 30})
    imsave(ds, "memory://volumes/a.precomputed", engine=engine, chunks=32, overwrite=True)
    xr.testing.assert_equal(imload("memory://volumes/a.precomputed").compute(), ds.compute())
    imsave(ds.isel(x=slice(40)), "memory://volumes/a.precomputed", engine=engine, chunks=64, overwrite=True)
    xr.testing.assert_equal(imload("memory://volumes/a.precomputed").compute(), ds.isel(x=slice(40)).compute())


def test_info_comes_last(tmp_path):
    folder = tmp_path / "a.precomputed"
    folder.mkdir()
    tasks, finish = Precomputed().write_in_tasks(Image.from_xarray(image({"y": 30})), str(folder))
    done = tasks.run()
    assert not (folder / "info").exists()
    assert sum(block.nbytes for block in done) == image(None).image.nbytes
    (key,) = [p for p in folder.iterdir() if p.is_dir()]
    (key / ".~0").write_bytes(b"of a killed worker")
    finish(done)
    assert json.loads((folder / "info").read_text())["scales"][0]["key"] == key.name
    assert not (key / ".~0").exists()


def test_a_folder_that_workers_do_not_see_is_refused(tmp_path):
    tasks, _ = Precomputed().write_in_tasks(Image.from_xarray(image({"y": 30})), str(tmp_path))
    for place in tmp_path.iterdir():
        place.rmdir()
    with pytest.raises(CannotWriteError, match="does not see"):
        tasks.run()
    assert File.parse(str(tmp_path)).exists()
