"""MetaImage: places of pixels, old spellings; judged by SimpleITK. And positions through three formats."""

from __future__ import annotations

import bz2
import gzip
import zlib

import numpy as np
import pytest
import xarray as xr

from intake_img import imload, imsave
from intake_img.errors import CannotWriteError, FormatError, SourceChangedError
from intake_img.plugin import Affine, Image, Pixels
from intake_img.testing import assert_same

simple = pytest.importorskip("SimpleITK")
VALUES = (np.arange(3 * 4 * 5).reshape(3, 4, 5) * 37 % 251).astype("i2")
TURN = np.array([[0.8, -0.6, 0, 11.5], [0.6, 0.8, 0, -7.25], [0, 0, -1, 3], [0, 0, 0, 1.0]]) @ np.diag([0.1, 2, 3, 1])


def judged(path):
    """Pixels, and the matrix in LPS+, as SimpleITK reads them."""
    image = simple.ReadImage(str(path))
    n = image.GetDimension()
    matrix = np.eye(n + 1)
    matrix[:n, :n] = np.reshape(image.GetDirection(), (n, n)) * image.GetSpacing()
    matrix[:n, n] = image.GetOrigin()
    return simple.GetArrayFromImage(image), matrix


@pytest.mark.parametrize("name", ["BrainProtonDensitySliceBorder20.mhd", "blob3.mha", "fuel.mha"])
def test_real_files(data, name):
    path = data / "metaimage" / name
    expected, matrix = judged(path)
    ds = imload(path)
    assert (ds.attrs["driver"], ds.img.axes) == ("metaimage", "zyx"[-expected.ndim :])
    np.testing.assert_array_equal(ds.image, expected)
    assert ds.image.dtype == expected.dtype
    assert set(ds.img.spacing.values()) == {1}
    if expected.ndim == 3:
        np.testing.assert_array_equal(ds.img.affine("LPS+"), matrix)
    part = imload(path, chunks={"y": 7}).image[..., 3:30:2, 5:]
    np.testing.assert_array_equal(part, expected[..., 3:30:2, 5:])


@pytest.mark.parametrize("packed", [False, True])
def test_what_simpleitk_writes(tmp_path, packed):
    image = simple.GetImageFromArray(VALUES)
    image.SetSpacing((0.1, 2, 3))
    image.SetOrigin((11.5, -7.25, 3))
    image.SetDirection((0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, -1))
    vectors = simple.GetImageFromArray(np.stack([VALUES, -VALUES, VALUES // 2], -1).astype("f4"), isVector=True)
    for name in ("a.mha", "a.mhd"):
        simple.WriteImage(image, tmp_path / name, packed)
        ds = imload(tmp_path / name)
        np.testing.assert_array_equal(ds.image, VALUES)
        np.testing.assert_allclose(ds.img.affine("LPS+"), TURN, rtol=1e-12)
        simple.WriteImage(vectors, tmp_path / name, packed)
        ds = imload(tmp_path / name, output_axis_order=None)
        assert ds.img.axes == "zyxc"
        np.testing.assert_array_equal(ds.image, judged(tmp_path / name)[0])


def head(**fields):
    known = {
        "ObjectType": "Image",
        "NDims": 3,
        "DimSize": "5 4 3",
        "ElementType": "MET_SHORT",
        "ElementDataFile": "LOCAL",
    }
    last = {**known, **fields}.pop("ElementDataFile")
    fields = {k: v for k, v in {**known, **fields}.items() if v is not None and k != "ElementDataFile"}
    return "".join(f"{k} = {v}\n" for k, v in fields.items()) + f"ElementDataFile = {last}\n"


def test_places_and_old_spellings(tmp_path):
    raw = VALUES.tobytes()
    (tmp_path / "a.raw").write_bytes(b"skipped" + raw)
    for z in range(3):
        (tmp_path / f"s{z + 1:02d}.raw").write_bytes(VALUES[z].tobytes())
    files = {
        "a.mha": head().encode() + raw,
        "b.mha": head(HeaderSize=7, ElementDataFile="a.raw").encode(),
        "c.mha": head(HeaderSize=-1, ElementDataFile="a.raw").encode()[:-1],
        "d.mhd": head(ElementDataFile="LIST\ns01.raw\ns02.raw\ns03.raw").encode(),
        "e.mhd": head(ElementDataFile="s%02d.raw 1 3 1").encode(),
        "f.mhd": head(ElementDataFile="LIST 2D\ns01.raw\ns02.raw\ns03.raw\n").encode(),
        "g.mha": head(BinaryData=False).encode() + " ".join(map(str, VALUES.ravel())).encode(),
        "h.mha": head(ElementByteOrderMSB=True).encode() + VALUES.astype(">i2").tobytes(),
        "i.mha": head(CompressedData=True).encode() + zlib.compress(raw),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        np.testing.assert_array_equal(imload(tmp_path / name).image, VALUES, name)
        np.testing.assert_array_equal(imload(tmp_path / name, chunks={"y": 3}).image[1:, 2, ::2], VALUES[1:, 2, ::2])
    lazy = imload(tmp_path / "b.mha")
    (tmp_path / "a.raw").write_bytes(bytes(7) + raw)
    with pytest.raises(SourceChangedError):
        lazy.compute()
    (tmp_path / "j.mha").write_bytes(head(ElementSize="1 2 3", Position="4 5 6", DistanceUnits="um").encode() + raw)
    ds = imload(tmp_path / "j.mha")
    assert ds.img.spacing == {"x": 1, "y": 2, "z": 3}
    assert ds.img.units == dict.fromkeys("xyz", "µm")
    assert [float(ds[a][0]) for a in "xyz"] == [4, 5, 6]
    assert ds.img.affine() is None
    (tmp_path / "k.mha").write_bytes(head().encode() + raw)
    assert imload(tmp_path / "k.mha").img.spacing == {}


def volume(dtype="u2", **attrs):
    grid = (("x", 5, 130.0, "nm"), ("y", 4, 0.13, "µm"), ("z", 3, 0.5, "µm"), ("t", 2, 1500.0, "ms"))
    spaced = {a: (a, np.arange(n) * step + 3, {"units": unit, "spacing": step}) for a, n, step, unit in grid}
    pixels = np.broadcast_to(VALUES, (2, 3, 3, 4, 5)).astype(dtype) + np.arange(3, dtype=dtype)[:, None, None, None]
    return xr.Dataset({"image": (tuple("tczyx"), pixels, attrs)}, {**spaced, "c": ["α " * 6000, "b\n", " d"]})


@pytest.mark.parametrize("compress", [None, True])
def test_what_is_written_is_judged_by_others(tmp_path, compress):
    path = tmp_path / "a.mha"
    for dtype in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"):
        given = volume(dtype)
        imsave(given, path, compress, overwrite=True)
        assert_same(imload(path), given)
        pixels, matrix = judged(path)
        np.testing.assert_array_equal(pixels, given.image.transpose("t", "z", "y", "x", "c"))
        assert pixels.dtype == dtype
    np.testing.assert_allclose(
        matrix,
        np.array([[0.13, 0, 0, 0, 0.003], [0, 0.13, 0, 0, 3], [0, 0, 0.5, 0, 3], [0, 0, 0, 1500, 3], [0, 0, 0, 0, 1]]),
    )
    assert "DistanceUnits = um" in path.read_bytes()[:900].decode()


def circle(tmp_path, given, endings):
    for n, ending in enumerate(endings):
        imsave(given, tmp_path / f"{n}{ending}")
        given = imload(tmp_path / f"{n}{ending}")
    return given


@pytest.mark.parametrize("space", ["RAS+", "LPS+"])
@pytest.mark.parametrize("unit", ["mm", "µm", ""])
def test_positions_stay_through_formats(tmp_path, space, unit):
    given = (
        Image.single(Pixels.of(VALUES), "zyx")
        .placed(Affine(TURN / 3 + np.diag([0, 0, 0, 2 / 3]), space, unit))
        .to_xarray()
    )
    for endings in ((".nii.gz", ".nrrd", ".mha", ".nii"), (".mha", ".nii", ".nrrd", ".mha")):
        found = circle(tmp_path, given, endings)
        assert (found.img.affine(space) == given.img.affine(space)).all()
        assert found.equals(given)
        for n, ending in enumerate(endings):
            _, matrix = judged(tmp_path / f"{n}{ending}")
            worth = 1e-3 if unit == "µm" and "nii" in ending else 1  # ITK knows the units of NIfTI alone
            expected = np.diag([worth, worth, worth, 1]) @ given.img.affine("LPS+")
            np.testing.assert_allclose(matrix, expected, rtol=1e-5, atol=1e-6)
        for path in tmp_path.iterdir():
            path.unlink()
    part = given.isel(x=slice(1, None, 2), z=slice(1, None))
    found = circle(tmp_path, part, (".nii", ".nrrd", ".mha"))
    assert (found.img.affine() == part.img.affine()).all()


def test_real_positions_stay(tmp_path, data):
    for name in ("nifti/FLAIR.nii.gz", "nrrd/FLAIR.nrrd", "nifti/ras.hdr"):
        given = imload(data / name).isel(z=slice(5, 9))
        for ending in (".nii", ".nrrd", ".mha"):
            imsave(given, tmp_path / f"a{ending}", overwrite=True)
            found = imload(tmp_path / f"a{ending}")
            assert (found.img.affine() == given.img.affine()).all()
            assert found.equals(given)


def test_a_changed_header_is_believed(tmp_path):
    given = Image.single(Pixels.of(VALUES), "zyx").placed(Affine(TURN, "LPS+", "mm")).to_xarray()
    imsave(given, tmp_path / "a.mha")
    content = (tmp_path / "a.mha").read_bytes()
    (tmp_path / "b.mha").write_bytes(content.replace(b"Offset = 11.5 ", b"Offset = 12.5 "))
    assert imload(tmp_path / "b.mha").img.affine("LPS+")[0, 3] == 12.5


def test_refusals(tmp_path):
    given = volume()
    with pytest.raises(CannotWriteError, match=r"save as \.mha"):
        imsave(given, tmp_path / "a.mhd", compress=True)
    for bad in (given.isel(x=slice(0)), given.astype("c8")):
        with pytest.raises(CannotWriteError, match="shape"):
            imsave(bad, tmp_path / "a.mha")
    for fields, why in (
        ({"ElementType": "MET_STRING"}, "'STRING'"),
        ({"DimSize": "5 4"}, "1 to 10"),
        ({"NDims": "x"}, "numbers"),
        ({"DimSize": None}, "lacks DimSize"),
        ({"DimSize": "500 4 3"}, "truncated"),
        ({"HeaderSize": -5}, "HeaderSize"),
        ({"CompressedData": True}, "damaged"),
        ({"ElementNumberOfChannels": -1}, "positive"),
        ({"ElementDataFile": "gone.raw"}, "gone.raw, which is missing"),
        ({"BinaryData": False}, "numbers|cannot be read"),
    ):
        (tmp_path / "a.mha").write_bytes(head(**fields).encode() + VALUES.tobytes())
        with pytest.raises(FormatError, match=why):
            imload(tmp_path / "a.mha").compute()


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress])
def test_compressed_pixels_that_the_header_calls_raw(tmp_path, compress):
    (tmp_path / "a.raw").write_bytes(compress(VALUES.tobytes()))
    (tmp_path / "a.mhd").write_text(head(ElementDataFile="a.raw"))
    with pytest.raises(FormatError, match="compressed"):
        imload(tmp_path / "a.mhd")
