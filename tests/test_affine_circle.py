"""An affine goes round NIfTI, NRRD, MetaImage and DICOM without a change, as SimpleITK, nibabel and pydicom see it."""

from __future__ import annotations

import itertools
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from thoroughness import examples

from intake_img import imload, imsave
from intake_img.model.affine import Affine
from intake_img.model.image import Image
from intake_img.model.pixels import Pixels

pytestmark = pytest.mark.thorough

VALUES = np.random.default_rng(0).integers(0, 4000, (5, 6, 7)).astype("i2")
ENDINGS = (".nii.gz", ".nrrd", ".mha", ".dcm")


def rotation(angles):
    turns = []
    for k, angle in enumerate(angles):
        i, j = [a for a in range(3) if a != k]
        turn = np.eye(3)
        turn[[i, i, j, j], [i, j, i, j]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        turns.append(turn)
    return turns[0] @ turns[1] @ turns[2]


def matrix_of(angles, spacing, origin):
    matrix = np.eye(4)
    matrix[:3, :3] = rotation(angles) * spacing
    matrix[:3, 3] = origin
    return matrix


def volume(matrix, space="RAS+"):
    return Image.single(Pixels.of(VALUES), "zyx").placed(Affine(matrix, space, "mm")).to_xarray(chunks={})


OBLIQUE = matrix_of((0.3, -1.1, 2.0), (0.7, 0.8, 2.5), (-91.25, 126.5, 1 / 3))


@pytest.mark.parametrize("route", list(itertools.permutations(ENDINGS)), ids="".join)
def test_any_way_round_is_exact(route, tmp_path):
    ds = volume(OBLIQUE)
    for k, ending in enumerate(route):
        path = str(tmp_path / f"{k}{ending}")
        imsave(ds, path)
        ds = imload(path)
        np.testing.assert_array_equal(ds["image"].values, VALUES)
        assert (ds.img.affine("RAS+") == OBLIQUE).all()
        assert ds.img.units == dict.fromkeys("xyz", "mm")


def itk_affine(path):
    """Matrix from indices to LPS+, as ITK reads it."""
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.ReadImage(path)
    found = np.eye(4)
    found[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    found[:3, 3] = image.GetOrigin()
    return found, sitk.GetArrayFromImage(image)


def pydicom_affine(path):
    """The equation C.7.6.2.1-1 of PS3.3, from the attributes alone; the slices by their positions."""
    pydicom = pytest.importorskip("pydicom")
    ds = pydicom.dcmread(path)
    shared, frames = ds.SharedFunctionalGroupsSequence[0], ds.PerFrameFunctionalGroupsSequence
    row, column = np.reshape(np.float64(shared.PlaneOrientationSequence[0].ImageOrientationPatient), (2, 3))
    down, along = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    places = np.array([frame.PlanePositionSequence[0].ImagePositionPatient for frame in frames], float)
    found = np.eye(4)
    found[:3, :3] = np.column_stack([row * along, column * down, (places[-1] - places[0]) / (len(places) - 1)])
    found[:3, 3] = places[0]
    slope, intercept = float(ds.get("RescaleSlope", 1)), float(ds.get("RescaleIntercept", 0))
    return found, ds.pixel_array * slope + intercept


def judged(path):
    if path.endswith(".nii.gz"):
        nibabel = pytest.importorskip("nibabel")
        image = nibabel.load(path)
        return np.diag([-1, -1, 1, 1]) @ image.affine, np.asarray(image.dataobj).T
    return pydicom_affine(path) if path.endswith(".dcm") else itk_affine(path)


angle = st.floats(-3.1, 3.1)
length = st.floats(0.01, 20)
place = st.floats(-500, 500)


@examples(12)
@given(st.tuples(angle, angle, angle), st.tuples(length, length, length), st.tuples(place, place, place))
def test_others_see_the_same_position(tmp_path_factory, angles, spacing, origin):
    """NIfTI has numbers of 32 bits, DICOM of 16 letters: exact to 1e-6 of a voxel and a position."""
    folder = tmp_path_factory.mktemp("affine")
    matrix = matrix_of(angles, spacing, origin)
    expected = np.diag([-1, -1, 1, 1]) @ matrix
    for ending in ENDINGS:
        path = str(folder / f"a{ending}")
        imsave(volume(matrix), path)
        found, values = judged(path)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * scale, err_msg=ending)
        np.testing.assert_array_equal(values, VALUES)
        assert (imload(path).img.affine() == matrix).all()


@pytest.mark.parametrize("left_handed", [False, True])
def test_what_others_wrote_goes_round(left_handed, tmp_path):
    """A series of slices in DICOM, placed by its attributes alone, becomes each other format and DICOM again."""
    pydicom = pytest.importorskip("pydicom")
    turn = rotation((0.2, 0.4, -0.3))
    step = np.cross(turn[:, 0], turn[:, 1]) * (-2.5 if left_handed else 2.5)
    for k in range(5):
        ds = pydicom.Dataset()
        ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.4", f"1.2.3.{k}"
        ds.SeriesInstanceUID, ds.Rows, ds.Columns, ds.SamplesPerPixel = "1.2.3", 6, 7, 1
        ds.PhotometricInterpretation, ds.BitsAllocated, ds.BitsStored, ds.HighBit = "MONOCHROME2", 16, 16, 15
        ds.PixelRepresentation, ds.PixelSpacing = 1, [0.8, 0.7]
        ds.ImageOrientationPatient = [float(f"{v:.9f}") for v in (*turn[:, 0], *turn[:, 1])]
        ds.ImagePositionPatient = [float(f"{v:.9f}") for v in np.array([-90, 20, 33.5]) + k * step]
        ds.InstanceNumber, ds.PixelData = 5 - k, VALUES[k].tobytes()
        ds.file_meta = pydicom.dataset.FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        (tmp_path / "series").mkdir(exist_ok=True)
        ds.save_as(tmp_path / "series" / f"IM{k}", enforce_file_format=True)
    series = imload(tmp_path / "series")
    order = slice(None, None, -1 if left_handed else 1)  # sorted along the normal of the plane
    np.testing.assert_array_equal(series["image"].values, VALUES[order])
    expected = np.eye(4)
    expected[:3, :3] = np.column_stack(
        [turn[:, 0] * 0.7, turn[:, 1] * 0.8, abs(2.5) * np.cross(turn[:, 0], turn[:, 1])]
    )
    expected[:3, 3] = np.array([-90, 20, 33.5]) + (4 * step if left_handed else 0)
    np.testing.assert_allclose(series.img.affine("LPS+"), expected, atol=1e-7)
    for ending in ENDINGS:
        path = str(tmp_path / f"a{ending}")
        imsave(series, path)
        found, values = judged(path)
        np.testing.assert_allclose(found, expected, atol=2e-5)
        np.testing.assert_array_equal(values, VALUES[order])
        assert (imload(path).img.affine() == series.img.affine()).all()


def test_dicom_tells_without_the_private_element(tmp_path):
    """Read by the attributes alone, as written by any other program; also a part, a stride, and one slice."""
    pydicom = pytest.importorskip("pydicom")
    for part in ({}, {"x": slice(1, 5), "z": slice(1, None)}, {"y": slice(None, None, 2)}, {"z": slice(2, 3)}):
        ds = volume(OBLIQUE).isel(part)
        path = str(tmp_path / "a.dcm")
        imsave(ds, path, overwrite=True)
        bare = pydicom.dcmread(path)
        bare.remove_private_tags()
        bare.save_as(path)
        found = imload(path)
        np.testing.assert_array_equal(np.squeeze(found["image"].values), np.squeeze(ds["image"].values))
        if "z" in found.sizes:
            np.testing.assert_allclose(found.img.affine(), ds.img.affine(), atol=1e-9)
            assert found.img.spacing == pytest.approx(ds.img.spacing, rel=1e-9)


def csa(count, normal):
    """The private header of Siemens (version SV10) with two fields, as nibabel describes it."""
    items = {"NumberOfImagesInMosaic": ("US", [count]), "SliceNormalVector": ("FD", normal), "Empty": ("IS", [])}
    items["AcquisitionMatrixText"] = ("SH", ["6*5"])
    data = b"SV10" + b"\4\3\2\1" + struct.pack("<2I", len(items), 77)
    for name, (kind, values) in items.items():
        data += struct.pack("<64si4s3i", name.encode(), len(values), kind.encode(), 0, len(values), 77)
        for value in values:
            text = f"{value}\0".encode()
            data += struct.pack("<4i", len(text), len(text), 77, len(text)) + text + bytes(-len(text) % 4)
    return data


def mosaic(path, time, normal=1.0, **changes):
    """Seven slices of 6 x 5 in a plane of 3 x 3 tiles; return them."""
    pydicom = pytest.importorskip("pydicom")
    turn = rotation((0.2, 0.4, -0.3))
    slices = (np.arange(7 * 6 * 5).reshape(7, 6, 5) + 1000 * time).astype("<u2")
    tiles = np.concatenate([slices, np.zeros((2, 6, 5), "<u2")]).reshape(3, 3, 6, 5)
    ds = pydicom.Dataset()
    ds.SOPClassUID, ds.SOPInstanceUID, ds.ImageType = "1.2.840.10008.5.1.4.1.1.4", f"1.2.{time}", ["ORIGINAL", "MOSAIC"]
    ds.Manufacturer, ds.SeriesInstanceUID, ds.Rows, ds.Columns, ds.SamplesPerPixel = "SIEMENS", "1.2.3", 18, 15, 1
    ds.PhotometricInterpretation, ds.BitsAllocated, ds.BitsStored, ds.HighBit = "MONOCHROME2", 16, 16, 15
    ds.PixelRepresentation, ds.PixelSpacing, ds.SpacingBetweenSlices = 0, [2.5, 2.0], 3.75
    ds.ImageOrientationPatient = [float(f"{v:.9f}") for v in (*turn[:, 0], *turn[:, 1])]
    ds.ImagePositionPatient, ds.InstanceNumber, ds.AcquisitionNumber = [-90, 20, 33.5], time + 1, time + 1
    block = ds.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    block.add_new(0x10, "OB", csa(changes.get("count", 7), list(normal * np.cross(turn[:, 0], turn[:, 1]))))
    ds.PixelData = tiles.transpose(0, 2, 1, 3).tobytes()
    ds.file_meta = pydicom.dataset.FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    ds.save_as(path, enforce_file_format=True)
    return slices


@pytest.mark.parametrize("normal", [1.0, -1.0])
def test_mosaics_are_the_volumes_that_nibabel_reads(normal, tmp_path):
    nicom = pytest.importorskip("nibabel.nicom.dicomwrappers")
    held = np.stack([mosaic(tmp_path / f"IM{t}", t, normal) for t in range(3)])
    for t in range(3):
        judge = nicom.wrapper_from_file(tmp_path / f"IM{t}")
        assert judge.is_mosaic
        np.testing.assert_array_equal(judge.get_data().transpose(2, 0, 1), held[t])
        one = imload(tmp_path / f"IM{t}")
        assert one["image"].dims == ("z", "y", "x")
        expected = judge.affine @ np.array(
            [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
        )  # nibabel: rows first
        found = one.img.affine("LPS+")
        if normal < 0:  # ours are sorted along the normal of the plane
            found, one = (
                found @ [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 6], [0, 0, 0, 1]],
                one.isel(z=slice(None, None, -1)),
            )
        np.testing.assert_array_equal(one["image"].values, held[t])
        np.testing.assert_allclose(found, expected, atol=1e-6)
    series = imload(tmp_path, chunks={"y": 4, "x": 3})
    assert dict(series["image"].sizes) == {"t": 3, "z": 7, "y": 6, "x": 5}
    np.testing.assert_array_equal(series["image"].values, held[:, :: int(normal)])
    assert series["image"][1, 2, 3, 4].values == held[1, :: int(normal)][2, 3, 4]


@pytest.mark.parametrize("count", [0, -5, 50, 10**6])
def test_a_mosaic_that_counts_wrongly_is_a_plane(count, tmp_path):
    mosaic(tmp_path / "IM0", 0, count=count)
    with pytest.warns(UserWarning, match="opens as one plane"):
        assert imload(tmp_path / "IM0")["image"].shape == (18, 15)
