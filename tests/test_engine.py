"""xarray opens our files through the engine ``intake_img``: equal to `imload`, lazy, and in nobody's way."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import xarray as xr
from PIL import Image as Pillow

from intake_img import imload, imsave
from intake_img.doors.xarray_engine import ImgBackend
from intake_img.storage.handles import POOL


@pytest.fixture
def picture(tmp_path):
    ds = xr.Dataset(
        {"image": (("c", "y", "x"), np.random.default_rng(1).integers(0, 255, (3, 20, 30), "u1"))},
        {"c": ["a", "b", "d"], "x": ("x", 0.5 * np.arange(30), {"units": "µm", "spacing": 0.5})},
    )
    imsave(ds, tmp_path / "a.png")
    return tmp_path / "a.png", ds


def test_open_dataset_is_imload(picture):
    path, wanted = picture
    with xr.open_dataset(path, engine="intake_img") as ds:
        xr.testing.assert_identical(ds.drop_attrs(deep=False), wanted)
        assert ds.attrs == imload(path).attrs
        assert ds.encoding["source"] == str(path)


def test_the_engine_is_found_without_its_name(picture):
    path, wanted = picture
    with xr.open_dataset(str(path)) as ds:
        xr.testing.assert_equal(ds, wanted)


def test_pixels_are_indexed_lazily(tmp_path, monkeypatch):
    from intake_img.formats.reading import FileReader

    regions = []
    original = FileReader.read_into

    def spy(self, region, out):
        regions.append(out.shape)
        original(self, region, out)

    monkeypatch.setattr(FileReader, "read_into", spy)
    monkeypatch.setattr(FileReader, "view", lambda self: None)  # by which numpy reads small parts of a memory map
    values = np.arange(4 * 50 * 60).reshape(4, 50, 60)
    np.save(tmp_path / "a.npy", values)
    ds = xr.open_dataset(tmp_path / "a.npy", engine="intake_img", metadata={"axes": "tyx"}, cache=False)
    assert ds.chunks == {}
    part = ds.image.isel(t=2, y=slice(3, 9), x=[5, 1, 7])
    assert regions == []
    np.testing.assert_array_equal(part, values[2, 3:9][:, [5, 1, 7]])
    assert max(np.prod(shape) for shape in regions) <= 6 * 3 * 60
    ds.close()


def test_chunks_are_native_tiles(tmp_path):
    imsave(xr.Dataset({"image": (tuple("tyx"), np.zeros((40, 512, 512), "u1"))}), tmp_path / "a.gif")
    with xr.open_dataset(tmp_path / "a.gif", engine="intake_img", chunks={}) as ds:
        assert ds.chunks["y"] == (512,)
        assert ds.chunks == imload(tmp_path / "a.gif").chunks
        assert len(ds.chunks["t"]) > 1
    with xr.open_dataset(tmp_path / "a.gif", engine="intake_img", chunks={"t": -1}) as ds:
        assert ds.chunks["t"] == (40,)


def test_options(picture):
    path, wanted = picture
    with xr.open_dataset(path, engine="intake_img", drop_variables="c", output_axis_order="yxc") as ds:
        assert ds.image.dims == ("y", "x", "c")
        assert "c" not in ds.coords
    with xr.open_dataset(path, engine="intake_img", metadata={"spacing": {"x": 2.0}}) as ds:
        assert ds.x.attrs["spacing"] == 2.0
    with xr.open_dataset(f"file://{path}", engine="intake_img") as ds:
        xr.testing.assert_equal(ds, wanted)
    with pytest.raises(TypeError, match="no option 'level'"):
        xr.open_dataset(path, engine="intake_img", level=2)
    with pytest.raises(TypeError, match="no option 'nope'; it has rgb, chunks"):
        xr.open_dataset(path, engine="intake_img", driver_options={"nope": 1})
    with pytest.raises(TypeError, match="nope"):
        xr.open_dataset(path, engine="intake_img", nope=1)


def test_closed_and_pickled(picture):
    path, wanted = picture
    ds = xr.open_dataset(path, engine="intake_img")
    again = pickle.loads(pickle.dumps(ds))
    ds.close()
    assert len(POOL) == 0
    xr.testing.assert_equal(again, wanted)
    again.close()
    xr.testing.assert_equal(xr.open_dataset(path, engine="intake_img", chunks={}).compute(), wanted)


def test_files_of_other_engines_are_left_to_them(tmp_path):
    guess = ImgBackend().guess_can_open
    for name in ("a.nc", "a.grib", "a.zarr", "a", "a.txt"):
        assert not guess(str(tmp_path / name)), name
    for name in ("a.png", "a.npy", "A.GIF"):
        assert guess(tmp_path / name), name
    assert not guess(b"\x89PNG")
    assert not guess(3)
    ds = xr.Dataset({"v": ("x", [1, 2])})
    ds.to_netcdf(tmp_path / "a.nc")
    with xr.open_dataset(tmp_path / "a.nc") as again:
        xr.testing.assert_equal(again, ds)


def test_trees_hold_the_levels_of_a_pyramid(picture, data):
    path, wanted = picture
    with xr.open_datatree(path, engine="intake_img") as tree:
        assert list(tree.children) == ["scale0"]
        xr.testing.assert_equal(tree["scale0"].to_dataset(), wanted)
    store = data / "omezarr_v04" / "mri-stack.ome.zarr"
    with xr.open_datatree(store, engine="intake_img") as tree:
        levels = [tree[name].to_dataset() for name in tree.children]
        for k, level in enumerate(levels):
            xr.testing.assert_equal(level, imload(store, level=k))
        sizes = [level.image.size for level in levels]
        assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("name", ["chelsea.png", "hopper.jpg", "dispose_bgnd.gif", "hopper_16bit.pgm"])
def test_real_files(data, name):
    path = data / "png_jpg_gif" / name
    with xr.open_dataset(path, engine="intake_img") as ds, Pillow.open(path):
        xr.testing.assert_identical(ds.load(), imload(path).load())
