"""Selections of lazy images, however they are chained: values are numpy's, and only the last step is read."""

from __future__ import annotations

import itertools
import pickle
from pathlib import Path

import dask
import dask.array as da
import dask.callbacks
import numpy as np
import pytest
import tifffile
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from test_lazy import Counting
from thoroughness import examples

from intake_img import imload, imsave
from intake_img.errors import SourceChangedError
from intake_img.formats.reading import FileReader
from intake_img.model import lazy_arrays
from intake_img.model.datasets import data_of, indexed_lazily
from intake_img.model.pixels import Pixels
from intake_img.model.readers import Dask, leaf_of

VALUES = np.random.default_rng(0).integers(0, 4000, (4, 2, 6, 256, 256), dtype="uint16")


@st.composite
def images(draw):
    shape = tuple(draw(st.lists(st.integers(1, 7), min_size=1, max_size=4)))
    tiles = tuple(draw(st.integers(1, 4)) for _ in shape)
    chunks = tuple(draw(st.integers(1, n)) for n in shape)
    return np.arange(np.prod(shape), dtype="int32").reshape(shape), tiles, chunks, draw(st.booleans())


def step(draw, array):
    """A selection or an exchange of axes, that numpy and dask interpret in the same way."""
    if array.ndim > 1 and draw(st.booleans()):
        order = tuple(draw(st.permutations(range(array.ndim))))
        return lambda a: a.transpose(order)
    key = []
    for n in array.shape:
        known = [st.slices(n)] + [st.integers(-n, n - 1)] * (n > 0) + [st.just(Ellipsis)] * (Ellipsis not in key)
        key.append(draw(st.one_of(known)))
    key[draw(st.integers(0, len(key))) : 0] = [None] if draw(st.booleans()) else []
    if not any(isinstance(k, int) or k is None or k is Ellipsis for k in key) and key and 0 not in array.shape:
        where = draw(st.integers(0, len(key) - 1))
        key[where] = draw(st.lists(st.integers(0, array.shape[where] - 1), unique=True, max_size=4))
    return lambda a: a[tuple(key)]


@examples(30)
@given(images(), st.data())
def test_chains_are_those_of_numpy_and_read_no_pixel_twice(made, data):
    values, tiles, chunks, many_files = made
    reader = Counting(values)
    pixels = Pixels(reader, values.shape, values.dtype, tiles, many_files=many_files)
    found, plain, wanted = pixels.dask(pixels.chunks(2)), da.from_array(values, chunks), values
    plain = plain.rechunk(found.chunks)
    for _ in range(data.draw(st.integers(1, 5))):
        change = step(data.draw, wanted)
        found, plain, wanted = change(found), change(plain), change(wanted)
        if not wanted.ndim:
            break
    assert not isinstance(Pixels.of(found).reader, Dask)
    assert not reader.regions
    assert tuple(map(sum, found.chunks)) == found.shape == wanted.shape
    with dask.config.set(scheduler="synchronous"):
        np.testing.assert_array_equal(found.compute(), wanted)
        assert len(set(map(str, reader.regions))) == len(reader.regions)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(found)).compute(), wanted)
    assert found.npartitions <= max(plain.npartitions, wanted.size)
    assert len(dict(found.dask)) <= found.npartitions + 1


@examples(30)
@given(images(), st.data())
def test_chains_without_dask_read_the_pixels_that_are_left(made, data):
    values, tiles, _, _ = made
    reader = Counting(values)
    lazy = indexed_lazily(Pixels(reader, values.shape, values.dtype, tiles))
    dims = list("abcd"[: values.ndim])
    found, wanted = xr.Variable(dims, lazy), xr.Variable(dims, values)
    for _ in range(data.draw(st.integers(1, 5))):
        if data.draw(st.booleans()):
            order = data.draw(st.permutations(wanted.dims))
            found, wanted = found.transpose(*order), wanted.transpose(*order)
        else:
            part = {d: data.draw(st.slices(n).filter(lambda s: s.step in (None, 1))) for d, n in wanted.sizes.items()}
            part |= {d: 0 for d, n in wanted.sizes.items() if n and data.draw(st.booleans())}
            found, wanted = found.isel(part), wanted.isel(part)
    assert not reader.regions
    assert isinstance(data_of(found), Pixels)
    np.testing.assert_array_equal(data_of(found).read(), wanted.values)
    reader.regions.clear()
    np.testing.assert_array_equal(found.values, wanted.values)
    assert reader.pixels_read == wanted.size


def any_slice(n):
    """A slice whose ends may lie beyond those of the axis."""
    ends = st.none() | st.integers(-n - 3, n + 3)
    return st.builds(slice, ends, ends, st.sampled_from([None, 1, 2, 3, -1, -2, -3]))


def any_index(n):
    numbers = st.integers(-n, n - 1)
    listed = st.lists(numbers, max_size=4) if n else st.just([])
    masks = st.lists(st.booleans(), min_size=n, max_size=n).map(lambda mask: np.array(mask, bool))
    return st.one_of([any_slice(n), any_slice(n), listed, masks] + [numbers] * (n > 0))


def box_of(values, shape):
    """The number of pixels between the first and the last along each axis, of pixels that are numbered."""
    places = np.unravel_index(values.ravel(), shape) if values.size else ()
    return int(np.prod([p.max() - p.min() + 1 for p in places])) if values.size else 0


@examples(60)
@given(images(), st.booleans(), st.data())
def test_chains_of_any_indices_are_those_of_numpy_and_read_what_is_left(made, by_dask, data):
    values, tiles, _, many_files = made
    reader = Counting(values)
    pixels = Pixels(reader, values.shape, values.dtype, tiles, many_files=many_files)
    dims = list("abcd"[: values.ndim])
    found = xr.Variable(dims, pixels.dask() if by_dask else indexed_lazily(pixels))
    wanted = xr.Variable(dims, values)
    for _ in range(data.draw(st.integers(1, 5))):
        if data.draw(st.booleans()):
            order = data.draw(st.permutations(wanted.dims))
            found, wanted = found.transpose(*order), wanted.transpose(*order)
        else:
            part = {d: data.draw(any_index(n)) for d, n in wanted.sizes.items() if data.draw(st.booleans())}
            found, wanted = found.isel(part), wanted.isel(part)
        assert found.sizes == wanted.sizes
    assert not reader.regions
    np.testing.assert_array_equal(found.values, wanted.values)
    if len(set(wanted.values.ravel().tolist())) == wanted.size and not by_dask:
        assert reader.pixels_read <= box_of(wanted.values, values.shape)


@pytest.mark.parametrize("other", [slice(None), [3, 0, 2], 1, slice(-9, None, -1), slice(None, None, -2)], ids=str)
@pytest.mark.parametrize("by_dask", [False, True])
def test_every_slice_of_an_axis(by_dask, other):
    """xarray and dask take slices with negative steps from before the axis, which are empty, for others."""
    values = np.arange(12).reshape(3, 4)
    pixels = Pixels(Counting(values), values.shape, values.dtype, (2, 3))
    image = xr.Variable(list("yx"), pixels.dask() if by_dask else indexed_lazily(pixels))[:, other]
    wanted = values[:, other]
    ends = [None, *range(-5, 6)]
    for start, stop, step in itertools.product(ends, ends, [None, 2, -1, -2, -3]):
        found = image[slice(start, stop, step)]
        assert found.shape == wanted[start:stop:step].shape
        assert_array_equal(found[::-1].values, wanted[start:stop:step][::-1])


def test_listed_samples_of_all_chunks_and_a_slice_before_the_axis():
    values = np.arange(3 * 4000).reshape(3, 4000)
    pixels = Pixels(Counting(values), values.shape, values.dtype, (1, 1000))
    scattered = np.random.default_rng(0).permutation(4000)
    array = pixels.dask(((1,) * 3, (1000,) * 4))
    key = (slice(-9, None, -1), scattered)
    assert array[key].shape == values[key].shape


def test_a_selection_costs_its_own_chunks():
    pixels = Pixels(Counting(np.zeros((1, 1), "u1")), (10_000, 10, 4096, 4096), np.dtype("u2"), (1, 1, 512, 512))
    whole = pixels.dask()
    crop = whole[7][3, 100:300][:, 90:200].T
    assert len(crop.dask.to_dict()) == crop.npartitions <= 2
    assert not any(layer.is_materialized() for layer in whole.dask.layers.values())
    assert len(pickle.dumps(crop)) < 2000


def test_tasks_of_listed_samples_name_their_own():
    pixels = Pixels(Counting(np.arange(5000)[:, None]), (5000, 1), np.dtype("i8"), (1, 1))
    chosen = np.arange(0, 5000, 3)
    part = pixels.dask(((1,) * 5000, (1,)))[chosen][::2][:, 0]
    tasks = dict(part.dask)
    assert max(len(pickle.dumps(t)) for k, t in tasks.items() if k[0] == part.name) < 1000
    np.testing.assert_array_equal(part.compute(), chosen[::2])


def test_neighbours_are_read_in_one_go_however_large_a_plane_is():
    reader = Counting(np.zeros((12, 300, 300), "u1"))
    planes = Pixels(reader, (12, 300, 300), np.dtype("u1"), (1, 300, 300))
    planes.select([slice(2, 9), slice(None), slice(None)]).reader.read_into(
        (slice(0, 7), slice(0, 300), slice(0, 300)), np.empty((7, 300, 300), "u1")
    )
    assert reader.regions == [(slice(2, 9), slice(0, 300), slice(0, 300))]


def test_persisted_arrays_are_not_read_again():
    reader = Counting(np.arange(12).reshape(3, 4))
    kept = Pixels(reader, (3, 4), np.dtype("i8"), (1, 4)).dask().persist()
    reader.regions.clear()
    np.testing.assert_array_equal(Pixels.of(kept).read(), reader.array)
    np.testing.assert_array_equal(kept[1][2:].compute(), [6, 7])
    assert not reader.regions


CHAINS = {
    "isel, index": lambda ds: ds["image"].isel(t=1, c=0)[3, 60:124, 70:134],
    "squeeze, crop": lambda ds: ds["image"].isel(t=[1], c=[0], z=[3]).squeeze().img.crop(y=(60, 124), x=(70, 134)),
    "isel, crop": lambda ds: ds.isel(z=3).img.crop(y=(60, 124), x=(70, 134))["image"].isel(t=1, c=0),
    "transpose": lambda ds: ds["image"].transpose("x", "y", ...)[70:134].isel(z=3, t=1)[:, 60:124].isel(c=0).T,
    "channels": lambda ds: {c: ds["image"][:, c] for c in range(2)}[0].isel(t=1)[3][60:124, 70:134],
}


@pytest.fixture
def served(s3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """URLs of one image in several formats on S3, and the numbers of bytes that are fetched."""
    s3fs = pytest.importorskip("s3fs")
    tifffile.imwrite(tmp_path / "tiles.tif", VALUES, tile=(64, 64), compression="zlib", metadata={"axes": "TCZYX"})
    imsave(VALUES, tmp_path / "sharded.zarr", version="0.5", chunks=(1, 1, 1, 64, 64), shards=(1, 1, 6, 256, 256))
    np.save(tmp_path / "plain.npy", VALUES)
    s3fs.S3FileSystem(**s3).put(f"{tmp_path}/", "s3://images/", recursive=True)
    fetched: list[int] = []
    call = s3fs.S3FileSystem._call_s3

    async def counted(self, method, *args, **kwargs):
        if method == "get_object" and (span := kwargs.get("Range")):
            low, high = span.removeprefix("bytes=").split("-")
            fetched.append(int(high or 0) - int(low or 0) + 1)
        return await call(self, method, *args, **kwargs)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", counted)
    return s3, fetched


@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")
def test_chains_fetch_from_s3_no_more_than_one_slice(served):
    options, fetched = served
    for name in ("tiles.tif", "sharded.zarr", "plain.npy"):
        metadata = {"axes": "tczyx"} if name == "plain.npy" else None
        ds = imload(f"s3://images/{name}", metadata=metadata, storage_options=options)
        names = dict(zip(ds["image"].dims, "tczyx", strict=True)) if name == "sharded.zarr" else {}
        ds = ds.rename(names)
        ds["image"][1, 1, 3, 60:124, 70:134].values  # noqa: B018  (opens the file)
        fetched.clear()
        np.testing.assert_array_equal(ds["image"][1, 0, 3, 60:124, 70:134].values, VALUES[1, 0, 3, 60:124, 70:134])
        once, requests = sum(fetched), len(fetched)
        for chain, select in CHAINS.items():
            fetched.clear()
            np.testing.assert_array_equal(select(ds).values, VALUES[1, 0, 3, 60:124, 70:134], err_msg=chain)
            assert sum(fetched) <= once, (name, chain)
            assert len(fetched) <= requests, (name, chain)
        assert 0 < once < VALUES.nbytes / 20


@pytest.mark.parametrize("kind", ["map", "tiles", "pages"])
def test_strides_of_files_touch_what_they_select(tmp_path, kind, monkeypatch):
    """Every tile is decoded once, and only those that hold a selected pixel; of plain bytes nothing is copied twice."""
    from intake_img.formats.tif import read

    values = np.random.default_rng(1).integers(0, 999, (9, 192, 192), dtype="uint16")
    how = {"map": {}, "tiles": {"tile": (64, 64), "compression": "zlib"}, "pages": {"compression": "zlib"}}[kind]
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack", metadata={"axes": "ZYX"}, **how)
    pasted, paste = [], read._paste
    monkeypatch.setattr(read, "_paste", lambda p, *a: pasted.append((p.page, p.index)) or paste(p, *a))
    keys = [
        ((slice(None, None, 4), slice(None, None, 8), slice(1, None, 8)), 3 * 9),
        ((slice(8, None, -4), slice(140, 60, -3), slice(None)), 3 * 9),
        (([0, 7, 3], slice(0, 128, 80), slice(80, 100)), 3 * 2),
        ((5, slice(0, 60), slice(0, 192, 128)), 3),
    ]
    for key, tiles in keys:
        for chunks in ("auto", None):
            pasted.clear()
            image = imload(tmp_path / "a.tif", chunks=chunks).image
            np.testing.assert_array_equal(image[key].values, values[key])
            assert len(set(pasted)) == len(pasted)
            assert len(pasted) == (0 if kind == "map" else tiles) or kind == "pages"
            assert kind != "pages" or len({p for p, _ in pasted}) == len(np.atleast_1d(np.arange(9)[key[0]]))
            np.testing.assert_array_equal(image.T[tuple(reversed(key))].values, values.T[tuple(reversed(key))])


@pytest.mark.parametrize("kind", ["map", "tiles"])
def test_a_small_part_asks_once_whether_the_file_changed(tmp_path, kind, monkeypatch):
    values = np.random.default_rng(1).integers(0, 999, (9, 192, 192), dtype="uint16")
    how = {"map": {}, "tiles": {"tile": (64, 64), "compression": "zlib"}}[kind]
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack", metadata={"axes": "ZYX"}, **how)
    image = imload(tmp_path / "a.tif", chunks=None).image
    asked, same = [], FileReader.check
    monkeypatch.setattr(FileReader, "check", lambda self: asked.append(self.file.name) or same(self))
    for key in np.s_[4, 10:100, 20:30], np.s_[2:4, :, 5], np.s_[:, 3, 3], np.s_[1, 1, 1], np.s_[4, 10:100:2, ::-1]:
        asked.clear()
        np.testing.assert_array_equal(image[key].values, values[key])
        assert asked == ["a.tif"] or (kind == "tiles" and key == np.s_[4, 10:100:2, ::-1])
    imsave(values[:, ::2], tmp_path / "a.tif", overwrite=True)
    with pytest.raises(SourceChangedError):
        np.asarray(image[4, 10:20, 20:30])


def test_readers_pickle_as_small_after_their_use(tmp_path):
    imsave(np.zeros((4, 5), "uint8"), tmp_path / "a.npy")
    pixels = data_of(imload(tmp_path / "a.npy", chunks=None).image.variable)
    reader = leaf_of(pickle.loads(pickle.dumps(pixels.reader)))
    before = pickle.dumps(reader)
    reader.read_into((slice(0, 2), slice(0, 2)), np.empty((2, 2), "uint8"))
    assert pickle.dumps(reader) == before


def test_values_come_without_a_graph_unless_somebody_follows_dask():
    reader = Counting(np.arange(64, dtype="u2").reshape(8, 8))
    array = Pixels(reader, (8, 8), np.dtype("u2"), (1, 8)).dask(((2,) * 4, (8,)))
    ran = []
    with dask.callbacks.Callback(pretask=lambda key, *_: ran.append(key)):
        np.testing.assert_array_equal(np.asarray(array), reader.array)
    followed = len(ran)
    assert followed >= 4
    np.testing.assert_array_equal(np.asarray(array[1:, 2:5]), reader.array[1:, 2:5])
    assert np.asarray(array, "f4").dtype == "f4"
    assert len(ran) == followed
    kept = array.persist()
    reader.regions.clear()
    np.testing.assert_array_equal(np.asarray(kept), reader.array)
    assert not reader.regions


@pytest.mark.parametrize("how", ["xarray", "loc", "dask", "out"])
def test_values_that_are_assigned_are_those_that_are_read_and_saved(tmp_path, how):
    values = np.arange(24.0).reshape(2, 3, 4)
    np.save(tmp_path / "a.npy", values)
    ds = imload(tmp_path / "a.npy", chunks={"y": 2})
    before = ds.image.data[1]
    expected = values.copy()
    expected[0] = 5
    if how == "xarray":
        ds.image[0] = 5
    elif how == "loc":
        ds.image.loc[{"z": 0}] = 5
    elif how == "dask":
        ds.image.data[0] = 5
    else:
        expected = values + 1
        np.add(ds.image.data, 1, out=ds.image.data)
    assert_array_equal(ds.image.values, expected)
    assert_array_equal(ds.image[0, 1:, ::2].values, expected[0, 1:, ::2])
    assert_array_equal(ds.image.transpose("x", "y", "z").values, expected.T)
    assert_array_equal(ds.image.data.copy(), expected)
    assert_array_equal(pickle.loads(pickle.dumps(ds)).image.values, expected)
    assert_array_equal(before, values[1])  # a selection made earlier is not changed
    imsave(ds, tmp_path / "b.npy")
    assert_array_equal(np.load(tmp_path / "b.npy"), expected)


def test_opening_selecting_and_reading_make_no_graph(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", np.arange(24.0).reshape(2, 3, 4))
    made = []
    monkeypatch.setattr(lazy_arrays, "_graph_of", lambda *args, old=lazy_arrays._graph_of: made.append(1) or old(*args))
    ds = imload(tmp_path / "a.npy")
    part = ds.image.isel(z=1).transpose("x", "y")
    assert part.chunks == ((4,), (3,))
    assert_array_equal(part.values, np.arange(12.0, 24).reshape(3, 4).T)
    assert made == []
    graph = part.data.dask
    assert dict(pickle.loads(pickle.dumps(graph))).keys() == dict(graph).keys() == {(part.data.name, 0, 0)}
    assert_array_equal(part.compute(), np.arange(12.0, 24).reshape(3, 4).T)
    assert made == [1]


def _sum(a, b):
    return a + b


TOGETHER = {
    "apply_ufunc": lambda a, b: xr.apply_ufunc(_sum, a, b, dask="parallelized", output_dtypes=[float]),
    "broadcast": lambda a, b: xr.apply_ufunc(_sum, a, b.mean("z"), dask="parallelized", output_dtypes=[float]),
    "core axis": lambda a, b: xr.apply_ufunc(
        lambda p, q: (p * q).sum(-1),
        a.chunk(x=-1),
        b.chunk(x=-1),
        input_core_dims=[["x"], ["x"]],
        dask="parallelized",
        output_dtypes=[float],
    ),
    "interp": lambda a, b: a.interp(x=[0.5, 2.25]) + b.interp(x=[0.5, 2.25]),
    "interp, lazily": lambda a, b: a.interp(y=(b.isel(z=0, x=0, drop=True) * 0.1).rename(y="q").drop_vars("q")),
    "corr": lambda a, b: xr.corr(a, b, "z"),
    "dot": lambda a, b: xr.dot(a, b, dim="x"),
    "where": lambda a, b: a.where(b > 20, b),
    "fillna": lambda a, b: a.where(a > 9).fillna(b),
    "clip": lambda a, b: a.clip(b * 0 + 5, b),
    "weighted": lambda a, b: a.weighted(b).mean("y"),
    "map_blocks": lambda a, b: xr.map_blocks(_sum, a, [b]),
    "concat": lambda a, b: xr.concat([a, b], "t"),
    "combine_first": lambda a, b: a.where(a > 9).combine_first(b),
}


@pytest.mark.parametrize("operation", TOGETHER)
@pytest.mark.parametrize("order", [1, -1])
def test_xarray_takes_images_and_what_was_computed_of_them_together(tmp_path, operation, order):
    """Whatever xarray does with images from a file and other dask arrays gives the result of arrays in memory."""
    values = np.arange(60.0).reshape(3, 4, 5)
    coords = {a: np.arange(n, dtype=float) for a, n in zip("zyx", values.shape, strict=True)}
    imsave(xr.DataArray(values, coords, list("zyx")), tmp_path / "a.tif")
    fresh = imload(tmp_path / "a.tif", chunks={"y": 2}).image
    pair = [fresh, fresh / 7][::order]
    found = TOGETHER[operation](*pair)
    assert dask.is_dask_collection(found)
    wanted = TOGETHER[operation](*[a.compute().chunk(a.chunksizes) for a in pair])
    xr.testing.assert_allclose(found.compute(), wanted.compute())
