"""What is computed in parts, by compiled libraries, or from a memory map has the bits of the whole array in numpy."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import tifffile
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from thoroughness import examples

import intake_img
from intake_img.accessor.processing import folding, in_memory, reductions, totals
from intake_img.errors import SourceChangedError
from intake_img.formats.reading import FileReader
from intake_img.kernels import compiled, levels, morphology
from intake_img.kernels.thresholding import above


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    for module in (folding, reductions, totals):
        monkeypatch.setattr(module, "STRIP", 256)
    monkeypatch.setattr(reductions, "PROJECTED", 256)
    monkeypatch.setattr(totals, "THREADED", 2000)
    monkeypatch.setattr(in_memory, "RUN", 64)
    monkeypatch.setattr(levels, "PART", 50)
    monkeypatch.setattr(levels, "EXACT", 70)


def drawn(data: st.DataObject, dtypes: list[str]) -> xr.DataArray:
    """An image with any order of its axes in memory; floats hold NaN, and values whose sums are rounded."""
    shape = data.draw(st.tuples(st.integers(1, 6), st.integers(1, 40), st.integers(1, 40)))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    dtype = np.dtype(data.draw(st.sampled_from(dtypes)))
    values = (rng.random(shape) * 10.0 ** rng.integers(0, 4, shape)).astype(dtype)
    if dtype.kind == "f" and data.draw(st.booleans()):
        values[rng.random(shape) < 0.1] = np.nan
    order = data.draw(st.permutations(range(3)))
    return xr.DataArray(np.ascontiguousarray(values.transpose(order)).transpose(np.argsort(order)), dims=list("zyx"))


@pytest.mark.filterwarnings("ignore:Degrees of freedom")
@examples(80)
@given(data=st.data())
def test_reductions(data):
    image = drawn(data, ["u1", "i2", "u2", "i4", "u8", "f4", "f8"])
    name = data.draw(st.sampled_from(["max", "min", "mean", "sum", "std", "var"]))
    axes = data.draw(st.lists(st.sampled_from("zyx"), min_size=1, max_size=3, unique=True))
    skipna = data.draw(st.sampled_from([None, False]))
    found = getattr(image.img, name)(axes, skipna=skipna)
    with xr.set_options(use_bottleneck=False):
        expected = getattr(image, name)(axes, skipna=skipna)
    assert found.dtype == expected.dtype
    assert found.dims == expected.dims
    if name == "mean" and image.dtype.kind in "iu":  # the sum of integers is exact
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    else:
        np.testing.assert_array_equal(found, expected)


@examples(60)
@given(data=st.data())
def test_reductions_of_chunks_in_memory(data):
    image = drawn(data, ["u1", "i2", "u2", "i4", "u8", "f4", "f8"])
    name = data.draw(st.sampled_from(["max", "min", "mean", "sum"]))
    axes = data.draw(st.lists(st.sampled_from("zyx"), min_size=1, max_size=3, unique=True))
    chunked = image.chunk({a: data.draw(st.integers(1, n)) for a, n in image.sizes.items()})
    chunked = chunked + image.dtype.type(0) if data.draw(st.booleans()) else chunked
    chunked = chunked.persist(scheduler="sync") if data.draw(st.booleans()) else chunked
    found, expected = getattr(chunked.img, name)(axes), getattr(image.img, name)(axes)
    assert found.dtype == expected.dtype
    if image.dtype.kind in "iu" or name in ("max", "min"):
        np.testing.assert_array_equal(found.compute(scheduler="sync"), expected)
    else:
        np.testing.assert_allclose(found.compute(scheduler="sync"), expected, rtol=1e-5)


@pytest.mark.parametrize("change", [lambda d: d, lambda d: (d + 1).persist(scheduler="sync")])
def test_chunks_in_memory_are_reduced_in_few_tasks(change):
    image = change(xr.DataArray(np.ones((40, 5, 5), "u2"), dims=list("zyx")).chunk({"z": 1}))  # 40 chunks of 50 bytes
    found = image.img.max("z").data.dask
    assert len(found.to_dict()) == 2  # all chunks, which have the 2000 bytes of one task, and the result


@examples(60)
@given(data=st.data())
def test_folding_with_a_ufunc(data):
    image = drawn(data, ["u1", "i4", "f4", "f8"])
    func = data.draw(st.sampled_from([np.add, np.subtract, np.multiply, np.maximum, np.logical_and, np.hypot]))
    axis = data.draw(st.sampled_from("zyx"))
    dtype = func.reduce(np.zeros(2, image.dtype)).dtype
    planes = [p.astype(dtype) for p in np.moveaxis(image.values, "zyx".index(axis), 0)]
    with np.errstate(all="ignore"):
        expected = functools.reduce(func, planes)
        found = image.img.reduce(func, axis)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, expected)


@examples(40)
@given(data=st.data())
def test_extremes_added(data):
    image = drawn(data, ["u1", "i2", "u2", "i8", "f4"])
    axis = data.draw(st.sampled_from("zyx"))
    high, low = image.values.max("zyx".index(axis)), image.values.min("zyx".index(axis))
    found = image.img.max_min_projection(axis)
    wide = {"u1": "u2", "i2": "i4", "u2": "u4"}.get(image.dtype.str[1:], image.dtype)
    assert found.dtype == wide
    np.testing.assert_array_equal(found, high.astype(wide) + low.astype(wide))


@pytest.mark.parametrize("compiled_library", [True, False])
@examples(40)
@given(data=st.data())
def test_level_counts(compiled_library, data):
    dtype = np.dtype(data.draw(st.sampled_from(["u1", "i1", "u2", "i2"])))
    info = np.iinfo(dtype)
    shape = data.draw(st.tuples(st.integers(0, 20), st.integers(1, 20)))
    block = np.random.default_rng(data.draw(st.integers(0, 99))).integers(info.min, info.max, shape, dtype, True)
    block = block[::-1, ::2] if data.draw(st.booleans()) else block
    with pytest.MonkeyPatch.context() as patch:
        if not compiled_library:
            patch.setattr(levels, "opencv", lambda: None)
        found = levels.level_counts(block)
    expected = np.bincount(block.ravel().astype(int) - info.min, minlength=info.max - info.min + 1)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, expected)


@examples(80)
@given(data=st.data())
def test_morphology_of_masks(data):
    """OpenCV's results are scipy's: pixels beyond the edge count as foreground of an erosion, else as background."""
    pytest.importorskip("cv2")
    shape = data.draw(st.tuples(st.integers(1, 30), st.integers(1, 30)))
    shape = (*data.draw(st.sampled_from([(), (2,)])), *shape)
    mask = np.random.default_rng(data.draw(st.integers(0, 99))).random(shape) < data.draw(st.floats(0.1, 0.9))
    mask = mask[..., ::-1] if data.draw(st.booleans()) else mask
    radii = [0.0] * (len(shape) - 2) + data.draw(st.lists(st.floats(0, 6), min_size=2, max_size=2))
    structure, erode = morphology.ellipsoid(radii), data.draw(st.booleans())
    found = compiled.masked_extremum(mask, structure, erode)
    func = ndimage.binary_erosion if erode else ndimage.binary_dilation
    assert found is not None
    assert found.dtype == bool
    np.testing.assert_array_equal(found, func(mask, structure, border_value=erode))


def test_morphology_across_planes_is_left_to_scipy():
    assert compiled.masked_extremum(np.ones((3, 4, 5), bool), np.ones((3, 3, 3), bool), True) is None


@examples(60)
@given(
    dtype=st.sampled_from(["u1", "i1", "u2", "i2", "u4", "i4"]),
    threshold=st.one_of(st.floats(), st.integers(-300, 70000).map(float), st.floats(-3, 3)),
)
def test_integers_above_a_number(dtype, threshold):
    info = np.iinfo(dtype)
    image = np.unique(
        np.clip([info.min, info.min + 1, -2, -1, 0, 1, 2, 255, info.max - 1, info.max], info.min, info.max)
    )
    image = image.astype(dtype)
    np.testing.assert_array_equal(above(image, np.full((1,), threshold)), image.astype(float) > threshold)


class TestMapped:
    """Reductions of a memory-mapped file read from the map."""

    @pytest.fixture
    def stack(self, tmp_path: Path) -> Path:
        values = np.random.default_rng(0).integers(0, 60000, (11, 20, 30)).astype("u2")
        tifffile.imwrite(tmp_path / "stack.tif", values, metadata={"axes": "ZYX"})
        return tmp_path / "stack.tif"

    def test_no_pixel_is_copied(self, stack, monkeypatch):
        image = intake_img.imload(stack, chunks={"z": 3})["image"]
        part = image[:, ::2, 4:]
        expected = {n: [getattr(i.values, n)(0) for i in (image, part)] for n in ("max", "sum", "mean")}
        monkeypatch.setattr(FileReader, "read_into", None)
        for name, arrays in expected.items():
            for given_image, array in zip((image, part), arrays, strict=True):
                found = getattr(given_image.img, name)("z")
                assert hasattr(found.data, "dask")
                np.testing.assert_array_equal(found, array)

    def test_a_changed_file_is_an_error(self, stack):
        image = intake_img.imload(stack)["image"]
        tifffile.imwrite(stack, np.zeros((2, 5, 6), "u2"))
        lazy = image.img.max("z")
        with pytest.raises(SourceChangedError):
            lazy.compute()
