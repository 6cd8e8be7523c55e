"""Imaris: the vendor's example and padded pyramids against an independent reader; files that contradict themselves."""

from __future__ import annotations

import contextlib
import io
import shutil
import warnings

import fsspec
import h5py
import numpy as np
import pytest

from intake_img import imload
from intake_img.errors import FormatError, SceneError
from intake_img.formats.ims.driver import Ims

reader = pytest.importorskip("imaris_ims_file_reader.ims")


@pytest.fixture
def sample(tmp_path):
    return Ims().sample(str(tmp_path))


def _independent(path, level, tmp_path):
    """What the other reader reads, of a copy, which it leaves open."""
    copy = shutil.copy(path, tmp_path / f"copy{level}.ims")
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ims = reader.ims(str(copy), ResolutionLevelLock=level, squeeze_output=False)
        found = ims[level, :, :, :, :, :], ims.resolution
        ims.close()
    return found


def test_the_vendors_example(data):
    path = data / "ims" / "Minimal_IMS_File.ims"
    ds = imload(path)
    with h5py.File(path) as f:
        expected = f["DataSet/ResolutionLevel 0/TimePoint 0/Channel 0/Data"][()]
    assert (ds.attrs["driver"], ds["image"].dims, ds["image"].dtype) == ("ims", tuple("tczyx"), "u2")
    np.testing.assert_array_equal(ds["image"].values, expected[None, None])
    assert {a: ds[a].attrs["spacing"] for a in "zyx"} == {"z": 0.1, "y": 0.0546875, "x": 0.0546875}
    assert {ds[a].attrs["units"] for a in "zyx"} == {"µm"}
    assert float(ds["x"][0]) == 3.0


@pytest.mark.parametrize("level", [0, 1])
def test_levels_are_cut_to_their_size(sample, level, tmp_path):
    path, whole = sample
    expected, _ = _independent(path, level, tmp_path)
    steps = {a: slice(None, None, 1 + level) for a in "yx"}
    np.testing.assert_array_equal(expected, whole["image"].isel(steps))
    for chunks in ("auto", None, {"z": 1, "y": 5, "x": 9}):
        ds = imload(path, level=level, chunks=chunks)
        np.testing.assert_array_equal(ds["image"].values, expected)
        np.testing.assert_array_equal(ds["image"][1:, 1, 1:, 3:6, 4:9].values, expected[1:, 1, 1:, 3:6, 4:9])
    assert ds["x"].attrs["spacing"] == 0.25 * (1 + level)
    assert ds["c"].attrs["color"] == ["#0000FF", "#00FF00"]
    with pytest.raises(SceneError, match="has 2 levels"):
        imload(path, level=2)


def test_on_a_server(sample):
    fs = fsspec.filesystem("memory")
    with open(sample[0], "rb") as stream:
        fs.pipe_file("/ims/a.ims", stream.read())
    np.testing.assert_array_equal(imload("memory://ims/a.ims")["image"].values, sample[1]["image"].values)
    fs.rm("/ims", recursive=True)


def test_names_do_not_decide(sample, tmp_path):
    """A file of Imaris is one whatever it is called, and another HDF5 file is none."""
    shutil.copy(sample[0], tmp_path / "a.h5")
    assert imload(tmp_path / "a.h5").attrs["driver"] == "ims"
    with h5py.File(tmp_path / "plain.ims", "w") as f:
        f["d"] = np.zeros((4, 4))
    assert imload(tmp_path / "plain.ims").attrs["driver"] == "hdf5"


def test_contradictions(sample):
    """What is missing reads as 0 with a warning; a size that is too large is not believed; nor are wrong dates."""
    path, whole = sample
    with h5py.File(path, "r+") as f:
        del f["DataSet/ResolutionLevel 0/TimePoint 1/Channel 0"]
        f["DataSet/ResolutionLevel 0/TimePoint 0/Channel 0"].attrs["ImageSizeZ"] = np.array([b"9"])
        f["DataSetInfo/TimeInfo"].attrs["TimePoint2"] = np.array([b"?"])
        f["DataSetInfo/Channel 1"].attrs["Name"] = np.array([b" "])
        f["DataSetInfo/Image"].attrs["ExtMax0"] = np.array([b"0"])
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        ds = imload(path)
        values = ds["image"].values
    assert {str(w.message).split(": ")[1] for w in told} == {
        "1 channels of time points are missing",
        "/DataSet/ResolutionLevel 0/TimePoint 0/Channel 0/Data is smaller than the stated shape of the image",
    }
    assert ds.sizes["z"] == 4
    assert set(ds.coords) == {"c", "z", "y"}
    assert ds.img.channels == [whole.img.channels[0], "1"]
    np.testing.assert_array_equal(values[1, 0], 0)
    np.testing.assert_array_equal(values[1, 1, :3], whole["image"].values[1, 1])
    with h5py.File(path, "r+") as f:
        f.move("DataSet/ResolutionLevel 0/TimePoint 0", "DataSet/ResolutionLevel 0/TimePoint 99999999")
    with pytest.raises(FormatError, match="it is damaged"):
        imload(path)
