"""Formats of pixels alone (.npy, .bmp) lose metadata, and a warning names what."""

import warnings

import numpy as np
import pytest
import xarray as xr

from intake_img import imload, imsave


def image(**attrs):
    coords = {
        "c": ["DAPI", "GFP"],
        "x": ("x", np.arange(5) * 0.2, {"units": "µm"}),
        "well": ("c", ["A1", "A2"]),
    }
    return xr.Dataset({"image": (("c", "y", "x"), np.zeros((2, 4, 5), "u1"), attrs)}, coords)


def lost(saved, path, **options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        imsave(saved, path, **options)
    return [str(w.message) for w in caught]


def test_what_is_lost_is_named(tmp_path):
    (said,) = lost(image(kind="labels"), tmp_path / "a.npy")
    assert said == (
        "a.npy contains only pixels and loses the names of the axes 'cyx'; the spacing of x; the names of the "
        "channels; the coordinates 'well'; the attributes 'kind': save as .ome.zarr or .ome.tif to keep them"
    )
    (said,) = lost(image().isel(c=0, drop=True), tmp_path / "a.BMP")
    assert "loses the spacing of x:" in said


def test_names_of_files_keep_labels(tmp_path):
    saved = image().drop_vars(["well", "x"])
    assert not lost(saved, tmp_path / "a.npy", partition="yx")
    assert imload(tmp_path / "a.npy").img.channels == ["DAPI", "GFP"]


@pytest.mark.parametrize("extension", [".npy", ".bmp"])
def test_what_names_of_files_lose_is_named(tmp_path, extension):
    saved = xr.DataArray(
        np.arange(36, dtype="u1").reshape(3, 3, 2, 2),
        dims=("c", "z", "y", "x"),
        coords={"c": ["R", "B", "G"], "z": ("z", [1.0, 3.0, 2.0], {"units": "µm"})},
        name="image",
    )
    (said,) = lost(saved, tmp_path / f"a{extension}", partition="yx")
    assert "the units of z; the values or the order of c, z, which" in said
    back = imload(tmp_path / f"a{extension}")
    assert back.img.channels == ["B", "G", "R"]
    assert "units" not in back.z.attrs
    np.testing.assert_array_equal(back.sel(c=saved.c, z=saved.z)["image"], saved)
    assert not lost(saved.isel(c=[1, 2], z=[0, 2]).drop_attrs(), tmp_path / f"b{extension}", partition="yx")


def test_dates_and_long_names_are_lost_in_names_of_files(tmp_path):
    planes = xr.DataArray(np.zeros((2, 3, 4), "u1"), dims=("c", "y", "x"), coords={"c": ["a" * 200, "b"]}, name="image")
    (said,) = lost(planes, tmp_path / "a.npy", partition="yx")
    assert "loses the values or the order of c, which" in said
    dated = planes.rename(c="t").assign_coords(t=np.array(["2024-02-29", "2024-03-01"], "M8[ns]"))
    (said,) = lost(dated, tmp_path / "b.npy", partition="yx")
    assert "loses the values or the order of t, which" in said


@pytest.mark.parametrize("extension", [".npz", ".ome.zarr", ".tif", ".png"])
def test_other_formats_keep_all_of_it(tmp_path, extension):
    assert not lost(image(), tmp_path / f"a{extension}")


def test_arrays_and_counted_axes_lose_nothing(tmp_path):
    assert not lost(np.zeros((3, 4), "u1"), tmp_path / "a.npy")
    counted = xr.DataArray(np.zeros((2, 3, 4), "u1"), dims=("z", "y", "x"), coords={"z": [0, 1]}, name="image")
    assert not lost(counted, tmp_path / "b.npy")
