"""Faults that were once put into the code on purpose and that no test noticed."""

from __future__ import annotations

import fsspec
import numpy as np
import pytest
import scipy.ndimage as ndi
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from thoroughness import examples

import intake_img
from intake_img.errors import FormatError
from intake_img.model.datasets import spacing_of
from intake_img.storage.files import File

CONTENT = np.random.default_rng(0).bytes(40_000)


@examples(60)
@given(st.lists(st.tuples(st.integers(0, 39_000), st.integers(0, 1000)), min_size=1, max_size=6), st.booleans())
def test_ranges_inside_others_are_read_from_servers(wanted, nested):
    if nested:  # one that lies within another, and begins after it
        wanted = [*wanted, (0, 30_000), (10, 20)]
    with fsspec.open("memory://ranges.bin", "wb") as stream:
        stream.write(CONTENT)
    reader = File.parse("memory://ranges.bin").open()
    found = reader.ranges([o for o, _ in wanted], [n for _, n in wanted])
    reader.close()
    assert found == [CONTENT[o : o + n] for o, n in wanted]


def test_a_jittered_coordinate_is_not_evenly_spaced():
    even = np.arange(9) * 0.25
    jitter = np.array([0, 1, -1, 0, 1, 0, -1, 1, 0])
    for share, known in ((1e-9, True), (1e-4, False), (5e-4, False)):
        spacing = spacing_of(xr.DataArray(even + share * 0.25 * jitter, dims="x"))
        assert (spacing is not None) is known, share


def test_swapped_entries_of_a_shard_are_noticed(tmp_path):
    values = np.arange(64 * 64, dtype="u2").reshape(64, 64)
    ds = xr.Dataset({"image": (("y", "x"), values)})
    intake_img.imsave(ds, tmp_path / "a.zarr", chunks={"y": 16, "x": 16}, shards={"y": 64, "x": 64}, compress=False)
    (shard,) = [
        p for p in (tmp_path / "a.zarr").rglob("*") if p.is_file() and "c" in p.parent.parts[-1:] + p.parts[-4:-1]
    ]
    data = bytearray(shard.read_bytes())
    start = len(data) - 4 - 16 * 16
    data[start : start + 16], data[start + 16 : start + 32] = data[start + 16 : start + 32], data[start : start + 16]
    shard.write_bytes(data)
    with pytest.raises(FormatError, match="checksum"):
        intake_img.imload(tmp_path / "a.zarr").load()


@pytest.mark.parametrize("name", ["grey_opening", "grey_closing", "white_tophat"])
def test_filters_of_two_passes_are_exact_for_small_chunks(name):
    rng = np.random.default_rng(1)
    for length in (7, 11, 20):
        values = rng.integers(0, 50, (length, length + 2)).astype("i4")
        expected = getattr(ndi, name)(values, size=2, mode="mirror")
        for chunk in (1, 2, 3, 4):
            image = xr.DataArray(values, dims=list("yx")).chunk(chunk)
            found = getattr(image.img, name)(size=2, mode="mirror")
            np.testing.assert_array_equal(found.values, expected, f"{name} {length} {chunk}")
