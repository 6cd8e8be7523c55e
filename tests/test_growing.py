"""Stores that grow: an append is what one write of everything would have made, and readers see all of it or nothing."""

from __future__ import annotations

import os
import warnings

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from thoroughness import examples
from trees import content

from intake_img import imload, imsave, io
from intake_img.errors import CannotWriteError, SourceChangedError, TargetExistsError
from intake_img.formats.omezarr import extend
from intake_img.storage.files import File
from intake_img.storage.staging import begin

pytestmark = pytest.mark.thorough

VALUES = np.random.default_rng(0).integers(1, 4000, (9, 2, 2, 20, 17), "uint16")
TIMES = np.array([0, 2, 4, 6, 8, 10, 12.5, 14, 16])
"""Evenly spaced at first."""
IMAGE = xr.Dataset(
    {
        "image": (tuple("tczyx"), VALUES),
        "nuclei": (tuple("tzyx"), (VALUES[:, 0] % 7).astype("uint8"), {"kind": "labels"}),
    },
    coords={
        "t": ("t", TIMES, {"units": "s"}),
        "c": ["DAPI", "GFP"],
        "z": ("z", np.arange(2) * 0.5, {"units": "µm", "spacing": 0.5}),
        "taken": (("t", "c"), np.arange(18.0).reshape(9, 2)),
    },
)
STORES = [
    {"chunks": {"t": 4, "y": 16, "x": 16}, "pyramid": 1},
    {"chunks": {"t": 2, "y": 16, "x": 16}, "shards": {"t": 4, "y": 32, "x": 32}},
    {"version": "0.4", "pyramid": 2, "compress": False},
]


def _same(found: xr.Dataset, expected: xr.Dataset) -> None:
    xr.testing.assert_identical(found.drop_attrs(deep=False).compute(), expected.drop_attrs(deep=False).compute())


@pytest.mark.parametrize(("options", "where"), [*((o, "disk") for o in STORES), (STORES[0], "memory")])
def test_appends_make_what_one_write_makes_and_earlier_datasets_stay(options, where, tmp_path):
    """In threads and in tasks, in steps that cut chunks and shards, with labels, levels and coordinates along t."""
    root = f"memory://{tmp_path.name}" if where == "memory" else str(tmp_path)
    imsave(IMAGE, f"{root}/whole.zarr", **options)
    for engine, steps in (("threads", (1, 2, 9)), ("dask", (4, 9))):
        target, before, opened = f"{root}/{engine}.zarr", 0, []
        for end in steps:
            part = IMAGE.isel(t=slice(before, end))
            first = options if before == 0 else {}
            imsave(part.chunk(t=2, y=15), target, append_dim="t", engine=engine, **first)
            opened.append((end, imload(target, chunks=None)))
            before = end
        for end, ds in opened:  # at each length, also those from before the first append
            _same(ds, IMAGE.isel(t=slice(0, end)))
        for level in range(options.get("pyramid", 0) + 1):
            _same(imload(target, level=level, chunks=None), imload(f"{root}/whole.zarr", level=level, chunks=None))


def test_chunks_are_those_of_one_write(tmp_path):
    """Byte for byte, where the length of the chunks does not depend on that of the image."""
    for k, options in enumerate(STORES[:2]):
        imsave(IMAGE, tmp_path / "whole" / f"{k}.zarr", **options)
        imsave(IMAGE.isel(t=slice(0, 5)), tmp_path / "grown" / f"{k}.zarr", **options)
        for part in (slice(5, 6), slice(6, 9)):
            imsave(IMAGE.isel(t=part), tmp_path / "grown" / f"{k}.zarr", append_dim="t")
    whole, grown = content(tmp_path / "whole"), content(tmp_path / "grown")
    assert {n for n in whole if whole[n] != grown.get(n)} == {"0.zarr/zarr.json", "1.zarr/zarr.json"}
    assert whole.keys() == grown.keys()


class Killed(BaseException):
    """Nothing cleans up after it."""


@given(st.integers(0, 60), st.integers(1, 4), st.sampled_from(STORES))
@examples(8)
def test_a_killed_append_leaves_the_old_image_or_the_new(step, more, options):
    """At any write of a chunk or document; the next append, of another length, goes on as if nothing had been."""
    import tempfile

    from zarr.storage import LocalStore

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        target = f"{folder}/a.zarr"
        imsave(IMAGE.isel(t=slice(0, 3)), target, **options)
        imsave(IMAGE.isel(t=[3]), target, append_dim="t")
        earlier, left = imload(target), [step]

        def counted(function):
            def write(*args, **kwargs):
                left[0] -= 1
                if left[0] < 0:
                    raise Killed
                return function(*args, **kwargs)

            return write

        patch.setattr(LocalStore, "set", counted(LocalStore.set))
        patch.setattr(extend, "write_document", counted(extend.write_document))
        try:
            imsave(IMAGE.isel(t=slice(4, 4 + more)), target, append_dim="t")
            length = 4 + more
        except Killed:
            length = 4
        patch.undo()
        _same(imload(target), IMAGE.isel(t=slice(0, length)))
        _same(earlier, IMAGE.isel(t=slice(0, 4)))
        imsave(IMAGE.isel(t=slice(length, 9)), target, append_dim="t")
        _same(imload(target), IMAGE)


def test_regions_replace_what_is_there(tmp_path):
    """Slices, indices, and what the coordinates say; with levels. Earlier Datasets say that they are out of date."""
    for k, (options, engine) in enumerate(zip(STORES, ("threads", "dask", "threads"), strict=True)):
        target = tmp_path / f"{k}.zarr"
        imsave(xr.zeros_like(IMAGE), target, **options)
        before = imload(target, chunks=None)
        imsave(IMAGE.isel(t=slice(3, 8)), target, region={"t": slice(3, 8)}, engine=engine)
        imsave(IMAGE.isel(t=slice(0, 3)), target, region="auto", engine=engine)
        imsave(IMAGE.isel(t=8), target, region={"t": -1}, engine=engine)
        imsave(IMAGE, tmp_path / "whole" / f"{k}.zarr", **options)
        for level in range(options.get("pyramid", 0) + 1):
            _same(imload(target, level=level), imload(tmp_path / "whole" / f"{k}.zarr", level=level))
        with pytest.raises(SourceChangedError, match="load it again"):
            before.image.values.sum()
    imsave(
        IMAGE.image.isel(c=[1], z=[0], y=slice(3, 18)) + np.uint16(1),
        tmp_path / "1.zarr",
        region={"c": 1, "z": 0, "y": slice(3, 18)},
    )
    expected = VALUES.copy()
    expected[:, 1, 0, 3:18] += 1
    np.testing.assert_array_equal(imload(tmp_path / "1.zarr").image, expected)


@pytest.mark.parametrize("chunks", ["auto", None])
@pytest.mark.parametrize("engine", ["threads", "dask"])
def test_a_region_is_computed_from_the_store_itself(tmp_path, chunks, engine, monkeypatch):
    """Read, change, write back: of any size for a Dataset, which says where it comes from."""
    expected = VALUES.copy()
    for k, (options, held) in enumerate(zip(STORES, (2**26, 0, 0), strict=True)):
        monkeypatch.setattr(io, "_HELD", held)
        target = tmp_path / f"{k}.zarr"
        imsave(IMAGE, target, **options)
        part = imload(target, chunks=chunks).isel(t=slice(2, 6))
        turned = part.drop_vars(["t", "taken"]).isel(t=slice(None, None, -1))
        turned = turned.assign(image=turned.image + np.uint16(1))
        imsave(turned, target, region={"t": slice(2, 6)}, engine=engine)
        expected[2:6] = VALUES[5:1:-1] + 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            np.testing.assert_array_equal(imload(target).image, expected)
        imsave(imload(target).load(), tmp_path / "whole" / f"{k}.zarr", **options)
        for level in range(options.get("pyramid", 0) + 1):
            _same(imload(target, level=level), imload(tmp_path / "whole" / f"{k}.zarr", level=level))


@pytest.mark.parametrize("where", [{"append_dim": "t"}, {"region": {"t": slice(0, 2)}}])
def test_labels_are_not_put_into_intensities(tmp_path, where):
    """Their levels would be means of labels. Labels that lost their ``kind`` while they were computed may be added."""
    labels = xr.Dataset({"image": (("t", "y", "x"), VALUES[:2, 0, 0], {"kind": "labels"})})
    plain = labels.assign(image=labels.image.drop_attrs())
    imsave(plain, tmp_path / "a.zarr", pyramid=1)
    with pytest.raises(CannotWriteError, match="'labels', in the store None"):
        imsave(labels, tmp_path / "a.zarr", **where)
    imsave(labels, tmp_path / "labels.zarr", pyramid=1)
    imsave(plain, tmp_path / "labels.zarr", **where)
    assert imload(tmp_path / "labels.zarr").image.attrs["kind"] == "labels"


def test_a_region_that_cannot_be_computed_changes_nothing(tmp_path):
    target = tmp_path / "a.zarr"
    imsave(IMAGE, target)

    def fails(block):
        raise RuntimeError("no such luck")

    image = IMAGE.image.isel(t=[2]).chunk()
    broken = image.copy(data=image.data.map_blocks(fails, dtype="u2", meta=np.empty(0, "u2")))
    with pytest.raises(RuntimeError, match="no such luck"):
        imsave(IMAGE.isel(t=[2]).assign(image=broken), target, region={"t": 2})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _same(imload(target), IMAGE)


def test_a_killed_region_is_told(tmp_path, monkeypatch):
    imsave(IMAGE, tmp_path / "a.zarr")
    monkeypatch.setattr(extend, "_commit", lambda *_: (_ for _ in ()).throw(Killed))
    with pytest.raises(Killed):
        imsave(IMAGE.isel(t=[2]), tmp_path / "a.zarr", region={"t": 2})
    monkeypatch.undo()
    with pytest.warns(UserWarning, match="write it again"):
        imload(tmp_path / "a.zarr")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        imsave(IMAGE.isel(t=[2]), tmp_path / "a.zarr", region={"t": 2})
    _same(imload(tmp_path / "a.zarr"), IMAGE)


def test_samples_along_i_are_read_by_xarray_alone(tmp_path):
    """A store that NGFF has no axes for, which grows by single samples."""
    many = xr.Dataset(
        {"image": (tuple("itczyx"), VALUES[:, None])},
        coords={"i": np.arange(9), "well": ("i", [f"A{k}" for k in range(9)])},
    )
    target = tmp_path / "a.zarr"
    imsave(many.isel(i=slice(0, 2)), target)
    for k in range(2, 9):
        imsave(many.isel(i=k) if k % 2 else many.isel(i=[k]), target, append_dim="i")
    _same(imload(target), many)
    with xr.open_zarr(target, consolidated=False) as other:
        np.testing.assert_array_equal(other.image, many.image)
        assert other.well.values.tolist() == many.well.values.tolist()


def test_a_store_that_is_replaced_is_another_one(tmp_path):
    """However it has grown before, and though the new one has grown as well."""
    target = tmp_path / "a.zarr"
    for _ in range(2):
        imsave(IMAGE.isel(t=slice(0, 2)), target, overwrite=True)
        before = imload(target, chunks=None)
        imsave(IMAGE.isel(t=slice(2, 4)), target, append_dim="t")
        between = imload(target, chunks=None)
        imsave(IMAGE.isel(t=slice(4, 6)), tmp_path / "b.zarr", append_dim="t")
        os.rename(tmp_path / "b.zarr", tmp_path / "c.zarr")
        imsave(IMAGE.isel(t=slice(0, 4)) + 1, target, overwrite=True)
        imsave(IMAGE.isel(t=slice(4, 5)).map(lambda v: v), target, append_dim="t")
        for ds in (before, between):
            with pytest.raises(SourceChangedError):
                ds.image.values.sum()
        os.rename(tmp_path / "c.zarr", tmp_path / f"d{os.urandom(4).hex()}.zarr")


@pytest.mark.parametrize(
    ("part", "options", "said"),
    [
        (IMAGE.isel(z=[0]), {"append_dim": "t"}, "z"),
        (IMAGE.astype("uint32"), {"append_dim": "t"}, "astype"),
        (IMAGE[["image"]], {"append_dim": "t"}, "'nuclei'.*missing"),
        (IMAGE.drop_vars("t"), {"append_dim": "t"}, "coordinates along 't'"),
        (IMAGE.assign_coords(c=["DAPI", "RFP"]), {"append_dim": "t"}, "coordinate 'c'"),
        (IMAGE, {"append_dim": "z"}, "grows along t"),
        (IMAGE, {"region": {"t": slice(5, 14)}}, "append_dim"),
        (IMAGE.isel(t=[0]), {"region": {"t": 1}}, "drop_vars"),
        (IMAGE.isel(t=[0]), {"region": {"q": 1}}, "'q'"),
        (IMAGE.isel(y=slice(0, 8)), {"region": {"y": slice(0, 8)}}, "halved"),
    ],
)
def test_what_does_not_fit_is_refused_and_changes_nothing(part, options, said, tmp_path):
    imsave(IMAGE, tmp_path / "a.zarr", pyramid=1)
    before = content(tmp_path)
    with pytest.raises((CannotWriteError, ValueError), match=said):
        imsave(part, tmp_path / "a.zarr", **options)
    assert content(tmp_path) == before


def test_stores_that_cannot_grow(tmp_path):
    import zarr

    with pytest.raises(FileNotFoundError):
        imsave(IMAGE, tmp_path / "none.zarr", region={"t": 0})
    imsave(IMAGE.isel(t=0, z=0)[["image"]].drop_vars(["t", "z", "taken"]), tmp_path / "a.tif")
    with pytest.raises(CannotWriteError, match="written completely"):
        imsave(IMAGE, tmp_path / "a.tif", append_dim="t")
    zarr.create_array(str(tmp_path / "b.zarr"), shape=(3, 3), dtype="u1")
    with pytest.raises(CannotWriteError, match="not written by imsave"):
        imsave(np.zeros((3, 3), "u1"), tmp_path / "b.zarr", append_dim="t")
    imsave(IMAGE, tmp_path / "c.zarr")
    with pytest.raises(TypeError, match="chunks="):
        imsave(IMAGE, tmp_path / "c.zarr", append_dim="t", chunks=8)
    with begin(File.parse(tmp_path / "c.zarr"), overwrite=True), pytest.raises(TargetExistsError, match="right now"):
        imsave(IMAGE, tmp_path / "c.zarr", append_dim="t")
    assert imload(tmp_path / "c.zarr").sizes["t"] == 9


@pytest.mark.parametrize(("times", "stated"), [([4.0, 6.0], 2.0), ([4.0, 9.0], None)])
def test_a_spacing_that_no_longer_holds_is_forgotten(times, stated, tmp_path):
    attrs = {"units": "s", "spacing": 2.0}
    first = IMAGE.isel(t=slice(0, 2)).assign_coords(t=("t", [0.0, 2.0], attrs))
    imsave(first, tmp_path / "a.zarr")
    imsave(first.assign_coords(t=("t", times, attrs)), tmp_path / "a.zarr", append_dim="t")
    found = imload(tmp_path / "a.zarr")
    assert found["t"].values.tolist() == [0.0, 2.0, *times]
    assert found["t"].attrs.get("spacing") == stated
    assert found.img.spacing.get("t") == stated
