"""Corners that few inputs reach: each test fails if one condition in the code is dropped."""

from __future__ import annotations

import uuid
from pathlib import Path
from types import SimpleNamespace

import dask.array as da
import numpy as np
import pytest
import scipy.ndimage
import xarray as xr
import zarr
from numpy.testing import assert_array_equal

from intake_img import imload
from intake_img.accessor.patches.sources import Fit
from intake_img.collections.file_names import format_label, format_labels, parse_label
from intake_img.errors import FormatError
from intake_img.formats.czi.index import Mosaic
from intake_img.model.datasets import spacing_of
from intake_img.model.pixels import Pixels
from intake_img.storage.files import File

pytestmark = pytest.mark.thorough


@pytest.mark.parametrize("name", ["grey_opening", "grey_closing", "white_tophat"])
@pytest.mark.parametrize("mode", ["mirror", "reflect"])
def test_filters_of_two_passes_equal_scipy_at_every_edge(name, mode):
    """What the first pass makes of the edge travels inwards in the second, also where chunks are shorter than that."""
    rng = np.random.default_rng(3)
    for n in range(7, 21):
        values = rng.integers(0, 255, (1, n)).astype("u1")
        right = getattr(scipy.ndimage, name)(values, size=(1, 2), mode=mode)
        for chunk in (1, 2, 3, 4):
            image = xr.DataArray(da.from_array(values, chunks=(1, chunk)), dims=["y", "x"])
            got = getattr(image.img, name)(size={"y": 1, "x": 2}, mode=mode)
            assert_array_equal(got.compute(scheduler="sync"), right, f"{n} pixels in chunks of {chunk}")


def test_a_damaged_index_of_a_shard_is_noticed(tmp_path):
    values = np.arange(64, dtype="u2").reshape(8, 8)
    array = zarr.create_array(tmp_path / "a.zarr", shape=(8, 8), shards=(8, 8), chunks=(4, 4), dtype="u2")
    array[...] = values
    shard = tmp_path / "a.zarr" / "c" / "0" / "0"
    data = bytearray(shard.read_bytes())
    start = len(data) - 4 - 4 * 16  # four entries of offset and length, then the checksum
    assert_array_equal(imload(tmp_path / "a.zarr").image.squeeze(), values)
    data[start : start + 32] = data[start + 16 : start + 32] + data[start : start + 16]
    shard.write_bytes(bytes(data))
    for part in (slice(None), slice(0, 2)):  # a whole shard, and a part of one chunk, take different ways
        with pytest.raises(FormatError, match=r"checksum|damaged"):
            imload(tmp_path / "a.zarr", chunks=None).image[..., part, part].load()


def test_a_range_within_another_is_read():
    import fsspec

    content = np.random.default_rng(0).bytes(5000)
    path = f"/{uuid.uuid4().hex}.bin"
    fsspec.filesystem("memory").pipe(path, content)
    reader = File.parse(f"memory:/{path}").open()
    for asked in (
        [(0, 1000), (10, 20)],
        [(10, 20), (0, 1000)],
        [(0, 1000), (5, 0), (0, 1000)],
        [(7, 9), (8, 2), (3, 9)],
    ):
        got = reader.ranges([a for a, _ in asked], [n for _, n in asked])
        assert got == [content[a : a + n] for a, n in asked]
    reader.close()


def test_tiles_of_a_later_scene_cover_those_of_an_earlier_one():
    n = 4
    one = np.ones(n, np.int64)
    directory = SimpleNamespace(
        dims=(),
        starts={},
        left=0 * one,
        top=0 * one,
        width=8 * one,
        height=8 * one,
        stored_width=8 * one,
        stored_height=8 * one,
        tile=np.asarray([5, 1, 0, 3]),
        scene=np.asarray([0, 0, 1, 1]),
    )
    mosaic = Mosaic.of(directory, np.arange(n), np.arange(n), 1)
    from_below = mosaic.blocks[np.argsort(mosaic.rank)]
    assert from_below.tolist() == [1, 0, 2, 3]  # by scene, then by mosaic index


def test_a_dask_array_of_the_same_name_but_another_shape_is_not_taken_for_unread_pixels():
    pixels = Pixels(Pixels.of(np.arange(12.0).reshape(3, 4)).reader, (3, 4), np.dtype(float), (1, 4))
    whole = pixels.dask()
    assert Pixels.of(whole) is pixels
    part = whole[:2]
    renamed = da.Array({(whole.name, 0, 0): (np.asarray, part)}, whole.name, ((2,), (4,)), dtype=float)
    got = Pixels.of(renamed)
    assert got is not pixels
    assert got.shape == (2, 4)
    assert_array_equal(got.read(), np.arange(8.0).reshape(2, 4))


@pytest.mark.parametrize(("jitter", "even"), [(1e-8, True), (5e-7, True), (2e-6, False), (1e-5, False), (5e-4, False)])
def test_a_coordinate_is_even_within_a_millionth_of_its_spacing(jitter, even):
    values = 0.25 * np.arange(9)
    values[4] += jitter * 0.25
    spacing = spacing_of(xr.DataArray(values, dims="x", name="x"))
    assert (spacing is not None) == even


def test_first_pixels_on_another_grid_are_rounded_as_exact_numbers_would_be():
    """0.7 * 45 is 31.5, but 31.499999999999996 in floats: half rounds up, as for 0.7 * 15."""
    starts = np.arange(0, 2000, 5)
    exact = (7 * starts + 5) // 10
    assert_array_equal(Fit(0.7, 0.0, 4).start(starts, 4), exact)


@pytest.mark.parametrize("filler", ["%", "/", "é", "😀", "a"])
def test_long_labels_are_cut_between_escapes(filler):
    for n in range(85, 110):
        label = format_label("x" * (n % 7) + filler * n)
        assert len(label.encode()) <= 240
        readable = label.partition("~")[0]
        parse_label(readable)  # an escape that is cut in two cannot be decoded
        assert set(parse_label(readable)) <= {"x", filler}
    assert len(set(format_labels([filler * 200 + end for end in "abc"]))) == 3
    assert Path(format_label(filler * 200)).name
