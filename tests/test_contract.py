"""What the contract gives to every format: planes that are kept, one thread at a time, scaled values, local paths."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import fsspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thoroughness import examples

from intake_img.errors import CannotWriteError, FormatError
from intake_img.model.pixels import Pixels
from intake_img.plugin import File, Format, Handle, Image, PlaneArray, source_of
from intake_img.storage.cache import CACHE

VALUES = np.arange(4 * 6 * 5, dtype="u2").reshape(4, 6, 5)
DECODED: list[int] = []
BUSY: list[int] = []


class Planes(PlaneArray):
    def read_plane(self, index):
        DECODED.append(index[0])
        BUSY.append(threading.get_ident())
        time.sleep(0.002)
        assert [threading.get_ident()] == BUSY, "two threads at the same time"
        BUSY.clear()
        return VALUES[index]


class PlanesHandle(Handle):
    def describe(self, scene, level):
        return Image.single(self.pixels("a"), "zyx")

    def array(self, address):
        return Planes(VALUES.shape, VALUES.dtype, handle=self, address=address)


class Planar(Format):
    """Planes."""

    name, title, extensions, serial = "planar", "planes", (".planar",), True

    def open(self, file, options):
        return PlanesHandle()


PlanarSource = source_of(Planar())


@pytest.fixture
def source(tmp_path):
    (tmp_path / "a.planar").write_bytes(b"x")
    DECODED.clear()
    CACHE.clear()
    source = PlanarSource(str(tmp_path / "a.planar"), chunks={"y": 2, "z": 1})
    yield source
    source.close()
    CACHE.clear()


def test_a_plane_is_decoded_once_for_all_of_its_parts(source):
    image = source.to_dask()["image"]
    np.testing.assert_array_equal(image.compute(scheduler="threads", num_workers=6), VALUES)
    assert sorted(DECODED) == [0, 1, 2, 3]
    DECODED.clear()
    np.testing.assert_array_equal(image[2, 3].values, VALUES[2, 3])
    assert DECODED == []
    source.close()
    del image
    other = PlanarSource(source.uri).to_dask()["image"]  # another handle has its own planes
    np.testing.assert_array_equal(other[2, 1:3].values, VALUES[2, 1:3])
    assert DECODED == [2]
    np.testing.assert_array_equal(other[2].values, VALUES[2])  # a whole plane goes straight into the result
    assert DECODED == [2, 2]


def test_one_thread_at_a_time_uses_a_serial_format(source):
    image = source.to_dask()["image"]
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(lambda k: image[k % 4].values, range(24)))
    assert all((part == VALUES[k % 4]).all() for k, part in enumerate(parts))
    assert source.image().only.pixels.parallel is False


@examples(60)
@given(st.data())
def test_scaled_values_are_those_of_numpy(data):
    axis = data.draw(st.sampled_from([None, 0, 1, 2]))
    numbers = st.floats(-1e3, 1e3, allow_nan=False)
    n = 1 if axis is None else VALUES.shape[axis]
    slopes = data.draw(st.lists(numbers, min_size=n, max_size=n))
    offset = data.draw(numbers)
    dtype = data.draw(st.sampled_from(["f4", "f8"]))
    missing = data.draw(st.sampled_from([None, 7]))
    pixels = Pixels.of(VALUES).scaled(slopes, offset, dtype, axis=axis, missing=missing)
    along = np.reshape(slopes, [-1 if k == axis else 1 for k in range(3)]).astype(dtype)
    expected = VALUES.astype(dtype) * along + np.asarray(offset, dtype)
    if missing is not None:
        expected[missing == VALUES] = np.nan
    if set(slopes) == {1.0} and offset == 0 and missing is None:
        assert pixels.dtype == VALUES.dtype  # nothing to scale
        return
    order = data.draw(st.permutations(range(3)))
    keys = tuple(
        data.draw(st.sampled_from([slice(None), slice(1, None, 2), [0, 3, 1], slice(None, None, -1)])) for _ in "zyx"
    )
    taken = expected[keys[0]][:, keys[1]][:, :, keys[2]]
    found = pixels.select(keys).transpose(order).read()
    np.testing.assert_array_equal(found, taken.transpose(order))
    assert found.dtype == dtype


def test_unscaled_is_the_reverse_or_an_error():
    values = VALUES * 0.25 - 3
    back = Pixels.of(values).unscaled(0.25, -3, "i2").read()
    np.testing.assert_array_equal(back, VALUES)
    values[0, 0, 0] = np.nan
    assert Pixels.of(values).unscaled(0.25, -3, "i2", missing=-9).read()[0, 0, 0] == -9
    for bad in (values, np.array([[np.inf]]), np.array([[1e9]])):
        with pytest.raises(CannotWriteError, match="do not fit int16"):
            Pixels.of(bad).unscaled(0.25, -3, "i2").read()
    for slope in (0, np.nan):
        with pytest.raises(ValueError, match="slope"):
            Pixels.of(VALUES).unscaled(slope, 0, "i2")
    with pytest.raises(ValueError, match="3 slopes"):
        Pixels.of(VALUES).scaled([1, 2, 3], axis=0)
    with pytest.raises(ValueError, match="finite"):
        Pixels.of(VALUES).scaled(np.nan)


def test_libraries_that_open_paths_get_one(tmp_path):
    fsspec.filesystem("memory").pipe("/contract/a.bin", b"abc")
    with pytest.raises(FormatError, match="simplecache::memory"):
        File.parse("memory://contract/a.bin").local_path()
    path = File.parse("simplecache::memory://contract/a.bin").local_path()
    with open(path, "rb") as stream:
        assert stream.read() == b"abc"
    (tmp_path / "b").write_bytes(b"")
    assert File.parse(str(tmp_path / "b")).local_path() == str(tmp_path / "b")
