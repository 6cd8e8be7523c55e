"""Chunks and shards of new stores are files that hold what zarr itself writes."""

from __future__ import annotations

import pickle
from pathlib import Path
from types import SimpleNamespace

import dask.array as da
import numcodecs
import numpy as np
import pytest
import xarray as xr
import zarr

from intake_img import imload, imsave
from intake_img.formats.omezarr import chunk_writer as module
from intake_img.formats.omezarr import write
from intake_img.formats.omezarr.chunk_writer import chunk_writer

RNG = np.random.default_rng(2)


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def image(dtype: str, lazy: bool) -> xr.Dataset:
    values = RNG.integers(0, 2 if dtype == "bool" else 200, (5, 37, 41)).astype(dtype)
    values[2:4] = 0  # whole chunks without a pixel
    if values.dtype.kind in "fc":
        values[3] = -0.0
    data = da.from_array(values, (2, 20, 41)) if lazy else values
    return xr.Dataset({"image": (("z", "y", "x"), data)})


CODECS = [False, True, "zstd", "gzip", "lz4", "zlib"]
STORES = [
    *({"version": version, "compress": codec} for codec in CODECS for version in ("0.4", "0.5")),
    *({"shards": {"z": 2, "y": 48, "x": 16}, "compress": codec} for codec in CODECS),
]


def _left_to_zarr(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(write, "chunk_writer", lambda array, fill: None)


@pytest.mark.parametrize(
    ("dtype", "stores"),
    [*(("i2", [s]) for s in STORES), *((d, STORES[1::5]) for d in ("bool", "u1", "u8", "f4", "c8", "f8"))],
)
def test_bytes_are_those_of_zarr(tmp_path, monkeypatch, dtype, stores):
    """Of all compressors, formats and shards, with empty chunks, chunks at the ends of axes, and further levels."""
    monkeypatch.setattr("gzip.time", SimpleNamespace(time=lambda: 0.0))  # it is in the header of each chunk
    ds = image(dtype, lazy=dtype == "i2")
    for k, options in enumerate(stores):
        options = {**options, "chunks": {"z": 1, "y": 16, "x": 16}, "pyramid": 1}
        imsave(ds, tmp_path / "ours" / f"{k}.zarr", **options)
        with monkeypatch.context() as patch:
            _left_to_zarr(patch)
            imsave(ds, tmp_path / "zarr" / f"{k}.zarr", **options)
        ours, theirs = files(tmp_path / "ours" / f"{k}.zarr"), files(tmp_path / "zarr" / f"{k}.zarr")
        assert ours.keys() == theirs.keys()
        assert [name for name in ours if ours[name] != theirs[name]] == [], options
        assert len(ours) > 10
        np.testing.assert_array_equal(imload(tmp_path / "ours" / f"{k}.zarr")["image"].values, ds["image"].values)


@pytest.mark.parametrize("options", STORES)
def test_every_store_is_written_by_it(tmp_path, monkeypatch, options):
    """None of them passes through zarr, whose writing is several times as slow."""
    monkeypatch.setattr(zarr.Array, "__setitem__", lambda *_: pytest.fail("zarr writes"))
    imsave(image("u2", lazy=True), tmp_path / "a.zarr", chunks=16, pyramid=1, **options)


def test_it_pickles(tmp_path, monkeypatch):
    """It is sent to the workers of a cluster, where it writes the same bytes."""
    monkeypatch.setattr("gzip.time", SimpleNamespace(time=lambda: 0.0))
    for k, options in enumerate(STORES):
        store = tmp_path / f"{k}.zarr"
        imsave(image("u2", lazy=False), store, chunks=16, **options)
        before = files(store / "0")
        made = chunk_writer(zarr.open_array(store / "0", mode="r+"), 0)
        values = zarr.open_array(store / "0", mode="r")[:]
        pickle.loads(pickle.dumps(made)).write(tuple(slice(0, n) for n in values.shape), values, atomic=True)
        assert files(store / "0") == before


@pytest.mark.parametrize("options", [{}, {"shards": {"z": 2, "y": 48, "x": 16}}])
def test_workers_replace_complete_files(tmp_path, monkeypatch, options):
    """A worker that was taken for dead may still write a block that another one writes again."""
    imsave(image("u2", lazy=False), tmp_path / "a.zarr", chunks=16, **options)
    made = chunk_writer(zarr.open_array(tmp_path / "a.zarr" / "0", mode="r+"), 0)
    values = zarr.open_array(tmp_path / "a.zarr" / "0", mode="r")[:]
    before, replaced = files(tmp_path / "a.zarr" / "0"), []

    def replace(source, target):
        assert source != target
        replaced.append((Path(source).read_bytes(), Path(target).read_bytes()))
        Path(source).replace(target)

    monkeypatch.setattr(module, "replace", replace)
    made.write(tuple(slice(0, n) for n in values.shape), values, atomic=True)
    assert len(replaced) == len(before) - 1  # all but zarr.json
    assert all(new == old for new, old in replaced)
    assert files(tmp_path / "a.zarr" / "0") == before


def test_chunks_in_memory_are_neither_copied_nor_named_twice(tmp_path, monkeypatch):
    values = np.ones((3, 32, 32), "u2")
    seen = []
    original = module.ChunkWriter.write
    monkeypatch.setattr(
        module.ChunkWriter,
        "write",
        lambda self, region, data, pool: (seen.append(np.shares_memory(data, values)), original(self, region, data))[1],
    )
    imsave(xr.Dataset({"image": (("z", "y", "x"), values)}), tmp_path / "a.zarr", compress=False)
    assert seen
    assert all(seen)


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": ">u2", "zarr_format": 2},
        {"dtype": "u2", "filters": numcodecs.Delta("u2"), "zarr_format": 2},
        {"dtype": "u2", "compressors": [zarr.codecs.Crc32cCodec()]},
        {"dtype": "u2", "compressors": [zarr.codecs.ZstdCodec(), zarr.codecs.Crc32cCodec()]},
        {"dtype": "u2", "compressors": zarr.codecs.BloscCodec(typesize=1)},
        {"dtype": "u2", "store": {}},
        {"dtype": "u2", "name": "inner"},
        {"dtype": "u2", "shape": ()},
    ],
)
def test_others_are_left_to_zarr(tmp_path, options):
    array = zarr.create_array(**{"store": tmp_path / "a.zarr", "shape": (4, 4), **options})
    assert chunk_writer(array, 0) is None
    plain = zarr.create_array(tmp_path / "b.zarr", shape=(4, 4), dtype="u2")
    assert chunk_writer(plain, 0) is not None
