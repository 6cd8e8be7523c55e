"""Whole slides through OpenSlide, compared with OpenSlide itself and with tifffile."""

import sys
from pathlib import Path

import intake
import numpy as np
import pytest
import tifffile

from intake_img import imload
from intake_img.errors import FormatError, MissingExtraError, SceneError
from intake_img.formats.registry import find_format
from intake_img.formats.slide.sample import write_sample
from intake_img.storage.files import File

openslide = pytest.importorskip("openslide")

NAMES = ["ndpi/test3-TRITC 2 (560).ndpi", "tiff_pyramid/CMU-1-Small-Region.svs", "tiff_pyramid/tiff_tiled_raw.tif"]


@pytest.mark.parametrize("name", NAMES)
def test_equals_openslide(data, name):
    path = data / name
    with openslide.OpenSlide(path) as slide:
        last = slide.level_count - 1
        for level in {0, last}:
            ds = intake.open_slide(str(path), level=level).to_dask()
            width, height = slide.level_dimensions[level]
            assert dict(ds["image"].sizes) == {"c": 3, "y": height, "x": width}
            tile = min(512, height, width)
            expected = np.asarray(slide.read_region((0, 0), level, (tile, tile)))[..., :3]
            np.testing.assert_array_equal(ds["image"][:, :tile, :tile].values.transpose(1, 2, 0), expected)
        mpp = slide.properties.get("openslide.mpp-x")
        if mpp:
            assert ds["x"].attrs["spacing"] == pytest.approx(float(mpp) * slide.level_downsamples[last])
            assert ds["x"].attrs["units"] == "µm"
        names = ["slide", *sorted(set(slide.associated_images) - {"label"})]
        assert ds.attrs["scenes"] == names
        for scene in names[1:]:
            found = intake.open_slide(str(path), scene=scene).read()["image"]
            expected = np.asarray(slide.associated_images[scene].convert("RGB"))
            np.testing.assert_array_equal(found.values.transpose(1, 2, 0), expected)
    with pytest.raises(SceneError):
        intake.open_slide(str(path), level=last + 1).to_dask()


@pytest.mark.parametrize("name", NAMES)
def test_equals_the_driver_of_tiff(data, name):
    """TIFF files of slides stay that driver's; both read the same, but for the decoding of JPEG."""
    own = imload(data / name)
    assert own.attrs["driver"] == "tif"
    part = {"y": slice(100, 300), "x": slice(150, 270)}
    ours = own["image"].isel(part).values.astype(int)
    theirs = intake.open_slide(str(data / name)).to_dask()["image"].isel(part).values
    assert np.abs(ours - theirs).max() <= 2


def test_regions_do_not_depend_on_chunks(data):
    """Also at levels whose factor is not whole."""
    path = str(data / "tiff_pyramid" / "CMU-1-Small-Region.svs")
    for level in range(openslide.OpenSlide(path).level_count):
        whole = intake.open_slide(path, level=level).read()["image"]
        for chunks in (None, 177, {"y": 1000}):
            source = intake.open_slide(path, level=level, chunks=chunks)
            part = source.to_dask()["image"].isel(y=slice(130, 700, 3), x=slice(301, 650))
            np.testing.assert_array_equal(part.values, whole.isel(y=slice(130, 700, 3), x=slice(301, 650)).values)
            source.close()


def test_the_label_is_asked_for(data):
    path = str(data / "tiff_pyramid" / "CMU-1-Small-Region.svs")
    assert "label" in openslide.OpenSlide(path).associated_images
    assert "label" not in intake.open_slide(path).to_dask().attrs["scenes"]
    with pytest.raises(SceneError, match="label"):
        intake.open_slide(path, scene="label").to_dask()
    assert dict(intake.open_slide(path, scene="label", label=True).to_dask().sizes) == {"c": 3, "y": 463, "x": 387}


def test_bounds_and_background(tmp_path):
    """A slide is mostly empty: what was scanned is cut out, the rest has the colour of the background."""
    path, expected = write_sample(str(tmp_path))
    ds = imload(path)
    assert ds.attrs["driver"] == "slide"
    np.testing.assert_array_equal(ds["image"].values, expected["image"].values)
    assert ds.img.spacing == {"y": 0.5, "x": 0.5}
    half = imload(path, level=1)
    np.testing.assert_array_equal(half["image"].values, expected["image"].values[:, ::2, ::2])
    assert half.img.spacing == {"y": 1.0, "x": 1.0}
    whole = imload(path, bounds=False)["image"]
    assert dict(whole.sizes) == {"c": 3, "y": 160, "x": 200}
    around = whole.values.copy()
    np.testing.assert_array_equal(around[:, 50:80, 60:100], expected["image"].values)
    around[:, 50:80, 60:100] = 255
    assert (around == 255).all()


def test_known_by_name_and_beginning(tmp_path):
    write_sample(str(tmp_path))
    content = (tmp_path / "sample.scn").read_bytes()
    heads = {"a.mrxs": b"\xff\xd8\xff\xe0" + bytes(600), "a.vms": b"[Virtual Microscope Specimen]\r\n"}
    for name, head in {**heads, "a.bif": content, "a.svslide": b"SQLite format 3\0"}.items():
        (tmp_path / name).write_bytes(head)
        assert find_format(File.parse(tmp_path / name)).name == "slide"
    for bigtiff, order in ((False, "<"), (True, ">")):
        tifffile.imwrite(
            tmp_path / "p.tiff",
            np.zeros((64, 64, 3), "u1"),
            bigtiff=bigtiff,
            byteorder=order,
            photometric="rgb",
            software="Philips DP v1.0",
            metadata=None,
        )
        assert find_format(File.parse(tmp_path / "p.tiff")).name == "slide"
        tifffile.imwrite(
            tmp_path / "p.tiff",
            np.zeros((64, 64, 3), "u1"),
            bigtiff=bigtiff,
            byteorder=order,
            photometric="rgb",
            software="phillips",
            metadata=None,
        )
        assert find_format(File.parse(tmp_path / "p.tiff")).name == "tif"
    with pytest.raises(FormatError, match=r"a\.mrxs is not a slide .* folder of the same name"):
        imload(tmp_path / "a.mrxs")


def test_needs_openslide(tmp_path, monkeypatch):
    path, _ = write_sample(str(tmp_path))
    monkeypatch.setitem(sys.modules, "openslide", None)
    with pytest.raises(MissingExtraError, match=r"intake_img\[slide\]"):
        imload(path)


def test_a_damaged_description_does_not_open_the_thumbnail(tmp_path):
    """OpenSlide would take the file for a plain TIFF, of which the first page is the overview."""
    path, _ = write_sample(str(tmp_path))
    content = Path(path).read_bytes()
    (tmp_path / "b.scn").write_bytes(content.replace(b"http://www.leica-microsystems.com/scn", b"x" * 37))
    with pytest.raises(FormatError, match=r"b\.scn: OpenSlide takes it for generic-tiff"):
        imload(tmp_path / "b.scn")
