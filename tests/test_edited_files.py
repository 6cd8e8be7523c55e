"""Files that `imsave` wrote, and other programs edited since: what they state now is believed, not the record."""

import json

import numpy as np
import pytest
import xarray as xr

from intake_img import imload, imsave

SPACING = 1.5


def image(axes="zyx"):
    sizes = {"c": 2, "z": 3, "y": 6, "x": 7}
    shape = [sizes[a] for a in axes]
    ds = xr.Dataset({"image": (tuple(axes), np.arange(np.prod(shape), dtype="u2").reshape(shape))})
    for a in set(axes) & {"z", "y", "x"}:
        ds = ds.assign_coords({a: (a, SPACING * np.arange(sizes[a]), {"units": "mm", "spacing": SPACING})})
    return ds.assign_coords(c=["a", "b"]).assign_attrs(note="ours") if "c" in axes else ds.assign_attrs(note="ours")


def tiff_resolution(path):
    tifffile = pytest.importorskip("tifffile")
    with tifffile.TiffFile(path, mode="r+b") as tif:
        pixels, length = tif.pages.first.tags["XResolution"].value
        tif.pages.first.tags["XResolution"].overwrite((pixels, 2 * length))


def tiff_description(old, new):
    def edit(path):
        tifffile = pytest.importorskip("tifffile")
        text = tifffile.tiffcomment(path)
        assert old in text
        tifffile.tiffcomment(path, text.replace(old, new).encode())

    return edit


def tags_of_hdf5(path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "r+") as f:
        tags = json.loads(f["image"].attrs["axistags"])
        tags["axes"][-1]["resolution"] = 2 * SPACING
        f["image"].attrs["axistags"] = json.dumps(tags)


def element(keyword, value):
    def edit(path):
        pydicom = pytest.importorskip("pydicom")
        ds = pydicom.dcmread(path)
        setattr(ds, keyword, value)
        ds.save_as(path)

    return edit


def json_file(name, change):
    def edit(path):
        place = path.parent / name if name.endswith(".json") else path / name
        found = json.loads(place.read_text())
        change(found)
        place.write_text(json.dumps(found))

    return edit


def set_resolution(info):
    info["scales"][0]["resolution"][0] *= 2


DOUBLED = {
    ("a.tif", "zyx"): tiff_resolution,
    ("a.tiff", "hyx"): tiff_resolution,
    ("a.ome.tif", "czyx"): tiff_description('PhysicalSizeX="1.5"', 'PhysicalSizeX="3.0"'),
    ("a.ome.tif", "yx"): tiff_description('PhysicalSizeX="1.5"', 'PhysicalSizeX="3.0"'),
    ("a.h5", "zyx"): tags_of_hdf5,
    ("a.dcm", "yx"): element("PixelSpacing", [SPACING, 2 * SPACING]),
    ("a.precomputed", "zyx"): json_file("info", set_resolution),
}


@pytest.mark.parametrize(("name", "axes"), DOUBLED)
def test_a_spacing_that_was_edited_is_believed(tmp_path, name, axes):
    saved = image(axes.replace("h", "")) if "h" not in axes else image("zyx").rename(z="h")
    imsave(saved, tmp_path / name)
    before = imload(tmp_path / name)
    assert before.attrs["note"] == "ours"
    assert before.img.spacing["x"] == SPACING
    before.close()
    DOUBLED[name, axes](tmp_path / name)
    found = imload(tmp_path / name)
    in_mm = {"mm": 1, "µm": 1e-3, "nm": 1e-6}[found.img.units["x"]]
    assert found.img.spacing["x"] * in_mm == pytest.approx(2 * SPACING)
    assert found.img.spacing["y"] * in_mm == pytest.approx(SPACING)
    np.testing.assert_array_equal(np.ravel(found["image"]), np.ravel(saved["image"]))


def test_channels_that_were_renamed_in_ome_xml_are_believed(tmp_path):
    imsave(image("czyx"), tmp_path / "a.ome.tif")
    tiff_description('Name="b"', 'Name="actin"')(tmp_path / "a.ome.tif")
    assert imload(tmp_path / "a.ome.tif").img.channels == ["a", "actin"]


def test_other_edits_leave_the_record(tmp_path):
    imsave(image("yx"), tmp_path / "a.dcm")
    element("StudyDescription", "new")(tmp_path / "a.dcm")
    assert imload(tmp_path / "a.dcm").attrs["note"] == "ours"


def test_a_slope_that_was_edited_is_applied(tmp_path):
    imsave(image("yx"), tmp_path / "a.dcm")
    element("RescaleSlope", "2")(tmp_path / "a.dcm")
    np.testing.assert_array_equal(np.squeeze(imload(tmp_path / "a.dcm")["image"]), image("yx")["image"] * 2)


def test_axes_that_were_edited_beside_a_flat_file_are_believed(tmp_path):
    imsave(image("zyx"), tmp_path / "a.raw")
    json_file("a.raw.json", lambda conf: conf.update(axes=["t", "y", "x"]))(tmp_path / "a.raw")
    assert imload(tmp_path / "a.raw")["image"].dims == ("t", "y", "x")


@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif", "a.h5", "a.dcm", "a.precomputed", "a.raw"])
@pytest.mark.parametrize("spacing", [1 / 3, 0.1234567890123, 1e5 / 7])
def test_numbers_that_a_format_rounds_are_not_taken_for_edits(tmp_path, name, spacing):
    given = image("zyx").assign_coords(
        {
            a: (a, spacing * np.arange(n), {"units": "µm", "spacing": spacing})
            for a, n in zip("zyx", (3, 6, 7), strict=True)
        }
    )
    imsave(given, tmp_path / name)
    found = imload(tmp_path / name)
    assert found.img.spacing == dict.fromkeys("zyx", spacing)
    assert found.attrs["note"] == "ours"


def test_records_without_a_seal_are_believed(tmp_path):
    """Those of files that earlier versions of this package wrote."""
    imsave(image("yx"), tmp_path / "a.raw")
    json_file("a.raw.json", lambda conf: conf["record"].pop("seal"))(tmp_path / "a.raw")
    assert imload(tmp_path / "a.raw").attrs["note"] == "ours"
