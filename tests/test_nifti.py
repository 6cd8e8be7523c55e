"""NIfTI and Analyze: every kind of file that nibabel writes, positions in space, scaled values, records."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import warnings

import fsspec
import numpy as np
import pytest
import xarray as xr

from intake_img import autodetect, imload, imsave
from intake_img.errors import CannotWriteError, FormatError, SourceChangedError
from intake_img.formats.nifti.header import LAYOUTS
from intake_img.testing import assert_same

nibabel = pytest.importorskip("nibabel")
TURN = np.array([[0.8, -0.6, 0, 11.5], [0.6, 0.8, 0, -7.25], [0, 0, -1, 3], [0, 0, 0, 1.0]]) @ np.diag([0.5, 2, 3, 1])
TYPES = ("u1", "i2", "i4", "f4", "c8", "f8", "i1", "u2", "u4", "i8", "u8", "c16")


def judged(path):
    """Pixels as nibabel reads them, in C order, and its matrix."""
    image = nibabel.load(path)
    return np.asanyarray(image.dataobj).T, image.affine


def values(shape, dtype="i2"):
    return (np.arange(np.prod(shape)).reshape(shape) * 37 % 251).astype(dtype)


@pytest.mark.parametrize(
    ("name", "axes", "spacing", "space"),
    [
        ("FLAIR.nii.gz", "zyx", (1, 1, 1), "aligned"),
        ("functional.nii", "tzyx", (4, 4, 8), "aligned"),
        ("ras.hdr", "zyx", (2.3852322101593018, 2.389753818511963, 2.3664863109588623), None),
        ("ras.img", "zyx", (2.3852322101593018, 2.389753818511963, 2.3664863109588623), None),
    ],
)
def test_real_files(data, name, axes, spacing, space):
    path = data / "nifti" / name
    ds = imload(path)
    expected, matrix = judged(str(path))
    assert ds.img.axes == axes
    assert ds.attrs["driver"] == "nifti"
    np.testing.assert_array_equal(ds.image.values, expected)
    assert ds.image.dtype == expected.dtype
    assert [ds.img.spacing[a] for a in "xyz"] == pytest.approx(spacing, rel=1e-3)
    assert ds.img.units["x"] == "mm"
    np.testing.assert_array_equal(ds.img.affine(), matrix)
    if space:
        assert ds.attrs["space"] == space
    if "t" in axes:
        assert ds.img.spacing["t"] == 2
        stored = imload(path, scaled=False).image
        assert stored.dtype == "i2"
        np.testing.assert_array_equal(stored, np.asarray(nibabel.load(path).dataobj.get_unscaled()).T)
        part = imload(path, chunks={"z": 1, "y": 5}).image[3, 1:, 2:9, 5]
        np.testing.assert_array_equal(part, expected[3, 1:, 2:9, 5])
    crop = ds.isel(x=slice(3, None, 2), z=slice(1, None))
    np.testing.assert_allclose(crop.img.affine() @ [1, 2, 0, 1], matrix @ [5, 2, 1, 1])


def test_colours(data):
    ds = imload(data / "nifti" / "rgb24.nii")
    expected = np.load(data / "nifti" / "rgb24.npy")
    assert ds.img.axes == "czyx"
    assert ds.img.channels == ["R", "G", "B"]
    np.testing.assert_array_equal(ds.image.transpose("x", "y", "z", "c"), expected)
    assert ds.img.spacing == {"x": 1, "y": 2, "z": 3}


@pytest.mark.parametrize("kind", ["Nifti1Image", "Nifti2Image", "Nifti1Pair", "Nifti2Pair", "AnalyzeImage"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_what_nibabel_writes(tmp_path, kind, order):
    cls = getattr(nibabel, kind)
    for shape in ((7,), (5, 4), (5, 4, 3), (5, 4, 3, 2), (3, 2, 1, 1, 4), (2, 1, 3, 1, 2, 2), (2, 1, 3, 1, 2, 1, 2)):
        for dtype in TYPES if len(shape) == 3 else ("f4",):
            if kind == "AnalyzeImage" and np.dtype(dtype) not in map(np.dtype, ("u1", "i2", "i4", "f4", "c8", "f8")):
                continue
            pixels = values(shape, dtype)
            image = cls(pixels, TURN, cls.header_class(endianness=order), dtype=dtype)
            suffix = ".nii" if kind.endswith("Image") and kind != "AnalyzeImage" else ".img"
            path = tmp_path / f"{len(shape)}{dtype}{suffix}"
            nibabel.save(image, path)
            if suffix == ".img":
                path = path.with_suffix(".hdr")
            ds = imload(path, output_axis_order=None)
            assert ds.img.axes == "xyztcvw"[: len(shape)][::-1]
            np.testing.assert_array_equal(ds.image, pixels.T)
            assert ds.image.dtype == dtype
            if len(shape) > 1 and kind != "AnalyzeImage":
                np.testing.assert_array_equal(ds.img.affine(), nibabel.load(path).affine)


def changed(path, target, **fields):
    """Copy a file of NIfTI-1 with other values of fields."""
    content = path.read_bytes()
    header = np.frombuffer(content, LAYOUTS[348], 1)[0].copy()
    for name, value in fields.items():
        header[name] = value
    target.write_bytes(header.tobytes() + content[348:])


def test_qform_and_disagreement(tmp_path):
    image = nibabel.Nifti1Image(values((4, 3, 2)), None)
    for k, matrix in enumerate([TURN, TURN @ np.diag([1, 1, -1, 1]), *map(np.diag, ([-1, -1, 1, 1], [1, -1, -1, 1]))]):
        image.set_qform(matrix, 1)
        nibabel.save(image, tmp_path / f"{k}.nii")
        ds = imload(tmp_path / f"{k}.nii")
        np.testing.assert_allclose(ds.img.affine(), nibabel.load(tmp_path / f"{k}.nii").affine, atol=1e-12)
        np.testing.assert_allclose(ds.img.affine(), matrix, atol=1e-6)
        assert ds.attrs["space"] == "scanner"
    nibabel.save(nibabel.Nifti1Image(values((4, 3, 2)), TURN), tmp_path / "a.nii")
    changed(tmp_path / "a.nii", tmp_path / "b.nii", pixdim=[1, 9, 9, 9, 0, 0, 0, 0], sform_code=4)
    with pytest.warns(UserWarning, match="which is used"):
        ds = imload(tmp_path / "b.nii")
    assert ds.img.spacing["x"] == pytest.approx(0.5)
    assert ds.attrs["space"] == "mni152"
    changed(tmp_path / "b.nii", tmp_path / "c.nii", srow=np.diag([9, 9, 0, 1])[:3])
    with pytest.warns(UserWarning, match="left out"):
        ds = imload(tmp_path / "c.nii")
    assert ds.img.affine() is None
    assert ds.img.spacing == {"x": 9, "y": 9, "z": 9}


def volume(dtype="u2", **attrs):
    spaced = {
        a: (a, np.arange(n) * s, {"units": u, "spacing": s})
        for a, n, s, u in (("x", 7, 130.0, "nm"), ("y", 5, 0.13, "µm"), ("z", 4, 0.5, "µm"), ("t", 2, 1500.0, "ms"))
    }
    pixels = values((2, 3, 4, 5, 7), dtype)
    return xr.Dataset({"image": (tuple("tczyx"), pixels, attrs)}, {**spaced, "c": ["a", "b", "d"]})


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("version", [1, 2])
def test_what_is_written_is_judged_by_others(tmp_path, name, version):
    path = tmp_path / name
    for dtype in TYPES:
        given = volume(dtype)
        imsave(given, path, overwrite=True, version=version)
        pixels, _ = judged(path)
        np.testing.assert_array_equal(pixels, given.image.transpose("c", "t", "z", "y", "x"))
        assert pixels.dtype == dtype
        assert_same(imload(path), given)
    header = nibabel.load(path).header
    np.testing.assert_allclose(header.get_zooms(), (0.13, 0.13, 0.5, 1500, 0))
    assert header.get_xyzt_units() == ("micron", "msec")
    assert header["sform_code"] == header["qform_code"] == 0
    if version == 2:
        return  # the others read NIfTI-1 alone
    if tool := shutil.which("nifti_tool"):
        command = [tool, "-check_hdr", "-check_nim", "-infiles", str(path)]
        found = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert "nifti_image IS GOOD" in found.stdout, found.stdout + found.stderr
    simple = pytest.importorskip("SimpleITK")
    given = volume("f4")
    imsave(given.isel(t=0, c=0), path, overwrite=True, version=version)
    found = simple.ReadImage(str(path))
    np.testing.assert_array_equal(simple.GetArrayFromImage(found), given.image[0, 0])
    np.testing.assert_allclose(found.GetSpacing(), (0.13e-3, 0.13e-3, 0.5e-3), rtol=1e-6)  # it converts to mm


def test_a_long_axis_is_nifti_2(tmp_path):
    given = xr.DataArray(np.zeros((2, 40000), "u1"), dims=list("yx"))
    imsave(given, tmp_path / "a.nii")
    assert isinstance(nibabel.load(tmp_path / "a.nii"), nibabel.Nifti2Image)
    with pytest.raises(CannotWriteError, match="too long"):
        imsave(given, tmp_path / "b.nii", version=1)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_positions_and_labels_stay(tmp_path, name):
    nibabel.save(nibabel.Nifti1Image(values((4, 3, 2)), TURN), tmp_path / "g.nii")
    given = imload(tmp_path / "g.nii").isel(x=slice(1, None))
    given.image.attrs["kind"] = "labels"
    imsave(given, tmp_path / name)
    found = nibabel.load(tmp_path / name)
    np.testing.assert_allclose(found.affine, given.img.affine(), rtol=1e-7)
    assert found.header["intent_code"] == 1002
    ds = imload(tmp_path / name)
    assert_same(ds, given)
    assert (ds.img.affine() == given.img.affine()).all()
    moved = nibabel.Nifti1Image(found.dataobj, TURN, found.header)  # keeps our record, which holds no longer
    nibabel.save(moved, tmp_path / "moved.nii")
    ds = imload(tmp_path / "moved.nii")
    assert (ds.img.affine() == nibabel.load(tmp_path / "moved.nii").affine).all()
    assert ds.image.attrs == {"kind": "labels"}
    slice_ = imload(tmp_path / name).isel(z=1)
    imsave(slice_, tmp_path / f"slice{name}")
    assert (imload(tmp_path / f"slice{name}").img.affine() == slice_.img.affine()).all()


def test_refusals(tmp_path):
    given = volume()
    for name, compress, why in (
        ("a.nii", True, "by the name"),
        ("a.nii.gz", False, "by the name"),
        ("a.nii.gz", 17, "1 .quick. to 9"),
        ("a.hdr", 1, r"save as \.nii\.gz"),
    ):
        with pytest.raises(CannotWriteError, match=why):
            imsave(given, tmp_path / name, compress=compress)
    with pytest.raises(CannotWriteError, match="version"):
        imsave(given, tmp_path / "a.nii", version=3)
    imsave(given, tmp_path / "a.nii.gz", compress=9)
    whole = gzip.decompress((tmp_path / "a.nii.gz").read_bytes())
    (tmp_path / "whole.nii").write_bytes(whole)
    for place, n, why in ((0, 9, "9 axes"), (1, 0, "positive"), (2, -3, "positive"), (1, 3000, "truncated")):
        dim = np.frombuffer(whole, LAYOUTS[348], 1)[0]["dim"].copy()
        dim[place] = n
        changed(tmp_path / "whole.nii", tmp_path / "dim.nii", dim=dim)
        with pytest.raises(FormatError, match=why):
            imload(tmp_path / "dim.nii")
    changed(tmp_path / "whole.nii", tmp_path / "bomb.nii", dim=[5, *[32767] * 5, 1, 1])
    (tmp_path / "bomb.nii.gz").write_bytes(gzip.compress((tmp_path / "bomb.nii").read_bytes()))
    with pytest.raises(FormatError, match="at most: it is truncated"):
        imload(tmp_path / "bomb.nii.gz")
    changed(tmp_path / "whole.nii", tmp_path / "wide.nii", datatype=1536)
    with pytest.raises(FormatError, match="data type 1536"):
        imload(tmp_path / "wide.nii")


def test_pairs(tmp_path, data):
    for ending in ("hdr", "img"):
        shutil.copy(data / "nifti" / f"ras.{ending}", tmp_path / f"RAS.{ending.upper()}")
    lazy = imload(tmp_path / "RAS.HDR")
    assert imload(tmp_path / "RAS.IMG").equals(lazy)
    (tmp_path / "RAS.IMG").write_bytes((tmp_path / "RAS.IMG").read_bytes())
    with pytest.raises(SourceChangedError):
        lazy.compute()
    (tmp_path / "RAS.IMG").unlink()
    with pytest.raises(FormatError, match=r"pixels are in RAS\.IMG, which is missing"):
        imload(tmp_path / "RAS.HDR")


def test_remote(data):
    fs = fsspec.filesystem("memory")
    for name in ("FLAIR.nii.gz", "ras.hdr", "ras.img"):
        fs.pipe(f"/nifti/{name}", (data / "nifti" / name).read_bytes())
    for name in ("FLAIR.nii.gz", "ras.hdr"):
        ds = imload(f"memory://nifti/{name}")
        np.testing.assert_array_equal(ds.image[3:5, ::2], judged(data / "nifti" / name)[0][3:5, ::2])
    fs.rm("/nifti", recursive=True)


def test_the_bytes_decide(tmp_path, data):
    shutil.copy(data / "nifti" / "FLAIR.nii.gz", tmp_path / "scan.gz")
    assert autodetect(tmp_path / "scan.gz").name == "nifti"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (tmp_path / "a.hdr").write_bytes(b"#?RADIANCE\n" + bytes(600))
        with pytest.raises(FormatError, match="348 or 540"):
            imload(tmp_path / "a.hdr")
