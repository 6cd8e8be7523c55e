"""EMD of Velox and Berkeley: real files as an independent reader sees them, and what the two formats allow."""

from __future__ import annotations

import json
import zipfile

import fsspec
import h5py
import numpy as np
import pytest

from intake_img import imload
from intake_img.errors import FormatError
from intake_img.formats.emd.driver import Emd

# what rosettasciio reads, transposed to the order of the file: values at places of the flat (x, y) or (t, y, x) array
REAL = {
    "Acquisition_18.emd": (
        "yx",
        "xy",
        [0, 349525, 524288, 1048575],
        [12487, 9676, 8045, 8535],
        dict.fromkeys("yx", (0.012246524915099144, "nm")),
    ),
    "example_image.emd": ("yx", "xy", [0, 3, 4, 8], [0, 1, 4, 8], {}),
    "example_signal.emd": ("zyx", "xyz", [0, 9, 13, 26], [0, 1, 13, 26], {}),
    "fei_example_tem_stack.emd": (
        "yxt",
        "tyx",
        [0, 6, 9, 17],
        [0, 12, 1, 17],
        {"t": (0.8, "s"), **dict.fromkeys("yx", (8.172883192297851e-3, "nm"))},
    ),
}


@pytest.mark.parametrize("name", list(REAL))
def test_real_files(data, name):
    axes, order, places, values, known = REAL[name]
    for chunks in ("auto", None, 2 if name != "Acquisition_18.emd" else 300):
        ds = imload(data / "emd" / name, output_axis_order=None, chunks=chunks)
        assert ("".join(ds["image"].dims), ds.attrs["driver"]) == (axes, "emd")
        flat = ds["image"].transpose(*order).values.ravel()
        assert flat[places].tolist() == values
    assert set(ds.coords) == set(known)
    for axis, (step, unit) in known.items():
        np.testing.assert_allclose(ds[axis].attrs["spacing"], step, rtol=1e-7)
        assert ds[axis].attrs["units"] == unit


def test_images_beside_spectra(data, tmp_path):
    """Maps and detectors are scenes; event streams and spectra are none."""
    with zipfile.ZipFile(data / "emd" / "velox_emd_version11.zip") as archive:
        for name in archive.namelist():
            (tmp_path / "a.emd").write_bytes(archive.read(name))
            with h5py.File(tmp_path / "a.emd") as f:
                expected = [f["Data/Image"][k]["Data"][()] for k in f["Data/Image"]]
            ds = imload(tmp_path / "a.emd", output_axis_order=None)
            assert ds.attrs["scenes"] == [*("SuperXG2" + f" ({k})" * (k > 1) for k in range(1, 5)), "HAADF"]
            for k, values in enumerate(expected):
                found = imload(tmp_path / "a.emd", scene=k, output_axis_order=None)["image"].values
                np.testing.assert_array_equal(found, values)
            np.testing.assert_allclose([float(ds[a][0]) for a in "yx"], [-32.393243, -39.591742], rtol=1e-6)
            assert json.loads(ds.attrs["fileheader"])["metadata"]["BinaryResult"]["Detector"] == "SuperXG2"
            ds.close()


def _velox(path, values, metadata, labels=()):
    with h5py.File(path, "w") as f:
        f["Version"] = np.array([b'{"format": "Velox"}'], object)
        for k, text in enumerate(metadata):
            group = f.create_group(f"Data/Image/{k:032x}")
            group["Data"] = values
            group["Metadata"] = np.frombuffer(text.ljust(600, b"\0"), "u1")[:, None]
        for k, label in enumerate(labels):
            shown = json.dumps({"display": {"label": label}, "dataPath": f"/Data/Image/{k:032x}"})
            f[f"Presentation/Displays/ImageDisplay/{k}"] = np.array([shown.encode()], object)
    return path


def test_fourier_transforms_of_velox(tmp_path):
    kind = np.dtype([("realFloatHalfEven", "<f4"), ("imagFloatHalfEven", "<f4")])
    values = np.zeros((5, 4, 1), kind)
    values["realFloatHalfEven"], values["imagFloatHalfEven"] = 3, np.arange(20).reshape(5, 4, 1)
    about = {"PixelSize": {"width": "2e7", "height": "1e7"}, "PixelUnitX": "1/m", "PixelUnitY": "1/m"}
    path = _velox(tmp_path / "a.emd", values, [json.dumps({"BinaryResult": about}).encode()], ["FFT%28Ceta%29"])
    for chunks in ("auto", 2):
        ds = imload(path, chunks=chunks)
        assert (ds.attrs["scenes"], ds["image"].dtype) == (["FFT(Ceta)"], "c8")
        np.testing.assert_array_equal(ds["image"].values[0], 3 + 1j * np.arange(20).reshape(5, 4))
    assert {a: ds[a].attrs for a in "yx"} == {
        "y": {"units": "1/nm", "spacing": 0.01},
        "x": {"units": "1/nm", "spacing": 0.02},
    }


@pytest.mark.parametrize(
    "metadata",
    [
        b"",
        b"{",
        b"[1]",
        b'{"BinaryResult": {"PixelSize": 3, "PixelUnitX": "m"}}',
        b'{"BinaryResult": {"PixelSize": {"width": "NaN"}, "PixelUnitX": "m"}}',
    ],
)
def test_metadata_that_cannot_be_used_are_dropped(tmp_path, metadata):
    values = np.arange(24, dtype="u2").reshape(3, 4, 2)
    ds = imload(_velox(tmp_path / "a.emd", values, [metadata]))
    assert not ds.coords
    np.testing.assert_array_equal(ds["image"].values, values.transpose(2, 0, 1))


def test_positions_are_steps_or_one_by_one_in_either_version(tmp_path):
    values = np.arange(3 * 4 * 5, dtype="f4").reshape(3, 4, 5)
    dims = [("E", "[eV]", [280.0, 281.0, 284.0]), ("Y", "n_m", [1.0, 1.5]), ("Q_x", "n_m^-1", np.arange(5) * 0.5)]
    for version, first, kind in ((0, 1, 1), (1, 0, "array")):
        path = tmp_path / f"{version}.emd"
        with h5py.File(path, "w") as f:
            f.attrs.update(version_major=version, version_minor=0)
            group = f.create_group("a/b")
            group.attrs["emd_group_type"] = kind
            group["data"] = values
            for k, (name, unit, positions) in enumerate(dims):
                group[f"dim{k + first}"] = positions
                group[f"dim{k + first}"].attrs.update(name=np.bytes_(name), units=unit)
            f["a/not"] = values
        ds = imload(path, output_axis_order=None)
        assert (ds.attrs["scenes"], ds["image"].dims) == (["a/b"], ("l", "y", "Q_x"))
        assert ds["l"].values.tolist() == [280.0, 281.0, 284.0]
        assert ds["y"].values.tolist() == [1.0, 1.5, 2.0, 2.5]
        assert [ds[a].attrs["units"] for a in ("l", "y", "Q_x")] == ["eV", "nm", "1/nm"]


def test_on_a_server(tmp_path):
    path, expected = Emd().sample(str(tmp_path))
    fs = fsspec.filesystem("memory")
    with open(path, "rb") as stream:
        fs.pipe_file("/emd/a.emd", stream.read())
    np.testing.assert_array_equal(imload("memory://emd/a.emd")["image"].values, expected["image"].values)
    fs.rm("/emd", recursive=True)


@pytest.mark.parametrize("names", [("R_x", "R_y"), ("Rx", "Ry")])
def test_prismatic_names_the_array_by_what_it_is(tmp_path, names):
    values = np.arange(4 * 3 * 5, dtype="f4").reshape(4, 3, 5)
    with h5py.File(tmp_path / "a.emd", "w") as f:
        f.create_group("4DSTEM_simulation").attrs.update(emd_group_type=2, version_major=0, version_minor=5)
        group = f.create_group("4DSTEM_simulation/data/realslices/virtual_detector_depth0000")
        group.attrs["emd_group_type"] = 1
        group["realslice"] = values
        dims = ((names[0], "[n_m]", 0.25), (names[1], "[n_m]", 0.5), ("bin_outer_angle", "[mrad]", 2.0))
        for k, (name, unit, step) in enumerate(dims):
            group[f"dim{k + 1}"] = step * np.arange(values.shape[k])
            group[f"dim{k + 1}"].attrs.update(name=np.bytes_(name), units=np.bytes_(unit))
    ds = imload(tmp_path / "a.emd")
    assert (ds.attrs["driver"], ds.img.channels) == ("emd", None)
    assert ds.img.spacing == {"x": 0.25, "y": 0.5, "bin_outer_angle": 2.0}
    assert ds.img.units == {"x": "nm", "y": "nm", "bin_outer_angle": "mrad"}
    np.testing.assert_array_equal(ds["image"].transpose("x", "y", "bin_outer_angle"), values)


def test_files_without_images(tmp_path):
    with h5py.File(tmp_path / "a.emd", "w") as f:
        f["Version"], f["Data/Spectrum/a/Data"] = 1, np.zeros((4096, 1))
    with pytest.raises(FormatError, match="it contains spectra, which are not read"):
        imload(tmp_path / "a.emd")


@pytest.mark.parametrize("where", ["", "Data/Image", "signals"])
def test_names_that_are_not_text_are_left_out(tmp_path, where):
    path, expected = Emd().sample(str(tmp_path))
    with h5py.File(path, "a") as f:
        group = f.require_group(where or "/")
        group.create_group(b"\xff\x80").create_dataset("data", data=np.zeros((3, 4)))
    assert imload(path).image.equals(expected.image)


def test_arrays_are_found_whatever_the_links(tmp_path):
    """One array is found by a visit of the file; several, in the order of the file, and those with two names."""

    def array(parent, name):
        group = parent.create_group(name)
        group.attrs["emd_group_type"] = 1
        group["data"] = np.zeros((2, 3), "u1")
        return group

    path = tmp_path / "a.emd"
    for inner, expected in (
        (lambda f: array(f, "deep/er/x"), ["deep/er/x"]),
        (lambda f: (array(f, "z"), array(f, "b")), ["z", "b"]),
        (lambda f: f.__setitem__("second", array(f, "z")), ["z", "second"]),
        (lambda f: f.__setitem__("soft", h5py.SoftLink(array(f, "z").name)), ["z"]),
    ):
        with h5py.File(path, "w", track_order=True) as f:
            f.attrs.update(version_major=0, version_minor=2)
            inner(f)
        assert imload(path).attrs["scenes"] == expected


def test_metadata_are_those_of_the_first_frame(data, tmp_path):
    path = tmp_path / "a.emd"
    with h5py.File(path, "w") as f:
        f.attrs["Version"] = "1"
        group = f.create_group("Data/Image/one")
        group["Data"] = np.zeros((4, 5, 2), "u1")
        texts = [json.dumps({"BinaryResult": {"Detector": name}}).encode() for name in ("first", "other")]
        group["Metadata"] = np.stack([np.frombuffer(t.ljust(200, b"\0"), "u1") for t in texts], axis=1)
    ds = imload(path)
    assert ds.attrs["scenes"] == ["first"]
    assert json.loads(ds.attrs["fileheader"])["metadata"]["BinaryResult"]["Detector"] == "first"
