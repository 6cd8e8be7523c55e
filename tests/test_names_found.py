"""Names with the characters of patterns, labels with a decimal point, and what cannot be told apart from them."""

from __future__ import annotations

from functools import partial

import fsspec
import numpy as np
import pytest
import tifffile
import xarray as xr
from make_plates import scanr, values

import intake_img
from intake_img import imload, imsave
from intake_img.errors import AxesError, CannotWriteError


def _write(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for k, name in enumerate(names):
        tifffile.imwrite(folder / name, np.full((4, 5), k, "u2"))


@pytest.mark.parametrize("spec", ["", ":f", ":.1f"])
def test_labels_with_a_point_are_numbers_in_their_order(tmp_path, spec):
    _write(tmp_path, "t10.5.tif", "t2.tif", "t1.5.tif", "t-0.5.tif", "t-1.5.tif", "t1.5e1.tif")
    found = imload(f"{tmp_path}/t{{t{spec}}}.tif")
    assert found.t.values.tolist() == [-1.5, -0.5, 1.5, 2.0, 10.5, 15.0]
    assert found.image.values[:, 0, 0].tolist() == [4, 3, 2, 1, 0, 5]
    assert imload(f"{tmp_path}/t{{t{spec}}}.tif", partition={"t": 10.5}).image.values.max() == 0


@pytest.mark.parametrize("folder", ["run [raw]", "run"])
@pytest.mark.parametrize("name", ["a(1)+[x]_t{}.tif", "a_t{}.tif"])
def test_brackets_that_are_no_class_are_characters(tmp_path, folder, name):
    _write(tmp_path / folder, name.format(1), name.format(2))
    found = imload(f"{tmp_path}/{folder}/{name.format('{t}')}")
    assert found.t.values.tolist() == [1, 2]
    assert imload(f"{tmp_path}/{folder}/{name.format('*')}", axis="t").sizes["t"] == 2
    (tmp_path / folder / name.format("3")).write_bytes((tmp_path / folder / name.format("1")).read_bytes())
    _write(tmp_path / folder, "ax_t7.tif")
    assert imload(f"{tmp_path}/{folder.replace('[raw]', '?raw?')}/a[xyz]_t{{t}}.tif").t.values.tolist() == [7]


@pytest.mark.parametrize(
    "name", ["a[1].tif", "a*b.tif", "a?.tif", "a{b.tif", "a{t}.tif", "a}b.tif", "a]b.tif", "a[b].png"]
)
@pytest.mark.parametrize("partition", ["cyx", "tyx"])
def test_parts_are_found_by_the_name_they_were_saved_under(tmp_path, name, partition):
    if name.endswith("png"):
        partition = "yx"
    image = xr.DataArray(np.arange(120, dtype="u2").reshape(2, 3, 4, 5), {"c": list("abd")}, list("tcyx"))
    for target in (tmp_path / name, tmp_path / "in [a] folder" / name):
        imsave(image, target, partition=partition)
        assert imload(target).image.equals(image)
        imsave(image, target, partition=partition, overwrite=True)
        assert imload(target).image.equals(image)


def test_a_word_is_not_an_axis(tmp_path):
    _write(tmp_path, "a.tif", "b.tif")
    with pytest.raises(AxesError, match="axis='time': expected the letter of one axis"):
        imload(f"{tmp_path}/*.tif", axis="time")


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("extension", [".png", ".tif", ".mrc"])
def test_durations_name_files(tmp_path, unit, extension):
    times = np.array([0, 1500, 20], f"m8[{unit}]")
    image = xr.Dataset({"image": (list("tyx"), np.arange(60, dtype="u2").reshape(3, 4, 5))}, coords={"t": times})
    written = imsave(image, tmp_path / f"a{extension}", partition="yx")
    assert len(written) == 3
    found = imload(tmp_path / f"a{extension}")
    assert found.t.dtype == image.t.dtype
    assert found.equals(image)


@pytest.mark.parametrize("dtype", ["bool", "i1", "u2", "i2", "u4", "f4", "f8", "c8"])
@pytest.mark.parametrize("axes", ["yxs", "cyxs"])
def test_samples_of_any_type_are_colours_of_an_ome_tiff(tmp_path, dtype, axes):
    sizes = {"y": 5, "x": 6, "s": 3, "c": 2}
    shape = [sizes[a] for a in axes]
    image = xr.DataArray((np.arange(np.prod(shape)) % 2).reshape(shape).astype(dtype), dims=list(axes))
    imsave(image, tmp_path / "a.ome.tif")
    found = imload(tmp_path / "a.ome.tif").image
    assert found.dtype == image.dtype
    assert found.equals(image)
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        assert file.series[0].axes == axes.upper()
        assert np.array_equal(file.asarray(), image.values)
    with pytest.raises(CannotWriteError, match="rgb=False"):
        imsave(image, tmp_path / "b.ome.tif", rgb=False)


@pytest.mark.parametrize(
    ("how", "name"),
    [
        ("image", "results"),
        ("image", "results.tif"),
        ("parts", "results.tif"),
        ("plate", "results"),
        ("patches", "p.d"),
    ],
)
def test_a_folder_of_other_data_is_not_replaced(tmp_path, how, name):
    image = xr.Dataset({"image": (("t", "y", "x"), np.ones((2, 8, 8), "u1"))})
    folder = tmp_path / name
    (folder / "below").mkdir(parents=True)
    (folder / "below" / "table.csv").write_text("precious")
    if how == "plate":
        save = intake_img.plate(scanr(tmp_path / "plate", values())).save
    elif how == "patches":
        save = image.img.patches({"y": 4, "x": 4}).to_zarr
    else:
        save = partial(imsave, image, partition="yx" if how == "parts" else None)
    with pytest.raises(CannotWriteError, match=r"is a folder that is not an image \(below\)"):
        save(folder, overwrite=True)
    assert (folder / "below" / "table.csv").read_text() == "precious"
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    (folder / "below" / "table.csv").unlink()
    (folder / "below").rmdir()
    save(folder, overwrite=True)  # an empty folder


def test_folders_that_are_images_are_replaced(tmp_path):
    image = xr.Dataset({"image": (("t", "y", "x"), np.ones((2, 8, 8), "u1"))})
    for version in ("0.5", "0.4"):
        imsave(image, tmp_path / "bare", version=version, overwrite=True)
        imsave(image + 1, tmp_path / "bare", overwrite=True)
        assert imload(tmp_path / "bare").image.values.max() == 2
    (image * 2).to_zarr(tmp_path / "plain", zarr_format=2)
    imsave(image, tmp_path / "plain", overwrite=True)
    (image * 2).to_zarr(tmp_path / "plain", mode="w", zarr_format=3, consolidated=False)
    imsave(image, tmp_path / "plain", overwrite=True)
    assert imload(tmp_path / "plain").image.equals(image.image)
    (tmp_path / "broken.zarr" / "junk").mkdir(parents=True)
    imsave(image, tmp_path / "broken.zarr", overwrite=True)
    memory = "memory://replaced/folder"
    fsspec.filesystem("memory").pipe("/replaced/folder/table.csv", b"precious")
    with pytest.raises(CannotWriteError, match="not an image"):
        imsave(image, memory, overwrite=True)
    assert fsspec.filesystem("memory").cat("/replaced/folder/table.csv") == b"precious"


@pytest.mark.parametrize(
    ("key", "meant"), [("units", "spacing_units"), ("channels", "coords"), ("spacing_unit", "spacing_units")]
)
def test_keys_of_metadata_by_another_name_are_warned_of(tmp_path, key, meant):
    _write(tmp_path, "a.tif")
    with pytest.warns(UserWarning, match=f"'{key}', which is ignored: did you mean '{meant}'"):
        imload(tmp_path / "a.tif", metadata={key: "nm", "owner": "me"})


def test_an_array_that_looks_like_a_picture_is_warned_of(tmp_path):
    picture = np.zeros((6, 5, 3), "u1")
    with pytest.warns(UserWarning, match=r"shape \(6, 5, 3\) is taken as zyx, in 6 files"):
        assert len(imsave(picture, tmp_path / "a.png")) == 6
    assert len(imsave(xr.DataArray(picture, dims=list("yxc")), tmp_path / "b.png")) == 1
    assert len(imsave(picture, tmp_path / "c.tif")) == 1
    assert len(imsave(picture, tmp_path / "d.tif", partition="yx")) == 6
    assert len(imsave(np.zeros((6, 5, 5), "u1"), tmp_path / "e.png")) == 6


@pytest.mark.parametrize(("extension", "n"), [(".png", 3), (".png", 4), (".bmp", 3), (".tif", 3), (".tif", 4)])
def test_colours_of_files_that_are_channels_stay_apart(tmp_path, extension, n):
    """As exports of microscopes are: each channel a picture in its colour."""
    pixels = np.random.default_rng(0).integers(0, 255, (2, 6, 5, n), "u1")
    for k, name in enumerate(("DAPI", "GFP")):
        imsave(
            xr.DataArray(pixels[k], dims=list("yxc"), coords={"c": list("RGBA"[:n])}), tmp_path / f"{name}{extension}"
        )
    found = imload(f"{tmp_path}/{{c}}{extension}")
    assert found.image.dims == tuple("cyxs")
    assert found.c.values.tolist() == ["DAPI", "GFP"]
    assert np.array_equal(found.image, pixels)
    assert np.array_equal(imload(f"{tmp_path}/{{c}}{extension}", {"c": "GFP"}).image, pixels[1])
    if extension != ".tif":
        image = xr.DataArray(pixels, dims=list("cyxs"))
        imsave(image, tmp_path / "parts" / f"a{extension}")
        assert np.array_equal(imload(tmp_path / "parts" / f"a{extension}").image, pixels)
