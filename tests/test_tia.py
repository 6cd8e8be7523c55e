"""TIA: real files as rosettasciio reads them, and files made here after the description of the format."""

from __future__ import annotations

import hashlib
import json
import struct

import fsspec
import numpy as np
import pytest

from intake_img import imload
from intake_img.errors import AxesError, FormatError

CODES = {"u1": 1, "u2": 2, "u4": 3, "i1": 4, "i2": 5, "i4": 6, "f4": 7, "f8": 8, "c8": 9, "c16": 10}


def ser(path, values, dimensions=(), *, wide=True, recorded=None, calibration=(0.0, 1e-9, 0), change=None):
    """Write elements: images where values have two axes beyond the dimensions, else spectra."""
    axes = values.ndim - len(dimensions)
    elements = values.reshape(-1, *values.shape[values.ndim - axes :])
    total = len(elements)
    valid = total if recorded is None else recorded
    word = "Q" if wide else "I"
    parts = [
        struct.pack("<IddiI", n, *cal, len(name)) + name + struct.pack("<I", len(unit)) + unit
        for n, cal, name, unit in dimensions
    ]
    start = (34 if wide else 30) + sum(map(len, parts))
    head = b"II\x97\x01" + struct.pack(
        "<H4I", 0x220 if wide else 0x210, 0x4122 if axes == 2 else 0x4120, 0x4152, total, valid
    )
    head += struct.pack(f"<{word}I", start, len(dimensions)) + b"".join(parts)
    bodies = []
    for k, element in enumerate(elements):
        data = change(element) if change and k == 1 else element
        stored = data[::-1] if axes == 2 else data
        sizes = struct.pack(f"<H{axes}i", CODES[data.dtype.str[1:]], *data.shape[::-1])
        bodies.append(struct.pack("<ddi", *calibration) * axes + sizes + stored.tobytes())
    at = len(head) + total * struct.calcsize(word)
    offsets = np.cumsum([at, *map(len, bodies[:-1])]).tolist()
    path.write_bytes(head + struct.pack(f"<{total}{word}", *offsets) + b"".join(bodies))
    return path


def emi(path, *modes):
    entry = "<Data><Label>{}</Label><Value>{}</Value><Unit>{}</Unit></Data>".format
    shared = entry("User", "somebody", "") + entry("High tension", 200, "kV")
    infos = "".join(f"<ObjectInfo><Root>{entry('Mode', m, '')}{shared}</Root></ObjectInfo>" for m in modes)
    path.write_bytes(b"JK\0\2" + bytes(40) + infos.encode() + bytes(9))
    return path


NUMBER = ((0.0, 1.0, 0), b"Number", b"")


@pytest.mark.parametrize("ending", [".emi", "_1.ser"])
def test_real_files(data, ending):
    for name, axes, digest, step, unit in (
        ("128x128_TEM_acquire-sum1", "yx", "9d50d87095fe", 21.479317511461325, "nm"),
        ("128x128x5-diffraction_preview", "iyx", "4f77bfb6e831", 0.04246413461271668, "1/nm"),
    ):
        ds = imload(data / "tia" / "new" / f"{name}{ending}")
        values = ds["image"].values
        assert "".join(ds["image"].dims) == axes
        assert hashlib.sha256(values.tobytes()).hexdigest().startswith(digest)
        assert ds.img.spacing == {"y": step, "x": step}
        assert ds.img.units == {"y": unit, "x": unit}
        part = imload(data / "tia" / "new" / f"{name}{ending}", chunks=None)["image"][..., 10:31, 100:]
        assert np.array_equal(part, values[..., 10:31, 100:])
        said = json.loads(ds.attrs["fileheader"])["conditions"]
        assert said["High tension"] == "200 kV"
        assert "User" not in said


@pytest.mark.parametrize("wide", [True, False])
def test_types_and_versions(tmp_path, wide):
    for code in CODES:
        values = (np.arange(60).reshape(3, 4, 5) * (1 + 1j if code[0] == "c" else 1)).astype(code)
        path = ser(tmp_path / f"{code}_1.ser", values, [(3, *NUMBER)], wide=wide, calibration=(1e-8, 2e-9, 1))
        ds = imload(path)
        assert ds["image"].dims == tuple("iyx")
        assert ds["image"].dtype == values.dtype
        assert np.array_equal(ds["image"], values)
        assert ds["x"].values.tolist() == pytest.approx([8, 10, 12, 14, 16])


def test_spectra_of_a_scan(tmp_path):
    """y runs backwards; energies are in eV."""
    values = np.arange(2 * 3 * 7, dtype="u4").reshape(2, 3, 7)
    scan = [(3, (1e-9, 2e-9, 0), b"Position", b"meters"), (2, (0.0, -1e-9, 0), b"Position", b"meters")]
    ds = imload(ser(tmp_path / "a_1.ser", values, scan, calibration=(100.0, 5.0, 0)), output_axis_order=None)
    assert ds["image"].dims == tuple("yxl")
    assert np.array_equal(ds["image"], values)
    assert ds["l"].values[:2].tolist() == [100.0, 105.0]
    assert ds["x"].values.tolist() == pytest.approx([1, 3, 5])
    assert ds["y"].values.tolist() == pytest.approx([0, -1])
    assert ds.img.units == {"l": "eV", "y": "nm", "x": "nm"}
    one = imload(ser(tmp_path / "b_1.ser", values[0, 0], calibration=(0.0, 5.0, 0)))
    assert one["image"].dims == ("l",)


def test_series_are_scenes(tmp_path):
    for k in range(3):
        ser(tmp_path / f"a_{k + 1}.ser", np.full((4, 5), k, "u2"))
    path = emi(tmp_path / "a.emi", "Image", "Diffraction", "Image")
    with pytest.raises(AxesError, match=r"unit of y is nm in 'a_1', but 1/nm in 'a_2'"):
        imload(path, scene="all")
    ds = imload(path, scene="all", metadata={"spacing": {"y": 1, "x": 1}, "spacing_units": "nm"})
    assert ds.attrs["scenes"] == ["a_1", "a_2", "a_3"]
    assert ds["image"][:, 0, 0].values.tolist() == [0, 1, 2]
    assert [imload(path, scene=k).img.units["x"] for k in range(3)] == ["nm", "1/nm", "nm"]
    assert imload(tmp_path / "a_2.ser").img.units["x"] == "1/nm"
    with pytest.raises(FormatError, match=r"lost_1\.ser beside it"):
        imload(emi(tmp_path / "lost.emi"))


def test_without_emi(tmp_path):
    """A pixel of more than a metre is one of a diffraction pattern."""
    far = imload(ser(tmp_path / "a_1.ser", np.ones((4, 5), "u2"), calibration=(0.0, 4e7, 0)))
    assert (far.img.spacing["x"], far.img.units["x"]) == (pytest.approx(0.04), "1/nm")
    damaged = emi(tmp_path / "a.emi", "Image")
    damaged.write_bytes(damaged.read_bytes().replace(b"</Root>", b""))
    with pytest.warns(UserWarning, match="XML of its .emi"):
        imload(tmp_path / "a_1.ser")


def test_what_was_not_recorded(tmp_path):
    values = np.arange(5 * 20, dtype="u2").reshape(5, 4, 5)
    path = ser(tmp_path / "a_1.ser", values, [(5, *NUMBER)], recorded=3)
    with pytest.warns(UserWarning, match="2 elements beside 3 were not recorded"):
        assert np.array_equal(imload(path)["image"], values[:3])
    path = ser(tmp_path / "b_1.ser", values, [(5, *NUMBER)], change=lambda v: v.astype("i4"))
    ds = imload(path)
    assert np.array_equal(ds["image"][2:], values[2:])
    with pytest.raises(FormatError, match="element 1 has"):
        ds.compute()
    with pytest.raises(FormatError, match="nothing to read"):
        imload(ser(tmp_path / "c_1.ser", values, [(5, *NUMBER)], recorded=0))


def test_large_images_stand_upright(tmp_path):
    """Images of more than 256 kB are read from a map of the file."""
    values = np.random.default_rng(0).integers(0, 60000, (2, 400, 500)).astype("u2")
    image = imload(ser(tmp_path / "a.ser", values, [(2, *NUMBER)]), chunks=None)["image"]
    for part in (np.s_[:], np.s_[1:, 3:399, 2:], np.s_[:, ::2], np.s_[0, 390:, :]):
        np.testing.assert_array_equal(image[part].values, values[part])


def test_remote(tmp_path):
    values = np.arange(5 * 20, dtype="u2").reshape(5, 4, 5)
    ser(tmp_path / "a_1.ser", values, [(5, *NUMBER)])
    emi(tmp_path / "a.emi", "Image")
    fsspec.filesystem("memory").put(str(tmp_path), "/tia", recursive=True)
    assert np.array_equal(imload("memory://tia/a.emi")["image"][3, 1:3, 2:], values[3, 1:3, 2:])
