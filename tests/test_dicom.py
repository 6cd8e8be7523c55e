"""DICOM: real files against pydicom and SimpleITK, volumes with traps, segmentations, slides, and what we write."""

from __future__ import annotations

import logging
import shutil
import subprocess
import warnings
import zlib
from pathlib import Path

import fsspec
import numpy as np
import pytest
import xarray as xr

from intake_img import imload, imsave
from intake_img.errors import CannotWriteError, FormatError
from intake_img.formats.dicom import header
from intake_img.model.affine import Affine
from intake_img.model.image import Image
from intake_img.model.pixels import Pixels
from intake_img.storage.files import File

pydicom = pytest.importorskip("pydicom")
TRANSPOSED = {3: (2, 0, 1), 4: (0, 3, 1, 2)}


def reference(path):
    """The stored numbers as pydicom decodes them, colours before y and x; None where it cannot."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = pydicom.dcmread(path, force=True)
            values, colours = found.pixel_array, found.get("SamplesPerPixel", 1) > 1
    except Exception:
        return None
    return values.transpose(TRANSPOSED[values.ndim]) if colours else values


def own_files():
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    return sorted(folder.glob("*.dcm"))


@pytest.mark.filterwarnings("ignore")
def test_all_files_of_pydicom_read_as_pydicom_reads_them_or_are_refused(monkeypatch):
    monkeypatch.setattr(logging.getLogger("pydicom"), "disabled", True)  # it logs what it raises, with all frames
    monkeypatch.setattr(logging.getLogger("pydicom.pixels.decoders.base"), "disabled", True)
    read = []
    for path in own_files():
        expected = reference(path)
        try:
            ds = imload(path, scaled=False)
            values = ds["image"].values
        except FormatError:
            assert expected is None or path.stem in ("liver_1frame", "liver_expb_1frame"), (
                path
            )  # 3 descriptions of 1 frame
            continue
        read.append(path.stem)
        if expected is not None:
            np.testing.assert_array_equal(values, expected, err_msg=path.name)
            part = imload(path, scaled=False)["image"][..., 1:7, 2:9].values
            np.testing.assert_array_equal(part, expected[..., 1:7, 2:9], err_msg=path.name)
    assert len(read) > 50
    assert {"JPEG-lossy", "JPGExtended", "SC_rgb_jpeg_gdcm", "image_dfl", "SC_rgb_jpeg"} <= set(read)


@pytest.mark.filterwarnings("ignore:.*a mosaic of 48 slices .* does not fit its plane of 256 x 256")
@pytest.mark.parametrize(
    ("name", "axes", "spacing", "low", "high"),
    [
        ("CT_small.dcm", "yx", 0.661468, -896, 1167),
        ("ct_image.dcm", "yx", 0.661468, -896, 1167),  # begins like a TIFF
        ("MR_small.dcm", "yx", 0.3125, 127, 2145),
        ("0.dcm", "yx", 1.796875, 0, 4095),
        ("examples_rgb_color.dcm", "cyx", None, 0, 255),
        ("sm_image_jpegls.dcm", "cyx", None, 195, 255),
    ],
)
def test_known_values(data, name, axes, spacing, low, high):
    ds = imload(data / "dicom" / name)
    assert ds.attrs["driver"] == "dicom"
    assert ds.img.axes == axes
    assert (ds.image.min(), ds.image.max()) == (low, high)
    if spacing is not None:
        assert ds.img.spacing == {"y": spacing, "x": spacing}
        assert ds.img.units == {"y": "mm", "x": "mm"}


def test_whole_slides_are_planes(data):
    grey = imload(data / "dicom" / "sm_image_grayscale.dcm")["image"]
    assert dict(grey.sizes) == {"y": 50, "x": 50}
    expected = np.arange(25).reshape(5, 5).repeat(10, 0).repeat(10, 1)  # tile k holds k
    np.testing.assert_array_equal(grey.values, expected)
    np.testing.assert_array_equal(grey[7:33, 9:21].values, expected[7:33, 9:21])
    colours = [imload(data / "dicom" / f"sm_image{n}.dcm")["image"].values for n in ("", "_jpegls")]
    np.testing.assert_array_equal(*colours)


def test_segmentations(data):
    ds = imload(data / "dicom" / "seg_image_ct_binary.dcm")
    assert dict(ds.sizes) == {"c": 1, "z": 3, "y": 16, "x": 16}
    assert ds.image.dtype == bool
    assert ds.img.channels == ["first segment"]
    assert ds.img.spacing["z"] == 1.25
    frames = reference(data / "dicom" / "seg_image_ct_binary.dcm")
    assert ds.image.values.sum() == frames.sum()
    dots = imload(data / "dicom" / "seg_image_sm_dots_tiled_full.dcm")["image"]
    tiles = reference(data / "dicom" / "seg_image_sm_dots_tiled_full.dcm").reshape(50, 5, 5, 10, 10)
    np.testing.assert_array_equal(dots.values, tiles.transpose(0, 1, 3, 2, 4).reshape(50, 50, 50).astype(bool))
    assert {image.attrs["kind"] for image in (ds.image, dots)} == {"mask"}


@pytest.mark.parametrize(("kind", "sizes"), [("LABELMAP", "zyx"), ("FRACTIONAL", "czyx")])
def test_segmentations_of_more_than_one_bit(data, tmp_path, kind, sizes):
    stored = pydicom.dcmread(data / "dicom" / "seg_image_ct_binary.dcm")
    numbers = np.arange(3 * 16 * 16, dtype="u1").reshape(3, 16, 16) % 101
    stored.BitsAllocated, stored.BitsStored, stored.HighBit, stored.PixelData = 8, 8, 7, numbers.tobytes()
    stored.SegmentationType, stored.MaximumFractionalValue = kind, 100
    stored.save_as(tmp_path / "a.dcm")
    image = imload(tmp_path / "a.dcm")["image"]
    assert "".join(image.dims) == sizes
    np.testing.assert_array_equal(imload(tmp_path / "a.dcm", scaled=False).image.values.squeeze(), numbers)
    if kind == "LABELMAP":
        assert (image.attrs["kind"], image.dtype) == ("labels", np.uint8)
    else:
        assert (image.attrs.get("kind"), image.dtype) == (None, np.float32)
        np.testing.assert_allclose(image.values[0], numbers / 100, rtol=1e-6)


@pytest.mark.parametrize("kind", ["relative", "of the patient", "descending", "feet first"])
def test_a_dose_lies_where_simpleitk_finds_it(tmp_path, kind):
    sitk = pytest.importorskip("SimpleITK")
    stored = pydicom.dcmread(pydicom.data.get_testdata_file("rtdose.dcm", download=False))
    offsets = np.array(stored.GridFrameOffsetVector, float)
    if kind == "of the patient":
        offsets += stored.ImagePositionPatient[2]
    if kind == "descending":
        offsets = -offsets
    if kind == "feet first":
        stored.ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]
    stored.GridFrameOffsetVector, stored.DoseUnits = offsets.tolist(), "GY"
    stored.save_as(tmp_path / "a.dcm")
    ds = imload(tmp_path / "a.dcm")
    assert ds.image.attrs["units"] == "Gy"
    assert ds.img.spacing == {"z": 5.0, "y": 10.0, "x": 10.0}
    values = stored.pixel_array * float(stored.DoseGridScaling)
    order = -1 if kind == "descending" else 1
    np.testing.assert_allclose(ds.image.values, values[::order], rtol=1e-12)
    matrix = ds.img.affine("LPS+")
    corners = {(0, 0, 0): 0, (3, 2, 14): 14}
    if kind == "relative":
        volume = sitk.ReadImage(tmp_path / "a.dcm")
        for index in corners:
            np.testing.assert_allclose((matrix @ [*index, 1])[:3], volume.TransformIndexToPhysicalPoint(index))
    start = np.array(stored.ImagePositionPatient, float)
    along = -1 if kind == "feet first" else 1
    for (x, y, z), plane in corners.items():
        depth = offsets[::order][plane] - (start[2] if kind == "of the patient" else 0)
        place = start + np.array([along * 10 * x, 10 * y, along * depth])
        np.testing.assert_allclose((matrix @ [x, y, z, 1])[:3], place, err_msg=f"{z}")


def test_a_series_is_what_simpleitk_makes_of_it(data):
    sitk = pytest.importorskip("SimpleITK")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(data / "dicom_ct3")))
    volume = reader.Execute()
    ds = imload(data / "dicom_ct3")
    np.testing.assert_array_equal(ds.image.values, sitk.GetArrayFromImage(volume))
    np.testing.assert_allclose(list(ds.img.spacing.values()), volume.GetSpacing()[::-1])
    matrix = ds.img.affine("LPS+")
    for index in ((0, 0, 0), (5, 7, 2)):
        np.testing.assert_allclose((matrix @ [*index, 1])[:3], volume.TransformIndexToPhysicalPoint(index))


def test_slopes_of_slices_and_several_series(data):
    folder = data / "dicom_shuffled" / "two_series"
    ds = imload(folder)
    assert ds.attrs["scenes"] == ["1 spacing 3 slopes differ", "1 second series"]
    assert ds.img.spacing == {"z": 3.0, "y": 0.8, "x": 0.5}
    stored = [pydicom.dcmread(p) for p in folder.iterdir()]
    first = sorted(
        (s for s in stored if s.SeriesDescription == "spacing 3 slopes differ"), key=lambda s: s.ImagePositionPatient[2]
    )
    expected = np.stack([s.pixel_array * float(s.RescaleSlope) + float(s.RescaleIntercept) for s in first])
    np.testing.assert_array_equal(ds.image.values, expected)
    np.testing.assert_array_equal(ds.image[1::2, 3:5, -1].values, expected[1::2, 3:5, -1])
    np.testing.assert_array_equal(imload(folder, scaled=False).image.values, [s.pixel_array for s in first])
    assert imload(folder, scene="1 second series").image.shape == (3, 6, 6)


def series(folder, positions, series="1.2.3", normal=(0, 0, 1), start=0, **facts):
    """Write slices at positions, in random names, with the numbers of the files as pixels."""
    folder.mkdir(exist_ok=True)
    for k, depth in enumerate(positions):
        ds = pydicom.Dataset()
        ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", f"{series}.{k}"
        ds.SeriesInstanceUID, ds.Rows, ds.Columns, ds.SamplesPerPixel = series, 4, 5, 1
        ds.PhotometricInterpretation, ds.BitsAllocated, ds.BitsStored, ds.HighBit = "MONOCHROME2", 16, 12, 11
        ds.PixelRepresentation, ds.PixelSpacing, ds.InstanceNumber = 0, [0.5, 0.25], 100 - k
        ds.ImageOrientationPatient, ds.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [1, 2, depth]
        ds.PatientName, ds.PatientBirthDate, ds.OperatorsName = "Doe^Jane", "19700101", "Roe^Richard"
        for name, values in facts.items():
            setattr(ds, name, values[k])
        ds.PixelData = np.full((4, 5), start + k | 0xF000, "<u2").tobytes()  # the upper bits are not pixels
        ds.file_meta = pydicom.dataset.FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        ds.save_as(folder / f"IM{(k * 7919) % 1000:03}", enforce_file_format=True)
    return folder


def test_a_table_of_values_is_told(tmp_path):
    table = pydicom.Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [16, 0, 16], "US"
    table.LUTData = np.arange(1000, 1016, dtype="<u2").tobytes()
    folder = series(tmp_path / "a", [0.0, 1.0], ModalityLUTSequence=[[table]] * 2)
    for path in (folder, next(iter(sorted(folder.iterdir())))):
        with pytest.warns(UserWarning, match="ModalityLUTSequence is not applied"):
            imload(path)
        imload(path, scaled=False)


def test_uneven_slices_keep_their_positions(tmp_path):
    ds = imload(series(tmp_path / "s", [10, 2, 0, 8, 4]))
    np.testing.assert_array_equal(ds.z, [0, 2, 4, 8, 10])
    np.testing.assert_array_equal(ds.image[:, 0, 0], [2, 1, 4, 3, 0])
    assert "z" not in ds.img.spacing
    assert ds.img.affine() is None


@pytest.mark.parametrize(
    ("facts", "axis", "labels"),
    [
        ({"TemporalPositionIdentifier": [2, 2, 1, 1]}, "t", None),
        ({"AcquisitionTime": ["105959.5", "105959.5", "110000", "110000"]}, "t", None),
        ({"EchoTime": [40, 40, 20, 20]}, "c", ["TE 20 ms", "TE 40 ms"]),
        ({"DiffusionBValue": [1000.0, 1000.0, 0.0, 0.0]}, "c", ["b 0", "b 1000"]),
        ({}, "t", None),
    ],
)
def test_several_frames_at_one_position(tmp_path, facts, axis, labels):
    ds = imload(series(tmp_path / "s", [0, 3, 0, 3], **facts))
    assert ds.image.dims == (axis, "z", "y", "x")
    expected = [[0, 1], [2, 3]] if "AcquisitionTime" in facts else [[2, 3], [0, 1]]
    np.testing.assert_array_equal(ds.image[:, :, 0, 0], expected)
    assert (ds["c"].values.tolist() if labels else None) == labels
    assert ds.img.spacing["z"] == 3


def test_a_missing_frame_reads_as_zero_with_a_warning(tmp_path):
    with pytest.warns(UserWarning, match="3 frames at 2 positions"):
        ds = imload(series(tmp_path / "s", [0, 3, 0], TemporalPositionIdentifier=[2, 2, 1]))
    np.testing.assert_array_equal(ds.image[:, :, 0, 0], [[2, 1], [0, 0]])


def test_names_of_people_do_not_enter_the_header(tmp_path):
    folder = series(tmp_path / "s", [0, 1])
    shown = imload(folder).attrs["fileheader"]
    assert "PixelSpacing" in shown
    assert not {"Doe", "Roe", "1970"} & set(shown.replace("^", " ").replace('"', " ").split())
    assert "Doe^Jane" not in shown
    assert "Doe^Jane" in imload(folder, patient=True).attrs["fileheader"]


def test_a_folder_that_changes_is_noticed(tmp_path):
    folder = series(tmp_path / "s", [0, 1])
    assert imload(folder).sizes["z"] == 2
    series(folder, [2], start=50)
    shutil.move(folder / "IM000", folder / "another")
    series(folder, [0])
    assert imload(folder).sizes["z"] == 3


@pytest.mark.parametrize(
    ("values", "axes", "coords"),
    [
        (np.arange(2 * 3 * 4 * 6, dtype="u2").reshape(2, 3, 4, 6), "czyx", {"c": ["DAPI", "GFP"]}),
        (np.random.default_rng(0).random((3, 5, 7)) > 0.5, "zyx", {}),
        (np.arange(-30, 30, dtype="i2").reshape(3, 4, 5), "tyx", {}),
        (np.arange(72, dtype="u1").reshape(3, 4, 6), "cyx", {"c": ["R", "G", "B"]}),
        (np.arange(15, dtype="u1").reshape(3, 5), "yx", {}),
    ],
)
def test_what_is_written_comes_back_and_is_valid(tmp_path, values, axes, coords):
    steps = {a: (a, 0.3 * np.arange(values.shape[axes.index(a)]), {"units": "mm", "spacing": 0.3}) for a in "yx"}
    image = xr.DataArray(values, dims=list(axes), coords={**coords, **steps}, name="image")
    path = tmp_path / "a.dcm"
    imsave(image, path)
    back = imload(path)
    np.testing.assert_array_equal(back.image.values, values)
    assert back.image.dtype == values.dtype
    assert back.img.spacing == {"y": 0.3, "x": 0.3}
    assert back.img.channels == coords.get("c")
    stored = pydicom.dcmread(path)
    frames = stored.pixel_array.astype("i4") - (32768 if values.dtype == "i2" else 0)
    outer = [n for a, n in zip(axes, values.shape, strict=True) if a not in "yx" and coords.get("c") != ["R", "G", "B"]]
    expected = np.moveaxis(values, 0, -1) if coords.get("c") == ["R", "G", "B"] else values
    np.testing.assert_array_equal(frames.reshape(expected.shape), expected)
    assert int(stored.NumberOfFrames) == np.prod(outer or [1])
    if shutil.which("dcmdump"):
        assert not subprocess.run(["dcmdump", "-q", path], capture_output=True, timeout=30, check=False).returncode
    if shutil.which("dciodvfy"):
        found = subprocess.run(["dciodvfy", path], capture_output=True, text=True, timeout=30, check=False).stderr
        assert "Error" not in found


def test_position_and_orientation_come_back_exactly(tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    matrix = np.array([[0.24, -0.18, 0, 11.5], [0.18, 0.24, 0, -7.25], [0, 0, 1.1, 3], [0, 0, 0, 1.0]])
    values = np.arange(60, dtype="u2").reshape(3, 4, 5)
    ds = Image.single(Pixels.of(values), "zyx").placed(Affine(matrix, "RAS+", "mm")).to_xarray()
    imsave(ds, tmp_path / "a.dcm")
    assert (imload(tmp_path / "a.dcm").img.affine() == matrix).all()
    other = sitk.ReadImage(str(tmp_path / "a.dcm"))
    for index in ((0, 0, 0), (4, 3, 2)):
        expected = (np.diag([-1, -1, 1, 1]) @ matrix @ [*index, 1])[:3]
        np.testing.assert_allclose(other.TransformIndexToPhysicalPoint(index), expected, atol=1e-6)
    if shutil.which("dciodvfy"):
        found = subprocess.run(
            ["dciodvfy", tmp_path / "a.dcm"], capture_output=True, text=True, timeout=30, check=False
        )
        assert "Error" not in found.stderr


def test_what_dicom_cannot_hold_is_refused(tmp_path):
    for image in (np.zeros((3, 4)), np.zeros((2, 70000), "u1")):
        with pytest.raises(CannotWriteError, match="DICOM"):
            imsave(image, tmp_path / "a.dcm")
    with pytest.raises(CannotWriteError, match="uncompressed"):
        imsave(np.zeros((3, 4), "u1"), tmp_path / "a.dcm", compress=True)
    assert list(tmp_path.iterdir()) == []


def test_a_deflated_file_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch):
    path = Path(pydicom.__file__).parent / "data" / "test_files" / "image_dfl.dcm"
    content = path.read_bytes()
    start = 144 + int.from_bytes(content[140:144], "little")
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    (tmp_path / "a.dcm").write_bytes(content[:start] + packer.compress(bytes(2**24)) + packer.flush())
    monkeypatch.setattr(header, "_MOST_INFLATED", 2**23)
    fsspec.filesystem("memory").pipe("/dicom/bomb.dcm", (tmp_path / "a.dcm").read_bytes())
    for place in (tmp_path / "a.dcm", "memory://dicom/bomb.dcm"):
        with pytest.raises(FormatError, match="more than 8 MiB"):
            imload(place)


def test_a_palette_is_kept_beside_the_numbers():
    path = Path(pydicom.__file__).parent / "data" / "test_files" / "examples_palette.dcm"
    image = imload(path)["image"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = pydicom.dcmread(path)
        colours = pydicom.pixels.apply_color_lut(ds.pixel_array, ds)
    known = np.array([[int(c[k : k + 2], 16) for k in (1, 3, 5)] for c in image.attrs["palette"]])
    np.testing.assert_array_equal(known[image.values], colours >> 8 if colours.dtype == np.uint16 else colours)


def test_remote_files(data):
    fs = fsspec.filesystem("memory")
    fs.pipe("/dicom/a.dcm", (data / "dicom" / "CT_small.dcm").read_bytes())
    ds = imload("memory://dicom/a.dcm")
    np.testing.assert_array_equal(ds.image[3:9, 5:70].values, imload(data / "dicom" / "CT_small.dcm").image[3:9, 5:70])


def test_a_frame_of_jpeg_ls_that_is_truncated(data, tmp_path):
    """CharLS would look for its end for ever."""
    pytest.importorskip("jpeg_ls")
    content = bytearray((data / "dicom" / "sm_image_jpegls.dcm").read_bytes())
    marker = content.rindex(b"\xff\xd9")
    content[marker : marker + 2] = b"\0\0"
    (tmp_path / "a.dcm").write_bytes(content)
    ds = imload(tmp_path / "a.dcm")
    with pytest.raises(FormatError, match="ends before its last marker: it is truncated"):
        ds["image"].values  # noqa: B018
    whole = imload(data / "dicom" / "sm_image_jpegls.dcm")["image"].values
    np.testing.assert_array_equal(ds["image"][:, :10].values, whole[:, :10])  # tiles before that


def test_private_attributes_wait_until_they_are_asked_for(data):
    """Most of this file is private."""
    source = File.parse(data / "dicom" / "CT_small.dcm").open()
    ds = header.parsed(source.file, source).ds
    source.close()
    private = [element for tag, element in ds.items() if tag.is_private]
    assert len(private) > 100
    assert all(isinstance(element, pydicom.dataelem.RawDataElement) for element in private)
    assert ds[0x0009, 0x1001].value == "GE_GENESIS_FF"
