"""Dialects of vendors, chroma that is subsampled outside of JPEG, thumbnails before images, and empty files."""

from __future__ import annotations

import json
import struct
import zlib

import numpy as np
import PIL.Image
import pytest
import tifffile

from intake_img import imload, imsave
from intake_img.errors import FormatError
from intake_img.formats.registry import formats
from intake_img.formats.tif.ycbcr import upsampled


def test_metaseries_of_a_real_plate(data):
    ds = imload(data / "imagexpress/9987_Plate_3435/TimePoint_1/9987_B02_s1_w1.TIF")
    assert ds.img.spacing == pytest.approx({"y": 1.3672, "x": 1.3672})
    assert ds.img.units == {"y": "µm", "x": "µm"}
    plane = json.loads(ds.attrs["fileheader"])["metaseries"]
    assert plane["wavelength"] == 452
    assert (plane["stage-position-x"], plane["stage-label"]) == (22985, "B02 : Site 1")


CALIBRATED = [("on", "um", ("µm", 0.5)), ("on", "nm", ("nm", 0.5))]
UNKNOWN = [("off", "um", None), ("on", "pixel", None), ("on", "", None)]


@pytest.mark.parametrize(("state", "unit", "wanted"), CALIBRATED + UNKNOWN)
def test_calibration_of_metaseries(tmp_path, state, unit, wanted):
    rows = [
        ("spatial-calibration-state", "bool", state),
        ("spatial-calibration-x", "float", "0.5"),
        ("spatial-calibration-y", "float", "0.5"),
        ("spatial-calibration-units", "string", unit),
    ]
    xml = "".join(f'<prop id="{key}" type="{kind}" value="{value}"/>' for key, kind, value in rows)
    text = f"<MetaData><PlaneInfo>{xml}</PlaneInfo></MetaData>"
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 6), "u2"), description=text, metadata=None, software="MetaSeries")
    ds = imload(tmp_path / "a.tif")
    assert ds.img.spacing == ({} if wanted is None else {"y": wanted[1], "x": wanted[1]})
    assert ds.img.units == ({} if wanted is None else {"y": wanted[0], "x": wanted[0]})


def test_channels_of_ndtiff(data):
    folder = data / "ndtiff/v3/12_bit_pycromanager_mda"
    path = next(folder.glob("*.tif"))
    ds = imload(path)
    assert ds.img.channels == ["DAPI", "FITC"]
    assert ds.img.spacing == {"y": 1.0, "x": 1.0}
    pixels = tifffile.imread(path)
    np.testing.assert_array_equal(ds.image.transpose("t", "c", "y", "x"), pixels)


def test_ndtiff_without_its_index_is_pages(data, tmp_path):
    path = next((data / "ndtiff/v3/12_bit_pycromanager_mda").glob("*.tif"))
    (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.warns(UserWarning, match=r"1 files of its set are missing \('NDTiff\.index'\)"):
        ds = formats()["tif"].source(tmp_path / path.name, output_axis_order=None).read()
    np.testing.assert_array_equal(ds.image.values.reshape(-1, 64, 64), tifffile.imread(path).reshape(-1, 64, 64))


# chroma


def subsampled(path, rgb, factors, codec, rows=16, tile=None):
    """Write YCbCr as TIFF 6.0 has it: units of luma, then Cb and Cr, means over each unit."""
    h, v = factors
    ycc = np.asarray(PIL.Image.fromarray(rgb).convert("YCbCr")).astype(int)
    height, width = ycc.shape[:2]
    pieces = []
    if tile:
        corners = [(y, x, tile, tile) for y in range(0, height, tile) for x in range(0, width, tile)]
    else:
        corners = [(y, 0, min(rows, height - y), width) for y in range(0, height, rows)]
    for top, left, n, m in corners:
        part = ycc[top : top + n, left : left + m]
        down, across = -(-n // v), -(-m // h)
        part = np.pad(part, ((0, down * v - part.shape[0]), (0, across * h - part.shape[1]), (0, 0)), mode="edge")
        blocks = part.reshape(down, v, across, h, 3).transpose(0, 2, 1, 3, 4).reshape(down, across, v * h, 3)
        chroma = blocks[..., 1:].mean(axis=2).round()
        units = np.concatenate([blocks[..., 0], chroma], axis=2).astype("u1").tobytes()
        pieces.append(zlib.compress(units) if codec == 8 else units)
    count = len(pieces)
    places = np.cumsum([8, *map(len, pieces)])[:-1]
    tables = int(8 + sum(map(len, pieces)))
    table = 324 if tile else 273
    size = [(322, 3, 1, tile), (323, 3, 1, tile)] if tile else [(278, 3, 1, rows)]
    places_of = [(table, 4, count, tables), (325 if tile else 279, 4, count, tables + 4 * count)]
    bits = tables + 8 * count
    tags = [
        (256, 3, 1, width),
        (257, 3, 1, height),
        (258, 3, 3, bits),
        (259, 3, 1, codec),
        (262, 3, 1, 6),
        (277, 3, 1, 3),
        (284, 3, 1, 1),
        (530, 3, 2, h | v << 16),
        (532, 5, 6, bits + 6),
    ]
    tags = sorted([*tags, *size, *places_of])
    white = struct.pack("<12I", *(n for low, high in ((0, 255), (128, 255), (128, 255)) for n in (low, 1, high, 1)))
    body = b"".join(pieces) + struct.pack(f"<{2 * count}I", *places, *map(len, pieces)) + struct.pack("<3H", 8, 8, 8)
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + bytes(4)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(body) + 48) + body + white + directory)


@pytest.mark.parametrize("factors", [(1, 1), (2, 2), (2, 1), (1, 2), (4, 1), (4, 2), (4, 4)])
@pytest.mark.parametrize("tile", [None, 32])
def test_ycbcr_becomes_the_rgb_of_libtiff(tmp_path, factors, tile):
    imagecodecs = pytest.importorskip("imagecodecs")
    rgb = np.random.default_rng(5).integers(0, 256, (48, 70, 3)).astype("u1")
    subsampled(tmp_path / "z.tif", rgb, factors, 8, tile=tile)
    subsampled(tmp_path / "n.tif", rgb, factors, 1, tile=tile)
    ds = imload(tmp_path / "z.tif")
    assert ds.img.channels == ["R", "G", "B"]
    values = ds.image.transpose("y", "x", "c").values
    theirs = imagecodecs.tiff_decode((tmp_path / "z.tif").read_bytes(), asrgb=True)[..., :3]
    if (factors, tile) == ((4, 4), 32):  # libtiff shifts the rows of tiles at the right edge
        values, theirs = values[:, :64], theirs[:, :64]
    np.testing.assert_array_equal(values, theirs)
    plain = imload(tmp_path / "n.tif").image
    np.testing.assert_array_equal(plain, ds.image)
    np.testing.assert_array_equal(plain.isel(y=slice(17, 40), x=slice(5, 33)), plain.load()[..., 17:40, 5:33])


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "packbits", "tiff_adobe_deflate"])
def test_ycbcr_of_pillow(tmp_path, compression):
    ramp = np.add.outer(np.arange(21) * 3, np.arange(70) * 2)
    rgb = np.stack([ramp % 256, ramp % 199, ramp % 97], -1).astype("u1")
    PIL.Image.fromarray(rgb).convert("YCbCr").save(tmp_path / "a.tif", compression=compression)
    ds = imload(tmp_path / "a.tif")
    assert ds.img.channels == ["R", "G", "B"]
    values = ds.image.transpose("y", "x", "c").values.astype(int)
    assert np.abs(values - np.asarray(PIL.Image.open(tmp_path / "a.tif").convert("RGB"))).max() <= 1
    assert np.abs(values - rgb).max() <= 3  # what YCbCr of 8 bits rounds
    imsave(ds, tmp_path / "b.tif")
    np.testing.assert_array_equal(imload(tmp_path / "b.tif").image, ds.image)


def test_coefficients_of_a_file_are_used(tmp_path):
    """BT.709 and the narrow range of video: by the formula of TIFF 6.0 in floats."""
    ycc = np.random.default_rng(5).integers(60, 180, (9, 11, 3)).astype("u1")
    luma, white = (0.2126, 0.7152, 0.0722), (16, 235, 128, 240, 128, 240)
    ratios = [tuple(n for v in luma for n in (round(v * 10000), 10000)), tuple(n for v in white for n in (v, 1))]
    tags = [(529, 5, 3, ratios[0], True), (532, 5, 6, ratios[1], True)]
    tifffile.imwrite(tmp_path / "a.tif", ycc, photometric="ycbcr", subsampling=(1, 1), extratags=tags, metadata=None)
    spans = zip(np.moveaxis(ycc.astype(float), -1, 0), white[::2], white[1::2], (255, 127, 127), strict=True)
    y, cb, cr = ((v - black) * span / (full - black) for v, black, full, span in spans)
    red, blue = y + cr * (2 - 2 * luma[0]), y + cb * (2 - 2 * luma[2])
    want = np.stack([red, (y - luma[2] * blue - luma[0] * red) / luma[1], blue], -1).clip(0, 255)
    assert np.abs(imload(tmp_path / "a.tif").image.transpose("y", "x", "c").values - want).max() <= 4


@pytest.mark.parametrize(("dtype", "planar"), [("u2", "contig"), ("u1", "separate")])
def test_deep_or_planar_ycbcr_keeps_its_values(tmp_path, dtype, planar):
    shape = (3, 12, 16) if planar == "separate" else (12, 16, 3)
    values = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="ycbcr", planarconfig=planar, subsampling=(1, 1))
    ds = imload(tmp_path / "a.tif")
    assert ds.img.channels == ["Y", "Cb", "Cr"]
    np.testing.assert_array_equal(ds.image, values if planar == "separate" else values.transpose(2, 0, 1))


def test_truncated_units_are_refused():
    with pytest.raises(FormatError, match="decodes to 11 samples, expected 12"):
        upsampled(np.zeros(11, "u1"), (2, 4), (2, 2))


# thumbnails


@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_a_thumbnail_is_not_the_first_scene(tmp_path, dtype):
    full = np.random.default_rng(1).integers(0, 200, (64, 80)).astype("u2")
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(full[::8, ::8].astype(dtype), subfiletype=1, photometric="minisblack", metadata=None)
        tif.write(full, photometric="minisblack", metadata=None)
    ds = imload(tmp_path / "a.tif")
    np.testing.assert_array_equal(ds.image, full)
    np.testing.assert_array_equal(imload(tmp_path / "a.tif", scene=1).image, full[::8, ::8])


def test_a_thumbnail_alone_is_an_image(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.ones((5, 6), "u1"), subfiletype=1, metadata=None)
    assert imload(tmp_path / "a.tif").image.shape == (5, 6)


# empty files


@pytest.mark.parametrize("name", ["tif", "czi", "npy", "imageio"])
def test_empty_files_are_called_empty(tmp_path, name):
    path = tmp_path / "a.tif"
    path.write_bytes(b"")
    with pytest.raises(FormatError, match=r"a\.tif is empty"):
        formats()[name].source(path).read()
    with pytest.raises(FormatError, match=r"a\.tif is empty"):
        imload(path)
