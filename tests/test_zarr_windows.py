"""Windows of brightness in OME-Zarr: viewers begin with what the channels hold."""

import json
import os
import zipfile

import dask.array as da
import numpy as np
import pytest
import xarray as xr
import yaozarrs

from intake_img import imload, imsave

RNG = np.random.default_rng(5)
RANGES = {"u1": (0, 255), "u2": (0, 65535), "i2": (-32768, 32767), "u4": (0, 2**32 - 1), "i8": (-(2.0**63), 2.0**63)}


def image(dtype, low=100, high=4000, shape=(2, 3, 3, 40, 50), axes="tczyx"):
    """Channels of different brightness."""
    values = RNG.integers(low, high, shape).astype(dtype)
    if "c" in axes:
        place = [slice(None)] * len(shape)
        for k in range(shape[axes.index("c")]):
            place[axes.index("c")] = k
            values[tuple(place)] //= k + 1
    names = [f"channel {k}" for k in range(shape[axes.index("c")])]
    return xr.Dataset({"image": (tuple(axes), values)}, {"c": names})


def documents(path):
    """The NGFF metadata at the root of a store, by the standard library alone."""
    version3, version2 = "zarr.json", ".zattrs"
    if os.path.isdir(path):
        name = version3 if os.path.exists(os.path.join(path, version3)) else version2
        with open(os.path.join(path, name), encoding="utf-8") as stream:
            content = json.load(stream)
    else:
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            name = archive.namelist()[0]
            content = json.loads(archive.read(name if name == version3 else version2))
    return content["attributes"]["ome"] if name == version3 else content


def windows(ome):
    return [tuple(c["window"][k] for k in ("start", "end", "min", "max")) for c in ome["omero"]["channels"]]


def seen(array):
    """The extremes of each channel, by numpy."""
    rest = [d for d in array.dims if d != "c"]
    return list(zip(array.min(rest).values.tolist(), array.max(rest).values.tolist(), strict=True))


@pytest.mark.parametrize("name", ["a.ome.zarr", "a.zarr.zip"])
@pytest.mark.parametrize(
    "options",
    [{}, {"pyramid": 2}, {"shards": True, "chunks": 16}, {"version": "0.4"}],
    ids=["plain", "pyramid", "shards", "0.4"],
)
@pytest.mark.parametrize("lazy", [None, (1, 1, 2, 17, 50), (2, 3, 3, 40, 13)], ids=["memory", "planes", "columns"])
def test_windows_are_what_the_channels_hold(tmp_path, name, options, lazy):
    ds = image("u2")
    path = str(tmp_path / name)
    imsave(ds if lazy is None else ds.chunk(dict(zip("tczyx", lazy, strict=True))), path, **options)
    assert windows(documents(path)) == [(*w, 0, 65535) for w in seen(ds.image)]
    xr.testing.assert_equal(imload(path)[["image"]].compute(), ds)
    assert imload(path).c.attrs == {}  # what was made up is not taken for what was known
    if not name.endswith("zip"):
        yaozarrs.validate_zarr_store(path)


@pytest.mark.parametrize("dtype", [*RANGES, "f2", "f4", "f8", "?", "c8"])
@pytest.mark.parametrize("name", ["a.zarr", "a.zarr.zip"])
def test_windows_of_every_dtype(tmp_path, dtype, name):
    ds = image("u1", 1, 200) if dtype in ("u1", "f2", "?") else image("u2")
    ds["image"] = ds.image.astype(dtype) / 3 if dtype[0] == "f" else ds.image.astype(dtype)
    imsave(ds, tmp_path / name)
    found = windows(documents(str(tmp_path / name)))
    if dtype in "?c8":
        assert found == [(0, 1, 0, 1)] * 3
    else:
        assert found == [(*map(float, w), *RANGES.get(dtype, w)) for w in seen(ds.image)]
    xr.testing.assert_equal(imload(tmp_path / name)[["image"]].compute(), ds)


def test_the_source_is_computed_once_and_equal_images_give_equal_bytes(tmp_path):
    ds, calls = image("u2"), []

    def block(values):
        calls.append(values.shape)
        return values

    data = da.from_array(ds.image.values, chunks=(1, 1, 3, 20, 50)).map_blocks(block, dtype="u2", meta=np.empty(0))
    imsave(ds.assign(image=(ds.image.dims, data)), tmp_path / "b.zarr", overwrite=True, pyramid=1)
    assert len(calls) == data.npartitions
    imsave(ds, tmp_path / "c" / "b.zarr", pyramid=1)
    one, two = (
        {str(f.relative_to(root)): f.read_bytes() for f in root.rglob("*") if f.is_file()}
        for root in (tmp_path / "b.zarr", tmp_path / "c" / "b.zarr")
    )
    assert {"zarr.json", "0/zarr.json", "1/zarr.json"} < set(one)
    assert one == two


@pytest.mark.parametrize(
    ("values", "want"),
    [
        (np.full((2, 4, 5), 7, "u2"), (7, 8, 0, 65535)),
        (np.full((2, 4, 5), 255, "u1"), (254, 255, 0, 255)),
        (np.full((2, 4, 5), -128, "i1"), (-128, -127, -128, 127)),
        (np.zeros((2, 4, 5), "u2"), (0, 1, 0, 65535)),
        (np.full((2, 4, 5), np.nan, "f4"), (0, 1, 0, 1)),
        (np.full((2, 4, 5), 2.5, "f4"), (2.5, 3.5, 2.5, 3.5)),
        (np.where(np.arange(40).reshape(2, 4, 5) % 7 == 0, np.inf, 3.0), (3, 4, 3, 4)),
        (np.zeros((2, 0, 5), "u2"), (0, 65535, 0, 65535)),
    ],
)
@pytest.mark.parametrize("name", ["a.zarr", "a.zarr.zip"])
def test_windows_without_a_width(tmp_path, values, want, name):
    imsave(xr.Dataset({"image": (tuple("cyx"), values)}, {"c": ["a", "b"]}), tmp_path / name)
    assert windows(documents(str(tmp_path / name))) == [want] * 2


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("chunks", [None, 7])
def test_values_that_are_not_finite_do_not_count(tmp_path, bad, chunks):
    ds = image("f4")
    kept = ds.image.copy()
    ds.image[0, :, 1, ::9] = bad
    kept = kept.where(np.isfinite(ds.image))
    imsave(ds if chunks is None else ds.chunk(x=chunks), tmp_path / "a.zarr")
    assert [w[:2] for w in windows(documents(str(tmp_path / "a.zarr")))] == seen(kept)


@pytest.mark.parametrize("name", ["a.zarr", "a.zarr.zip"])
def test_windows_that_are_told_are_kept(tmp_path, name):
    ds = image("u2")
    told = {"window_start": [1.0, 2.0, 3.0], "window_end": [1000.0, 200.5, 30.0], "window_max": [4095.0] * 3}
    ds.c.attrs.update(told)
    imsave(ds, tmp_path / name)
    found = documents(str(tmp_path / name))
    assert windows(found) == [(1, 1000, 0, 4095), (2, 200.5, 0, 4095), (3, 30, 0, 4095)]
    assert imload(tmp_path / name).c.attrs == told
    ds.c.attrs = {"window_start": [5000.0] * 3}
    imsave(ds, tmp_path / name, overwrite=True)
    assert windows(documents(str(tmp_path / name))) == [(5000, 65535, 0, 65535)] * 3


@pytest.mark.parametrize("name", ["a.zarr", "a.zarr.zip"])
@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_several_images_and_labels(tmp_path, name, version):
    ds = image("u2")
    ds["other"] = (ds.image // 7).astype("f4")
    ds["cells"] = ds.image.isel(c=0).astype("i4").assign_attrs(kind="labels")
    imsave(ds, tmp_path / name, version=version)
    assert [w[:2] for w in windows(documents(str(tmp_path / name)))] == seen(ds.image)
    back = imload(tmp_path / name)
    assert set(back.data_vars) == {"image", "other", "cells"}
    if name == "a.zarr":
        other = documents(str(tmp_path / name / "other"))
        assert windows(other) == [(*w, *w) for w in seen(ds.other)]


def test_a_document_in_a_zip_file_does_not_grow(tmp_path):
    from intake_img.formats.omezarr.zips import overwrite_document

    path = str(tmp_path / "a.zip")
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("first", "b/ä", "last"):
            archive.writestr(name, json.dumps({"name": name, "value": "x" * 50}))
    for name in ("first", "b/ä", "last"):
        overwrite_document(path, name, lambda old: {**old, "value": 3})
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert [json.loads(archive.read(n))["value"] for n in archive.namelist()] == [3, 3, 3]
    with pytest.raises(ValueError, match="no room"):
        overwrite_document(path, "first", lambda old: {**old, "more": "y" * 200})


@pytest.mark.parametrize("name", ["a.zarr", "a.zarr.zip"])
def test_every_block_that_is_written_counts(tmp_path, name):
    values = np.full((4, 2, 2048, 2048), 500, "u2")  # several blocks; darkest and brightest pixels in different ones
    values[0, 0, 7, 9], values[3, 0, 2000, 1], values[2, 1, 0, 0], values[1, 1, -1, -1] = 3, 900, 4, 800
    imsave(xr.Dataset({"image": (tuple("tcyx"), values)}, {"c": ["a", "b"]}).chunk(t=1), tmp_path / name)
    assert windows(documents(str(tmp_path / name))) == [(3, 900, 0, 65535), (4, 800, 0, 65535)]


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4"])
def test_extremes_do_not_depend_on_regions(dtype):
    from intake_img.formats.omezarr.windows import Extremes
    from intake_img.model.chunks import regions_of

    values = RNG.integers(0, 127, (5, 4, 6, 7)).astype(dtype)
    for cut in range(20):
        chunks = tuple(tuple(np.diff([0, *sorted(RNG.integers(1, n, cut % 3)), n]).tolist()) for n in values.shape)
        extremes = Extremes("tcyx", values.shape, values.dtype)
        for region in regions_of(chunks):
            extremes.look(region, values[region])
        assert extremes.windows() == list(zip(values.min((0, 2, 3)), values.max((0, 2, 3)), strict=True))
