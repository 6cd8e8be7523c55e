"""JPEG 2000, JPEG XL, AVIF and HEIF, OpenEXR, raw files of cameras: values as the libraries themselves give them."""

from __future__ import annotations

import json
import struct
import warnings

import fsspec
import numpy as np
import pytest
import tifffile
import xarray as xr

from intake_img import imload, imsave
from intake_img.errors import CannotWriteError, FormatError, MissingExtraError
from intake_img.formats.cameraraw.driver import CameraRaw

imagecodecs = pytest.importorskip("imagecodecs")
RNG = np.random.default_rng(11)


def header(ds):
    return json.loads(ds.attrs["fileheader"])


def codec(name):
    return {"jp2": "jpeg2k", "jxl": "jpegxl", "avif": "avif"}[name.rpartition(".")[2]]


# codecs of whole pictures


@pytest.mark.parametrize(
    ("name", "dims", "dtype", "extremes"),
    [
        ("16bit.cropped.jp2", "yx", "uint16", (291, 694)),
        ("gray16_lossless.jxl", "yx", "uint16", (0, 65520)),
        ("pq_gradient.jxl", "yx", "uint16", (6682, 58853)),
        ("square-extended-size-container.jxl", "cyx", "uint8", (0, 0)),
        ("hopper.avif", "cyx", "uint8", (0, 255)),
    ],
)
def test_real_pictures_have_the_values_of_imagecodecs(data, name, dims, dtype, extremes):
    path = data / "photos" / name
    theirs = getattr(imagecodecs, f"{codec(name)}_decode")(path.read_bytes())
    ds = imload(path)
    assert (ds.image.dims, ds.image.dtype) == (tuple(dims), dtype)
    np.testing.assert_array_equal(ds.image.transpose("y", "x", ...), theirs)
    assert (ds.image.min(), ds.image.max()) == extremes
    with fsspec.open(f"memory://{name}", "wb") as stream:
        stream.write(path.read_bytes())
    np.testing.assert_array_equal(imload(f"memory://{name}").image.isel(y=slice(2, 7)), ds.image.isel(y=slice(2, 7)))
    if name == "gray16_lossless.jxl":
        np.testing.assert_array_equal(ds.image, np.load(path.with_suffix(".npy")))


def test_heif_has_its_true_depth(data):
    pi_heif = pytest.importorskip("pi_heif")
    path = data / "photos/L_10__128x128.heif"
    ds = imload(path)
    theirs = pi_heif.open_heif(path, convert_hdr_to_8bit=False)  # owns the memory of the array
    np.testing.assert_array_equal(ds.image, np.asarray(theirs) >> 6)
    assert (ds.image.dtype, int(ds.image.max()), header(ds)["bit_depth"]) == ("uint16", 1023, 10)
    with pytest.warns(UserWarning, match="contains 3 pictures: only the primary one is read"):
        ds = imload(data / "photos/zPug_3.heic")
    theirs = pi_heif.open_heif(data / "photos/zPug_3.heic")
    np.testing.assert_array_equal(ds.image, np.asarray(theirs))


def test_depths_frames_and_samples(tmp_path):
    made = {
        "9bit.jp2": (imagecodecs.jpeg2k_encode(RNG.integers(0, 512, (30, 41)).astype("u2"), bitspersample=9), "yx"),
        "many.jp2": (imagecodecs.jpeg2k_encode(RNG.integers(0, 99, (30, 41, 5)).astype("u1")), "cyx"),
        "film.jxl": (
            imagecodecs.jpegxl_encode(RNG.integers(0, 99, (3, 30, 41, 3)).astype("u1"), lossless=True),
            "tcyx",
        ),
        "grey.jxl": (imagecodecs.jpegxl_encode(RNG.random((4, 30, 41)).astype("f4"), lossless=True), "tyx"),
        "alpha.jxl": (imagecodecs.jpegxl_encode(RNG.integers(0, 99, (30, 41, 2)).astype("u2"), lossless=True), "cyx"),
        "10bit.avif": (
            imagecodecs.avif_encode(RNG.integers(0, 1024, (30, 41, 3)).astype("u2"), bitspersample=10),
            "cyx",
        ),
    }
    names = {"many.jp2": None, "film.jxl": list("RGB"), "alpha.jxl": ["L", "A"], "10bit.avif": list("RGB")}
    for name, (content, dims) in made.items():
        (tmp_path / name).write_bytes(content)
        theirs = getattr(imagecodecs, f"{codec(name)}_decode")(content)
        ds = imload(tmp_path / name)
        assert (ds.image.dims, ds.image.dtype, ds.img.channels) == (tuple(dims), theirs.dtype, names.get(name))
        order = ("t",) * ("t" in dims) + ("y", "x") + ("c",) * ("c" in dims)
        np.testing.assert_array_equal(ds.image.transpose(*order), theirs)
    assert imload(tmp_path / "9bit.jp2").image.max() < 512
    assert imload(tmp_path / "10bit.avif").image.max() < 1024


def test_truncated_pictures_are_refused(tmp_path):
    pixels = RNG.integers(0, 255, (40, 50, 3)).astype("u1")
    for ending in ("jp2", "jxl", "avif"):
        content = getattr(imagecodecs, f"{codec(ending)}_encode")(pixels)
        path = tmp_path / f"a.{ending}"
        for stop in [*range(30, len(content), len(content) // 12), len(content) - 1]:
            path.write_bytes(content[:stop])
            with pytest.raises(FormatError, match=f"a.{ending}"):
                imload(path)


def test_headers_that_promise_more_than_can_be(tmp_path):
    content = bytearray(imagecodecs.jpeg2k_encode(RNG.integers(0, 255, (40, 50)).astype("u1")))
    at = content.index(b"\xff\x4f\xff\x51") + 8
    struct.pack_into(">2I", content, at, 2**31 - 1, 2**31 - 1)
    (tmp_path / "a.jp2").write_bytes(content)
    with pytest.raises(FormatError, match="states 4611686014132420609 samples in a file of"):
        imload(tmp_path / "a.jp2")


@pytest.mark.parametrize("ending", ["jp2", "jxl", "png", "tif"])
def test_metadata_of_any_length(tmp_path, ending):
    """A record that is longer than the first block which readers look at does not hide the pixels."""
    values = RNG.integers(0, 256, (30, 41), dtype="u1")
    image = xr.DataArray(values, {"lat": (("y", "x"), RNG.random((30, 41)))}, list("yx"), attrs={"note": "x" * 50_000})
    imsave(image, tmp_path / f"a.{ending}")
    found = imload(tmp_path / f"a.{ending}").image
    np.testing.assert_array_equal(found, values)
    np.testing.assert_array_equal(found.lat, image.lat)
    assert found.attrs["note"] == image.attrs["note"]


def test_jpeg_2000_with_other_boxes_before_its_codestream(tmp_path):
    """The codestream is that of its box: neither its distance from the start matters, nor such bytes in other boxes."""
    values = RNG.integers(0, 256, (30, 41), dtype="u1")
    plain = imagecodecs.jpeg2k_encode(values, codecformat="jp2")
    at = plain.index(b"jp2c") - 4
    for content in (b"\0" * 9000, b"\xff\x4f\xff\x51" + b"\0" * 60):
        box = (8 + len(content)).to_bytes(4, "big") + b"xml " + content
        (tmp_path / "a.jp2").write_bytes(plain[:at] + box + plain[at:])
        np.testing.assert_array_equal(imload(tmp_path / "a.jp2").image, values)


@pytest.mark.parametrize("ending", ["jp2", "jxl"])
def test_written_without_loss_and_with_the_record(tmp_path, ending):
    for dims, shape, channels in (("yx", (9, 7), None), ("cyx", (3, 9, 7), list("RGB")), ("zyx", (1, 9, 7), None)):
        for dtype in ("u1", "u2") + (("f2", "f4") if ending == "jxl" else ()):
            image = xr.DataArray((RNG.random(shape) * 250).astype(dtype), dims=list(dims), attrs={"stain": "none"})
            image = image.assign_coords(x=("x", np.arange(7) * 0.5, {"units": "µm", "spacing": 0.5}))
            image = image if channels is None else image.assign_coords(c=channels)
            path = tmp_path / f"{dims}{dtype}.{ending}"
            imsave(image, path)
            xr.testing.assert_identical(imload(path).image, image.rename("image"))
            theirs = getattr(imagecodecs, f"{codec(ending)}_decode")(path.read_bytes())
            np.testing.assert_array_equal(
                theirs.squeeze(), image.transpose(..., "y", "x", "c", missing_dims="ignore").values.squeeze()
            )
    with pytest.raises(CannotWriteError, match="the image is int64"):
        imsave(image.astype("i8"), tmp_path / f"a.{ending}")


@pytest.mark.parametrize(
    ("module", "name", "extra"),
    [("imagecodecs", "hopper.avif", "codecs"), ("pi_heif", "zPug_3.heic", "heif"), ("OpenEXR", "t08.exr", "exr")],
)
def test_what_to_install(data, monkeypatch, module, name, extra):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(MissingExtraError, match=rf"intake_img\[{extra}\]"):
        imload(data / "photos" / name)


# OpenEXR


def test_real_exr(data):
    exr = pytest.importorskip("OpenEXR")
    path = data / "photos/t08.exr"
    ds = imload(path)
    channels = exr.File(str(path), separate_channels=True).parts[0].channels
    assert (ds.image.dims, ds.image.dtype, ds.img.channels) == (("c", "y", "x"), "float16", list("RGB"))
    for name in "RGB":
        np.testing.assert_array_equal(ds.image.sel(c=name), channels[name].pixels)
    assert [int(ds[a][k]) for a in "yx" for k in (0, -1)] == [40, 339, 30, 429]  # the data window
    part = imload(path, chunks={"y": 64, "x": 100}).image.isel(y=slice(50, 130), x=slice(90, 300))
    np.testing.assert_array_equal(part, ds.image.isel(y=slice(50, 130), x=slice(90, 300)))


def test_chroma_of_another_size_is_a_scene(data):
    exr = pytest.importorskip("OpenEXR")
    path = data / "photos/Rec709_YC.exr"
    channels = exr.File(str(path), separate_channels=True).parts[0].channels
    luma, chroma = imload(path), imload(path, scene=1)
    assert luma.img.scenes == ["0 Y", "0 BY+RY"]
    assert (luma.image.shape, chroma.image.shape) == ((1, 406, 610), (2, 203, 305))
    np.testing.assert_array_equal(luma.image[0], channels["Y"].pixels)
    for name in ("BY", "RY"):
        np.testing.assert_array_equal(chroma.image.sel(c=name), channels[name].pixels)
    assert chroma.x.values[:3].tolist() == [0, 2, 4]


def test_parts_types_and_remote_files(tmp_path):
    exr = pytest.importorskip("OpenEXR")
    depth = RNG.random((10, 20)).astype("f4")
    ids, mask = RNG.integers(0, 2**32, (10, 20)).astype("u4"), depth.astype("f2")
    made = {"depth": {"Z": depth}, "objects": {"id": ids, "mask": mask}}
    parts = [exr.Part({"type": exr.scanlineimage}, channels, name=name) for name, channels in made.items()]
    exr.File(parts).write(str(tmp_path / "a.exr"))
    with fsspec.open("memory://parts.exr", "wb") as stream:
        stream.write((tmp_path / "a.exr").read_bytes())
    for uri in (tmp_path / "a.exr", "memory://parts.exr"):
        ds = imload(uri, scene="objects")
        assert (ds.img.scenes, ds.image.dtype) == (["depth", "objects"], "float64")  # holds both types
        np.testing.assert_array_equal(ds.image.sel(c="id"), ids)
        np.testing.assert_array_equal(ds.image.sel(c="mask"), mask)
        np.testing.assert_array_equal(imload(uri).image[0], depth)


def test_written_exr_is_read_by_the_library(tmp_path):
    exr = pytest.importorskip("OpenEXR")
    for dtype, compress in (("f2", "piz"), ("f4", None), ("u4", False)):
        values, coords = (RNG.random((3, 9, 7)) * 200).astype(dtype), {"c": ["b", "z", "a"]}
        image = xr.DataArray(values, coords, list("cyx"), attrs={"stain": "none"}, name="image")
        path = tmp_path / f"{dtype}.exr"
        imsave(image, path, compress=compress)
        xr.testing.assert_identical(imload(path).image, image)
        channels = exr.File(str(path), separate_channels=True).parts[0].channels
        for name in ("a", "b", "z"):
            np.testing.assert_array_equal(channels[name].pixels, image.sel(c=name))
    with pytest.raises(CannotWriteError, match=r"stores float16, float32 and uint32, the image is uint8"):
        imsave(image.astype("u1"), tmp_path / "b.exr")
    with pytest.raises(CannotWriteError, match="expected True, False, 'zip'"):
        imsave(image, tmp_path / "b.exr", compress="dwaa")


def test_damaged_headers_of_exr(data, tmp_path):
    content = (data / "photos/t08.exr").read_bytes()
    window = content.index(b"dataWindow\0box2i\0") + len(b"dataWindow\0box2i\0") + 4
    huge = bytearray(content)
    struct.pack_into("<4i", huge, window, 0, 0, 2**30, 2**30)
    deep = bytearray(content)
    struct.pack_into("<I", deep, 4, 2 | 0x800)
    for name, damaged, words in (
        ("huge", huge, "states"),
        ("deep", deep, "deep images"),
        ("cut", content[:90], "trunc"),
    ):
        (tmp_path / f"{name}.exr").write_bytes(damaged)
        with pytest.raises(FormatError, match=words):
            imload(tmp_path / f"{name}.exr")


# raw files of cameras


@pytest.mark.parametrize("name", ["a.dng", "a.NEF", "a.arw", "a.tif", "a"])
def test_a_raw_file_is_never_its_preview(tmp_path, name):
    rawpy = pytest.importorskip("rawpy")
    sample, expected = CameraRaw().sample(str(tmp_path))
    (tmp_path / name).write_bytes((tmp_path / "sample.dng").read_bytes())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is named like TIFF.*")
        ds = imload(tmp_path / name)
    assert ds.attrs["driver"] == "cameraraw"
    with rawpy.imread(sample) as raw:
        np.testing.assert_array_equal(ds.image, raw.raw_image_visible)
        assert header(ds)["white_level"] == raw.white_level == 16383
        assert header(ds)["black_level_per_channel"] == [512] * 4
    np.testing.assert_array_equal(ds.image, expected.image)
    assert ds.image.attrs["cfa"] == ["RG", "GB"]
    with tifffile.TiffFile(sample) as tif:
        assert tif.pages.first.shape == (5, 6, 3)


def test_without_rawpy_a_raw_file_says_what_to_install(tmp_path, monkeypatch):
    sample, _ = CameraRaw().sample(str(tmp_path))
    monkeypatch.setitem(__import__("sys").modules, "rawpy", None)
    with pytest.raises(MissingExtraError, match=r"intake_img\[raw\]"):
        imload(sample)


def test_truncated_raw_files_are_refused(tmp_path):
    pytest.importorskip("rawpy")
    CameraRaw().sample(str(tmp_path))
    content = (tmp_path / "sample.dng").read_bytes()
    for stop in (400, 1500, len(content) - 1):
        (tmp_path / "b.dng").write_bytes(content[:stop])
        with pytest.raises(FormatError, match=r"b\.dng"):
            imload(tmp_path / "b.dng").image.values  # noqa: B018
