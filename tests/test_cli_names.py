"""Names on the command line with an @ or brackets, files of several images, images without pixels."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile
import xarray as xr
from make_plates import scanr, values

import intake_img
from intake_img import imload, imsave, scan, write_catalog
from intake_img.doors.cli import main
from intake_img.errors import AxesError


@pytest.mark.parametrize("place", ["u@h", "plain"])
def test_a_plate_is_converted_completely_wherever_it_lies(tmp_path, place):
    folder = scanr(tmp_path / place / "plate", values())
    scenes = ["B/3/1", "B/3/2", "D/11/1", "D/11/2"]
    assert main(["convert", str(folder), str(tmp_path / "a.zarr")]) == 0
    assert imload(tmp_path / "a.zarr").attrs["scenes"] == scenes
    write_catalog(scan(tmp_path / place), tmp_path / place / "c.yml")
    assert main(["convert", f"{tmp_path}/{place}/c.yml@plate", str(tmp_path / "b.zarr")]) == 0
    assert imload(tmp_path / "b.zarr").attrs["scenes"] == scenes
    assert main(["convert", f"{tmp_path}/a.zarr@2", str(tmp_path / "c.zarr")]) == 0
    assert len(imload(tmp_path / "c.zarr").attrs["scenes"]) == 1
    assert imload(tmp_path / "c.zarr").image.equals(imload(tmp_path / "a.zarr", scene=2).image)


def test_convert_says_that_a_file_holds_more_images(tmp_path, capsys):
    path = tmp_path / "many.ome.tif"
    with tifffile.TiffWriter(path) as file:
        for k in range(6):
            file.write(np.full((4, 5), k, "u2"), metadata={"axes": "YX", "Name": f"n{k}\n"})
    assert main(["convert", str(path), str(tmp_path / "a.tif")]) == 0
    said = capsys.readouterr().err
    assert "contains 6 images" in said
    assert "the first is converted" in said
    assert "n3" in said
    assert "n4" not in said
    assert said.count("\n") == 1
    assert main(["convert", str(path), "--to", str(tmp_path / "b"), "--format", "tif"]) == 0
    assert "contains 6 images" in capsys.readouterr().err
    for number, named in enumerate(([f"{path}@0"], [str(path), "--scene", "0"], [str(path), "--scene", "all"])):
        assert main(["convert", named[0], str(tmp_path / f"c{number}.tif"), *named[1:]]) == 0
        assert "contains" not in capsys.readouterr().err
    assert main(["convert", str(tmp_path / "a.tif"), str(tmp_path / "d.tif")]) == 0
    assert capsys.readouterr().err == ""


def test_brackets_in_names_are_characters(tmp_path, capsys):
    (tmp_path / "run [raw]").mkdir()
    for n in (1, 2):
        tifffile.imwrite(tmp_path / "run [raw]" / f"p{n}.tif", np.full((4, 5), n, "u1"))
    assert main(["convert", f"{tmp_path}/run [raw]/p*.tif", "--to", str(tmp_path / "out"), "--format", "tif"]) == 0
    assert sorted(p.name for p in (tmp_path / "out").rglob("*.tif")) == ["p1.tif", "p2.tif"]


@pytest.mark.parametrize(
    "sizes", [{"y": 0, "x": 6}, {"y": 6, "x": 0}, {"z": 0, "y": 5, "x": 6}, {"c": 0, "y": 5, "x": 6}]
)
def test_an_image_without_pixels_has_no_picture(tmp_path, capsys, sizes):
    image = xr.DataArray(np.zeros(tuple(sizes.values()), "u1"), dims=list(sizes))
    imsave(image, tmp_path / "a.npz")
    empty = next(a for a, n in sizes.items() if n == 0)
    for command in (
        ["thumbnail", str(tmp_path / "a.npz"), "-o", str(tmp_path / "a.png")],
        ["show", f"{tmp_path}/a.npz"],
    ):
        assert main(command) == 1
        assert f"the axis {empty!r} of the image has the length 0" in capsys.readouterr().err
    assert not (tmp_path / "a.png").exists()
    with pytest.raises(AxesError, match="length 0"):
        image.img.plot()
    assert intake_img.imload(tmp_path / "a.npz").sizes == image.sizes
