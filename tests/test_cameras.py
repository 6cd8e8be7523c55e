"""Cameras and spectrographs: KLB, SIF and SPE, compared with the answers of other readers.

KLB: pyklb and Bio-Formats, the TIFF beside the file; SIF: sif_parser 0.3.0; SPE: Bio-Formats 7.3.1. Where a file has no
twin, the answer is the beginning of the SHA-256 of its values.
"""

import bz2
import hashlib
import struct
import zlib
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import tifffile
import xarray as xr

from intake_img import imload, imsave
from intake_img.errors import CannotWriteError, FormatError
from intake_img.formats.klb.driver import KlbSource
from intake_img.formats.registry import formats


def digest(values) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:12]


# Keller Lab Block


@pytest.mark.parametrize("chunks", ["auto", None, {"z": 5, "y": 40, "x": 101}])
def test_klb(data, in_memory, chunks):
    path = data / "klb" / "img.klb"
    expected = tifffile.imread(data / "klb" / "img.tif")
    for uri in (path, in_memory(path)):
        ds = imload(uri, chunks=chunks)
        assert (ds.attrs["driver"], ds["image"].dims) == ("klb", tuple("zyx"))
        np.testing.assert_array_equal(ds["image"].values, expected)
        np.testing.assert_array_equal(ds["image"][7:19, 90:100, 95].values, expected[7:19, 90:100, 95])
    assert ds.img.spacing == {"z": 1.0, "y": 1.0, "x": 1.0}
    assert digest(ds["image"].values) == "8ec02900c00f"


def write_klb(path, values, packing, block):
    """Write an array of the axes t, c, z, y, x with blocks of such a shape."""
    pack = {0: bytes, 1: bz2.compress}[packing]
    grid = [range(0, n, b) for n, b in zip(values.shape, block, strict=True)]
    parts = [
        pack(values[tuple(slice(a, a + b) for a, b in zip(at, block, strict=True))].tobytes()) for at in product(*grid)
    ]
    kind = ("u1", "<u2", "<u4", "<u8", "i1", "<i2", "<i4", "<i8", "<f4", "<f8").index(values.dtype.str.lstrip("|"))
    head = struct.pack("<B5I5f2B256s5I", 2, *values.shape[::-1], *[0.25] * 5, kind, packing, b"junk\xff", *block[::-1])
    path.write_bytes(head + np.cumsum([len(p) for p in parts]).astype("<u8").tobytes() + b"".join(parts))


@pytest.mark.parametrize("packing", [0, 1])
@pytest.mark.parametrize("dtype", ["u1", "<i4", "<f8"])
def test_klb_of_five_axes(tmp_path, packing, dtype):
    values = (np.arange(2 * 3 * 4 * 5 * 7) * 3).astype(dtype).reshape(2, 3, 4, 5, 7)
    write_klb(tmp_path / "a.klb", values, packing, (1, 2, 3, 2, 4))
    ds = imload(tmp_path / "a.klb")
    assert ds["image"].dims == tuple("tczyx")
    np.testing.assert_array_equal(ds["image"].values, values)
    part = ds["image"].isel(t=1, c=slice(1, 3), z=slice(0, 4, 2), y=3, x=slice(2, 7))
    np.testing.assert_array_equal(part.values, values[1, 1:3, 0:4:2, 3, 2:7])


def parsed_klb(path):
    """Read a file by the format's description alone: header, ends of blocks, blocks with x fastest."""
    raw = path.read_bytes()
    head = struct.unpack("<B5I5f2B256s5I", raw[:319])
    sizes, steps, kind, packing, blocks = head[1:6], head[6:11], head[11], head[12], head[14:19]
    grid = [range(0, n, b) for n, b in zip(sizes[::-1], blocks[::-1], strict=True)]
    count = np.prod([len(g) for g in grid])
    start = 319 + 8 * count
    ends = np.frombuffer(raw[319:start], "<u8")
    values = np.empty(sizes[::-1], ("u1", "<u2", "<u4", "<u8", "i1", "<i2", "<i4", "<i8", "<f4", "<f8")[kind])
    for k, at in enumerate(product(*grid)):
        block = values[tuple(slice(a, a + b) for a, b in zip(at, blocks[::-1], strict=True))]
        packed = raw[start + (int(ends[k - 1]) if k else 0) : start + int(ends[k])]
        block[...] = np.frombuffer((bytes, bz2.decompress, zlib.decompress)[packing](packed), values.dtype).reshape(
            block.shape
        )
    return values, steps, packing


@pytest.mark.parametrize(
    ("compress", "packing"), [(None, 1), (True, 1), ("bzip2", 1), ("zlib", 2), (False, 0)], ids=str
)
def test_written_klb(tmp_path, compress, packing):
    """The file is as the format describes it, for any chunks, and only the spacing in µm is for other programs."""
    values = np.random.default_rng(0).integers(0, 99, (2, 2, 5, 280, 405)).astype("u2")
    coords = {"t": ("t", [0.0, 1.0], {"units": "s"}), "c": ["a", "b"]}
    coords |= {
        a: (a, 5 + np.arange(n) * d, {"units": "nm"}) for a, n, d in (("z", 5, 2e3), ("y", 280, 250), ("x", 405, 500))
    }
    image = xr.DataArray(values, coords, list("tczyx"), attrs={"stain": "x"}).chunk({"z": 3, "y": 50, "x": 99})
    seen = []
    imsave(image, tmp_path / "a.klb", compress=compress, progress=seen.append)
    found, steps, packed = parsed_klb(tmp_path / "a.klb")
    np.testing.assert_array_equal(found, values)
    assert (steps, packed) == ((0.5, 0.25, 2.0, 1.0, 1.0), packing)
    assert sum(seen) == values.nbytes
    back = imload(tmp_path / "a.klb")
    assert back.attrs["driver"] == "klb"
    assert back.image.equals(image.compute())
    assert back.image.attrs["stain"] == "x"
    assert back.z.attrs["units"] == "nm"
    head = bytearray((tmp_path / "a.klb").read_bytes())
    (tmp_path / "cut.klb").write_bytes(head[:-1])
    with pytest.raises(FormatError, match="within its record"):
        imload(tmp_path / "cut.klb")
    head[21:25] = struct.pack("<f", 0.125)  # another program changes the header: the record is no longer valid
    (tmp_path / "a.klb").write_bytes(head)
    assert imload(tmp_path / "a.klb").img.spacing["x"] == 0.125


def test_what_klb_cannot_hold(tmp_path):
    for values in (np.zeros((3, 4), complex), np.zeros((0, 4))):
        with pytest.raises(CannotWriteError, match="KLB"):
            imsave(values, tmp_path / "a.klb")
    with pytest.raises(CannotWriteError, match="'bzip2' or 'zlib'"):
        imsave(np.zeros((3, 4)), tmp_path / "a.klb", compress="lzw")
    assert list(tmp_path.iterdir()) == []
    movie = xr.DataArray(np.arange(24.0).reshape(2, 3, 4), dims=list("iyx"))
    assert len(imsave(movie, tmp_path / "a.klb")) == 2
    assert imload(tmp_path / "a.klb").image.equals(movie)


def test_damaged_klb(tmp_path):
    write_klb(tmp_path / "a.klb", np.zeros((1, 1, 4, 5, 7), "u1"), 1, (1, 1, 2, 5, 7))
    whole = bytearray((tmp_path / "a.klb").read_bytes())
    for at, value, words in (
        (0, 9, "version 9"),
        (41, 77, "data type 77"),
        (42, 3, "compression 3"),
        (1, 0, "zeros"),
        (4, 255, "blocks"),
        (326, 255, "ends before it begins"),
    ):
        damaged = bytearray(whole)
        damaged[at] = value
        (tmp_path / "a.klb").write_bytes(damaged)
        with pytest.raises(FormatError, match=words):
            KlbSource(str(tmp_path / "a.klb")).dataset()
    shorter = bz2.compress(bytes(9))  # inflates to less than a block
    (tmp_path / "a.klb").write_bytes(whole[:319] + struct.pack("<2Q", *[len(shorter)] * 2) + shorter)
    with pytest.raises(FormatError, match="block 0 has 9 bytes, expected 70"):
        imload(tmp_path / "a.klb")["image"].isel(z=0).load()


# Andor SIF


@pytest.mark.parametrize(
    ("name", "shape", "answer", "facts"),
    [
        ("DD58_785_1_Fe2O3_5x10s", (1, 1, 1024), "92d1b490a9d2", (9.99996, 10.1015, [21, 1], "DU420_BX2DD")),
        ("cli-0", (1, 1, 1024), "c4a1d06c0ddd", (0.1, 0.14305, [255, 1], "DU420_OE")),
        ("image", (1, 512, 512), "f4bae7d2778e", (1.0, 1.02968, [1, 1], "DU897_BV")),
    ],
)
def test_sif(data, in_memory, name, shape, answer, facts):
    path = data / "sif" / f"{name}.sif"
    for uri in (path, in_memory(path)):
        ds = imload(uri, chunks={"x": 100})
        assert (ds.attrs["driver"], ds["image"].dims, ds["image"].shape) == ("sif", tuple("tyx"), shape)
        values = ds["image"].values
        assert (digest(values), values.dtype) == (answer, np.float32)
        np.testing.assert_array_equal(ds["image"][:, :, 90:310].values, values[:, :, 90:310])
    header = ds.img.header
    assert (header["exposure_seconds"], header["cycle_seconds"], header["binning_yx"], header["detector"]) == facts


def test_wavelengths_of_sif(data):
    """The polynomial of the spectrograph, which counts columns from 1; an image has none."""
    ds = imload(data / "sif" / "DD58_785_1_Fe2O3_5x10s.sif")
    factors = [789.727670804109, 0.107698120895733, -5.0062846327103e-06]
    columns = np.arange(1, 1025)
    np.testing.assert_allclose(ds["x"].values, factors[0] + factors[1] * columns + factors[2] * columns**2, rtol=1e-12)
    assert ds["x"].attrs["units"] == "nm"
    assert "x" not in imload(data / "sif" / "image.sif").coords


def test_frames_and_tracks_of_sif(tmp_path):
    path = Path(formats()["sif"].sample(str(tmp_path))[0])
    content = path.read_bytes()
    path.write_bytes(content[:-100])  # a frame has 96 bytes
    with pytest.warns(UserWarning, match=r"sample\.sif contains 1 of 3 frames"):
        ds = imload(path)
    np.testing.assert_array_equal(ds["image"].values, np.arange(24, dtype="f4").reshape(1, 4, 6))
    tracks = content.replace(
        b"65541 1 4 6 1 3 1 72 24\n65538 1 4 6 1 1 1 0\n",
        b"65541 1 4 6 1 3 2 72 12\n65538 1 2 6 1 1 1 0\n65538 1 4 6 3 1 1 0\n",
    )
    path.write_bytes(tracks)
    ds = imload(path)
    assert dict(ds["image"].sizes) == {"i": 2, "t": 3, "y": 2, "x": 6}
    np.testing.assert_array_equal(ds["image"].transpose("t", "i", "y", "x").values.ravel(), np.arange(72))
    path.write_bytes(tracks.replace(b"65538 1 4 6 3 1 1 0", b"65538 1 3 6 3 1 1 0"))
    with pytest.raises(FormatError, match="2 areas of the detector with 2 sizes"):
        imload(path)
    path.write_bytes(content.replace(b"1 3 1 72 24", b"1 4 1 72 24"))
    with pytest.raises(FormatError, match=r"sample\.sif"):
        imload(path)


# Princeton Instruments SPE


def test_spe(data, in_memory):
    path = data / "spe" / "test_000_.SPE"
    for uri in (path, in_memory(path)):
        ds = imload(uri, chunks={"t": 1, "y": 9})
        assert (ds.attrs["driver"], ds["image"].dims, ds["image"].shape) == ("spe", tuple("tyx"), (2, 32, 32))
        assert digest(ds["image"].values) == "eabb0d990a70"
        assert ds["image"].dtype == np.uint16


def spe3(path, xml, frames):
    head = bytearray(4100)
    struct.pack_into("<H", head, 108, 3)
    struct.pack_into("<f", head, 1992, 3.0)
    struct.pack_into("<Q", head, 678, 4100 + len(frames))
    path.write_bytes(bytes(head) + frames + xml.encode())


def test_regions_of_interest_of_spe(tmp_path):
    """Version 3: two regions a frame, metadata between the frames, and wavelengths."""
    one, two = (
        np.arange(2 * 3 * 5).astype("<u4").reshape(2, 3, 5),
        1000 + np.arange(2 * 4).astype("<u4").reshape(2, 1, 4),
    )
    frames = b"".join(one[k].tobytes() + two[k].tobytes() + b"metadata" for k in range(2))
    xml = """<SpeFormat version="3.0" xmlns="http://www.princetoninstruments.com/spe/2009"><DataFormat>
        <DataBlock type="Frame" count="2" pixelFormat="MonochromeUnsigned32" size="76" stride="84">
        <DataBlock type="Region" count="1" width="5" height="3" size="60" stride="60"/>
        <DataBlock type="Region" count="1" width="4" height="1" size="16" stride="16"/></DataBlock></DataFormat>
        <Calibrations><WavelengthMapping><Wavelength>500,500.5,501,502</Wavelength></WavelengthMapping></Calibrations>
        </SpeFormat>"""
    spe3(tmp_path / "a.spe", xml, frames)
    first, second = imload(tmp_path / "a.spe"), imload(tmp_path / "a.spe", scene=1)
    np.testing.assert_array_equal(first["image"].values, one)
    np.testing.assert_array_equal(second["image"].values, two)
    assert "x" not in first.coords
    assert second["x"].values.tolist() == [500, 500.5, 501, 502]
    assert second["x"].attrs["units"] == "nm"
    spe3(tmp_path / "a.spe", xml.replace('width="5"', 'width="500"').replace('stride="60"', ""), frames)
    with pytest.raises(FormatError, match="it is damaged"):
        imload(tmp_path / "a.spe")
    spe3(tmp_path / "a.spe", "<!DOCTYPE a [<!ENTITY b 'c'>]>" + xml, frames)
    with pytest.raises(FormatError, match="entities"):
        imload(tmp_path / "a.spe")


def test_interrupted_spe(data, tmp_path):
    content = (data / "spe" / "test_000_.SPE").read_bytes()
    (tmp_path / "a.spe").write_bytes(content[:-8])
    with pytest.warns(UserWarning, match=r"a\.spe contains 1 of 2 frames"):
        assert imload(tmp_path / "a.spe").sizes["t"] == 1
    for n in (4000, 4100, 5000):
        (tmp_path / "a.spe").write_bytes(content[:n])
        with pytest.raises(FormatError, match=r"a\.spe"):
            imload(tmp_path / "a.spe")
